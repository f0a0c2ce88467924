"""The addresses of the log as C2SP tlog-tiles has them, through the gateway: what is served, how, and to whom."""

import re

import pytest
from tests.peers.conftest import AGENT, Audit
from tests.peers.mirror import entries, resources, size_of

HASH = 32


async def status(audit: Audit, path: str) -> int:
    answer = await audit.log.http.get(f"{audit.log.url}/{path}")
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code


async def test_a_checkpoint_is_text_that_is_kept_for_a_moment(audit: Audit) -> None:
    answer = await audit.log.http.get(f"{audit.log.url}/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "private, max-age=1"
    origin, size, root, *_ = answer.text.split("\n")
    assert origin == audit.log.url.partition("://")[2] == audit.vkey.partition("+")[0]
    assert int(size) > 256
    assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", root)


async def test_all_that_a_checkpoint_promises_is_served_in_full_and_for_ever(audit: Audit) -> None:
    size = size_of(await audit.log.checkpoint())
    paths = list(resources(size))
    assert {"tile/entries/000", "tile/0/000", f"tile/1/000.p/{size // 256}"} <= set(paths)
    for path in paths:
        answer = await audit.log.http.get(f"{audit.log.url}/{path}")
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        width = int(path.partition(".p/")[2] or 256)
        found = len(entries(answer.content)) if "entries" in path else len(answer.content) / HASH
        assert found == width, path


async def test_partial_tiles_of_each_size_that_was_ever_published_stay(audit: Audit) -> None:
    size = size_of(await audit.log.checkpoint())
    last = (size - 1) // 256
    whole = {kind: await audit.log.read(f"tile/{kind}/000") for kind in ("entries", "0")}
    for width in (1, 2, 17, 128, 255):
        partial = await audit.log.read(f"tile/entries/000.p/{width}")
        assert whole["entries"].startswith(partial)
        assert len(entries(partial)) == width
        assert await audit.log.read(f"tile/0/000.p/{width}") == whole["0"][: width * HASH]
    for width in range(1, (size - 1) % 256 + 2):
        assert len(await audit.log.read(f"tile/0/{last:03}.p/{width}")) == width * HASH


async def test_what_no_checkpoint_promises_is_not_there(audit: Audit) -> None:
    size = size_of(await audit.log.checkpoint())
    tiles, rest = divmod(size, 256)
    # The log grows while it is asked: far behind its end nothing can be there yet.
    beyond = tiles + 4
    paths = [
        *(f"tile/{kind}/{beyond:03}" for kind in ("entries", "0", "1", "2", "63")),
        *(f"tile/{kind}/{beyond:03}.p/{rest or 1}" for kind in ("entries", "0")),
        f"tile/1/000.p/{beyond}",
        "tile/1/000",
        "tile/2/000.p/1",
        "tile/entries/x001/x234/067",
        "tile/0/x001/000.p/3",
    ]
    assert [(path, await status(audit, path)) for path in paths] == [(path, 404) for path in paths]


@pytest.mark.parametrize(
    "path",
    [
        *("tile/0/0", "tile/0/0000", "tile/0/x000/000", "tile/00/000", "tile/64/000", "tile/-1/000", "tile/8/0/000"),
        *("tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/000.p", "tile/0/000/"),
        *(
            "tile/entries/x000",
            "tile/entries/abc",
            "tile/entries/000.p/-1",
            "tile/data/000",
            "tile/0%0A/000",
            "tile/0/000.p/7%0A/",
        ),
    ],
)
async def test_an_address_in_another_form_does_not_exist(audit: Audit, path: str) -> None:
    assert await status(audit, path) == 404


async def test_nothing_is_served_without_a_token(audit: Audit) -> None:
    for path in ("checkpoint", "tile/0/000", "tile/entries/000", "bodies/000"):
        address = f"{audit.log.url.removeprefix(audit.client.base_url)}/{path}"
        answer = await audit.client.anonymously("GET", address)
        assert (answer.status, answer.slug) == (401, "unauthenticated"), path


async def test_nothing_is_served_to_whom_the_scope_is_not_given(audit: Audit) -> None:
    scopes = {"checkpoint": "audit:verify", "tile/0/000": "audit:verify", "tile/entries/000": "audit:verify"}
    for path, scope in {**scopes, "bodies/000": "audit:read"}.items():
        address = f"{audit.log.url.removeprefix(audit.client.base_url)}/{path}"
        answer = await audit.client.as_(AGENT).get(address)
        assert (answer.status, answer.slug, answer.body["scope"]) == (403, "insufficient-scope", scope), path
