"""While too much waits for its audit record nobody gets in, but for the parts, who bring the record."""

from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import text
from tests.gateway.world import PASSWORD, World
from tests.support import authorization
from tests.support.authorization import Flow, NotSignedIn

from dossier_common.backlog import Backlog
from dossier_common.clock import SystemClock
from dossier_common.keys import SigningKey
from dossier_common.peers import Peers
from dossier_common.scopes import Scope
from dossier_local import keys as local_keys
from dossier_local.cluster import Cluster


@pytest.fixture
async def full(world: World) -> AsyncIterator[World]:
    """A gateway with ten times too many events: one is the limit."""
    state = world.proxy.own.state
    kept = state.backlog
    state.backlog = Backlog(state.database, world.clock.now, seconds=10**9, rows=1)
    await state.backlog.look()
    assert state.backlog.rows > 10
    yield world
    state.backlog = kept


async def _events(world: World) -> int:
    async with world.proxy.own.state.database.session() as session:
        found: int = (await session.execute(text("SELECT count(*) FROM outbox"))).scalar_one()
        return found


@pytest.mark.invariant(1)
async def test_nobody_signs_in(full: World) -> None:
    before = await _events(full)
    with pytest.raises(NotSignedIn, match="503"):
        await authorization.tokens(await full.browser(), "secadmin", PASSWORD)
    assert await _events(full) == before


@pytest.mark.invariant(1)
async def test_no_code_becomes_a_token_and_it_is_not_used_up(world: World) -> None:
    flow, http, state = Flow(), await world.browser(), world.proxy.own.state
    code = flow.code(await authorization.sign_in(http, "secadmin", PASSWORD, flow), world.settings.common.issuer)
    before, kept = await _events(world), state.backlog
    state.backlog = Backlog(state.database, world.clock.now, seconds=10**9, rows=1)
    await state.backlog.look()
    try:
        answer = await http.post("/oauth/token", data=flow.exchange(code))
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:dossier:problem:audit-unavailable")
        assert await _events(world) == before
    finally:
        state.backlog = kept
    assert (await http.post("/oauth/token", data=flow.exchange(code))).status_code == 200


@pytest.mark.invariant(1)
async def test_enrolment_waits_and_its_code_stays_good(world: World) -> None:
    body = {"username": "late-comer", "display_name": "某人", "unit": str(world.root)}
    code = (await world.call("sysadmin", "POST", "/v1/accounts", json=body)).json()["enrolment_code"]
    state, own = world.proxy.own.state, world.proxy.own.state.backlog
    state.backlog = Backlog(state.database, world.clock.now, seconds=10**9, rows=1)
    await state.backlog.look()
    try:
        answer = await world.http.post("/v1/enrolments", json={"code": code, "password": PASSWORD})
        assert (answer.status_code, answer.json()["limit"]) == (503, "backlog-rows")
        created = await world.call("sysadmin", "POST", "/v1/accounts", json=body | {"username": "another"})
        assert created.status_code == 503
        assert (await world.call("sysadmin", "GET", "/v1/accounts")).status_code == 200
    finally:
        state.backlog = own
    await world.enrol(code)


@pytest.mark.invariant(2)
async def test_parts_get_their_tokens_since_they_bring_the_receipts(full: World, cluster: Cluster) -> None:
    key = SigningKey.read(local_keys.signing_key(cluster.state, "audit"))
    async with Peers("audit", key, full.settings.common, SystemClock(), full.settings.tls.client) as peers:
        await peers._http.aclose()
        peers._settings = full.settings.common.model_copy()
        peers._settings.__dict__["peers"] = dict.fromkeys(full.settings.common.peers, full.settings.common.issuer)
        async with httpx.AsyncClient(transport=full.http._transport) as peers._http:
            assert await peers._token("records", Scope.EVENTS_PULL)
