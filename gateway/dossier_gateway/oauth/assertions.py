"""`private_key_jwt` (RFC 7523, OpenID Connect Core 9): parts by their deployed keys, applications by registered ones.

The key comes from the client's own set, by `kid`; a header that brings one (`jwk`, `jku`, `x5c`, `x5u`) is not
followed. The algorithm is the key's, whatever the header would like.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeGuard
from urllib.parse import urlsplit

import orjson
from authlib.oauth2.rfc6749 import OAuth2Error, OAuth2Request
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry

from dossier_gateway.oauth import repository
from dossier_gateway.oauth.call import current
from dossier_gateway.oauth.errors import InvalidClient
from dossier_gateway.tokens import Algorithms

METHOD: Final = "private_key_jwt"
TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS: Final[Mapping[str, tuple[str, ...]]] = {
    "OKP": ("Ed25519", "EdDSA"),
    "EC": ("ES256",),
    "RSA": ("PS256",),
}
"""What a key of each `kty` signs with; the names of one key are names of the same algorithm."""
TOKEN: Final = "/oauth/token"  # noqa: S105  # an address
LONGEST: Final = 300
LEEWAY: Final = 5
LONGEST_JTI: Final = 200
_TYPES: Final = frozenset({None, "JWT", "jwt", "client-authentication+jwt"})


class ClientAssertion:
    """Authenticates by an assertion of at most five minutes, which counts once; as Authlib calls it.

    It is meant for the issuer, for the token endpoint, or for the endpoint at which it is presented: libraries differ.
    """

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer

    def __call__(self, query_client: Any, request: OAuth2Request) -> Any:
        """The client that signed the assertion in the request; None without one. Raises InvalidClient."""
        form: Mapping[str, str] = request.form
        assertion = form.get("client_assertion")
        if not assertion or form.get("client_assertion_type") != TYPE:
            return None
        try:
            audiences = {self._issuer, *(f"{self._issuer}{path}" for path in (TOKEN, urlsplit(request.uri).path))}
            return self._client(query_client, form.get("client_id"), assertion, audiences)
        except OAuth2Error:
            raise
        except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidClient("The assertion cannot be verified.") from error

    def _client(self, query_client: Any, named: str | None, assertion: str, audiences: set[str]) -> Any:
        unverified = jws.extract_compact(assertion.encode())
        header = unverified.headers()
        if header.get("typ") not in _TYPES:
            raise InvalidClient("This is another type of token.")
        name = orjson.loads(unverified.payload)["sub"]
        client = query_client(name) if isinstance(name, str) and named in {None, name} else None
        if client is None or not client.check_endpoint_auth_method(METHOD, "token"):
            raise InvalidClient("This client does not authenticate by assertion.")
        key = _key(client.keys, header.get("kid"), str(header["alg"]))
        claims = jwt.decode(assertion, key, registry=Algorithms(algorithms=[header["alg"]])).claims
        self._ensure(claims, name, audiences)
        return client

    def _ensure(self, claims: Mapping[str, Any], name: str, audiences: set[str]) -> None:
        call = current()
        now = call.now.timestamp()
        audience, ends, jti = claims.get("aud"), claims.get("exp"), claims.get("jti")
        meant = set(audience) if isinstance(audience, list) else {audience}
        if claims.get("iss") != name or not meant or not meant <= audiences:
            raise InvalidClient("The assertion is not by this client, or not for this server.")
        if not _is_time(ends) or not now - LEEWAY < ends <= now + LONGEST:
            raise InvalidClient("An assertion lasts at most five minutes.")
        for begins in (claims.get("iat", now), claims.get("nbf", now)):
            if not _is_time(begins) or begins > now + LEEWAY:
                raise InvalidClient("The assertion is not valid yet.")
        if not isinstance(jti, str) or not 1 <= len(jti) <= LONGEST_JTI:
            raise InvalidClient("An assertion has a jti.")
        until = call.now.fromtimestamp(ends + LEEWAY, call.now.tzinfo)
        if not repository.use_assertion(call.session, name, jti, until):
            raise InvalidClient("The assertion was used before.")


def _key(keys: Any, kid: object, algorithm: str) -> Any:
    """The key of this `kid`, or the only one; it must be of the algorithm's kind. Raises InvalidClient."""
    found = [key for key in keys if key.get("kid") == kid] if kid is not None else keys
    if len(found) != 1:
        raise InvalidClient("The assertion names none of the client's keys.")
    key = dict(found[0])
    names = ALGORITHMS[key["kty"]]
    if algorithm not in names or key.pop("alg", algorithm) not in names:
        raise InvalidClient("The algorithm is not that of the key.")
    return JWKRegistry.import_key(key)


def _is_time(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
