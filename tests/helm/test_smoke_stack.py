"""`dossier smoke`, which `helm test` runs: against a gateway that is right, and against such as are not."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.conftest import RunningStack
from tests.support.listening import free_port

ISSUER = "https://dossier.example"
Answer = tuple[int, Any]
RIGHT: dict[str, Answer] = {
    "/healthz": (200, {"status": "ok"}),
    "/readyz": (200, {"status": "ready"}),
    "/.well-known/oauth-authorization-server": (200, {"issuer": ISSUER}),
    "/oauth/jwks.json": (200, {"keys": [{"kty": "OKP", "kid": "a"}]}),
    "/oauth/token": (401, {"error": "invalid_client"}),
}
CLOSED: Answer = (401, {"title": "Unauthenticated"})
WRONG: dict[str, tuple[dict[str, Answer], str]] = {
    "not ready": ({"/readyz": (503, {"status": "database-away"})}, "/readyz answers 503, and not 200"),
    "another issuer": (
        {"/.well-known/oauth-authorization-server": (200, {"issuer": "http://localhost"})},
        "calls itself http://localhost, and not https://dossier.example: see DOSSIER_ISSUER",
    ),
    "no keys": ({"/oauth/jwks.json": (200, {"keys": []})}, "has no public keys"),
    "a private key": ({"/oauth/jwks.json": (200, {"keys": [{"kid": "a", "d": "secret"}]})}, "more than public ones"),
    "a token for anybody": ({"/oauth/token": (200, {"access_token": "x"})}, "/oauth/token answers 200, and not 401"),
    "another error": (
        {"/oauth/token": (401, {"error": "server_error"})},
        "answers an unknown client with server_error",
    ),
    "an open door": ({"/v1/records": (200, {"items": []})}, "/v1/records answers 200, and not 401"),
    "no JSON": ({"/healthz": (200, None)}, "/healthz does not answer in JSON"),
    "a list": ({"/healthz": (200, [])}, "/healthz does not answer with a JSON object"),
}


def smoke(*words: str) -> "subprocess.CompletedProcess[str]":
    command = (sys.executable, "-m", "dossier_cli", "smoke", *words)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def answering(answers: dict[str, Answer], port: int = 0) -> Iterator[str]:
    """A server that gives these answers, and 401 for all else; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = answers.get(self.path, CLOSED)
            body = b"hello" if content is None else json.dumps(content).encode()
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            if status == 401 and answers.get("challenge"):
                self.send_header("WWW-Authenticate", "Bearer")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  # the name that the base class asks for

        def log_message(self, format: str, *_arguments: Any) -> None:  # noqa: A002  # as the base class names it
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_running_gateway_passes_each_step(stack: RunningStack) -> None:
    done = smoke("--at", f"{stack.base_url}/")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 5


def test_a_gateway_that_answers_as_it_should_passes() -> None:
    with answering({**RIGHT, "challenge": CLOSED}) as address:
        done = smoke("--at", address, "--issuer", ISSUER)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", WRONG)
def test_the_first_thing_that_is_wrong_ends_it_with_a_line(name: str) -> None:
    wrong, sentence = WRONG[name]
    with answering({**RIGHT, **wrong, "challenge": CLOSED}) as address:
        done = smoke("--at", address, "--issuer", ISSUER)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert sentence in line


def test_a_401_has_to_say_how_to_be_let_in() -> None:
    with answering(RIGHT) as address:
        done = smoke("--at", address, "--issuer", ISSUER)
    assert done.returncode == 1
    assert "says 401 without saying how to be let in" in done.stderr


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "https://[", "nowhere"])
def test_an_address_where_nobody_answers_is_said_in_a_line(address: str) -> None:
    done = smoke("--at", address)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert address in line


def test_a_gateway_that_is_reached_only_after_a_while_is_waited_for() -> None:
    port = free_port()
    command = (sys.executable, "-m", "dossier_cli", "smoke", "--at", f"http://127.0.0.1:{port}", "--issuer", ISSUER)
    with subprocess.Popen((*command, "--wait", "60"), stdout=subprocess.PIPE, text=True) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(4)
        with answering({**RIGHT, "challenge": CLOSED}, port):
            said, _ = waiting.communicate(timeout=120)
    assert waiting.returncode == 0
    assert len(said.splitlines()) == 5
