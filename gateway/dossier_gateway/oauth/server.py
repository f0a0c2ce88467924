"""The OAuth2 server: Authlib's framework-free core, run under `AsyncSession.run_sync`.

Protocol errors are returned, not raised, so that the transaction commits what they leave behind: a burnt code, a
revoked family, a used assertion.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    InvalidClientError,
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Error,
    OAuth2Request,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc9207 import IssuerParameter
from sqlalchemy.orm import Session

from dossier_common.contracts.gateway import TokenIssued
from dossier_common.policy import Policy
from dossier_common.scopes import FOR_PEOPLE, ONLY_PERSONS
from dossier_gateway import second_factor
from dossier_gateway.directory import rules
from dossier_gateway.oauth import assertions, grants, prompts, repository
from dossier_gateway.oauth.call import Call, current, working_on
from dossier_gateway.oauth.clients import CLI, CONSOLE, LOOPBACK, OPENID, PERSON_GRANTS, PartClient, RegisteredClient
from dossier_gateway.oauth.errors import InvalidClient
from dossier_gateway.settings import Settings
from dossier_gateway.tokens import SERVICE_MINUTES, Terms, Tokens

AnyClient = RegisteredClient | PartClient


@dataclass
class Answer:
    """What the core answers."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def location(self) -> str | None:
        """Where the browser goes."""
        return self.headers.get("Location")

    @location.setter
    def location(self, value: str) -> None:
        self.headers["Location"] = value


@dataclass(frozen=True)
class Asked:
    """A request as it came: each parameter with all its values."""

    method: str
    path: str
    parameters: Sequence[tuple[str, str]]
    headers: Mapping[str, str] = field(default_factory=dict)
    zone: str | None = None


class _Request(OAuth2Request):  # type: ignore[misc]  # Authlib has no types
    """The request in Authlib's shape. TLS ends before the gateway, so that Authlib's own check of it is moot."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked.method, f"https://gateway{asked.path}", headers=asked.headers)
        self.payload = BasicOAuth2Payload(dict(asked.parameters))

    @property
    def args(self) -> dict[str, str]:
        return dict(self.payload.data)

    @property
    def form(self) -> dict[str, str]:
        return dict(self.payload.data)


def check(asked: Asked) -> None:
    """Raises InvalidRequestError for a repeated parameter (RFC 6749, 3.1), or one with other than printable ASCII."""
    names = [name for name, _ in asked.parameters]
    if len(set(names)) != len(names):
        raise InvalidRequestError("A parameter is given more than once.")
    for name, value in asked.parameters:
        if not (name + value).isascii() or not (name + value).isprintable() or '"' in value or "\\" in value:
            raise InvalidRequestError("A parameter has characters that are not allowed.")


def _ensure_one_way(asked: Asked) -> None:
    """Raises InvalidRequestError for a client that authenticates in more ways than one (RFC 6749, 2.3)."""
    ways = {name for name, _ in asked.parameters} & {"client_secret", "client_assertion"} | set(asked.headers)
    if len(ways) > 1:
        raise InvalidRequestError("A client authenticates in one way.")


class _Issuer(IssuerParameter):  # type: ignore[misc]  # Authlib has no types
    """`iss` in every answer of the authorization endpoint (RFC 9207)."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer

    def get_issuer(self) -> str:
        return self._issuer


