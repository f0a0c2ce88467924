"""Clients that are none of ours complete all flows: an OpenID relying party, and two OAuth2 clients.

requests_oauth2client discovers, verifies the answer's `iss` (RFC 9207), the ID token with its `at_hash`, `nonce`, `acr`
and `auth_time`, and refuses what does not hold. Authlib's client knows nothing of our server's use of the same library.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import OKPKey
from jwskate import Jwk
from requests_oauth2client import BearerToken, IdToken, InvalidGrant, OAuth2Client
from tests.conftest import RunningStack
from tests.support.authorization import Flow, Page

from dossier_local.client import connected

ADMINISTRATOR, PERSON = "wei.guo", "li.na"
REDIRECT, LEFT = "https://rp.example/cb", "https://rp.example/left"
SCOPE = "records:catalogue"
ONE_FACTOR = "urn:dossier:acr:one-factor"


@dataclass(frozen=True)
class Desk:
    """Registers applications with the running stack, and has a browser."""

    stack: RunningStack

    async def register(self, **more: Any) -> dict[str, Any]:
        body = {"id": f"app-{secrets.token_hex(6)}", "title": "RP", "scopes": [SCOPE], **more}
        async with connected(self.stack.base_url, self.stack.demo) as client:
            made = (await client.as_(ADMINISTRATOR).post("/v1/clients", body)).expecting(201)
        return dict(made)

    async def browse(self, browser: httpx.AsyncClient, address: str) -> str:
        """Where the browser is sent after the person signed in on our page, or only agreed when he is signed in."""
        page = Page(await browser.get(address))
        given = {"username": PERSON, "password": self.stack.demo["accounts"][PERSON]["password"]}
        if 'name="agree"' in page.answer.text:
            given = {"agree": "yes"}
        answer = (await page.submit(browser, **given)).answer
        assert answer.is_redirect, answer.text
        return answer.headers["location"]

    async def status(self, token: str) -> int:
        async with httpx.AsyncClient(base_url=self.stack.base_url, trust_env=False, timeout=60) as http:
            answer = await http.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code


@pytest.fixture(scope="module")
def desk(stack: RunningStack) -> Desk:
    return Desk(stack)


@pytest.fixture
async def browser(stack: RunningStack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.base_url, trust_env=False, timeout=60) as found:
        yield found


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as found:
        found.trust_env = False
        yield found


async def discovered(desk: Desk, session: requests.Session, made: dict[str, Any], **more: Any) -> OAuth2Client:
    """The library's client, which knows the issuer and its own registration, and finds the rest."""
    return await asyncio.to_thread(
        OAuth2Client.from_discovery_endpoint,
        issuer=desk.stack.base_url,
        session=session,
        client_id=made["id"],
        id_token_signed_response_alg="EdDSA",
        testing=True,  # it would ask for https
        **more,
    )


def leaving(metadata: dict[str, Any], token: BearerToken, state: str) -> str:
    asked = {"id_token_hint": str(token.id_token), "post_logout_redirect_uri": LEFT, "state": state}
    return f"{metadata['end_session_endpoint']}?{urlencode(asked)}"


async def test_a_relying_party_signs_a_person_in_refreshes_and_signs_him_out(
    desk: Desk, browser: httpx.AsyncClient, session: requests.Session
) -> None:
    made = await desk.register(
        grant_types=["authorization_code", "refresh_token"], redirect_uris=[REDIRECT], post_logout_redirect_uris=[LEFT]
    )
    client = await discovered(desk, session, made, client_secret=made["secret"], redirect_uri=REDIRECT)
    asked = client.authorization_request(scope=f"openid {SCOPE}", max_age=300, acr_values=ONE_FACTOR)
    answered = asked.validate_callback(await desk.browse(browser, str(asked)))
    first = await asyncio.to_thread(client.authorization_code, answered, validate=True)
    assert isinstance(first, BearerToken)
    assert isinstance(first.id_token, IdToken)
    said = first.id_token.claims
    assert said["sub"] == desk.stack.demo["accounts"][PERSON]["account"]
    assert (said["preferred_username"], said["acr"], said["amr"]) == (PERSON, ONE_FACTOR, ["pwd"])
    assert await desk.status(first.access_token) == 200

    second = await asyncio.to_thread(client.refresh_token, first)
    assert (second.scope, second.refresh_token != first.refresh_token) == (SCOPE, True)
    assert (await asyncio.to_thread(client.introspect_token, second.access_token))["active"] is True
    with pytest.raises(InvalidGrant):  # the first one was used; so the family ends
        await asyncio.to_thread(client.refresh_token, first)

    again = client.authorization_request(scope=f"openid {SCOPE}")
    third = await asyncio.to_thread(
        client.authorization_code, again.validate_callback(await desk.browse(browser, str(again))), validate=True
    )
    metadata = (await browser.get("/.well-known/openid-configuration")).json()
    left = await browser.get(leaving(metadata, third, "s1"))
    assert (left.status_code, left.headers["location"]) == (303, f"{LEFT}?state=s1")
    assert await asyncio.to_thread(client.introspect_token, third.access_token) == {"active": False}
    with pytest.raises(InvalidGrant):
        await asyncio.to_thread(client.refresh_token, third)
    silent = client.authorization_request(scope="openid", prompt="none")
    refused = parse_qs(urlsplit((await browser.get(str(silent))).headers["location"]).query)
    assert refused["error"] == ["login_required"]


