"""The audit service with one real producer, retention, on real PostgreSQL and NATS."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import httpx
from fastapi import FastAPI
from sqlalchemy import text
from tests.support.parts import introduce, serving, settings_of, working
from tests.support.tokens import TestKeys, txn_token
from tests.support.waiting import eventually

from dossier_audit import main as audit_main
from dossier_audit.consumers import ingest
from dossier_audit.settings import Settings as AuditSettings
from dossier_common import outbox
from dossier_common.contracts.retention import HoldPlaced
from dossier_common.ids import new_id
from dossier_common.inbox import Consumer
from dossier_common.worker import Context
from dossier_local.cluster import Cluster
from dossier_retention import main as retention_main
from dossier_retention.settings import Settings as RetentionSettings


@dataclass
class Bench:
    """The audit service and its producer, as tests use them."""

    keys: TestKeys
    audit: httpx.AsyncClient
    audit_app: FastAPI
    worker: Context
    producer: Context
    producer_app: FastAPI

    def token(self, *scopes: str, account: UUID | None = None, person: UUID | None = None) -> dict[str, str]:
        """Headers of an auditor, or of whoever has these scopes."""
        token = txn_token(self.keys, "audit", scopes, account=account or new_id(), person=person or new_id())
        return {"Txn-Token": token}

    def consumer(self) -> Consumer:
        """The audit service's consumer of the producer."""
        return self.worker.consumer("retention", ingest(self.worker.clock))

    async def emit(self, number: int) -> list[UUID]:
        """Commits events of the producer, each over a record of its own, and returns the records."""
        records = [new_id() for _ in range(number)]
        events = [HoldPlaced(hold=new_id(), record=record) for record in records]
        async with self.producer.database.transaction() as session:
            await outbox.add_all(session, events, by=None, at=self.producer.clock.now())
        return records

    async def count(self, records: list[UUID]) -> int:
        """How many events of these records the audit service has stored."""
        query = text("SELECT count(*) FROM bodies b JOIN leaves l USING (producer, epoch, seq) WHERE record = ANY(:of)")
        async with self.worker.database.session() as session:
            return int((await session.execute(query, {"of": records})).scalar_one())

    async def stored(self, records: list[UUID]) -> None:
        """Waits until all are stored."""
        await eventually(lambda: self.count(records), len(records))

    async def numbered(self) -> None:
        """Waits until the producer's relay has numbered and published all."""

        async def waiting() -> int:
            query = text(
                "SELECT (SELECT count(*) FROM outbox WHERE seq IS NULL) + seq - published_seq FROM outbox_state"
            )
            async with self.producer.database.session() as session:
                return int((await session.execute(query)).scalar_one())

        await eventually(waiting, 0)


@asynccontextmanager
async def benched(cluster: Cluster) -> AsyncIterator[Bench]:
    """The two on this cluster, introduced to each other."""
    keys = TestKeys()
    audit_settings = settings_of(cluster, "audit", AuditSettings)
    retention_settings = settings_of(cluster, "retention", RetentionSettings)
    audit_app, producer_app = audit_main.create(audit_settings), retention_main.create(retention_settings)
    async with AsyncExitStack() as stack:
        audit = await stack.enter_async_context(serving(audit_app, keys))
        await stack.enter_async_context(serving(producer_app, keys))
        worker = await stack.enter_async_context(working("audit", audit_settings))
        producer = await stack.enter_async_context(working("retention", retention_settings))
        introduce(worker.peers, keys, {"retention": producer_app})
        introduce(producer.peers, keys, {"audit": audit_app})
        yield Bench(keys, audit, audit_app, worker, producer, producer_app)