class Server(AuthorizationServer):  # type: ignore[misc]  # Authlib has no types
    """One a process; it keeps nothing between requests."""

    def __init__(self, settings: Settings, policy: Policy, tokens: Tokens) -> None:
        super().__init__(scopes_supported=[*map(str, FOR_PEOPLE), OPENID])
        self.issuer = settings.common.issuer
        self.audit_log_vkey = settings.log_vkey
        self.tokens = tokens
        self._settings, self._policy = settings, policy
        self.terms = Terms.of(settings)
        self.idle = timedelta(minutes=settings.session_idle_minutes)
        self._built_in = built_in(self.issuer)
        self._iss = _Issuer(self.issuer)
        self.register_extension(self._iss)
        self.register_client_auth_method(assertions.METHOD, assertions.ClientAssertion(self.issuer))
        self.register_grant(grants.AuthorizationCodeGrant, [grants.Pkce(required=True)])
        self.register_grant(grants.ClientCredentialsGrant)
        self.register_grant(grants.RefreshTokenGrant)

    # ---- entries

    def call(self, session: Session, now: datetime) -> Call:
        """A fresh call."""
        return Call(session, now, self.terms.family)

    def token(self, session: Session, asked: Asked, now: datetime) -> tuple[Answer, Call]:
        """POST /oauth/token."""
        return self._answered(session, asked, now, self.create_token_response)

    def manage(
        self, session: Session, asked: Asked, now: datetime, work: "Callable[[Server, OAuth2Request], dict[str, Any]]"
    ) -> tuple[Answer, Call]:
        """Another endpoint of clients, whose work has the client authenticated and says the answer's body."""

        def answer(asked: Asked) -> Answer:
            try:
                body = work(self, self.create_oauth2_request(asked))
            except OAuth2Error as error:
                refused: Answer = self.handle_error_response(None, error)
                return refused
            return self.handle_response(
                200, body, [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
            )

        return self._answered(session, asked, now, answer)

    def _answered(
        self, session: Session, asked: Asked, now: datetime, answer: Callable[[Asked], Answer]
    ) -> tuple[Answer, Call]:
        call = self.call(session, now)
        call.zone = asked.zone
        with working_on(call):
            try:
                check(asked)
                _ensure_one_way(asked)
            except OAuth2Error as error:
                return self.handle_error_response(None, error), call
            try:
                return answer(asked), call
            except UnicodeError:  # from an Authorization header that Authlib decodes without a guard
                unreadable = InvalidClient("The Authorization header is not readable.")
                return self.handle_error_response(None, unreadable), call

    def consent(self, session: Session, asked: Asked, now: datetime) -> Any:
        """Checks an authorization request; the grant that it asks for. Raises OAuth2Error."""
        with working_on(self.call(session, now)):
            check(asked)
            grant = self.get_consent_grant(asked)
            prompts.ensure(grant)
            return grant

    def authorize(
        self, session: Session, asked: Asked, signed_in: repository.SignedInUser, now: datetime
    ) -> tuple[Answer, Call]:
        """The answer to an authorization request of a person who has agreed: a redirect with a code, or an error."""
        call = self.call(session, now)
        call.browser = signed_in.session
        with working_on(call):
            grant = self.get_consent_grant(asked)
            answer: Answer = self.create_authorization_response(grant.request, signed_in.user, grant)
            return answer, call

    def refusal(self, error: OAuth2Error) -> Answer:
        """The answer to an authorization request that is refused: sent to the client where its redirect was right."""
        answer: Answer = self.handle_error_response(None, error)
        self._iss.add_issuer_parameter(self, answer)
        return answer

    # ---- what Authlib's core calls

    def create_oauth2_request(self, request: Asked) -> _Request:
        """In Authlib's shape."""
        return _Request(request)

    def handle_response(self, status: int, body: Any, headers: Sequence[tuple[str, str]]) -> Answer:
        """As bytes."""
        encoded = orjson.dumps(body) if isinstance(body, dict) else str(body).encode()
        return Answer(status, encoded, dict(headers))

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens: events go by the outbox."""

    def query_client(self, client_id: str) -> AnyClient | None:
        """A client: built in, a part, or registered."""
        known = self._built_in.get(client_id)
        return (
            known
            or PartClient.find(client_id, self._settings.common.producer_keys)
            or repository.client(current().session, client_id, current().now)
        )

    def authenticate_client(self, request: OAuth2Request, methods: Sequence[str], endpoint: str = "token") -> AnyClient:
        """The client. Raises InvalidClient, in the same words whether it is unknown or could not prove itself."""
        try:
            client: AnyClient = super().authenticate_client(request, methods, endpoint)
        except InvalidClient:
            raise
        except InvalidClientError as error:
            raise InvalidClient("The client could not be authenticated.") from error
        return client

    def generate_token(
        self,
        grant_type: str,  # noqa: ARG002  # Authlib's signature
        client: AnyClient,
        user: repository.User | None = None,
        scope: str | None = None,
        expires_in: int | None = None,  # noqa: ARG002  # Authlib's signature
        include_refresh_token: bool = True,  # noqa: FBT001, FBT002  # Authlib's signature
    ) -> dict[str, Any]:
        """The answer of the token endpoint, with a token of at most what its holder may.

        Raises InvalidScopeError when its scopes may not be held together, or with what its person holds by whichever
        account (invariant 4). Raises OutsideZone for a client that is not where it may be.
        """
        call = current()
        if isinstance(client, RegisteredClient):
            call.ensure_within(client.id, client.zones)
        wanted = frozenset((scope or "").split())
        granted = sorted(self.granted(client, user, wanted))
        elsewhere = repository.roles_of_person(call.session, user.person, call.now) if user else []
        conflict = rules.conflict_words(self._policy, granted, rules.scopes_of_known(self._policy, elsewhere))
        if conflict:
            raise InvalidScopeError(conflict)
        seconds = self._term(client)
        person: dict[str, str | list[str]] = {}
        if user:
            assert call.browser is not None, "a person's token comes from a session"
            amr = list(repository.session_amr(call.session, call.browser))
            person = {"person": str(user.person), "sid": str(call.family), "amr": amr}
        token, jti = self.tokens.access(
            call.now,
            seconds=seconds,
            audience=call.audience or self.issuer,
            subject=str(user.id) if user else client.get_client_id(),
            client=client.get_client_id(),
            scopes=granted,
            **person,
        )
        answer: dict[str, Any] = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": seconds,
            "scope": " ".join(granted),
        }
        if user and OPENID in wanted:
            answer["id_token"] = self._identity(client, user, seconds, token)
        if user and include_refresh_token:
            answer["refresh_token"] = secrets.token_urlsafe(32)
            call.refresh_scope = call.refresh_scope or " ".join(sorted(wanted))
        call.events.append(
            TokenIssued(
                token=str(jti),
                client_id=client.get_client_id(),
                account=user.id if user else None,
                person=user.person if user else None,
                scopes=tuple(granted),
            )
        )
        return answer

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        """Keeps the refresh token; access tokens are kept by nobody but their holder."""
        call = current()
        if isinstance(request.client, RegisteredClient):
            repository.note_use(call.session, request.client, call.now)
        if "refresh_token" in token:
            repository.add_refresh_token(
                call.session,
                token["refresh_token"],
                family=call.family,
                client=request.client.get_client_id(),
                account=request.user.id,
                session=call.browser,
                scope=call.refresh_scope or "",
                expires_at=call.refresh_until or call.now + timedelta(days=self._settings.refresh_days),
            )

    def _term(self, client: AnyClient) -> int:
        """Seconds that a token lasts: never longer than the session that it comes from."""
        if isinstance(client, PartClient):
            return SERVICE_MINUTES * 60
        call, term = current(), int(self.terms.access.total_seconds())
        if call.browser_until is None:
            return term
        return max(1, min(term, int((call.browser_until - call.now).total_seconds())))

    def granted(self, client: AnyClient, user: repository.User | None, wanted: frozenset[str]) -> frozenset[str]:
        """What of a wish the client is registered for, and the person's roles give, at this moment."""
        if isinstance(client, PartClient):
            return wanted
        if user is None:
            own = client.scopes - ONLY_PERSONS
            return wanted & own if wanted else own
        call = current()
        amr = repository.session_amr(call.session, call.browser) if call.browser else ()
        held = second_factor.in_force(self._policy, repository.roles(call.session, user.id, call.now), amr)
        return wanted & client.scopes & frozenset(map(str, self._policy.scopes_of(held)))

    def _identity(self, client: AnyClient, user: repository.User, seconds: int, access_token: str) -> str:
        call = current()
        assert call.browser is not None
        amr = repository.session_amr(call.session, call.browser)
        claims: dict[str, str | int | list[str]] = {
            "preferred_username": user.username,
            "name": user.display_name,
            "sid": str(call.family),
            "amr": list(amr),
            "acr": prompts.acr(amr),
        }
        if call.signed_in_at:
            claims["auth_time"] = int(call.signed_in_at.timestamp())
        if call.nonce:
            claims["nonce"] = call.nonce
        return self.tokens.identity(
            call.now,
            seconds=seconds,
            audience=client.get_client_id(),
            subject=str(user.id),
            access_token=access_token,
            **claims,
        )


def built_in(issuer: str) -> dict[str, RegisteredClient]:
    """The console and the command line: public, of the house, for whatever the person's roles give."""
    scopes = frozenset(map(str, FOR_PEOPLE))
    console = RegisteredClient(
        CONSOLE, "Dossier", None, PERSON_GRANTS, scopes, (f"{issuer}/console/callback",), first_party=True
    )
    cli = RegisteredClient(CLI, "dossier", None, PERSON_GRANTS, scopes, (LOOPBACK,), first_party=True)
    return {CONSOLE: console, CLI: cli}
