"""The gateway's connections to parts that listen with TLS."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs
from tests.support.certificates import Authority
from tests.support.listening import web_process

from dossier_common.door import Limits
from dossier_gateway.proxy.upstream import Away, Broken, Pool

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LONG = 3_000_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    for name in ("records", "gateway"):
        made.certify(name)
    made.certify("elsewhere", "elsewhere.example")
    return made


class Part:
    """Answers with pieces, and remembers from which ports it was called."""

    def __init__(self) -> None:
        self.callers: set[int] = set()

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.callers.add(scope["client"][1])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-scheme", scope["scheme"].encode())]})
        for _ in range(30):
            await send({"type": "http.response.body", "body": b"x" * (LONG // 30), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def pool_to(port: int, tls: ssl.SSLContext, host: str = "127.0.0.1") -> Pool:
    return Pool(f"https://{host}:{port}", 4, part="records", tls=tls)


async def ask(pool: Pool) -> tuple[bytes, int]:
    """The scheme that the part saw, and the length of its answer. Raises Away, Broken."""
    upstream = await pool.take()
    try:
        await upstream.ask(GET)
        length = 0
        while piece := await upstream.read():
            length += len(piece)
        return dict(upstream.headers)[b"x-scheme"], length
    finally:
        upstream.release()


@pytest.fixture
async def listening(authority: Authority) -> AsyncIterator[tuple[Part, int]]:
    part = Part()
    async with web_process(part, authority.tls("records", mutual=True).server, Limits()) as port:
        yield part, port


async def test_a_long_answer_comes_whole_and_the_connection_is_used_again(
    listening: tuple[Part, int], authority: Authority
) -> None:
    part, port = listening
    pool = pool_to(port, authority.tls("gateway").client)
    for _ in range(3):
        assert await ask(pool) == (b"https", LONG)
    assert len(part.callers) == 1
    pool.close()


async def test_a_part_that_takes_nobody_without_a_certificate_gets_no_call(
    listening: tuple[Part, int], authority: Authority
) -> None:
    part, port = listening
    pool = pool_to(port, authority.tls().client)
    for _ in range(2):
        with pytest.raises((Away, Broken)):
            await ask(pool)
    assert not part.callers
    pool.close()


async def test_a_part_that_cannot_be_verified_gets_no_call_and_is_named_once(
    authority: Authority, tmp_path: Path
) -> None:
    part, stranger = Part(), Authority(tmp_path)
    stranger.certify("records")
    for server, reason in (
        (authority.tls("elsewhere").server, "IP address mismatch"),
        (stranger.tls("records").server, "unable to get local issuer certificate"),
    ):
        async with web_process(part, server, Limits()) as port:
            pool = pool_to(port, authority.tls("gateway").client)
            with capture_logs() as logs:
                for _ in range(3):
                    with pytest.raises(Away):
                        await ask(pool)
            pool.close()
        (line,) = logs
        assert (line["event"], line["called"]) == ("part-not-trusted", "records")
        assert reason in line["reason"]
    assert not part.callers


async def test_a_name_is_verified_as_it_stands_in_the_address(
    listening: tuple[Part, int], authority: Authority
) -> None:
    _, port = listening
    pool = pool_to(port, authority.tls("gateway").client, "localhost")
    assert await ask(pool) == (b"https", LONG)
    pool.close()
