"""Connections to the parts: what a part may do wrong, and that nobody gets another's answer for it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.types import Message
from tests.gateway.wire import OK, Part, part
from tests.support.waiting import eventually

from dossier_common.problems import Malformed, Problem, RequestTimeout, TooLarge, UpstreamUnavailable
from dossier_common.tls import Tls
from dossier_gateway.proxy.forward import Forwarder, Gone
from dossier_gateway.proxy.headers import Inbound
from dossier_gateway.settings import Settings

TEXT = b"x" * 200_000


@pytest.fixture(autouse=True)
def calm() -> None:
    """These need no gateway, and no database."""


@dataclass
class Call:
    """One call through the forwarder, as its caller sees it."""

    body: list[bytes] = field(default_factory=list)
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    content: bytes = b""
    complete: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    stuck: asyncio.Event | None = None

    async def receive(self) -> Message:
        if self.body:
            return {"type": "http.request", "body": self.body.pop(0), "more_body": bool(self.body)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
            return
        self.content += message.get("body", b"")
        self.complete = not message.get("more_body", False)


@dataclass
class Line:
    """A forwarder and the part behind it."""

    forwarder: Forwarder
    part: Part

    async def call(
        self,
        method: str = "GET",
        target: bytes = b"/v1/records",
        headers: Sequence[tuple[bytes, bytes]] = (),
        *,
        made: Call | None = None,
    ) -> Call:
        made = made or Call()
        outgoing = self.forwarder.outgoing("records", method, target, Inbound.read(headers), [(b"txn-token", b"t")])
        await self.forwarder.forward(outgoing, made.receive, made.send)
        return made


@asynccontextmanager
async def line_to(served: Part, **more: Any) -> AsyncIterator[Line]:
    values = {
        "forwarded_body": 1 << 20,
        "upstream_seconds": 5.0,
        "call_seconds": 20.0,
        "upstream_connections": 4,
        "tls": Tls(),
    } | more
    peers = {"records": f"http://127.0.0.1:{served.port}"}
    settings = cast("Settings", SimpleNamespace(common=SimpleNamespace(peers=peers), **values))
    forwarder = Forwarder(settings, [(b"x-frame-options", b"DENY")])
    try:
        yield Line(forwarder, served)
    finally:
        forwarder.close()


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with part() as served, line_to(served) as found:
        yield found


def answering(answer: bytes, *, close: bool = False) -> Any:
    """Answers the first call so, and all others well."""
    used: list[bool] = []

    async def behave(_part: Part, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _head: bytes) -> None:
        writer.write(OK if used else answer)
        await writer.drain()
        if not used and close:
            writer.close()
        used.append(True)

    return behave


GOOD = b"HTTP/1.1 200 OK\r\n"
WRONG: dict[str, bytes] = {
    "nonsense": b"nonsense\r\n\r\n",
    "HTTP/0.9": b"hello",
    "length and chunks": GOOD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": GOOD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}}",
    "a length that is no number": GOOD + b"content-length: two\r\n\r\n{}",
    "a coding that we do not read": GOOD + b"transfer-encoding: gzip\r\n\r\n{}",
    "no end": GOOD + b"\r\n{}",
    "a folded header": GOOD + b"x-a: b\r\n c\r\ncontent-length: 2\r\n\r\n{}",
    "a bare LF": b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    "a NUL in a header": GOOD + b"x-a: b\0\r\ncontent-length: 2\r\n\r\n{}",
    "a space before the colon": GOOD + b"content-length : 2\r\n\r\n{}",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    "a head of a megabyte": GOOD + b"x-a: " + b"b" * (1 << 20) + b"\r\ncontent-length: 2\r\n\r\n{}",
    "a body that is cut": GOOD + b"content-length: 20\r\n\r\n{}",
    "a head that is cut": GOOD + b"content-le",
    "nothing": b"",
}


@pytest.mark.parametrize("case", WRONG)
async def test_an_answer_that_is_none_is_a_503_and_its_connection_is_not_used_again(line: Line, case: str) -> None:
    line.part.behaviour = answering(WRONG[case], close=True)
    with pytest.raises(UpstreamUnavailable) as refused:
        await line.call("POST", headers=[(b"content-length", b"0")])
    assert refused.value.headers["Retry-After"]
    assert (await line.call()).content == b"{}"
    assert line.part.connections == 2
    assert len(line.part.requests) == 2


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, b"{}"),
        (GOOD + b"transfer-encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\nx-trailer: a\r\n\r\n", b"{}"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\netag: a\r\n\r\n", b""),
        (GOOD + b"content-length: 0\r\n\r\n", b""),
        (GOOD + b"content-length: 200000\r\n\r\n" + TEXT, TEXT),
        (GOOD + b"transfer-encoding: chunked\r\n\r\n30d40\r\n" + TEXT + b"\r\n0\r\n\r\n", TEXT),
    ],
    ids=["1xx before it", "chunks", "204", "304", "empty", "long", "long in chunks"],
)
async def test_an_answer_comes_whole_and_its_connection_is_used_again(
    line: Line, answer: bytes, content: bytes
) -> None:
    line.part.behaviour = answering(answer)
    made = await line.call()
    assert (made.content, made.complete) == (content, True)
    assert not any(name == b"x-trailer" for name, _ in made.headers)
    assert (await line.call()).content == b"{}"
    assert line.part.connections == 1


@pytest.mark.parametrize("answer", [OK + OK, OK + b"x", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}"])
async def test_after_a_doubtful_end_the_connection_is_not_used_again(line: Line, answer: bytes) -> None:
    line.part.behaviour = answering(answer.replace(b"{}", b"[]", 1))
    assert (await line.call()).content == b"[]"
    assert (await line.call()).content == b"{}"
    assert line.part.connections == 2


async def test_what_a_part_says_unasked_is_nobodys_answer(line: Line) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def behave(_part: Part, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _head: bytes) -> None:
        writers.append(writer)
        writer.write(OK)
        await writer.drain()

    line.part.behaviour = behave
    await line.call()
    writers[0].write(OK.replace(b"{}", b"??"))
    await writers[0].drain()
    await eventually(lambda: _open(line), 0, seconds=5)
    assert (await line.call()).content == b"{}"
    assert len(writers) == 2


async def _open(line: Line) -> int:
    return len(line.forwarder.pools["records"]._open)


async def test_an_answer_that_is_cut_is_never_whole_for_its_caller(line: Line) -> None:
    line.part.behaviour = answering(GOOD + b"content-length: 200000\r\n\r\n" + TEXT[:150_000], close=True)
    made = Call()
    with pytest.raises(ConnectionError):
        await line.call(made=made)
    assert made.status == 200
    assert not made.complete


@pytest.mark.parametrize(
    ("method", "target", "tries"),
    [("GET", b"/v1/records", 2), ("GET", b"/v1/records?grant=1", 1), ("POST", b"/v1/records", 1)],
)
async def test_a_kept_connection_that_died_is_tried_again_only_for_what_changes_nothing(
    line: Line, method: str, target: bytes, tries: int
) -> None:
    async def hang_up(_part: Part, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _head: bytes) -> None:
        line.part.behaviour = None
        writer.close()

    await line.call()
    line.part.behaviour = hang_up
    headers = [(b"content-length", b"0")] if method == "POST" else []
    if tries == 2:
        assert (await line.call(method, target, headers)).status == 200
    else:
        with pytest.raises(UpstreamUnavailable):
            await line.call(method, target, headers)
    assert len(line.part.requests) == 1 + tries


async def test_what_began_to_be_answered_is_not_tried_again(line: Line) -> None:
    line.part.behaviour = answering(b"HTTP/1.1 200", close=True)
    with pytest.raises(UpstreamUnavailable):
        await line.call()
    assert len(line.part.requests) == 1


async def test_a_part_that_is_silent_is_given_up(line: Line) -> None:
    line.part.behaviour = answering(b"")
    async with line_to(line.part, upstream_seconds=0.6) as quick:
        with pytest.raises(UpstreamUnavailable):
            await quick.call()
        assert await asyncio.wait_for(line.part.left.wait(), 5)


async def test_a_call_has_an_end_however_busy_its_part_seems(line: Line) -> None:
    async def drip(_part: Part, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _head: bytes) -> None:
        writer.write(GOOD + b"transfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    line.part.behaviour = drip
    made = Call()
    async with line_to(line.part, call_seconds=1.0) as quick:
        with pytest.raises(UpstreamUnavailable):
            await quick.call(made=made)
    assert not made.complete
    await asyncio.wait_for(line.part.left.wait(), 5)


async def test_a_caller_who_never_ends_his_body_is_given_up(line: Line) -> None:
    made = Call([b"x" * 100_000, b"x"])
    made.body[-1:] = []

    async def receive() -> Message:
        if made.body:
            return {"type": "http.request", "body": made.body.pop(0), "more_body": True}
        return await Call().receive()

    async with line_to(line.part, call_seconds=1.0) as quick:
        outgoing = quick.forwarder.outgoing(
            "records", "POST", b"/", Inbound.read([(b"transfer-encoding", b"chunked")]), []
        )
        with pytest.raises(RequestTimeout):
            await quick.forwarder.forward(outgoing, receive, made.send)


async def test_a_caller_who_leaves_takes_his_call_with_him(line: Line) -> None:
    line.part.behaviour = answering(b"")
    made = Call()
    calling = asyncio.create_task(line.call(made=made))
    await eventually(lambda: _requests(line), 1, seconds=5)
    made.gone.set()
    with pytest.raises(Gone):
        await calling
    await asyncio.wait_for(line.part.left.wait(), 5)


async def _requests(line: Line) -> int:
    return len(line.part.requests)


@pytest.mark.parametrize("sent", [b"hell", b"hello!"])
async def test_a_body_of_another_length_than_it_says_goes_nowhere(line: Line, sent: bytes) -> None:
    with pytest.raises(Malformed):
        await line.call("POST", headers=[(b"content-length", b"5")], made=Call([sent]))
    assert line.part.connections == 0


@pytest.mark.parametrize("more", [-1, 1])
async def test_a_long_body_of_another_length_than_it_says_breaks_the_call_off(line: Line, more: int) -> None:
    body = b"x" * (100_000 + more)
    with pytest.raises(Malformed):
        await line.call("POST", headers=[(b"content-length", b"100000")], made=Call([body[:50_000], body[50_000:]]))
    assert not line.part.requests
    assert (await line.call()).content == b"{}"


async def test_a_body_over_the_limit_breaks_the_call_off(line: Line) -> None:
    pieces = [b"x" * 100_000] * 12
    with pytest.raises(TooLarge):
        await line.call("POST", headers=[(b"transfer-encoding", b"chunked")], made=Call(pieces))
    assert not line.part.requests
    with pytest.raises(TooLarge):
        await line.call("POST", headers=[(b"content-length", b"1200000")], made=Call())


async def test_a_part_that_answers_before_it_has_read_all_is_heard(line: Line) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(early, "127.0.0.1", 0)
    served = Part(port=server.sockets[0].getsockname()[1])
    async with line_to(served) as found:
        made = Call([b"x" * 60_000] * 3)
        made.body.append(b"")

        async def receive() -> Message:
            if len(made.body) > 1:
                return {"type": "http.request", "body": made.body.pop(0), "more_body": True}
            return await Call().receive()

        outgoing = found.forwarder.outgoing(
            "records", "POST", b"/", Inbound.read([(b"transfer-encoding", b"chunked")]), []
        )
        await found.forwarder.forward(outgoing, receive, made.send)
        assert made.status == 413
        await eventually(lambda: _open(found), 0, seconds=5)
    server.close()


async def test_calls_wait_for_a_connection_and_all_are_answered(line: Line) -> None:
    made = await asyncio.gather(*(line.call(target=b"/v1/records?n=%d" % number) for number in range(40)))
    assert {each.content for each in made} == {b"{}"}
    assert len(line.part.requests) == 40
    assert line.part.connections <= 4


async def test_a_cancelled_call_gives_its_connection_back(line: Line) -> None:
    line.part.behaviour = answering(b"")
    for _ in range(6):
        calling = asyncio.create_task(line.call("POST", headers=[(b"content-length", b"0")]))
        await asyncio.sleep(0)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    line.part.behaviour = None
    assert (await line.call()).content == b"{}"


async def test_no_part_is_a_503() -> None:
    async with line_to(Part(port=1)) as found:
        with pytest.raises(UpstreamUnavailable):
            await found.call()


async def test_what_parts_say_of_connection_cookies_rates_and_origins_is_not_passed_on(line: Line) -> None:
    own = [
        b"set-cookie: a=b",
        b"server: x",
        b"ratelimit-limit: 1",
        b"ratelimit-policy: 1",
        b"x-ratelimit-remaining: 1",
        b"access-control-allow-origin: *",
        b"connection: x-inner",
        b"x-inner: secret",
        b"keep-alive: 5",
        b"x-outer: kept",
        b"x-frame-options: SAMEORIGIN",
    ]
    line.part.behaviour = answering(b"\r\n".join([b"HTTP/1.1 200 OK", *own, b"content-length: 2", b"", b"{}"]))
    made = await line.call()
    assert made.headers == [(b"x-outer", b"kept"), (b"x-frame-options", b"SAMEORIGIN"), (b"content-length", b"2")]


def test_a_header_with_a_line_break_is_never_written() -> None:
    inbound = Inbound.read([(b"x-a", b"b\r\nx-c: d")])

    async def write() -> None:
        async with line_to(Part(port=1)) as found:
            found.forwarder.outgoing("records", "GET", b"/", inbound, [])

    with pytest.raises(Problem, match="line break"):
        asyncio.run(write())