async def test_a_relying_party_authenticates_by_its_key_and_gives_tokens_back(
    desk: Desk, browser: httpx.AsyncClient, session: requests.Session
) -> None:
    key = Jwk.generate(alg="ES256", kid="of-the-application")
    made = await desk.register(
        grant_types=["authorization_code", "refresh_token"],
        redirect_uris=[REDIRECT],
        jwks={"keys": [dict(key.public_jwk())]},
    )
    client = await discovered(desk, session, made, private_key=key, redirect_uri=REDIRECT)
    asked = client.authorization_request(scope=f"openid {SCOPE}")
    answered = asked.validate_callback(await desk.browse(browser, str(asked)))
    token = await asyncio.to_thread(client.authorization_code, answered, validate=True)
    assert await asyncio.to_thread(client.revoke_refresh_token, token) is True
    assert await asyncio.to_thread(client.introspect_token, token.access_token) == {"active": False}


async def test_an_application_acts_for_itself_by_secret_and_by_key(desk: Desk, session: requests.Session) -> None:
    key = Jwk.generate(alg="EdDSA", kid="of-the-application")
    by_secret = await desk.register(grant_types=["client_credentials"])
    by_key = await desk.register(grant_types=["client_credentials"], jwks={"keys": [dict(key.public_jwk())]})
    for made, proof in ((by_secret, {"client_secret": by_secret["secret"]}), (by_key, {"private_key": key})):
        client = await discovered(desk, session, made, **proof)
        token = await asyncio.to_thread(client.client_credentials)
        assert token.scope == SCOPE
        assert await desk.status(token.access_token) == 200
        assert (await asyncio.to_thread(client.introspect_token, token))["client_id"] == made["id"]
        assert await asyncio.to_thread(client.revoke_access_token, token) is True
        assert await asyncio.to_thread(client.introspect_token, token) == {"active": False}


def another(made: dict[str, Any], secret: Any, **more: Any) -> OAuth2Session:
    client = OAuth2Session(made["id"], secret, **more)
    client.trust_env = False
    return client


async def test_another_client_does_it_all_by_secret(desk: Desk, browser: httpx.AsyncClient) -> None:
    made = await desk.register(grant_types=["authorization_code", "refresh_token"], redirect_uris=[REDIRECT])
    metadata = (await browser.get("/.well-known/oauth-authorization-server")).json()
    verifier, issuer = Flow().verifier, desk.stack.base_url
    with another(made, made["secret"], scope=SCOPE, redirect_uri=REDIRECT, code_challenge_method="S256") as client:
        address, state = client.create_authorization_url(metadata["authorization_endpoint"], code_verifier=verifier)
        location = await desk.browse(browser, address)

        def rest() -> None:
            endpoint = metadata["token_endpoint"]
            client.fetch_token(endpoint, authorization_response=location, state=state, code_verifier=verifier)
            assert client.get(f"{issuer}/v1/me").json()["username"] == PERSON
            token = client.refresh_token(endpoint)
            asking, given = metadata["introspection_endpoint"], {"token": token["access_token"]}
            assert client.introspect_token(asking, **given).json()["active"] is True
            revoked = client.revoke_token(metadata["revocation_endpoint"], token=token["refresh_token"])
            assert revoked.status_code == 200
            assert client.introspect_token(asking, **given).json() == {"active": False}

        await asyncio.to_thread(rest)


async def test_another_client_acts_for_itself_by_its_key(desk: Desk, browser: httpx.AsyncClient) -> None:
    key = OKPKey.generate_key("Ed25519")
    public = key.as_dict(private=False) | {"kid": "only-one"}
    made = await desk.register(grant_types=["client_credentials"], jwks={"keys": [public]})
    endpoint = (await browser.get("/.well-known/oauth-authorization-server")).json()["token_endpoint"]
    with another(made, key, token_endpoint_auth_method="private_key_jwt") as client:
        client.register_client_auth_method(_FiveMinutes(endpoint, alg="Ed25519"))
        token = await asyncio.to_thread(client.fetch_token, endpoint, grant_type="client_credentials")
    assert token["scope"] == SCOPE
    assert await desk.status(token["access_token"]) == 200


class _FiveMinutes(PrivateKeyJWT):  # type: ignore[misc]  # Authlib has no types
    """As the library has it, but for an hour that its assertions last."""

    def sign(self, auth: Any, token_endpoint: str) -> str:
        self.claims = {"exp": int(time.time()) + 60}
        signed: str = super().sign(auth, token_endpoint)
        return signed
