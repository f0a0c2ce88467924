"""A witness in the process of the test, with a state file of its own and a clock that the test sets."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.witness.logbook import ORIGIN, WITNESS, Log, LogKey, client

from dossier_witness.app import application
from dossier_witness.note import Cosigner, Verifier
from dossier_witness.store import Store
from dossier_witness.witness import Witness


@dataclass
class Bench:
    """A witness that trusts two keys for the log's origin."""

    store: Store
    cosigner: Cosigner
    now: int = 1_800_000_000
    key: LogKey = field(default_factory=LogKey)
    next_key: LogKey = field(default_factory=lambda: LogKey(f"{ORIGIN}/2027"))

    @property
    def log(self) -> Log:
        return Log(self.key)

    def witness(self) -> Witness:
        keys = [Verifier.parse(each.vkey) for each in (self.key, self.next_key)]
        return Witness(self.cosigner, {ORIGIN: keys}, self.store, lambda: self.now)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    cosigner = Cosigner(WITNESS, Ed25519PrivateKey.generate())
    path = tmp_path / "state.sqlite"
    Store.create(path, cosigner.vkey)
    store = Store.open(path)
    yield Bench(store, cosigner)
    store.close()


@pytest.fixture
async def http(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    async with client(application(bench.witness(), bench.store)) as caller:
        yield caller


async def post(http: httpx.AsyncClient, body: bytes) -> httpx.Response:
    answer = await http.post("/add-checkpoint", content=body)
    assert answer.status_code < 500, answer.text
    kind = "text/x.tlog.size" if answer.status_code == 409 else "text/plain; charset=utf-8"
    assert answer.headers["content-type"] == kind
    return answer


async def grown(http: httpx.AsyncClient, log: Log, *sizes: int) -> None:
    for old, size in zip((0, *sizes), sizes, strict=False):
        assert (await post(http, log.request(old, size))).status_code == 200


def told(caplog: pytest.LogCaptureFixture) -> tuple[str, dict[str, Any]]:
    """Level and members of the last line of the witness's log."""
    record = [each for each in caplog.records if each.name == "dossier_witness"][-1]
    members: dict[str, Any] = record.__dict__["told"]
    return record.levelname, {"event": record.getMessage(), **members}
