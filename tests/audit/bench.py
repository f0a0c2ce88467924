"""The audit service with one real producer, retention, on real PostgreSQL and NATS."""

from dataclasses import dataclass
from uuid import UUID

import httpx
from fastapi import FastAPI
from sqlalchemy import text
from tests.support.tokens import TestKeys, txn_token
from tests.support.waiting import eventually

from dossier_audit.consumers import ingest
from dossier_common import outbox
from dossier_common.contracts.retention import HoldPlaced
from dossier_common.ids import new_id
from dossier_common.inbox import Consumer
from dossier_common.worker import Context


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
