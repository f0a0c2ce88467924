"""What of an application may be registered: grants, scopes, redirects, zones, public keys. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.util import base64_to_int

from dossier_common.scopes import ONLY_PERSONS
from dossier_gateway.directory.client_repository import ClientRow
from dossier_gateway.directory.rules import redirect_fault
from dossier_gateway.errors import UnknownReference

SHORTEST_RSA: Final = 2048
LONGEST_RSA: Final = 8192
PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_COMMON: Final = ("kid", "use", "alg")
_KINDS: Final[Mapping[str, tuple[Any, str | None, tuple[str, ...], frozenset[str]]]] = {
    "OKP": (OKPKey, "Ed25519", ("crv", "x"), frozenset({"EdDSA", "Ed25519"})),
    "EC": (ECKey, "P-256", ("crv", "x", "y"), frozenset({"ES256"})),
    "RSA": (RSAKey, None, ("n", "e"), frozenset({"PS256"})),
}
"""By `kty`: the class, the one curve, the members that make the public key, the algorithms that it is of use for."""


def ensure_consistent(client: ClientRow, zones: Collection[str]) -> None:
    """Raises UnknownReference for what does not belong together, or is no redirect, or no zone of this deployment."""
    _ensure_grants(client)
    if client.jwks is not None and not client.confidential:
        raise UnknownReference("jwks", "A public client has no key to authenticate with.")
    for name in ("redirect_uris", "post_logout_redirect_uris"):
        for place, uri in enumerate(getattr(client, name)):
            fault = redirect_fault(uri)
            if fault:
                raise UnknownReference(f"{name}/{place}", f"A redirect {fault}.")
    for place, zone in enumerate(client.zones):
        if zone not in zones:
            raise UnknownReference(f"zones/{place}", "There is no such zone.")


def _ensure_grants(client: ClientRow) -> None:
    grants = set(client.grant_types)
    if "client_credentials" in grants and not client.confidential:
        raise UnknownReference("grant_types", "Only a confidential client acts for itself.")
    if "refresh_token" in grants and "authorization_code" not in grants:
        raise UnknownReference("grant_types", "Refresh tokens come with authorization codes.")
    if ("authorization_code" in grants) != bool(client.redirect_uris):
        raise UnknownReference("redirect_uris", "Redirects and authorization codes belong together.")
    if client.post_logout_redirect_uris and not client.redirect_uris:
        raise UnknownReference("post_logout_redirect_uris", "Who signs nobody in has nobody to sign out.")
    if "client_credentials" in grants:
        for scope in sorted(ONLY_PERSONS.intersection(client.scopes)):
            raise UnknownReference("scopes", f"Only persons use {scope}: no application has it by itself.")


def public_keys(keys: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A JWK Set (RFC 7517) of the public members that say which key it is, and for what.

    Ed25519, P-256, or RSA of 2048 bits and more; each with a `kid` of its own. Raises UnknownReference.
    """
    kept: list[dict[str, str]] = []
    for place, key in enumerate(keys):
        found = _public_key(key, f"jwks/keys/{place}")
        if any(found["kid"] == other["kid"] for other in kept):
            raise UnknownReference(f"jwks/keys/{place}/kid", "Each key has a kid of its own.")
        kept.append(found)
    return {"keys": kept}


def _public_key(key: Mapping[str, Any], at: str) -> dict[str, str]:
    if not PRIVATE.isdisjoint(key):
        raise UnknownReference(at, "A private key is never sent: this one is spent.")
    kind = _KINDS.get(str(key.get("kty")))
    if kind is None:
        raise UnknownReference(f"{at}/kty", "A key is OKP, EC or RSA.")
    make, curve, members, algorithms = kind
    if curve is not None and key.get("crv") != curve:
        raise UnknownReference(f"{at}/crv", f"The curve is {curve}.")
    kid = key.get("kid")
    if not isinstance(kid, str) or not 1 <= len(kid) <= 200 or not kid.isascii() or not kid.isprintable():
        raise UnknownReference(f"{at}/kid", "A key has a kid of 1 to 200 printable ASCII characters.")
    if key.get("use", "sig") != "sig":
        raise UnknownReference(f"{at}/use", "The key is for signatures: sig.")
    if "alg" in key and str(key["alg"]) not in algorithms:
        raise UnknownReference(f"{at}/alg", f"Such a key is for {' or '.join(sorted(algorithms))}.")
    kept: dict[str, str] = {"kty": key["kty"]}
    kept |= {name: key[name] for name in (*members, *_COMMON) if name in key}
    try:
        if make is RSAKey and not SHORTEST_RSA <= base64_to_int(kept["n"]).bit_length() <= LONGEST_RSA:
            raise UnknownReference(f"{at}/n", f"An RSA key has {SHORTEST_RSA} to {LONGEST_RSA} bits.")
        make.import_key(kept)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnknownReference(at, "The key cannot be read.") from error
    return kept
