"""Who is let in by TLS, who is believed, and what a connection that is none of either costs."""

import asyncio
import json
import ssl
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs
from tests.support.certificates import Authority
from tests.support.listening import web_process
from tests.support.waiting import eventually, running

from dossier_common.clock import SystemClock
from dossier_common.door import Limits
from dossier_common.keys import SigningKey
from dossier_common.peers import Peers
from dossier_common.settings import CommonSettings
from dossier_common.tls import Tls, reason_of

SLOW = Limits(linger_seconds=30)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    for name in ("server", "client"):
        made.certify(name)
    made.certify("elsewhere", "elsewhere.example")
    made.certify("expired", ends=datetime.now(UTC) - timedelta(hours=1))
    return made


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("stranger"))
    for name in ("server", "client"):
        made.certify(name)
    return made


def serving(app: ASGIApp, context: ssl.SSLContext | None, limits: Limits = SLOW) -> AbstractAsyncContextManager[int]:
    """The port of a web process."""
    return web_process(app, context, limits)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Says by what it was asked, and how long the body was."""
    length = 0
    more = True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = f"{scope['scheme']} {length}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def ask(port: int, context: ssl.SSLContext, body: bytes = b"") -> str:
    """The answer. Raises httpx.HTTPError."""
    async with httpx.AsyncClient(verify=context, trust_env=False, timeout=30) as http:
        return (await http.post(f"https://127.0.0.1:{port}/", content=body)).text


async def refusal(port: int, context: ssl.SSLContext) -> str:
    """Why there is no answer."""
    with pytest.raises(httpx.HTTPError) as refused:
        await ask(port, context)
    error: BaseException | None = refused.value
    while error is not None and reason_of(error) is None:
        error = error.__cause__ or error.__context__
    return reason_of(error) or str(refused.value)


# -- who is let in


async def test_a_part_with_a_certificate_of_the_ca_is_let_in(authority: Authority) -> None:
    async with serving(hello, authority.tls("server", mutual=True).server) as port:
        assert await ask(port, authority.tls("client").client) == "https 0"
        assert await ask(port, authority.tls("client").client, b"x" * 500_000) == "https 500000"


async def test_nobody_is_let_in_without_a_certificate_of_the_ca(authority: Authority, stranger: Authority) -> None:
    other = Tls(ca=authority.ca, certificate=stranger.certificate("client"), key=stranger.key("client"))
    with capture_logs() as logs:
        async with serving(hello, authority.tls("server", mutual=True).server) as port:
            for context in (authority.tls().client, other.client, authority.tls("expired").client):
                for _ in range(2):
                    await refusal(port, context)
    assert [line["reason"] for line in logs if line["event"] == "caller-not-trusted"] == [
        "peer did not return a certificate",
        "unable to get local issuer certificate",
        "certificate has expired",
    ]


async def test_anybody_is_let_in_by_the_public_side_of_the_same_settings(authority: Authority) -> None:
    async with serving(hello, authority.tls("server", mutual=True).public_server) as port:
        assert await ask(port, authority.tls().client) == "https 0"


# -- who is believed


@pytest.mark.parametrize(
    ("name", "reason"), [("elsewhere", "IP address mismatch"), ("expired", "certificate has expired")]
)
async def test_a_server_of_another_name_or_time_is_not_believed(authority: Authority, name: str, reason: str) -> None:
    async with serving(hello, authority.tls(name).server) as port:
        assert reason in await refusal(port, authority.tls().client)


async def test_a_server_of_another_ca_is_not_believed(authority: Authority, stranger: Authority) -> None:
    async with serving(hello, stranger.tls("server").server) as port:
        assert "unable to get local issuer certificate" in await refusal(port, authority.tls().client)
        assert "unable to get local issuer certificate" in await refusal(port, Tls().client)


async def test_older_versions_of_tls_are_refused(authority: Authority) -> None:
    def speaking(version: ssl.TLSVersion) -> ssl.SSLContext:
        context = authority.tls().client
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        return context

    async with serving(hello, authority.tls("server").server) as port:
        assert await ask(port, speaking(ssl.TLSVersion.TLSv1_2)) == "https 0"
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old = speaking(ssl.TLSVersion.TLSv1_1)
        await refusal(port, old)


# -- what is none of either


async def test_plain_http_at_a_port_of_tls_is_closed_without_an_answer(authority: Authority) -> None:
    async with serving(hello, authority.tls("server").server) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert b"HTTP/" not in await _rest(reader)
        writer.close()


async def test_a_handshake_counts_as_a_connection_of_its_address_and_ends_in_time(authority: Authority) -> None:
    limits = Limits(per_address=2, head_seconds=3.0)
    async with serving(hello, authority.tls("server").server, limits) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await _rest(silent[2][0]) == b""
        with pytest.raises(httpx.HTTPError):
            await ask(port, authority.tls().client)
        for reader, _ in silent:
            assert await _rest(reader) == b""
        assert await ask(port, authority.tls().client) == "https 0"
        for _, writer in silent:
            writer.close()


async def test_limits_of_a_request_hold_under_tls(authority: Authority) -> None:
    limits = Limits(head_seconds=3.0, head_bytes=4096, linger_seconds=1.0)
    async with serving(hello, authority.tls("server").server, limits) as port:
        for sent, status in (
            (GET[:-2], b"408"),
            (GET[:-2] + b"A: " + b"a" * 5000, b"431"),
            (b"no HTTP\r\n\r\n", b"400"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.tls().client)
            writer.write(sent)
            answer = await _rest(reader)
            assert answer.startswith(b"HTTP/1.1 " + status)
            writer.close()


async def test_tls_at_a_plain_port_is_answered_with_400(authority: Authority) -> None:
    async with serving(hello, None) as port:
        assert "wrong version number" in await refusal(port, authority.tls().client)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert (await _rest(reader)).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionResetError:
        return b""


async def test_an_answer_to_who_still_sends_is_read_before_the_connection_ends(authority: Authority) -> None:
    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async with serving(refuse, authority.tls("server").server) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.tls().client)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(200):
            writer.write(b"x" * 20_000)
            await asyncio.sleep(0)
        assert (await _rest(reader)).startswith(b"HTTP/1.1 413 ")
        writer.close()


# -- files that change


async def test_a_renewed_certificate_is_shown_to_who_comes_next(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.certify("server", ends=datetime.now(UTC) - timedelta(hours=1))
    tls = authority.tls("server")
    async with serving(hello, tls.server) as port:
        assert "expired" in await refusal(port, authority.tls().client)
        authority.certify("server")
        tls.renew()
        assert await ask(port, authority.tls().client) == "https 0"
        authority.key("server").write_bytes(b"half a file")
        with pytest.raises(ValueError, match=r"server-key\.pem"):
            tls.renew()
        assert await ask(port, authority.tls().client) == "https 0"


async def test_renewed_files_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dossier_common.tls.LOOK_EVERY", 0.01)
    authority = Authority(tmp_path)
    authority.certify("server")
    tls = authority.tls("server")
    renewed: list[str] = []
    monkeypatch.setattr(tls, "renew", lambda: renewed.append("once"))

    async def times() -> int:
        return len(renewed)

    async with running(tls.follow()):
        await asyncio.sleep(0)  # it has looked at the files, and waits
        authority.certify("server")
        await eventually(times, 1)


async def test_a_certificate_that_ends_soon_is_warned_of_once_a_day(tmp_path: Path) -> None:
    authority, now = Authority(tmp_path), datetime.now(UTC)
    authority.certify("soon", ends=now + timedelta(days=20))
    authority.certify("later", ends=now + timedelta(days=22))
    ending = Tls(certificate=authority.certificate("soon"), key=authority.key("soon"))
    with capture_logs() as logs:
        async with running(ending.follow()):
            await asyncio.sleep(0)
        today = ending._warned(now, date.min)
        assert ending._warned(now, today) == today
        ending._warned(now + timedelta(days=1), today)
    assert [(line["event"], line["file"]) for line in logs] == [("certificate-ends", "soon.pem")] * 3
    with capture_logs() as logs:
        later = Tls(certificate=authority.certificate("later"), key=authority.key("later"))
        later._warned(now, date.min)
        authority.certificate("later").unlink()
        later._warned(now, date.min)
    assert logs == []


# -- parts that call one another


async def test_parts_call_one_another_with_their_certificates(authority: Authority, tmp_path: Path) -> None:
    async def jwks(_scope: Scope, _receive: Receive, send: Send) -> None:
        body = json.dumps({"keys": [SigningKey.generate().public_jwk()]}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async with serving(jwks, authority.tls("server", mutual=True).server) as port:
        settings = CommonSettings(
            issuer="https://dossier.example",
            peers_file=tmp_path / "peers.json",
            producer_keys_file=tmp_path,
            policy=tmp_path,
            api_dir=tmp_path,
        )
        settings.peers_file.write_text(json.dumps({"gateway": f"https://127.0.0.1:{port}"}))
        own = (SigningKey.generate(), settings, SystemClock())
        async with Peers("records", *own, authority.tls("client").client) as peers:
            assert (await peers.keys()).keys
        async with Peers("records", *own, authority.tls().client) as peers:
            with pytest.raises(httpx.HTTPError):
                await peers.keys()
