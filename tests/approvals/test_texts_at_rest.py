"""Invariant 7: what people wrote is readable to those who take part, and nowhere else."""

import pytest
from sqlalchemy import text
from tests.approvals.world import REASON, SCOPES, People, World, good

from dossier_common import tables

SECRETS = (REASON, "王小明", "13912345678", "客户经理", "同意王小明一案", "撤回同意")


@pytest.mark.invariant(7)
async def test_free_text_is_in_no_table_and_no_event_in_the_clear(world: World, people: People) -> None:
    request = await world.asked_for(people.clerk, world.record())
    task = await world.task(people.head, request)
    assert task["reason"] == REASON
    good(await world.decide(people.head, task, comment="同意王小明一案"))
    granted = await world.decided(people.manager, request)
    path, body = f"/v1/grants/{granted['grant']}/revocation", {"reason": "客户王小明撤回同意"}
    good(await world.call(people.manager, "POST", path, body, scopes=(*SCOPES, "grants:revoke")))

    canaries = {"complaint_handling", b"complaint_handling".hex()}  # in a column, and in the body of an event
    async with world.app.state.database.session() as session:
        names = (await session.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))).scalars()
        for name in [name for name in names if name != "alembic_version"]:
            # every column as bytes, so that nothing hides behind an encoding of the client
            rows = await session.execute(text(f'SELECT row_to_json(t)::text FROM "{name}" t'))
            for (row,) in rows:
                canaries -= {canary for canary in canaries if canary in row}
                for secret in SECRETS:
                    assert secret not in row
                    assert secret.encode().hex() not in row
        bodies = (await session.execute(tables.outbox.select())).all()
    assert not canaries
    assert bodies
    for event in bodies:
        assert not any(secret.encode() in event.body for secret in SECRETS)

    seen = good(await world.call(people.clerk, "GET", f"/v1/requests/{request['id']}"))
    assert (seen["reason"], seen["requester_profile"]) == (REASON, {"position": "客户经理"})
    assert seen["stages"][0]["decisions"][0]["comment"] == "同意王小明一案"
