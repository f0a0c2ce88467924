"""The gateway by raw sockets: what is forwarded is forwarded once and exactly, all else is refused or closed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from tests.gateway import wire
from tests.gateway import world as worlds
from tests.gateway.wire import Part, caller, dechunked, told
from tests.gateway.world import World
from tests.support.waiting import eventually

from dossier_local.cluster import Cluster


@dataclass
class Wire:
    """A gateway, the part behind it, and a token of someone who may import."""

    port: int
    part: Part
    auth: bytes

    def post(self, headers: bytes, body: bytes = b"", *, host: bytes = b"Host: x\r\n") -> bytes:
        return b"POST /v1/imports HTTP/1.1\r\n" + host + self.auth + headers + b"\r\n" + body

    def get(self, headers: bytes = b"", line: bytes = b"GET /v1/records HTTP/1.1") -> bytes:
        return line + b"\r\nHost: x\r\n" + self.auth + headers + b"\r\n"


@pytest.fixture(scope="module")
async def running(
    cluster: Cluster, world: World, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[int, Part]]:
    async with wire.part() as part:
        folder = tmp_path_factory.mktemp("wire")
        settings = worlds.settings_for(cluster, folder, part.port, upstream_seconds=1.5, call_seconds=4)
        quick = replace(settings.limits, head_seconds=1.0, body_seconds=1.0, idle_seconds=0.6, linger_seconds=0.4)
        async with worlds.gateway(settings, world.clock, quick) as (_, _http, port):
            yield port, part


@pytest.fixture(scope="module")
async def clerk(world: World) -> str:
    return str((await world.person("records_clerk"))["username"])


@pytest.fixture
async def line(running: tuple[int, Part], world: World, clerk: str) -> Wire:
    port, part = running
    part.calm()
    return Wire(port, part, b"Authorization: Bearer " + (await world.token(clerk)).encode() + b"\r\n")


CHUNKED = b"Transfer-Encoding: chunked\r\n"
REFUSED: dict[str, tuple[bytes, bytes]] = {
    "two lengths that differ": (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"),
    "two lengths that agree": (b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    "a list of lengths": (b"Content-Length: 5, 5\r\n", b"hello"),
    "a length with a sign": (b"Content-Length: +5\r\n", b"hello"),
    "a negative length": (b"Content-Length: -5\r\n", b"hello"),
    "a length in hexadecimal": (b"Content-Length: 0x5\r\n", b"hello"),
    "a length with a space": (b"Content-Length: 5 5\r\n", b"hello"),
    "no length in the length": (b"Content-Length: \r\n", b"hello"),
    "a length beyond 64 bits": (b"Content-Length: 99999999999999999999999\r\n", b"hello"),
    "length and chunks": (b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"),
    "chunks and length": (CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n"),
    "xchunked": (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "chunked, identity": (b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    "identity": (b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n"),
    "gzip, chunked": (b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
    "chunked twice in one": (b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"),
    "two transfer encodings": (CHUNKED + CHUNKED, b"0\r\n\r\n"),
    "chunked and identity in two": (CHUNKED + b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n"),
    "chunked in quotes": (b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"),
    "chunked with a vertical tab": (b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
    "chunked with a parameter": (b"Transfer-Encoding: chunked;q=1\r\n", b"0\r\n\r\n"),
    "a space before the colon": (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    "a tab before the colon": (b"Transfer-Encoding\t: chunked\r\n", b"0\r\n\r\n"),
    "a folded transfer encoding": (b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
    "a chunk of negative size": (CHUNKED, b"-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk in 0x": (CHUNKED, b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk beyond 64 bits": (CHUNKED, b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    "a chunk without a size": (CHUNKED, b"\r\nhello\r\n0\r\n\r\n"),
    "a chunk whose size begins with a space": (CHUNKED, b" 5\r\nhello\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": (CHUNKED, b"4\r\nhello\r\n0\r\n\r\n"),
    "a chunk without its end": (CHUNKED, b"5\r\nhello0\r\n\r\n"),
    "a chunk with a bare LF": (CHUNKED, b"5\nhello\r\n0\r\n\r\n"),
    "a chunk that ends with a bare LF": (CHUNKED, b"5\r\nhello\n0\r\n\r\n"),
    "a chunk extension with a bare LF": (CHUNKED, b"5;a\nbcdef\r\nhello\r\n0\r\n\r\n"),
    "a chunk extension with a bare CR": (CHUNKED, b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    "a trailer with a space before the colon": (CHUNKED, b"5\r\nhello\r\n0\r\nA : b\r\n\r\n"),
    "a folded header": (b"X-A: b\r\n c\r\nContent-Length: 5\r\n", b"hello"),
    "a folded first header": (b" X-A: b\r\nContent-Length: 5\r\n", b"hello"),
    "a bare CR in a header": (b"X-A: b\rContent-Length: 0\r\nContent-Length: 5\r\n", b"hello"),
    "a bare LF in a header": (b"X-A: b\nContent-Length: 5\r\n", b"hello"),
    "LF CR in a header": (b"X-A: b\n\rContent-Length: 5\r\n", b"hello"),
    "a NUL in a header": (b"X-A: b\0c\r\nContent-Length: 5\r\n", b"hello"),
    "a NUL in a name": (b"X\0A: b\r\nContent-Length: 5\r\n", b"hello"),
    "an empty name": (b": b\r\nContent-Length: 5\r\n", b"hello"),
    "a name with a space": (b"X A: b\r\nContent-Length: 5\r\n", b"hello"),
    "a name that is no token": (b"X(A): b\r\nContent-Length: 5\r\n", b"hello"),
    "a line without a colon": (b"X-A\r\nContent-Length: 5\r\n", b"hello"),
    "a second Host": (b"Host: y\r\nContent-Length: 5\r\n", b"hello"),
    "an upgrade with a body": (b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n", b"hello"),
    "101 headers": (b"X-A: b\r\n" * 101, b""),
    "10,000 headers": (b"X-A: b\r\n" * 10_000, b""),
    "a header of a megabyte": (b"X-A: " + b"b" * (1 << 20) + b"\r\n", b""),
    "headers of 80 KiB": ((b"X-A: " + b"b" * 1000 + b"\r\n") * 80, b""),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_refused_and_the_connection_is_closed(line: Wire, case: str) -> None:
    answer = await told(line.port, line.post(*REFUSED[case]) + line.get())
    _ensure_refused(answer)
    assert not line.part.requests


def _ensure_refused(answer: bytes) -> None:
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert answer.count(b"HTTP/1.1 ") <= 1
    if answer:
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert b"connection: close" in head
        assert b"content-type: application/problem+json" in head
        assert b"x-content-type-options: nosniff" in head
        assert b"cache-control: no-store" in head


@pytest.mark.parametrize(
    "first",
    [
        b"GET\t/v1/records HTTP/1.1",
        b"GET /v1/records\tHTTP/1.1",
        b"GET /v1/re cords HTTP/1.1",
        b"get /v1/records HTTP/1.1",
        b"G(T /v1/records HTTP/1.1",
        b"FETCH /v1/records HTTP/1.1",
        b" GET /v1/records HTTP/1.1",
        b"GET /v1/records HTTP/1.2",
        b"GET /v1/records HTTP/0.9",
        b"GET /v1/records HTTP/2.0",
        b"GET /v1/records HTTP/11",
        b"GET /v1/records http/1.1",
        b"GET /v1/records",
        b"GET v1/records HTTP/1.1",
        b"GET \\v1\\records HTTP/1.1",
        b"GET /v1/records#top HTTP/1.1",
        b"GET /v1/\xe8\xae\xb0 HTTP/1.1",
        b"GET /v1/records?x=\xff HTTP/1.1",
        b"GET /v1/re\0cords HTTP/1.1",
        b"GET example.org:80 HTTP/1.1",
        b"GET http://user@example.org/v1/records HTTP/1.1",
        b"GET ftp://example.org/v1/records HTTP/1.1",
        b"GET http:///v1/records HTTP/1.1",
        b"CONNECT example.org:443 HTTP/1.1",
        b"CONNECT /v1/records HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"TRACE /v1/records HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1",
        b"GET /v1/records?" + b"a" * 9000 + b" HTTP/1.1",
    ],
    ids=lambda first: first[:44].decode("latin-1"),
)
async def test_a_request_line_that_is_none(line: Wire, first: bytes) -> None:
    answer = await told(line.port, line.get(line=first))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert not line.part.requests


@pytest.mark.parametrize("host", [b"", b"Host: x\r\nHost: x\r\n", b"Host: a b\r\n", b"Host: a/b\r\n", b"Host: a,b\r\n"])
async def test_a_request_without_exactly_one_host(line: Wire, host: bytes) -> None:
    _ensure_refused(await told(line.port, line.post(b"Content-Length: 5\r\n", b"hello", host=host)))
    assert not line.part.requests


async def test_bare_line_feeds_end_no_line(line: Wire) -> None:
    _ensure_refused(await told(line.port, line.get().replace(b"\r\n", b"\n")))
    assert not line.part.requests


FORWARDED: dict[str, tuple[bytes, bytes, bytes]] = {
    "a length": (b"Content-Length: 5\r\n", b"hello", b"hello"),
    "chunks": (CHUNKED, b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
    "chunked in capital letters": (b"Transfer-Encoding: CHUNKED\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "chunked after a tab": (b"Transfer-Encoding:\tchunked\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "chunk extensions": (CHUNKED, b'5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n', b"hello"),
    "a size with zeros before it": (CHUNKED, b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    "trailers": (CHUNKED, b"5\r\nhello\r\n0\r\nTxn-Token: forged\r\nAuthorization: Bearer x\r\n\r\n", b"hello"),
    "a body that looks like a request": (b"Content-Length: 25\r\n", b"GET /forged HTTP/1.1\r\n\r\nx", b""),
    "a chunk that looks like the last": (CHUNKED, b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    "Expect": (b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"hello", b"hello"),
    "no body": (b"", b"", b""),
    "a length of none": (b"Content-Length: 0\r\n", b"", b""),
    "an upgrade": (b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n", b"", b""),
    "headers of the connection": (b"Connection: X-Hop\r\nX-Hop: a\r\nTE: trailers\r\nKeep-Alive: 5\r\n", b"", b""),
    "latin letters in a header": (b"X-A: \xe9\r\n", b"", b""),
}


@pytest.mark.parametrize("case", FORWARDED)
async def test_forwarded_once_and_exactly(line: Wire, case: str) -> None:
    headers, sent, body = FORWARDED[case]
    answer = await told(line.port, line.post(headers, sent))
    assert b"HTTP/1.1 200 OK\r\n" in answer
    assert b"HTTP/1.1 " not in answer.partition(b"HTTP/1.1 200 OK\r\n")[2]
    (request,) = line.part.requests
    assert not line.part.rest
    head, _, got = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert first == b"POST /v1/imports HTTP/1.1"
    names = [each.partition(b":")[0] for each in lines]
    assert sorted(name for name in names if name in {b"host", b"content-length", b"transfer-encoding"}) in (
        [b"content-length", b"host"],
        [b"host", b"transfer-encoding"],
    )
    assert f"host: 127.0.0.1:{line.part.port}".encode() in lines
    assert names.count(b"txn-token") == 1
    forbidden = {b"authorization", b"expect", b"upgrade", b"connection", b"te", b"trailer", b"x-hop", b"keep-alive"}
    assert forbidden.isdisjoint(names)
    assert (dechunked(got) if b"transfer-encoding: chunked" in lines else got) == (body or sent)


@pytest.mark.parametrize(
    ("first", "target"),
    [
        (b"GET http://example.org/v1/records?a=b HTTP/1.1", b"/v1/records?a=b"),
        (b"GET HTTPS://x:1/v1/records HTTP/1.1", b"/v1/records"),
        (b"GET /v1/records?a=%2e&b=//c HTTP/1.1", b"/v1/records?a=%2e&b=//c"),
        (b"GET /v1/records? HTTP/1.1", b"/v1/records"),
        (b"GET  /v1/records HTTP/1.1", b"/v1/records"),
    ],
)
async def test_the_target_goes_on_in_origin_form(line: Wire, first: bytes, target: bytes) -> None:
    assert (await told(line.port, line.get(line=first))).startswith(b"HTTP/1.1 200 ")
    assert [each.split(b" ")[1] for each in line.part.requests] == [target]


async def test_a_foreign_host_decides_nothing(line: Wire) -> None:
    request = line.get().replace(b"Host: x", b"Host: evil.example")
    answer = await told(line.port, request)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"evil" not in answer + line.part.requests[0]


async def test_a_caller_of_http_1_0_gets_one_answer_and_the_end(line: Wire) -> None:
    answer = await told(line.port, b"GET /v1/records HTTP/1.0\r\nConnection: keep-alive\r\n" + line.auth + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer
    assert len(line.part.requests) == 1


async def test_chunks_have_no_meaning_in_http_1_0(line: Wire) -> None:
    _ensure_refused(await told(line.port, line.post(CHUNKED, b"0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")))
    assert not line.part.requests


async def test_http_0_9_is_not_spoken(line: Wire) -> None:
    _ensure_refused(await told(line.port, b"GET /v1/records\r\n\r\n"))


@pytest.mark.parametrize("second", [b"GET /v1/records?second HTTP/1.1\r\nHost: x\r\n", b"nonsense\r\n"])
async def test_what_follows_a_request_before_its_answer_is_not_read(line: Wire, second: bytes) -> None:
    answer = await told(line.port, line.get() + second + line.auth + b"\r\n")
    assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer
    assert len(line.part.requests) == 1


async def test_a_body_beyond_its_length_is_no_request(line: Wire) -> None:
    smuggled = line.get(line=b"GET /v1/records?smuggled HTTP/1.1")
    answer = await told(line.port, line.post(b"Content-Length: 5\r\n", b"hello" + smuggled))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert [each.split(b" ")[1] for each in line.part.requests] == [b"/v1/imports"]


async def test_a_connection_carries_one_request_after_the_other(line: Wire) -> None:
    async with caller(line.port) as mine:
        for number in range(3):
            await mine.send(line.get(line=b"GET /v1/records?n=%d HTTP/1.1" % number))
            assert (await mine.answer()).startswith(b"HTTP/1.1 200 ")
    assert [each.split(b" ")[1][-1:] for each in line.part.requests] == [b"0", b"1", b"2"]


async def test_a_head_may_come_byte_by_byte_if_it_comes_in_time(line: Wire) -> None:
    request = line.get()
    async with caller(line.port) as mine:
        for at in range(0, len(request), 7):
            await mine.send(request[at : at + 7])
            await asyncio.sleep(0)
        assert (await mine.answer()).startswith(b"HTTP/1.1 200 ")


async def test_slow_headers_are_ended(line: Wire) -> None:
    began = asyncio.get_running_loop().time()
    async with caller(line.port) as mine:
        reading = asyncio.create_task(mine.all())
        for byte in line.get()[:-1]:
            if reading.done():
                break
            try:
                await mine.send(bytes([byte]))
            except ConnectionError:
                break
            await asyncio.wait([reading], timeout=0.1)
        answer = await reading
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
    assert asyncio.get_running_loop().time() - began < 8
    assert not line.part.requests


async def test_a_connection_without_a_request_is_ended(line: Wire) -> None:
    assert await told(line.port, b"") == b""


@pytest.mark.parametrize("headers", [b"Content-Length: 500000\r\n", b"Content-Length: 50\r\n", CHUNKED])
async def test_a_body_that_stops_is_ended(line: Wire, headers: bytes) -> None:
    answer = await told(line.port, line.post(headers, b"5\r\nhello\r\n"))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer
    assert not line.part.requests


async def test_a_caller_who_leaves_in_his_headers_or_his_body_is_not_forwarded(line: Wire) -> None:
    for part_of in (line.get()[:40], line.post(b"Content-Length: 50\r\n", b"half"), line.post(CHUNKED, b"5\r\nhe")):
        async with caller(line.port) as mine:
            await mine.send(part_of)
            mine.hang_up()
    async with caller(line.port) as mine:
        await mine.send(line.get(line=b"GET /v1/records?after HTTP/1.1"))
        await mine.answer()
    assert [each.split(b" ")[1] for each in line.part.requests] == [b"/v1/records?after"]


@pytest.mark.parametrize("how", ["hang up", "half close"])
async def test_a_caller_who_leaves_while_he_waits_takes_his_call_with_him(line: Wire, how: str) -> None:
    async def silent(part: Part, reader: asyncio.StreamReader, *_: object) -> None:
        assert await reader.read() == b""
        part.left.set()

    line.part.behaviour = silent
    async with caller(line.port) as mine:
        await mine.send(line.get())
        await eventually(lambda: _count(line.part), 1, seconds=5)
        line.part.left.clear()
        if how == "hang up":
            mine.hang_up()
        else:
            mine.writer.write_eof()
        await asyncio.wait_for(line.part.left.wait(), 5)
    assert len(line.part.requests) == 1


async def _count(part: Part) -> int:
    return len(part.requests)


async def test_an_answer_before_the_body_was_read_is_the_last_and_arrives(line: Wire) -> None:
    body = b"x" * 300_000
    request = line.post(b"Content-Length: %d\r\n" % len(body), body).replace(line.auth, b"")
    answer = await told(line.port, request)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer
    assert not line.part.requests


async def test_no_body_is_asked_for_before_the_caller_is_known(line: Wire) -> None:
    request = line.post(b"Expect: 100-continue\r\nContent-Length: 5\r\n").replace(line.auth, b"")
    answer = await told(line.port, request)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer


async def test_a_websocket_is_not_opened(line: Wire) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YQ==\r\n"
    answer = await told(line.port, line.get(upgrade))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"101" not in answer.partition(b"\r\n")[0]
    assert b"upgrade" not in line.part.requests[0].lower()
