"""One producer (the database and NATS user of retention) and one follower (of approvals) on the real servers."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import httpx
from fastapi import FastAPI
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from pydantic_settings import SettingsConfigDict
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from tests.support.broker import PATIENCE, connected
from tests.support.parts import introduce
from tests.support.tokens import TestKeys, service_token
from tests.support.waiting import eventually

from dossier_cli.accounts import OPERATOR
from dossier_common import outbox
from dossier_common.clock import Clock
from dossier_common.contracts.retention import HoldPlaced
from dossier_common.ids import new_id
from dossier_common.inbox import Apply, Consumer
from dossier_common.keys import VerifyingKeys
from dossier_common.leaves import NO_LEAF, Head, Numbered, verify_chain
from dossier_common.publisher import Publisher
from dossier_common.relay import Confirmation, Confirmed, Deliver, Relay
from dossier_common.scopes import Scope
from dossier_common.settings import PartSettings
from dossier_common.worker import Context
from dossier_local.cluster import Cluster


class ProducerSettings(PartSettings):
    model_config = SettingsConfigDict(env_prefix="DOSSIER_RETENTION_", frozen=True)


class FollowerSettings(PartSettings):
    model_config = SettingsConfigDict(env_prefix="DOSSIER_APPROVALS_", frozen=True)


@dataclass
class Line:
    """What flows from the one to the other; `audited` is what the audit service says of the producer."""

    cluster: Cluster
    keys: TestKeys
    app: FastAPI
    http: httpx.AsyncClient
    producer: Context
    follower: Context
    audited: Confirmation | None = None
    asked: int = field(default=0)

    async def make_table(self) -> None:
        """A table in which the follower notes what it has applied; it accepts the same event twice."""
        migrator = await asyncpg.connect(self.cluster.database_url("approvals", "migrator"))
        await migrator.execute("SET ROLE approvals_owner")
        await migrator.execute(
            "CREATE TABLE seen (place serial PRIMARY KEY, epoch int, seq bigint, id uuid);"
            "GRANT SELECT, INSERT, DELETE ON seen TO approvals_app; GRANT USAGE ON seen_place_seq TO approvals_app"
        )
        await migrator.close()

    async def reset(self) -> None:
        """Nothing numbered, nothing seen, fresh streams."""
        self.audited, self.asked = None, 0
        introduce(self.follower.peers, self.keys, {"retention": self.app})
        await self.execute("DELETE FROM outbox")
        await self.execute("DELETE FROM outbox_heads")
        await self.set_back(epoch=1, seq=0, hash_=bytes(32))
        async with self.follower.database.transaction() as session:
            await session.execute(text("DELETE FROM seen"))
            await session.execute(text("DELETE FROM cursors"))
        await self.delete_stream()
        self.make_streams()

    async def set_back(self, *, epoch: int, seq: int, hash_: bytes) -> None:
        """As if the producer's state came from a backup."""
        await self.execute(
            "UPDATE outbox_state SET epoch = :epoch, seq = :seq, hash = :hash, published_seq = 0,"
            " receipt_epoch = 0, receipt_seq = 0, receipt_at = NULL",
            epoch=epoch,
            seq=seq,
            hash=hash_,
        )

    # -- the producer

    async def execute(self, statement: str, **values: object) -> None:
        """A statement in the producer's database, with its application role."""
        async with self.producer.database.transaction() as session:
            await session.execute(text(statement), values)

    async def rows(self, statement: str, **values: object) -> Sequence[tuple[object, ...]]:
        """Rows of the producer's database."""
        async with self.producer.database.session() as session:
            return [tuple(row) for row in (await session.execute(text(statement), values)).all()]

    async def value(self, statement: str, **values: object) -> object:
        """The one value of a query in the producer's database."""
        ((found,),) = await self.rows(statement, **values)
        return found

    async def emit(self, number: int = 1, clock: Clock | None = None) -> None:
        """Commits events in one transaction."""
        events = [HoldPlaced(hold=new_id(), record=new_id()) for _ in range(number)]
        async with self.producer.database.transaction() as session:
            await outbox.add_all(session, events, by=None, at=(clock or self.producer.clock).now())

    async def confirmed(self) -> Confirmation | None:
        """What the relay asks the audit service for."""
        self.asked += 1
        return self.audited

    def relay(
        self, deliver: Deliver | None = None, confirmed: Confirmed | None = None, clock: Clock | None = None
    ) -> Relay:
        """A relay of the producer."""
        return Relay(
            "retention",
            self.producer.database,
            self.producer.key,
            clock or self.producer.clock,
            deliver=deliver or Publisher(self.producer.nats, "retention").deliver,
            confirmed=confirmed or self.confirmed,
        )

    async def numbered(self, number: int) -> None:
        """Waits until so many events have a number."""
        await eventually(lambda: self.value("SELECT count(*) FROM outbox WHERE seq IS NOT NULL"), number)

    async def published(self) -> None:
        """Waits until all is numbered and published."""
        query = "SELECT (SELECT count(*) FROM outbox WHERE seq IS NULL) + seq - published_seq FROM outbox_state"
        await eventually(lambda: self.value(query), 0)

    async def chain(self) -> list[Numbered]:
        """All numbered events, in order."""
        rows = await self.rows(
            "SELECT id, type, epoch, seq, leaf, salt, body FROM outbox WHERE seq IS NOT NULL ORDER BY epoch, seq"
        )
        return [Numbered(*row) for row in rows]  # type: ignore[arg-type]  # as the columns are declared

    async def heads(self) -> list[Head]:
        """All signed heads, in order."""
        rows = await self.rows("SELECT epoch, seq, hash, signature FROM outbox_heads ORDER BY epoch, seq")
        return [Head("retention", *row) for row in rows]  # type: ignore[arg-type]  # as the columns are declared

    def verifying(self) -> VerifyingKeys:
        """The producer's public keys, as followers have them."""
        return VerifyingKeys(self.follower.settings.common.producer_keys["retention"])

    # -- the stream

    @asynccontextmanager
    async def jetstream(self) -> AsyncIterator[JetStreamContext]:
        """What the operator may do with streams."""
        async with connected(self.cluster.broker, OPERATOR) as client:
            yield client.jetstream(timeout=PATIENCE)

    async def stream_length(self) -> int:
        """Messages in the producer's stream."""
        async with self.jetstream() as jetstream:
            return (await jetstream.stream_info("RETENTION")).state.messages

    async def delete_stream(self) -> None:
        """What a lost NATS store looks like."""
        async with self.jetstream() as jetstream:
            with suppress(NotFoundError):
                await jetstream.delete_stream("RETENTION")

    def make_streams(self) -> None:
        """The operator's step."""
        self.cluster.make_streams()

    # -- the follower

    async def note(self, session: AsyncSession, _producer: str, events: Sequence[Numbered], _head: Head) -> None:
        """What the follower does with events: it writes down that it has seen them."""
        rows = [{"epoch": each.epoch, "seq": each.seq, "id": each.id} for each in events]
        await session.execute(text("INSERT INTO seen (epoch, seq, id) VALUES (:epoch, :seq, :id)"), rows)

    def consumer(self, apply: Apply | None = None) -> Consumer:
        """A consumer of the follower."""
        return self.follower.consumer("retention", apply or self.note)

    def take_feed_away(self) -> None:
        """The producer's web process does not answer."""
        introduce(self.follower.peers, self.keys, {})

    def give_feed_back(self) -> None:
        """It answers again."""
        introduce(self.follower.peers, self.keys, {"retention": self.app})

    async def seen(self) -> list[tuple[int, int]]:
        """(epoch, seq) of what was applied, in the order of application."""
        async with self.follower.database.session() as session:
            rows = await session.execute(text("SELECT epoch, seq FROM seen ORDER BY place"))
            return [(row.epoch, row.seq) for row in rows]

    async def seen_ids(self) -> list[UUID]:
        """Ids of what was applied."""
        async with self.follower.database.session() as session:
            return list((await session.execute(text("SELECT id FROM seen ORDER BY place"))).scalars())

    async def has_seen(self, number: int, epoch: int = 1) -> None:
        """Waits until exactly the first events of this epoch were applied, each once, in order."""

        async def ask() -> list[int]:
            return [seq for at, seq in await self.seen() if at == epoch]

        await eventually(ask, list(range(1, number + 1)))

    # -- the feed

    async def page(self, epoch: int = 0, after: int = 0) -> httpx.Response:
        """A page of the producer's feed, as its follower asks for it."""
        token = service_token(self.keys, "retention", "approvals", [Scope.EVENTS_PULL])
        return await self.http.get(
            "/internal/v1/feed",
            params={"epoch": epoch, "after": after},
            headers={"Authorization": f"Bearer {token}"},
        )


def ensure_whole(line: Line, events: Sequence[Numbered], heads: Sequence[Head], *, epoch: int = 1) -> None:
    """One epoch's events are a gapless chain, cut by signed heads."""
    seq, prev = 0, NO_LEAF
    for head in heads:
        head.verify(line.verifying())
        batch = [event for event in events if seq < event.seq <= head.seq]
        verify_chain("retention", epoch, seq, prev, batch, head)
        seq, prev = head.seq, head.hash
    assert [event.seq for event in events] == list(range(1, seq + 1))
