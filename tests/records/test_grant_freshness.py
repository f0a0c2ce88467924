"""A grant covers something only while its projection is fresh; else approvals is asked, and without it nobody reads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from tests.records.test_reading import PAST_THE_FAST_PATH
from tests.records.world import World, slug, states
from tests.support.parts import introduce, serving, settings_of, working
from tests.support.tokens import txn_token

from dossier_approvals.main import create as create_approvals
from dossier_approvals.settings import Settings as ApprovalsSettings
from dossier_common import outbox
from dossier_common.contracts.approvals import GrantIssued
from dossier_common.inbox import Consumer
from dossier_common.problems import UpstreamUnavailable
from dossier_common.relay import Relay
from dossier_common.worker import Context
from dossier_local.cluster import Cluster
from dossier_records.consumers import handlers
from dossier_records.reading import Ask

SECOND = timedelta(seconds=1)


def resolvable(world: World, grant: GrantIssued, state: str = "active", used: int = 0) -> None:
    """What approvals says when it is asked."""
    world.peers.grants[grant.grant] = grant.model_dump(mode="json") | {"state": state, "uses_counted": used}


def times_asked(world: World) -> int:
    return sum(path.startswith("/internal/v1/grants/") for path in world.peers.paths)


@dataclass
class Prepared:
    """A record that the colleague reads under a grant, which the projection has."""

    world: World
    record: UUID
    grant: GrantIssued

    async def read(self, extra: str = "", key: str = "") -> httpx.Response:
        return await self.world.read(self.record, self.world.colleague, self.grant.grant, extra=extra, key=key)


@pytest.fixture
async def prepared(world: World) -> Prepared:
    record = await world.register()
    grant = world.grant(record, world.colleague)
    await world.tell(grant)
    return Prepared(world, record, grant)


# ---- reading


@pytest.mark.invariant(1)
@pytest.mark.parametrize("behind", [timedelta(0), SECOND, 2 * SECOND])
async def test_fresh_projection_is_believed_and_nobody_is_asked(prepared: Prepared, behind: timedelta) -> None:
    world = prepared.world
    await world.seen_through(world.clock.now() - behind)
    assert states(await prepared.read(), "open") == {"name", "phone"}
    assert times_asked(world) == 0


@pytest.mark.invariant(1)
@pytest.mark.parametrize("extra", ["", PAST_THE_FAST_PATH])
@pytest.mark.parametrize("behind", [timedelta(seconds=2.1), timedelta(days=1), -timedelta(hours=1), None])
async def test_stale_projection_asks_approvals_each_time(
    prepared: Prepared, behind: timedelta | None, extra: str
) -> None:
    world = prepared.world
    await world.seen_through(None if behind is None else world.clock.now() - behind)
    resolvable(world, prepared.grant)
    for asked in (1, 2):
        assert states(await prepared.read(extra), "open") == {"name", "phone"}
        assert times_asked(world) == asked
    assert await world.used(prepared.grant.grant) == 2


@pytest.mark.invariant(1)
@pytest.mark.parametrize("state", ["revoked", "returned", "ended"])
async def test_grant_that_ended_meanwhile_opens_nothing_and_stays_ended(prepared: Prepared, state: str) -> None:
    world = prepared.world
    await world.seen_through(None)
    resolvable(world, prepared.grant, state)
    assert slug(await prepared.read()) == "grant-required"
    await world.seen_through(world.clock.now())
    assert slug(await prepared.read()) == "grant-required"
    resolvable(world, prepared.grant)  # an answer that was on its way before the end
    await world.seen_through(None)
    assert slug(await prepared.read()) == "grant-required"


async def test_grant_that_approvals_does_not_know_opens_nothing_now(prepared: Prepared) -> None:
    world = prepared.world
    await world.seen_through(None)
    assert slug(await prepared.read()) == "grant-required"
    resolvable(world, prepared.grant)
    assert (await prepared.read()).status_code == 200


async def test_uses_that_approvals_has_counted_are_not_forgotten_here(prepared: Prepared) -> None:
    world = prepared.world
    await world.seen_through(None)
    resolvable(world, prepared.grant, used=19)
    assert (await prepared.read(key="the-last")).status_code == 200
    resolvable(world, prepared.grant, "exhausted", used=20)
    assert slug(await prepared.read()) == "grant-exhausted"
    assert (await prepared.read(key="the-last")).status_code == 200  # a repetition counts no use
    assert await world.used(prepared.grant.grant) == 20


async def test_expired_grant_is_refused_as_such(prepared: Prepared) -> None:
    world = prepared.world
    world.clock.advance(timedelta(days=2))
    await world.seen_through(None)
    resolvable(world, prepared.grant, "expired")
    assert (await prepared.read()).status_code == 403


@pytest.mark.invariant(1)
@pytest.mark.parametrize("status", [429, 500, 503, 403, None])
async def test_when_approvals_does_not_say_nobody_reads(prepared: Prepared, status: int | None) -> None:
    world = prepared.world
    await world.seen_through(None)
    await world.forget_events()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            return httpx.Response(200, json={"access_token": "opaque", "expires_in": 300})
        if status is None:
            raise httpx.ConnectError("nobody listens")
        return httpx.Response(status, json={})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as world.app.state.peers._http:
        answered = await prepared.read()
    assert (answered.status_code, slug(answered)) == (503, "upstream-unavailable")
    assert answered.headers["retry-after"]
    assert await world.events("record.viewed") == []
    assert await world.used(prepared.grant.grant) == 0


async def test_confirmation_that_has_waited_too_long_is_none(prepared: Prepared) -> None:
    world = prepared.world
    await world.seen_through(None)
    resolvable(world, prepared.grant)
    confirmed = await world.app.state.grants.resolve(prepared.grant.grant)
    subject = await world.app.state.verifier.verify(world.token(world.colleague)["Txn-Token"], "txntoken+jwt")
    ask = Ask(prepared.record, subject, "service", prepared.grant.grant, None, confirmed)
    assert (await world.app.state.reader.read(ask))["id"] == str(prepared.record)
    with pytest.raises(UpstreamUnavailable):
        await world.app.state.reader.read(replace(ask, confirmed=replace(confirmed, at=confirmed.at - 3 * SECOND)))


async def test_neighbours_without_a_grant_do_not_wait_for_approvals(prepared: Prepared) -> None:
    world = prepared.world
    await world.seen_through(None)
    resolvable(world, prepared.grant)
    plain = [world.read(prepared.record, world.colleague) for _ in range(10)]
    answers = await asyncio.gather(prepared.read(), *plain)
    assert [answer.status_code for answer in answers] == [200] * 11
    assert times_asked(world) == 1


# ---- copies, and the explanation


async def test_copies_and_explanations_ask_as_readings_do(world: World) -> None:
    record = await world.register()
    grant = world.grant(record, world.colleague, action="copy")
    await world.tell(grant)
    await world.seen_through(None)
    resolvable(world, grant)
    explained = f"/v1/records/{record}/access?action=copy&purpose=service&grant={grant.grant}"
    body = {"grant": str(grant.grant), "action": "copy"}
    assert (await world.get(explained, world.colleague)).json()["allowed"]
    issued = await world.post(f"/v1/records/{record}/copies", world.colleague, body)
    assert issued.status_code == 201, issued.text
    content = f"/v1/copies/{issued.json()['id']}/content"
    assert (await world.get(content, world.colleague)).status_code == 200
    assert times_asked(world) == 3
    resolvable(world, grant, "revoked")
    assert (await world.get(content, world.colleague)).status_code == 403
    assert (await world.post(f"/v1/records/{record}/copies", world.colleague, body)).status_code == 403
    assert not (await world.get(explained, world.colleague)).json()["allowed"]
    assert await world.used(grant.grant) == 1


async def test_copy_whose_grant_approvals_does_not_know_is_not_rendered(world: World) -> None:
    record = await world.register()
    grant = await world.granted(record, world.colleague, action="copy")
    body = {"grant": str(grant), "action": "copy"}
    issued = await world.post(f"/v1/records/{record}/copies", world.colleague, body)
    await world.seen_through(None)
    assert (await world.get(f"/v1/copies/{issued.json()['id']}/content", world.colleague)).status_code == 403


# ---- the whole way: approvals itself, its relay dead, and no NATS


@dataclass
class Approvals:
    """The real approvals service and its database; its relay works only when it is let."""

    app: FastAPI
    http: httpx.AsyncClient
    context: Context
    relay: Relay
    consumer: Consumer
    owner: asyncpg.Connection

    async def number(self) -> None:
        """The relay lives for a moment."""
        connection = await self.context.database.connect()
        while await self.relay._number(connection):
            pass
        await connection.close()

    async def issue(self, grant: GrantIssued) -> None:
        """The grant and its event, as a case ends with them."""
        now = self.context.clock.now()
        await self.owner.execute(
            "INSERT INTO grants (id, request, state, action, fields, purpose, not_before, until, uses, conditions,"
            " holder_account, holder_person, persons, policy, issued_at)"
            " VALUES ($1, $2, 'active', $3, $4, $5, $6, $7, $8, '{}', $9, $10, $11, $12, $13)",
            grant.grant,
            grant.request,
            grant.action,
            list(grant.fields),
            grant.purpose,
            grant.not_before,
            grant.until,
            grant.uses,
            grant.holder_account,
            grant.holder_person,
            list(grant.persons),
            grant.policy,
            now,
        )
        await self.owner.execute(
            'INSERT INTO grant_records ("grant", record, position) VALUES ($1, $2, 0)',
            grant.grant,
            grant.records[0],
        )
        async with self.context.database.transaction() as session:
            await outbox.add(session, grant, by=None, at=now)

    async def revoke(self, world: World, grant: GrantIssued) -> None:
        """By one who takes part in the case."""
        token = txn_token(
            world.keys,
            "approvals",
            ["grants:revoke", "grants:read"],
            account=grant.holder_account,
            person=grant.holder_person,
        )
        answer = await self.http.post(
            f"/v1/grants/{grant.grant}/revocation", json={"reason": "lost"}, headers={"Txn-Token": token}
        )
        assert answer.status_code == 200, answer.text


@pytest.fixture
async def approvals(world: World, cluster: Cluster) -> AsyncIterator[Approvals]:
    world.clock.advance(datetime.now(UTC) - world.clock.now())
    settings = settings_of(cluster, "approvals", ApprovalsSettings)
    owner = await asyncpg.connect(
        user="postgres",
        password=cluster.state.read_secret("postgres-superuser"),
        database="dossier_approvals",
        host=str(cluster.postgres.sockets),
    )
    await owner.execute("SET session_replication_role = replica; DELETE FROM outbox; DELETE FROM outbox_heads")
    await owner.execute("UPDATE outbox_state SET epoch = 1, seq = 0, hash = decode(repeat('00', 32), 'hex')")
    await world.owner.execute("DELETE FROM cursors; DELETE FROM handled_events")
    async with AsyncExitStack() as stack:
        app = create_approvals(settings)
        http = await stack.enter_async_context(serving(app, world.keys))
        app.state.clock = world.clock
        context = await stack.enter_async_context(working("approvals", settings, world.clock))
        follower = await stack.enter_async_context(working("records", world.settings, world.clock))
        for peers in (follower.peers, world.app.state.peers):
            introduce(peers, world.keys, {"approvals": app})
        yield Approvals(app, http, context, context.relay(), follower.consumer("approvals", handlers.apply), owner)
    await owner.close()


@pytest.mark.invariant(1)
async def test_a_revocation_cannot_get_stuck(world: World, approvals: Approvals) -> None:
    record = await world.register()
    revoked, kept = (world.grant(record, world.colleague, uses=None) for _ in range(2))

    async def statuses() -> list[int]:
        return [(await world.read(record, world.colleague, each.grant)).status_code for each in (revoked, kept)]

    for grant in (revoked, kept):
        await approvals.issue(grant)
    await approvals.number()
    await approvals.consumer.catch_up()
    assert await statuses() == [200, 200]
    introduce(world.app.state.peers, world.keys, {})  # while it is fresh, approvals is not needed
    assert await statuses() == [200, 200]
    introduce(world.app.state.peers, world.keys, {"approvals": approvals.app})

    world.clock.advance(SECOND)
    await approvals.revoke(world, revoked)  # the relay is dead: the event gets no number, and NATS never has it
    world.clock.advance(3 * SECOND)
    await approvals.consumer.catch_up()  # the end of the feed, which says how old what it lacks is
    assert await world.owner.fetchval("SELECT fresh_at FROM cursors") == world.clock.now() - 3 * SECOND
    assert await statuses() == [403, 200]
    introduce(world.app.state.peers, world.keys, {})
    assert await statuses() == [503, 503]

    await approvals.number()
    await approvals.consumer.catch_up()
    assert await statuses() == [403, 200]  # fresh again, without approvals
    world.clock.advance(3 * SECOND)
    assert await statuses() == [503, 503]  # nothing was heard of it since
