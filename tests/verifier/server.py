"""A server of a log's folder that can be told to misbehave, and that remembers what it was asked."""

import gzip
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = tuple[int, dict[str, str], bytes]
Trick = Callable[[str, int], Answer | None]
"""What to answer to a path that was asked for the n-th time; None for the file."""


class _Http(ThreadingHTTPServer):
    """Says nothing of a client that hung up: one that has read enough does."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Server:
    """Serves `/v1/audit/log`, `/v1/audit/logs` and `/v1/audit/logs/<g>` of a folder as the verifier keeps it."""

    def __init__(self, folder: Path, token: str = "") -> None:
        self.folder, self.token = folder, token
        self.trick: Trick = lambda _path, _count: None
        self.compress = False
        self.asked: dict[str, int] = {}
        self.tokens: set[str] = set()
        self._lock = threading.Lock()
        self.http = _Http(("127.0.0.1", 0), _handler(self))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1/audit/log"

    def answer(self, path: str, authorization: str) -> Answer:
        with self._lock:
            self.asked[path] = count = self.asked.get(path, 0) + 1
            self.tokens.add(authorization)
        told = self.trick(path, count)
        if told is not None:
            return told
        if self.token and authorization != f"Bearer {self.token}":
            return 401, {}, b"{}"
        base = "/v1/audit/"
        place = "logs.json" if path == base + "logs" else path.removeprefix(base).removeprefix("log/")
        file = self.folder / place
        if not path.startswith(base) or not file.is_file():
            return 404, {}, b"{}"
        return 200, {}, file.read_bytes()


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = server.answer(self.path, self.headers.get("authorization", ""))
            if server.compress and status == 200:
                assert "gzip" in self.headers["accept-encoding"]
                body, headers = gzip.compress(body), {**headers, "content-encoding": "gzip"}
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    return Handler


@contextmanager
def serving(folder: Path, token: str = "") -> Iterator[Server]:
    server = Server(folder, token)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()
