"""ETag and If-Match (RFC 9110): a change names the version that it was made on."""

from dossier_common.problems import Malformed, PreconditionMissing, Stale


def etag(version: int) -> str:
    """A strong validator of a version."""
    return f'"{version}"'


def require_match(given: str | None, version: int) -> None:
    """Raises PreconditionMissing without an If-Match header, Stale when it names another version."""
    if given is None:
        raise PreconditionMissing("A change needs If-Match with the ETag of the version that it was made on.")
    tags = [tag.strip() for tag in given.split(",")]
    if not all(tag == "*" or (tag.startswith('"') and tag.endswith('"')) for tag in tags):
        raise Malformed("If-Match is a list of ETags in double quotes.")
    if etag(version) not in tags and "*" not in tags:
        raise Stale(f"The present version is {version}.")
