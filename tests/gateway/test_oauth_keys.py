"""The keys of tokens: published before they sign, taken until their last token is over, changed without a restart."""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import SQLAlchemyError
from tests.gateway import world as worlds
from tests.gateway.oauth_support import ITSELF, App, registered
from tests.gateway.world import World
from tests.support.waiting import eventually, running

from dossier_common.clock import ManualClock
from dossier_common.database import Database
from dossier_common.keys import SigningKey
from dossier_gateway import keys
from dossier_gateway.keys import PUBLISHED_FIRST, RETIRED_FOR, Ring, TooSoon
from dossier_gateway.settings import Settings
from dossier_local.cluster import Cluster

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)


def kids(ring: Ring, now: datetime) -> list[str]:
    return [jwk["kid"] for jwk in ring.others(now)]


@dataclass(frozen=True)
class KeyFile:
    """The file of a deployment's token keys, alone in its folder."""

    path: Path

    def content(self) -> bytes:
        return self.path.read_bytes()

    def state(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_ino, stat.S_IMODE(status.st_mode)

    def alone(self) -> bool:
        return list(self.path.parent.iterdir()) == [self.path]

    def put(self, content: bytes) -> None:
        """Puts another file in its place."""
        draft = self.path.with_suffix(".new")
        draft.write_bytes(content)
        draft.chmod(0o600)
        draft.replace(self.path)

    def remove(self) -> None:
        self.path.unlink()


@pytest.fixture
def pem(tmp_path: Path) -> KeyFile:
    """As a deployment begins."""
    found = KeyFile(tmp_path / "token-key.pem")
    found.put(SigningKey.generate().pem())
    return found


@pytest.fixture
def database(world: World) -> Database:
    found: Database = world.proxy.own.state.database
    return found


# ---- the ring


def test_one_key_in_pem_is_a_ring_without_a_next(pem: KeyFile) -> None:
    ring = keys.read(pem.path)
    assert ring.current.kid == SigningKey.read(pem.path).kid
    assert ring.others(NOW) == []


def test_a_next_key_is_published_before_it_signs_and_the_former_is_taken_until_its_last_token_is_over() -> None:
    begun = Ring(SigningKey.generate())
    waiting = begun.rotated(NOW)
    assert waiting.current.kid == begun.current.kid
    assert waiting.next is not None
    assert kids(waiting, NOW) == [waiting.next.kid]
    with pytest.raises(TooSoon):
        waiting.rotated(NOW + PUBLISHED_FIRST - timedelta(seconds=1))
    then = NOW + PUBLISHED_FIRST
    turned = waiting.rotated(then)
    assert turned.next is not None
    assert turned.current.kid == waiting.next.kid
    assert kids(turned, then) == [turned.next.kid, begun.current.kid]
    assert kids(turned, then + RETIRED_FOR) == [turned.next.kid]
    again = turned.rotated(then + RETIRED_FOR)
    assert [each.jwk["kid"] for each in again.retired] == [waiting.next.kid], "what is over leaves the file"


def test_at_once_a_key_signs_that_was_never_published() -> None:
    begun = Ring(SigningKey.generate())
    turned = begun.rotated(NOW, at_once=True)
    assert turned.current.kid != begun.current.kid
    assert begun.current.kid in kids(turned, NOW)
    again = turned.rotated(NOW, at_once=True)
    assert {begun.current.kid, turned.current.kid} <= set(kids(again, NOW))


def test_a_ring_that_others_saw_leaves_nothing_behind() -> None:
    before = Ring(SigningKey.generate()).rotated(NOW, at_once=True)
    after = Ring.made_anew(NOW)
    assert not {before.current.kid, *kids(before, NOW)} & {after.current.kid, *kids(after, NOW)}


def test_a_ring_is_read_as_it_was_written() -> None:
    ring = Ring(SigningKey.generate()).rotated(NOW, at_once=True).rotated(NOW, at_once=True)
    found = Ring.decode(ring.encode(), "ring")
    assert found.next is not None
    assert ring.next is not None
    assert (found.current.kid, found.next.kid) == (ring.current.kid, ring.next.kid)
    assert (found.published_at, found.retired) == (ring.published_at, ring.retired)
    assert found.encode() == ring.encode()
    retired = ring.encode().decode().split('"retired"')[1]
    assert "PRIVATE" not in retired, "of a former key the public half alone is kept"


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"nonsense", b'{"current": "x"}', b"-----BEGIN PRIVATE KEY-----\nAAAA\n", b"[1]", b"\xff"]
)
def test_what_is_no_ring_is_refused_by_the_name_of_its_file(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^keys\.json: "):
        Ring.decode(content, "keys.json")


@pytest.mark.invariant(7)
def test_an_error_repeats_nothing_of_a_key() -> None:
    ring = Ring(SigningKey.generate()).rotated(NOW).encode().replace(b'"published_at"', b'"published"')
    with pytest.raises(ValueError, match="ring") as error:
        Ring.decode(ring, "ring")
    secret = ring.decode().split("-----")[2].replace("\\n", "")[:20]
    assert secret not in f"{error.value} {error.value.__cause__}"


def test_what_is_published_says_neither_the_private_half_nor_an_algorithm() -> None:
    key = SigningKey.generate()
    assert keys.published(key).keys() == {"kty", "crv", "x", "kid", "use"}
    assert not any("PRIVATE" in line for line in keys.lines(Ring(key).rotated(NOW, at_once=True), NOW))


# ---- the file


async def test_a_rotation_replaces_the_file_as_a_whole_and_is_an_event(
    world: World, pem: KeyFile, database: Database
) -> None:
    before, (inode, _) = keys.read(pem.path), pem.state()
    after = await keys.rotate(pem.path, database, world.clock, at_once=True)
    assert keys.read(pem.path).current.kid == after.current.kid != before.current.kid
    assert pem.state()[0] != inode
    assert pem.state()[1] == 0o600
    assert pem.alone(), "no draft is left"
    told = (await world.events("gateway.v1.token-keys.rotated"))[-1].data
    assert (told["key_from"], told["key_to"]) == (before.current.kid, after.current.kid)
    assert told["retired"] == [before.current.kid]
    assert told["compromised"] is False


async def test_without_its_event_nothing_is_rotated(world: World, pem: KeyFile) -> None:
    settings = world.settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/none"})
    away = Database(settings)
    content = pem.content()
    try:
        with pytest.raises((OSError, SQLAlchemyError)):
            await keys.rotate(pem.path, away, world.clock, at_once=True)
    finally:
        await away.close()
    assert pem.content() == content
    assert pem.alone()


async def test_too_soon_leaves_everything_as_it_was(world: World, pem: KeyFile, database: Database) -> None:
    await keys.rotate(pem.path, database, world.clock)
    content, events = pem.content(), len(await world.events("gateway.v1.token-keys.rotated"))
    with pytest.raises(TooSoon):
        await keys.rotate(pem.path, database, world.clock)
    assert pem.content() == content
    assert len(await world.events("gateway.v1.token-keys.rotated")) == events
    world.clock.ahead = PUBLISHED_FIRST + timedelta(seconds=1)
    assert len((await keys.rotate(pem.path, database, world.clock)).retired) == 1


async def test_the_file_is_followed_and_a_broken_one_changes_nothing(
    pem: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LOOK_EVERY", 0.01)
    clock, applied = ManualClock(NOW), list[Ring]()

    async def current() -> str:
        return applied[-1].current.kid if applied else ""

    begun = keys.read(pem.path)
    async with running(keys.watch(pem.path, lambda ring, _: applied.append(ring), clock)):
        await eventually(current, begun.current.kid)
        pem.put(b"broken")
        turned = begun.rotated(NOW, at_once=True)
        pem.remove()
        pem.put(turned.encode())
        await eventually(current, turned.current.kid)
        assert len(applied) == 2
        clock.advance(RETIRED_FOR)

        async def times() -> int:
            return len(applied)

        await eventually(times, 3)


# ---- the gateway


@pytest.fixture
async def own(
    cluster: Cluster, world: World, pem: KeyFile, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[App, Settings]]:
    """Another replica of the gateway, with a key file of its own; and an application that talks to it."""
    found = worlds.settings_for(cluster, tmp_path_factory.mktemp("replica"), 1)
    settings = found.model_copy(update={"token_key_file": pem.path})
    app = await registered(world, ITSELF)
    async with worlds.gateway(settings, world.clock) as (proxy, http, port):
        yield replace(app, world=replace(world, proxy=proxy, http=http, port=port)), settings


async def published(http: httpx.AsyncClient) -> list[str]:
    return [jwk["kid"] for jwk in (await http.get("/oauth/jwks.json")).json()["keys"]]


async def test_a_running_gateway_turns_to_the_next_key_and_takes_tokens_of_all(
    own: tuple[App, Settings], pem: KeyFile, database: Database, world: World
) -> None:
    app, _ = own
    http = app.world.http

    async def takes(token: dict[str, Any]) -> int:
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        return (await http.get("/v1/me", headers=headers)).status_code

    async def known() -> list[str]:
        return await published(http)

    tokens = [await app.own_token()]
    for at_once in (False, True, True):
        ring = await keys.rotate(pem.path, database, world.clock, at_once=at_once)
        await eventually(known, [ring.current.kid, *kids(ring, world.clock.now())], seconds=30)
        tokens.append(await app.own_token())
    assert len(await known()) == 4
    assert [await takes(token) for token in tokens] == [200] * 4
    ring = await keys.rotate(pem.path, database, world.clock, compromised=True)
    await eventually(known, [ring.current.kid, *kids(ring, world.clock.now())], seconds=30)
    assert [await takes(token) for token in tokens] == [401] * 4
    assert await takes(await app.own_token()) == 200


async def test_no_token_is_refused_while_keys_turn(
    own: tuple[App, Settings], pem: KeyFile, database: Database, world: World
) -> None:
    app, _ = own
    answers: list[int] = []

    async def call() -> None:
        while True:
            token = (await app.own_token())["access_token"]
            for _ in range(5):
                answer = await app.world.http.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
                answers.append(answer.status_code)

    async with running(call(), call()):
        for _ in range(3):
            ring = await keys.rotate(pem.path, database, world.clock, at_once=True)

            async def seen(kid: str = ring.current.kid) -> bool:
                return (await published(app.world.http))[0] == kid

            await eventually(seen, expected=True, seconds=30)

            async def more(than: int = len(answers)) -> bool:
                return len(answers) > than + 10

            await eventually(more, expected=True, seconds=60)
    assert set(answers) == {200}


# ---- the command


def command(cluster: Cluster, pem: KeyFile, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = cluster.environment.of("gateway") | {"DOSSIER_GATEWAY_TOKEN_KEY_FILE": str(pem.path)}
    line = (sys.executable, "-P", "-m", "dossier_gateway.keys", *arguments)
    return subprocess.run(line, env=os.environ | environment, capture_output=True, text=True, check=False)


async def test_the_command_lists_and_rotates_and_shows_nothing_private(cluster: Cluster, pem: KeyFile) -> None:
    first = SigningKey.read(pem.path).kid
    listed = await asyncio.to_thread(command, cluster, pem, "list")
    assert (listed.returncode, listed.stdout.split()) == (0, ["current", first])
    rotated = await asyncio.to_thread(command, cluster, pem, "rotate")
    assert rotated.returncode == 0, rotated.stderr
    assert [line.split()[0] for line in rotated.stdout.splitlines()] == ["current", "next"]
    early = await asyncio.to_thread(command, cluster, pem, "rotate")
    assert (early.returncode, early.stdout, len(early.stderr.splitlines())) == (1, "", 1)
    at_once = await asyncio.to_thread(command, cluster, pem, "rotate", "--at-once")
    assert [line.split()[0] for line in at_once.stdout.splitlines()] == ["current", "next", "retired"]
    assert at_once.stdout.splitlines()[2].split()[1] == first
    pem.put(b"nonsense")
    broken = await asyncio.to_thread(command, cluster, pem, "list")
    assert (broken.returncode, len(broken.stderr.splitlines())) == (1, 1)
