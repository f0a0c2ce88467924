"""An audit service with its log on servers of its own: what these tests do to it, others should not meet."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
from fastapi import FastAPI
from sqlalchemy import text
from tests.support.chains import Chain
from tests.support.parts import serving, settings_of, working
from tests.support.tokens import TestKeys, txn_token
from tests.support.waiting import eventually, running

from dossier_audit import main as audit_main
from dossier_audit import rules
from dossier_audit.consumers import ingest
from dossier_audit.log import notes
from dossier_audit.log.notes import Checkpoint
from dossier_audit.outside import Outside
from dossier_audit.publication import publish
from dossier_audit.sequencer import Sequencer
from dossier_audit.settings import Settings
from dossier_audit.witness import WitnessClient
from dossier_common.contracts.retention import HoldPlaced
from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_common.leaves import Head, Numbered
from dossier_common.worker import Context
from dossier_local.cluster import Cluster


@dataclass
class World:
    """The audit service, its log's key and folder, and a producer whose events are handed in."""

    cluster: Cluster
    keys: TestKeys
    settings: Settings
    client: httpx.AsyncClient
    app: FastAPI
    worker: Context
    folder: Path
    witnesses: list[WitnessClient] = field(default_factory=list)
    chain: Chain | None = None
    sent: list[tuple[Sequence[Numbered], Head]] = field(default_factory=list)

    @property
    def key(self) -> SigningKey:
        """The log's."""
        return SigningKey.read(self.settings.log_key_file)

    def outside(self) -> Outside:
        """What lies outside, as a fresh process sees it."""
        return Outside(self.folder, self.witnesses, self.key, self.settings.log_address)

    def sequencer(self, outside: Outside | None = None) -> Sequencer:
        """A sequencer as a fresh process has it."""
        database, clock = self.worker.database, self.worker.clock
        return Sequencer(database, clock, self.key, self.settings.log_address, outside or self.outside())

    @asynccontextmanager
    async def logging(self) -> AsyncIterator[None]:
        """The sequencer and the publication run."""
        outside = self.outside()
        publication = publish(self.worker.database, self.worker.clock, outside)
        async with running(self.sequencer(outside).run(), publication):
            yield

    async def ingested(self, number: int) -> list[UUID]:
        """Hands in events of retention, each over a record of its own; returns the records."""
        if self.chain is None:
            self.chain = await Chain.after(self.cluster, self.worker, "retention")
        records = [new_id() for _ in range(number)]
        events = [HoldPlaced(hold=new_id(), record=record) for record in records]
        await self.chain.send(self, events, at=datetime.now(UTC))
        return records

    async def take(self, events: Sequence[Numbered], head: Head) -> None:
        """Hands a batch in, and keeps it as its producer does."""
        self.sent.append((events, head))
        await self.worker.consumer("retention", ingest(self.worker.clock)).take(events, head)

    async def refill(self, sent: Sequence[tuple[Sequence[Numbered], Head]]) -> None:
        """Hands in again what the producer still has, as its feed does: what is known is passed over."""
        for events, head in sent:
            await self.worker.consumer("retention", ingest(self.worker.clock)).take(events, head)

    async def count(self, query: str) -> int:
        """A number from the audit service's database."""
        async with self.worker.database.session() as session:
            return int((await session.execute(text(query))).scalar_one() or 0)

    async def all_shown(self) -> None:
        """Waits until every ingested leaf is under a published checkpoint."""

        async def missing() -> int:
            return await self.count(
                "SELECT (SELECT count(*) FROM leaves) - coalesce((SELECT sum(m) FROM "
                "(SELECT max(size) AS m FROM log_publications GROUP BY generation) AS s), 0)"
            )

        await eventually(missing, 0)

    def headers(self, *scopes: str) -> dict[str, str]:
        """Of an auditor with these scopes; without any, of one who may read and verify."""
        asked = scopes or ("audit:read", "audit:verify")
        return {"Txn-Token": txn_token(self.keys, "audit", asked, account=new_id(), person=new_id())}

    async def get(self, path: str, *scopes: str, status: int = 200) -> httpx.Response:
        """GET as an auditor."""
        answer = await self.client.get(path, headers=self.headers(*scopes))
        assert answer.status_code == status, answer.text
        return answer

    async def checkpoint(self, generation: int = 1) -> Checkpoint:
        """The published checkpoint, its signature checked."""
        origin = rules.origin(self.settings.log_address, generation)
        path = "/v1/audit/log" if generation == 1 else f"/v1/audit/logs/{generation}"
        note = (await self.get(f"{path}/checkpoint")).text
        return Checkpoint.opened(note, notes.key_of(origin, self.key))

    async def event_of(self, record: UUID) -> UUID:
        """The id of the event over a record."""
        async with self.worker.database.session() as session:
            query = text("SELECT id FROM bodies WHERE record = :record")
            found: UUID = (await session.execute(query, {"record": record})).scalar_one()
            return found


def entries_of(bundle: bytes) -> list[bytes]:
    """The entries of a bundle (C2SP tlog-tiles)."""
    found = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        found.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    return found


@dataclass(frozen=True)
class ProofFile:
    """A `.tlog-proof`, read by hand."""

    extra: bytes
    index: int
    hashes: list[bytes]
    note: str

    @classmethod
    def read(cls, content: str) -> "ProofFile":
        head, _, note = content.partition("\n\n")
        first, extra, index, *hashes = head.split("\n")
        assert first == "c2sp.org/tlog-proof@v1"
        assert extra.startswith("extra ")
        assert index.startswith("index ")
        return cls(b64decode(extra[6:]), int(index[6:]), [b64decode(each, validate=True) for each in hashes], note)


async def until(ask: Callable[[], bool]) -> None:
    """Returns when it holds; fails after some time."""

    async def asked() -> bool:
        return ask()

    await eventually(asked, expected=True)


async def fails(job: Sequencer, error: type[Exception]) -> Exception:
    """The error with which a sequencer ends by itself."""
    try:
        async with asyncio.timeout(20):
            await job.run()
    except error as raised:
        return raised
    raise AssertionError("it ended without the error")


@asynccontextmanager
async def world(cluster: Cluster, folder: Path) -> AsyncIterator[World]:
    """An audit service on this cluster, whose checkpoints go to this folder."""
    keys = TestKeys()
    settings = settings_of(cluster, "audit", Settings)
    app = audit_main.create(settings)
    async with serving(app, keys) as client, working("audit", settings) as worker:
        yield World(cluster, keys, settings, client, app, worker, folder)
