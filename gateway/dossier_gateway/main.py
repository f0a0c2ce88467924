"""The gateway's web process: its own endpoints behind FastAPI, and the proxy before them in plain ASGI."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI

from dossier_common.app import create_app
from dossier_common.clock import Clock
from dossier_common.contracts.gateway import AccessRefused
from dossier_common.serve import serve
from dossier_common.settings import fault_of
from dossier_common.startup import prepared
from dossier_common.texts import SealedTexts
from dossier_gateway import keys
from dossier_gateway.callers import Callers
from dossier_gateway.console import documents, own, pages
from dossier_gateway.directory import endpoints as directory
from dossier_gateway.directory import offboarding_endpoints
from dossier_gateway.oauth import endpoints as oauth
from dossier_gateway.oauth import management
from dossier_gateway.oauth.repository import Term
from dossier_gateway.oauth.server import Server
from dossier_gateway.oauth.service import SignInDesk
from dossier_gateway.passwords import Hasher
from dossier_gateway.policies import endpoints as policies
from dossier_gateway.proxy.app import Proxy
from dossier_gateway.second_factor import Seal
from dossier_gateway.sessions import endpoints as sessions
from dossier_gateway.settings import Settings
from dossier_gateway.tokens import Tokens


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state = app.state
    settings: Settings = state.settings
    state.policy = settings.common.pack
    state.tokens = tokens = Tokens.open(settings, state.clock.now())
    state.verifier = state.callers = Callers(state.database, state.policy, tokens, state.clock)
    state.oauth = Server(settings, state.policy, tokens)
    state.desk = SignInDesk(
        database=state.database,
        hasher=Hasher(settings.hashes_at_once),
        policy=state.policy,
        clock=state.clock,
        term=Term(timedelta(hours=settings.session_hours), state.oauth.idle),
        family_term=state.oauth.terms.family,
        seal=Seal(state.signing_key),
    )
    state.authorisation_texts = SealedTexts(state.signing_key.derive("gateway-texts"))
    state.policy_texts = SealedTexts(state.signing_key.derive("policies"))
    state.documents = documents.Documents(app, settings)
    async with keys.followed(settings.token_key_file, tokens.follow, state.clock):
        yield


def create(settings: Settings | None = None, *, clock: Clock | None = None) -> FastAPI:
    """The gateway's own endpoints. Without settings it can only be asked for its OpenAPI document."""
    return create_app(
        "gateway",
        settings,
        routers=[
            oauth.router,  # what is asked for most is found first
            directory.router,
            policies.router,
            offboarding_endpoints.router,
            management.router,
            sessions.router,
            own.router,
            pages.router,
            documents.router,
        ],
        refused=AccessRefused,
        lifespan=_lifespan,
        clock=clock,
    )


def asgi(settings: Settings, *, clock: Clock | None = None) -> Proxy:
    """The whole gateway: what is not forwarded is answered by its own endpoints."""
    return Proxy(create(settings, clock=clock), settings)


def _ensure_token_keys(settings: Settings) -> None:
    with fault_of(settings, "token_key_file"):
        keys.read(settings.token_key_file)


def main() -> None:
    """Serves until it is told to stop; ends with one line when the OpenAPI files are missing or contradict."""
    settings = prepared(Settings, _ensure_token_keys)
    try:
        app = asgi(settings)
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"{__spec__.name}: no route table from {settings.common.api_dir}: {error}") from error
    serve("gateway", app, settings, limits=settings.limits, public=True)


if __name__ == "__main__":
    main()
