"""People's passwords at the sign-in page: locked after failures, replaced when they are old, refused when weak."""

import asyncio
from datetime import timedelta

import pytest
from tests.gateway.world import PASSWORD, World
from tests.support.authorization import Flow, NotSignedIn, first_page, sign_in


async def test_an_account_is_locked_after_failures_and_opens_again_with_time(world: World) -> None:
    person = await world.person()
    for _ in range(5):
        with pytest.raises(NotSignedIn):
            await sign_in(await world.browser(), person["username"], "wrong password 1", Flow())
    with pytest.raises(NotSignedIn):
        await sign_in(await world.browser(), person["username"], PASSWORD, Flow())
    failed = await world.events("gateway.v1.session.sign-in-failed")
    mine = [event.data["locked"] for event in failed if event.data["account"] == person["id"]]
    assert mine == [False, False, False, False, True]
    world.clock.ahead = timedelta(minutes=16)
    assert await sign_in(await world.browser(), person["username"], PASSWORD, Flow())


async def test_attempts_at_once_get_no_more_tries_than_one_after_another(world: World) -> None:
    person = await world.person()

    async def attempt(password: str) -> None:
        with pytest.raises(NotSignedIn):
            await sign_in(await world.browser(), person["username"], password, Flow())

    await asyncio.gather(*(attempt(f"guess number {n}") for n in range(8)))
    with pytest.raises(NotSignedIn):
        await sign_in(await world.browser(), person["username"], PASSWORD, Flow())


async def test_a_password_that_is_too_old_is_replaced_at_sign_in(world: World) -> None:
    person = await world.person("collector")
    world.clock.ahead = timedelta(days=100)
    browser = await world.browser()

    page = await (await first_page(browser, Flow())).submit(browser, username=person["username"], password=PASSWORD)
    assert (page.answer.status_code, page.step) == (200, "renew")
    for refused in ("short1", PASSWORD, "password12345"):
        page = await page.submit(browser, new_password=refused)
        assert (page.answer.status_code, page.step) == (401, "renew")
    page = await page.submit(browser, new_password="another battery staple 7")
    assert "code=" in page.answer.headers["location"]
    assert (await world.events("gateway.v1.password.changed"))[-1].data["account"] == person["id"]


@pytest.mark.parametrize(
    "password",
    ["short1", "onlyletterspassword", "12345678901234", "x user-1 y 12345", "Password-2026!", "q1w2e3r4t5y6"],
)
async def test_weak_first_passwords_are_refused_and_the_code_stays(world: World, password: str) -> None:
    created = await world.call(
        "sysadmin",
        "POST",
        "/v1/accounts",
        json={"username": f"user-1{abs(hash(password)) % 10**9}", "display_name": "x", "unit": str(world.root)},
    )
    body = {"code": created.json()["enrolment_code"], "password": password}
    if "user-1" in password:
        body["password"] = f"xx {created.json()['username']} 1"
    refused = await world.http.post("/v1/enrolments", json=body)
    assert refused.status_code == 422
    assert body["password"] not in refused.text
    await world.enrol(body["code"])
    again = await world.http.post("/v1/enrolments", json=body | {"password": PASSWORD})
    assert again.status_code == 422
