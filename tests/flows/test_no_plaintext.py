"""Nothing that the system leaves on a disk holds a name, a phone or an identifier of its customers."""

import os
from collections.abc import AsyncIterator

import pytest
from tests.conftest import RunningStack
from tests.support.leaks import Search, spellings

from dossier_local.client import Client, connected, until
from dossier_local.customer_files import files, sheet
from dossier_local.customers import rows
from dossier_local.postgres import Postgres

CLERK, EMPLOYEE = "zhang.li", "li.na"


@pytest.fixture
async def client(stack: RunningStack) -> AsyncIterator[Client]:
    async with connected(stack.base_url, stack.demo) as found:
        yield found


async def _import(stack: RunningStack, client: Client, content: bytes, media_type: str) -> dict[str, int]:
    clerk = stack.demo["accounts"][CLERK]
    started = await client.as_(CLERK).call(
        "POST",
        "/v1/imports",
        content=content,
        headers={"Content-Type": media_type},
        plan=stack.demo["plan"],
        unit=clerk["unit"],
        custodian=clerk["person"],
    )
    import_id = started.expecting(202)["id"]

    async def finished() -> dict[str, int] | None:
        state = (await client.as_(CLERK).get(f"/v1/imports/{import_id}")).expecting(200)
        assert state["state"] != "failed", state
        return state if state["state"] == "done" else None

    return await until(finished, "the import", 60)


@pytest.mark.invariant(7)
@pytest.mark.timeout(600)
async def test_no_value_of_a_customer_is_on_any_disk(stack: RunningStack, client: Client) -> None:
    made = sheet()
    content = files(made)["customers-gb18030.csv"]
    state = await _import(stack, client, content, "text/csv; charset=gb18030")
    assert (state["accepted"] + state["duplicates"], state["refused"]) == (1000, 40)
    customers = rows()
    phone = customers[0]["phone"]
    found = await client.as_(EMPLOYEE).post(
        "/v1/records/search", {"field": "phone", "value": phone, "purpose": "service"}
    )
    assert found.expecting(200)["items"]
    await client.as_(EMPLOYEE).post("/v1/records/search", {"field": "phone", "value": phone, "purpose": phone})
    await client.as_(EMPLOYEE).get(f"/v1/records/{phone}", purpose="service")
    Postgres(stack.state).psql("CHECKPOINT; SELECT pg_switch_wal();")  # what is in memory goes to disk

    search = Search(row[column] for row in customers for column in ("name", "phone", "identifier"))
    assert len(customers) == 1000
    for number, (_, spelling) in enumerate(list(spellings(customers[7]["name"]))[:40]):
        if len(spelling) < 6:
            continue
        canary = stack.state.folder / "log" / f"canary-{number}"
        canary.write_bytes(os.urandom(5000) + spelling + os.urandom(5000))
        try:
            assert search.file(canary), f"the search is blind for {spelling!r}"
        finally:
            canary.unlink()
    leaks = search.folders(stack.state.folder)
    assert not leaks, sorted({(str(leak.path), leak.spelling) for leak in leaks})
