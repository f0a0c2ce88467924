"""A witness in the process of the test, with a state file of its own and a clock that the test sets."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

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
