"""Bodies with more than an operation takes: fields that nobody knows, and fields that the server alone sets (API3)."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

SERVER_OWNED: Final = frozenset(
    {"id", "person", "account", "state", "status", "version", "secret", "first_party", "created_at", "created_by"}
    | {"level", "clearance", "roles", "scopes", "holder_person", "used", "number", "policy", "granted", "unheard_of"}
)
"""What a caller would like to set, and what no schema has."""
OPEN_BY_DESIGN: Final = frozenset({"/jwks/keys/0"})
"""A JWK has members that we do not know (RFC 7517, 4); which ones a client's key has is checked by hand."""


def added(schema: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """Fields for a body of this schema that it does not have."""
    known = resolved(schema, document).get("properties", {})
    return dict.fromkeys(sorted(SERVER_OWNED - set(known)), "x")


def resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema behind a reference."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Mapping[str, Any] = document["components"]["schemas"][reference.rsplit("/", 1)[-1]]
    return found


def loose(schema: Mapping[str, Any], document: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Where a body takes fields that are not declared. A map whose names or values are bound is none of these."""
    found = resolved(schema, document)
    for key in ("anyOf", "oneOf", "allOf"):
        for each in found.get(key, ()):
            yield from loose(each, document, at)
    if found.get("type") == "array":
        yield from loose(found.get("items", {}), document, f"{at}/0")
    if found.get("type") == "object" or "properties" in found:
        more = found.get("additionalProperties", True)
        if isinstance(more, dict) and more:
            yield from loose(more, document, f"{at}/*")
        elif more is not False and "patternProperties" not in found and at not in OPEN_BY_DESIGN:
            yield at or "/"
        for name, each in found.get("properties", {}).items():
            yield from loose(each, document, f"{at}/{name}")
