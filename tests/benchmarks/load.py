"""A load generator that costs little: raw sockets, keep-alive, one request in flight a connection.

`python tests/benchmarks/load.py` reads a JSON plan from standard input and prints what it measured as JSON; it runs
in a process of its own, so that what it costs is not counted as the server's.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import uvloop


@dataclass
class Tally:
    """What came back."""

    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)


class Connection(asyncio.Protocol):
    """Sends the next request when the last was answered, until the time is over."""

    def __init__(self, requests: list[bytes], start: int, tally: Tally, until: float) -> None:
        self._requests, self._next, self._tally, self._until = requests, start, tally, until
        self._parser = httptools.HttpResponseParser(self)
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        if self._sent >= self._until:
            self._transport.close()
            return
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._tally.latencies.append(time.perf_counter() - self._sent)
        status = self._parser.get_status_code()
        self._tally.statuses[status] = self._tally.statuses.get(status, 0) + 1
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Rate and latencies; the requests are sent round robin by `connections` connections for `seconds`."""
    loop = asyncio.get_running_loop()
    requests = [request.encode("latin-1") for request in plan["requests"]]
    tally = Tally()
    started = time.perf_counter()
    until = started + plan["seconds"]
    waiting = []
    for number in range(plan["connections"]):
        start = number * len(requests) // plan["connections"]
        _, protocol = await loop.create_connection(
            lambda start=start: Connection(requests, start, tally, until),  # type: ignore[misc]
            plan["host"],
            plan["port"],
        )
        waiting.append(protocol.done)
    await asyncio.gather(*waiting)
    took = time.perf_counter() - started
    ordered = sorted(tally.latencies) or [0.0]
    return {
        "rps": len(tally.latencies) / took,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
        "statuses": tally.statuses,
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(json.load(sys.stdin)))))
