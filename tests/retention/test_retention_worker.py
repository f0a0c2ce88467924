"""The worker as it runs: over the feed and JetStream of a real producer, and out again by its own relay."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import date
from uuid import UUID

import pytest
from pydantic_settings import SettingsConfigDict
from sqlalchemy import text
from tests.support.parts import introduce, serving, settings_of, working
from tests.support.tokens import TestKeys
from tests.support.waiting import eventually, running

from dossier_audit.main import create as create_audit
from dossier_audit.settings import Settings as AuditSettings
from dossier_common import outbox
from dossier_common.app import create_app
from dossier_common.contracts.records import AccessRefused, RecordRegistered
from dossier_common.ids import new_id
from dossier_common.settings import PartSettings
from dossier_common.worker import Context
from dossier_local.cluster import Cluster
from dossier_retention import worker
from dossier_retention.settings import Settings


class ProducerSettings(PartSettings):
    """Records, as far as it is a producer."""

    model_config = SettingsConfigDict(env_prefix="DOSSIER_RECORDS_", frozen=True)


@pytest.fixture
async def workers(cluster: Cluster) -> AsyncIterator[tuple[Context, Context]]:
    keys = TestKeys()
    producer_settings = settings_of(cluster, "records", ProducerSettings)
    records = create_app("records", producer_settings, routers=[], refused=AccessRefused)
    audit = create_audit(settings_of(cluster, "audit", AuditSettings))
    async with AsyncExitStack() as stack:
        for app in (records, audit):
            await stack.enter_async_context(serving(app, keys))
        producer = await stack.enter_async_context(working("records", producer_settings))
        follower = await stack.enter_async_context(working("retention", settings_of(cluster, "retention", Settings)))
        introduce(producer.peers, keys, {"audit": audit})
        introduce(follower.peers, keys, {"audit": audit, "records": records})
        async with follower.database.transaction() as session:  # other tests have spoken for records, in later epochs
            await session.execute(text("DELETE FROM cursors WHERE producer = 'records'"))
        yield producer, follower


async def register(producer: Context, number: int) -> list[UUID]:
    records = [new_id() for _ in range(number)]
    events = [
        RecordRegistered(
            record=record,
            unit=new_id(),
            custodian=new_id(),
            customer_type="person",
            importance="general",
            level="internal",
            information_class=1,
            plan=new_id(),
            opened_on=date(2015, 3, 1),
            relationship_ended_on=date(2020, 2, 29),
            policy="sha256:0",
        )
        for record in records
    ]
    async with producer.database.transaction() as session:
        await outbox.add_all(session, events, by=None, at=producer.clock.now())
    return records


@pytest.mark.invariant(2)
async def test_records_start_their_clocks_once_by_feed_and_stream(workers: tuple[Context, Context]) -> None:
    producer, follower = workers
    records = await register(producer, 20)

    async def started() -> int:
        query = text(
            "SELECT count(*) FROM outbox WHERE type = 'retention.v1.clock.started' AND seq IS NOT NULL "
            "AND convert_from(body, 'UTF8')::json -> 'data' ->> 'record' = ANY(:records)"
        )
        async with follower.database.session() as session:
            found = await session.execute(query, {"records": [str(record) for record in records]})
            return int(found.scalar_one())

    jobs = worker.jobs(follower)
    async with running(producer.relay().run(), jobs["follow-records"](), jobs["relay"]()):
        await eventually(started, 20)
        records += await register(producer, 20)
        await eventually(started, 40)
    async with follower.database.session() as session:
        query = text("SELECT due_on FROM clocks WHERE record = ANY(:records)")
        due = (await session.execute(query, {"records": records})).scalars().all()
    assert due == [date(2025, 2, 28)] * 40
