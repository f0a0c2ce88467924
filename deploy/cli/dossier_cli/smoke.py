"""The first steps of any caller, against a gateway that runs: `dossier smoke --at URL`.

It needs no account and changes nothing but the counts of what was refused. `helm test` runs it inside the cluster.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx

from dossier_cli.errors import Refused
from dossier_common.tls import Tls

SECONDS: Final = 20.0
TRY_EVERY: Final = 0.5
RUBBISH: Final = {"grant_type": "client_credentials", "client_id": "nobody", "client_secret": "nothing"}
PROTECTED: Final = ("/v1/records", "/v1/requests", "/v1/disposals", "/v1/audit/events", "/v1/accounts")
"""A collection of each part; without a token the gateway answers for all of them."""


def run(at: str, issuer: str | None, tls: Tls, *, wait: float = 0) -> Iterator[str]:
    """What holds, a line each, as it is found. Raises Refused at the first thing that does not.

    `issuer` is the address that the gateway has to call itself; none where it is the one that is asked. While nobody
    answers there, it is tried again for `wait` seconds.
    """
    at = at.rstrip("/")
    try:
        with httpx.Client(base_url=at, verify=tls.client, timeout=SECONDS, trust_env=False) as http:
            _until_somebody_answers(http, wait)
            for says, step in _steps(http, issuer or at):
                step()
                yield says
    except httpx.InvalidURL as error:
        raise Refused(f"{at} is no address: {error}") from error
    except httpx.HTTPError as error:
        raise Refused(f"{at} does not answer: {error}") from error


def _until_somebody_answers(http: httpx.Client, wait: float) -> None:
    end = time.monotonic() + wait
    while time.monotonic() < end:
        try:
            http.get("/healthz")
        except (httpx.NetworkError, httpx.TimeoutException):
            time.sleep(TRY_EVERY)
        else:
            return


def _steps(http: httpx.Client, issuer: str) -> Iterator[tuple[str, Callable[[], None]]]:
    yield "it is alive and ready", lambda: _health(http)
    yield f"it is the server that {issuer} says it is (RFC 8414)", lambda: _discovery(http, issuer)
    yield "it publishes keys to verify its tokens by", lambda: _keys(http)
    yield "it gives no token for rubbish", lambda: _rubbish(http)
    yield "it answers nothing without a token", lambda: _closed(http)


def _health(http: httpx.Client) -> None:
    for path in ("/healthz", "/readyz"):
        _json(http.get(path), 200)


def _discovery(http: httpx.Client, issuer: str) -> None:
    said = _json(http.get("/.well-known/oauth-authorization-server"), 200)
    if said.get("issuer") != issuer:
        raise Refused(f"the gateway calls itself {said.get('issuer')}, and not {issuer}: see DOSSIER_ISSUER")


def _keys(http: httpx.Client) -> None:
    said = _json(http.get("/oauth/jwks.json"), 200)
    keys = said.get("keys")
    if not isinstance(keys, list) or not keys or any("d" in key or "kid" not in key for key in keys):
        raise Refused("the gateway's /oauth/jwks.json has no public keys, or more than public ones")


def _rubbish(http: httpx.Client) -> None:
    said = _json(http.post("/oauth/token", data=RUBBISH), 401)
    if said.get("error") != "invalid_client" or "access_token" in said:
        raise Refused(f"the gateway's token endpoint answers an unknown client with {said.get('error')}")


def _closed(http: httpx.Client) -> None:
    for path in PROTECTED:
        answer = http.get(path)
        _json(answer, 401)
        if not answer.headers.get("www-authenticate", "").startswith("Bearer"):
            raise Refused(f"{path} says 401 without saying how to be let in")


def _json(answer: httpx.Response, status: int) -> dict[str, Any]:
    path = answer.request.url.path
    if answer.status_code != status:
        raise Refused(f"{path} answers {answer.status_code}, and not {status}")
    try:
        content = answer.json()
    except ValueError as error:
        raise Refused(f"{path} does not answer in JSON") from error
    if not isinstance(content, dict):
        raise Refused(f"{path} does not answer with a JSON object")
    return content
