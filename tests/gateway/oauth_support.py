"""An application of somebody else, as tests of the OAuth2 server need it: registered, with a secret or with keys."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey
from sqlalchemy import text
from tests.gateway.world import PASSWORD, World
from tests.support.authorization import Flow, sign_in

from dossier_common.ids import new_id
from dossier_gateway.tokens import Algorithms

REDIRECT = "https://app.example/cb?tenant=1"
LEFT = "https://app.example/left"
PERSON = {
    "grant_types": ["authorization_code", "refresh_token"],
    "redirect_uris": [REDIRECT],
    "post_logout_redirect_uris": [LEFT],
    "scopes": ["records:catalogue", "records:read"],
}
ITSELF = {"grant_types": ["client_credentials"], "scopes": ["records:catalogue", "records:read"]}
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
Key = OKPKey | ECKey | RSAKey
KINDS = {"EdDSA": "OKP", "Ed25519": "OKP", "ES256": "EC", "PS256": "RSA"}


def key(algorithm: str, kid: str | None = None) -> Key:
    """A fresh private key for this algorithm."""
    name = {"kid": kid or str(new_id())}
    kind = KINDS[algorithm]
    if kind == "OKP":
        return OKPKey.generate_key("Ed25519", parameters=name)  # type: ignore[arg-type]  # its own TypedDict
    if kind == "EC":
        return ECKey.generate_key("P-256", parameters=name)  # type: ignore[arg-type]  # joserfc takes any JWK members
    return RSAKey.generate_key(2048, parameters=name)  # type: ignore[arg-type]  # joserfc takes any JWK members


def public(private: Key) -> dict[str, Any]:
    return private.as_dict(private=False)


class _Anything(Algorithms):
    """Signs whatever header there is."""

    def check_header(self, header: dict[str, Any]) -> None:
        pass


def signed(private: Key, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """A JWT with whatever header and claims; those that are None are left out."""
    said = {name: value for name, value in claims.items() if value is not None}
    full = {name: value for name, value in header.items() if value is not None}
    return jws.serialize_compact(full, orjson.dumps(said), private, registry=_Anything(algorithms=[full["alg"]]))


@dataclass
class App:
    """A registered application, and what it authenticates by."""

    world: World
    id: str
    secret: str | None
    private: Key | None = None
    algorithm: str = "EdDSA"
    scope: str = "openid records:catalogue records:read"
    flow: Flow = field(init=False)

    def __post_init__(self) -> None:
        self.flow = self.fresh()

    def fresh(self, **more: Any) -> Flow:
        """Another authorization request."""
        return Flow(more.pop("scope", self.scope), client=self.id, redirect=REDIRECT, **more)

    def assertion(self, private: Key | None = None, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """A good assertion, but for what is changed."""
        private = private or self.private
        assert private is not None
        now = int(time.time())
        said = {"iss": self.id, "sub": self.id, "aud": self.world.settings.common.issuer, "iat": now, "exp": now + 60}
        said |= {"jti": str(new_id()), **changes}
        first = {"alg": self.algorithm, "kid": private.kid, "typ": "JWT"} | dict(header or {})
        return signed(private, first, said)

    def credentials(self) -> dict[str, Any]:
        """What a request of its own carries."""
        if self.private is not None:
            return {"data": {"client_assertion_type": ASSERTION, "client_assertion": self.assertion()}}
        return {"auth": (self.id, self.secret or "")}

    async def post(self, path: str, /, **form: str) -> httpx.Response:
        """A request that it authenticates."""
        own = self.credentials()
        return await self.world.http.post(path, **own | {"data": form | own.get("data", {})})

    async def exchange(self, code: str, flow: Flow | None = None, **other: str) -> httpx.Response:
        form = (flow or self.flow).exchange(code) | other
        del form["client_id"]
        return await self.post("/oauth/token", **form)

    async def tokens(
        self, username: str, *, browser: httpx.AsyncClient | None = None, flow: Flow | None = None
    ) -> dict[str, Any]:
        """What it gets for a person, by the sign-in page."""
        flow = flow or self.fresh()
        location = await sign_in(browser or await self.world.browser(), username, PASSWORD, flow)
        return await self.redeem(location, flow)

    async def redeem(self, location: str, flow: Flow) -> dict[str, Any]:
        """What it gets for the code in this address."""
        answer = await self.exchange(flow.code(location, self.world.settings.common.issuer), flow)
        assert answer.status_code == 200, answer.text
        issued: dict[str, Any] = answer.json()
        return issued

    async def own_token(self) -> dict[str, Any]:
        """What it gets for itself."""
        answer = await self.post("/oauth/token", grant_type="client_credentials")
        assert answer.status_code == 200, answer.text
        issued: dict[str, Any] = answer.json()
        return issued


async def registered(world: World, registration: Mapping[str, Any] = PERSON, **more: Any) -> App:
    """A new application; `private` is its key, if it has one, and `algorithm` what it signs with."""
    private, algorithm = more.pop("private", None), more.pop("algorithm", "EdDSA")
    body = {"id": f"app-{new_id()}", "title": "CRM", **registration, **more}
    if private is not None:
        body["jwks"] = {"keys": [public(private)]}
    answer = await world.call("sysadmin", "POST", "/v1/clients", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    return App(world, made["id"], made["secret"], private, algorithm)


async def agree(browser: httpx.AsyncClient, flow: Flow) -> str:
    """Where the gateway sends a browser that is signed in, after its person agreed."""
    page = await browser.get("/oauth/authorize", params=flow.request())
    form = page.text.split('name="form" value="')[1].split('"')[0]
    agreed = await browser.post("/oauth/authorize", params=flow.request(), data={"form": form, "agree": "yes"})
    return agreed.headers["location"]


def query(location: str) -> dict[str, str]:
    """The parameters of an address; each must stand in it once."""
    found = parse_qs(urlsplit(location).query, keep_blank_values=True)
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}


async def active(world: World, token: str) -> bool:
    """Whether the gateway takes it."""
    answer = await world.http.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code in {200, 401}, answer.text
    return answer.status_code == 200


ISSUED: Final = """
    SELECT (SELECT count(*) FROM authorization_codes), (SELECT count(*) FROM refresh_tokens),
           (SELECT count(*) FROM browser_sessions), (SELECT count(*) FROM outbox WHERE type = 'gateway.v1.token.issued')
"""


@asynccontextmanager
async def nothing_issued(world: World) -> AsyncIterator[None]:
    """No code, no token and no session comes of what happens within."""

    async def count() -> tuple[int, ...]:
        async with world.proxy.own.state.database.session() as session:
            return tuple((await session.execute(text(ISSUED))).one())

    before = await count()
    yield
    assert await count() == before
