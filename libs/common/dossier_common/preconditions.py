"""ETag and If-Match (RFC 9110): a change names the version that it was made on."""

import re

from dossier_common.problems import Malformed, PreconditionMissing, Stale

_TAG = re.compile(r'^(W/)?"[^"]*"$')
"""A weak one is well-formed, and never matches (RFC 9110, 13.1.1)."""


def etag(version: int) -> str:
    """A strong validator of a version."""
    return f'"{version}"'


def require_match(given: str | None, version: int) -> None:
    """Raises PreconditionMissing without an If-Match header, Stale when it names another version."""
    if given is None:
        raise PreconditionMissing("A change needs If-Match with the ETag of the version that it was made on.")
    tags = [tag.strip() for tag in given.split(",")]
    if not all(tag == "*" or _TAG.match(tag) for tag in tags):
        raise Malformed("If-Match is a list of ETags in double quotes.")
    if etag(version) not in tags and "*" not in tags:
        raise Stale(f"The present version is {version}.")
