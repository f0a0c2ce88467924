"""The pages of one's own account in Chromium: they work by keyboard and without scripts, in both languages."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pyotp
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect
from tests.gateway.world import PASSWORD, World
from tests.support.authorization import Flow

from dossier_gateway.console.words import WORDS

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
LANGUAGES = {"zh": "zh-CN", "en": "en-GB"}
WHOLE = """drawing => {
  const drawn = drawing.getBBox(), seen = drawing.viewBox.baseVal;
  return drawn.width > 20 && drawn.x + drawn.width <= seen.width && drawn.y + drawn.height <= seen.height;
}"""
PICTURES = os.environ.get("PICTURES")
"""A folder for a picture of each page, for whoever wants to look at them."""


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The browser; the pages of a test have a context of their own."""
    path = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if path is None:
        pytest.skip("there is no chromium (on Debian: apt install chromium), and CHROMIUM names none")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        await browser.close()


@pytest.fixture(params=LANGUAGES)
async def page(request: pytest.FixtureRequest, chromium: Browser, world: World) -> AsyncIterator[Page]:
    context = await chromium.new_context(
        base_url=f"http://127.0.0.1:{world.port}",
        locale=LANGUAGES[request.param],
        viewport={"width": 900, "height": 900},
    )
    context.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    yield await context.new_page()
    await context.close()


async def words(page: Page) -> dict[str, str]:
    """What the page should say."""
    language = await page.locator("html").get_attribute("lang")
    return WORDS["zh" if language == "zh-CN" else "en"]


async def looked_at(page: Page, name: str) -> None:
    """Nothing that axe finds is wrong with it, it has no script, and what has the focus is seen."""
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert await page.locator("script").count() == 0
    if PICTURES:
        language = await page.locator("html").get_attribute("lang")
        await page.screenshot(path=Path(PICTURES) / f"{name}-{language}.png", full_page=True)


async def invited(world: World, *roles: str) -> dict[str, Any]:
    body = {"username": f"new-{uuid4()}", "display_name": "某人", "unit": str(world.root)}
    account: dict[str, Any] = (await world.call("sysadmin", "POST", "/v1/accounts", json=body)).json()
    for role in roles:
        assert (await world.assign(account["id"], role)).status_code == 201
    return account


async def test_a_person_sets_his_first_password_and_is_told_what_is_wrong_with_it(page: Page, world: World) -> None:
    account = await invited(world)
    await page.goto("/enrol")
    said = await words(page)
    await looked_at(page, "enrol")
    await page.get_by_label(said["enrolment_code"]).fill(account["enrolment_code"])
    await page.get_by_label(said["new_password"], exact=True).fill("short1")
    await page.get_by_label(said["new_password_again"]).fill("short1")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text(said["too_short"])
    field = page.get_by_label(said["new_password"], exact=True)
    assert await field.get_attribute("aria-describedby") == "refusal"
    await looked_at(page, "enrol-refused")
    await page.get_by_label(said["enrolment_code"]).fill(account["enrolment_code"])
    await field.fill(PASSWORD)
    await page.get_by_label(said["new_password_again"]).fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name=said["to_sign_in"]).click()
    await expect(page.get_by_label(said["username"])).to_be_focused()


async def test_a_person_enrols_a_second_step_and_signs_in_by_it(page: Page, world: World) -> None:
    account = await invited(world, "security_auditor")
    await world.enrol(account["enrolment_code"])
    await page.goto("/console/sign-in")
    said = await words(page)
    await looked_at(page, "sign-in")
    await expect(page.get_by_label(said["username"])).to_be_focused()
    await page.keyboard.type(account["username"])
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("heading", level=1)).to_have_text(said["enrol_factor"])
    await looked_at(page, "enrol-second-step")
    drawn = await page.get_by_role("img", name=said["qr"]).bounding_box()
    assert drawn is not None
    assert min(drawn["width"], drawn["height"]) >= 180
    assert await page.locator(".qr svg").evaluate(WHOLE)
    secret = (await page.get_by_label(said["key"], exact=True).inner_text()).replace(" ", "")
    await expect(page.get_by_label(said["code"], exact=True)).to_be_focused()
    await page.keyboard.type(str(pyotp.TOTP(secret).at(world.clock.now())))
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("listitem")).to_have_count(10)
    recovery = await page.get_by_role("listitem").first.inner_text()
    await looked_at(page, "recovery-codes")
    await page.get_by_role("button", name=said["kept_them"]).click()

    await expect(page.get_by_role("heading", level=1)).to_have_text(said["sessions"])
    await looked_at(page, "sessions")
    await page.get_by_role("link", name=said["renew"]).click()
    await looked_at(page, "password")
    await page.get_by_role("link", name=said["second_factor"]).click()
    await looked_at(page, "second-factor")
    await page.get_by_role("link", name=said["sessions"]).click()
    await page.get_by_role("button", name=said["end_this"]).click()

    await page.get_by_label(said["username"]).fill(account["username"])
    await page.get_by_label(said["password"], exact=True).fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text(said["second_step"])
    await looked_at(page, "second-step")
    await page.get_by_text(said["use_recovery"]).click()
    await page.get_by_label(said["recovery"], exact=True).fill(recovery)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text(said["sessions"])


async def test_a_browser_goes_back_to_the_application_after_a_refusal_too(page: Page, world: World) -> None:
    """The policy of a page holds for the redirect after its form: it has to name the application's origin."""
    person = await world.person("collector")
    port = world.settings.common.peers["records"].rsplit(":", 1)[1]
    flow = Flow(redirect=f"http://127.0.0.1:{port}/callback")
    await page.goto(f"/oauth/authorize?{urlencode(flow.request())}")
    said = await words(page)
    for password in ("wrong password 1", PASSWORD):
        await page.get_by_label(said["username"]).fill(person["username"])
        await page.get_by_label(said["password"], exact=True).fill(password)
        await page.keyboard.press("Enter")
        if password != PASSWORD:
            await expect(page.get_by_role("alert")).to_be_visible()
            await looked_at(page, "sign-in-refused")
    await page.wait_for_url(f"{flow.redirect}?**")
    assert f"state={flow.state}" in page.url
