"""Readings while the part may not work: neither path answers them."""

from uuid import uuid4

import pytest
from fastapi import FastAPI
from tests.records.world import World

from dossier_common.standing import Status


async def test_nothing_is_read_while_the_part_may_not_work(
    world: World, service: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unchanged() -> Status:
        return Status.CLOCK_OFF

    address = f"/v1/records/{uuid4()}?purpose=anything"
    assert (await world.http.get(address)).status_code == 401
    monkeypatch.setattr(service.state.standing, "look", unchanged)
    monkeypatch.setattr(service.state.standing, "open", False)  # its value
    for path in (address, "/v1/records"):
        answer = await world.http.get(path)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:dossier:problem:upstream-unavailable")
