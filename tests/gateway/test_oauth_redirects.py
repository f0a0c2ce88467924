"""RFC 9700, 4.1 and 4.11: a redirect is the registered one, character by character, or nobody is sent anywhere."""

import httpx
import pytest
from tests.gateway.oauth_support import App, nothing_issued, registered
from tests.gateway.world import PASSWORD, World
from tests.support.authorization import Flow, sign_in


@pytest.fixture(scope="module")
async def app(world: World) -> App:
    return await registered(world)


@pytest.fixture(scope="module")
async def browser(world: World) -> httpx.AsyncClient:
    """One that is signed in, so that a request that is let pass would be answered with a code."""
    found = await world.browser()
    clerk = await world.person("records_clerk")
    await sign_in(found, clerk["username"], PASSWORD, Flow())
    return found


REDIRECTS = {
    "another host": "https://evil.example/cb?tenant=1",
    "a subdomain": "https://x.app.example/cb?tenant=1",
    "as a subdomain": "https://app.example.evil.example/cb?tenant=1",
    "case of the host": "https://APP.example/cb?tenant=1",
    "case of the path": "https://app.example/CB?tenant=1",
    "case of the scheme": "HTTPS://app.example/cb?tenant=1",
    "scheme": "http://app.example/cb?tenant=1",
    "scheme of its own": "app.example:/cb?tenant=1",
    "no scheme": "//app.example/cb?tenant=1",
    "port": "https://app.example:444/cb?tenant=1",
    "port that is the usual one": "https://app.example:443/cb?tenant=1",
    "empty port": "https://app.example:/cb?tenant=1",
    "another path": "https://app.example/other?tenant=1",
    "path within": "https://app.example/cb/x?tenant=1",
    "trailing slash": "https://app.example/cb/?tenant=1",
    "dot segments": "https://app.example/x/../cb?tenant=1",
    "encoded dot segments": "https://app.example/x/%2e%2e/cb?tenant=1",
    "double slash": "https://app.example//cb?tenant=1",
    "path parameter": "https://app.example/cb;x?tenant=1",
    "encoded letter": "https://app.example/%63b?tenant=1",
    "backslash": "https://app.example\\cb?tenant=1",
    "fragment": "https://app.example/cb?tenant=1#x",
    "empty fragment": "https://app.example/cb?tenant=1#",
    "userinfo": "https://user@app.example/cb?tenant=1",
    "userinfo that looks like the host": "https://app.example@evil.example/cb?tenant=1",
    "host behind a backslash": "https://evil.example\\@app.example/cb?tenant=1",
    "query added": "https://app.example/cb?tenant=1&x=1",
    "query changed": "https://app.example/cb?tenant=2",
    "query left out": "https://app.example/cb",
    "query doubled": "https://app.example/cb?tenant=1&tenant=1",
    "trailing dot of the host": "https://app.example./cb?tenant=1",
    "IDN that looks alike": "https://аpp.example/cb?tenant=1",
    "IDN in its ASCII form": "https://xn--pp-7kc.example/cb?tenant=1",
    "full-width letters": "https://ａpp.example/cb?tenant=1",
    "space before": " https://app.example/cb?tenant=1",
    "space after": "https://app.example/cb?tenant=1 ",
    "line feed": "https://app.example/cb?tenant=1\n",
    "NUL": "https://app.example/cb?tenant=1\0",
    "tab within the scheme": "ht\ttps://app.example/cb?tenant=1",
    "IPv4 loopback, though not registered": "http://127.0.0.1:7/callback",
    "IPv6 loopback": "http://[::1]:7/callback",
    "localhost": "http://localhost/callback",
    "javascript": "javascript:alert(1)//app.example/cb?tenant=1",
    "data": "data:text/html,x",
    "out of band": "urn:ietf:wg:oauth:2.0:oob",
    "wildcard": "https://*.example/cb?tenant=1",
    "two of them": "https://app.example/cb?tenant=1 https://evil.example/",
    "empty": "",
}


@pytest.mark.parametrize("variation", REDIRECTS)
async def test_4_1_a_redirect_is_compared_character_by_character(
    world: World, app: App, browser: httpx.AsyncClient, variation: str
) -> None:
    flow = Flow("openid", client=app.id, redirect=REDIRECTS[variation])
    async with nothing_issued(world):
        for more in ({}, {"prompt": "none"}, {"response_type": "token"}, {"scope": "no:such"}):
            answer = await browser.get("/oauth/authorize", params=flow.request() | more)
            assert answer.status_code == 400, answer.text
            assert "location" not in answer.headers
            if variation == "NUL":
                assert answer.json()["type"] == "urn:dossier:problem:invalid-request"
            else:
                assert "<code>" in answer.text
                assert answer.headers["content-type"].startswith("text/html")


async def test_4_1_without_a_redirect_there_is_no_default(world: World, app: App, browser: httpx.AsyncClient) -> None:
    asked = app.fresh().request()
    del asked["redirect_uri"]
    async with nothing_issued(world):
        answer = await browser.get("/oauth/authorize", params=asked)
    assert (answer.status_code, "location" in answer.headers) == (400, False)
