"""What a process waits for before it works, on a real database, and that it does nothing meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs
from tests.common.line import ProducerSettings
from tests.common.web import application
from tests.support.parts import serving, settings_of
from tests.support.tokens import TestKeys
from tests.support.waiting import eventually, running

from dossier_common.clock import ManualClock, SystemClock
from dossier_common.database import Database
from dossier_common.schema import Schema
from dossier_common.standing import Standing, Status
from dossier_common.worker import work
from dossier_local.cluster import Cluster


@pytest.fixture
def settings(cluster: Cluster) -> ProducerSettings:
    return settings_of(cluster, "retention", ProducerSettings)


@pytest.fixture
async def owner(cluster: Cluster) -> AsyncIterator[asyncpg.Connection]:
    """Whoever migrates the database; it is as it was afterwards."""
    connection = await asyncpg.connect(cluster.database_url("retention", "migrator"))
    await connection.execute("SET ROLE retention_owner")
    revision = await connection.fetchval("SELECT version_num FROM alembic_version")
    yield connection
    await connection.execute("DELETE FROM alembic_version")
    await connection.execute("INSERT INTO alembic_version VALUES ($1)", revision)
    await connection.close()


@asynccontextmanager
async def part(settings: ProducerSettings) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    app = application(settings)
    async with serving(app, TestKeys()) as http:
        yield app, http


async def state_of(http: httpx.AsyncClient) -> tuple[int, str, int]:
    """Status and word of `/readyz`, and the status of something that asks the database."""
    ready = await http.get("/readyz")
    assert (await http.get("/healthz")).json() == {"status": "ok"}
    return ready.status_code, ready.json()["status"], (await http.get("/v1/fallback")).status_code


READY = (200, "ready", 200)


@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ("UPDATE alembic_version SET version_num = '2999_of_a_later_version'", "schema-newer"),
        ("DELETE FROM alembic_version", "schema-older"),
    ],
)
async def test_a_part_waits_for_the_schema_of_its_version(
    settings: ProducerSettings, owner: asyncpg.Connection, statement: str, status: str
) -> None:
    revision = await owner.fetchval("SELECT version_num FROM alembic_version")
    await owner.execute(statement)
    async with part(settings) as (app, http):
        assert await state_of(http) == (503, status, 503)
        refused = await http.get("/v1/fallback")
        assert refused.json()["type"] == "urn:dossier:problem:upstream-unavailable"
        assert int(refused.headers["retry-after"]) > 0
        await owner.execute("DELETE FROM alembic_version")
        await owner.execute("INSERT INTO alembic_version VALUES ($1)", revision)
        await eventually(lambda: is_open(app.state.standing), True)  # noqa: FBT003  # what is expected
        assert await state_of(http) == READY


async def is_open(standing: Standing) -> bool:
    return standing.open


async def test_a_part_that_works_goes_on_when_the_schema_becomes_newer_and_stops_when_it_becomes_older(
    settings: ProducerSettings, owner: asyncpg.Connection
) -> None:
    async with part(settings) as (_, http):
        assert await state_of(http) == READY
        await owner.execute("UPDATE alembic_version SET version_num = '2999_of_a_later_version'")
        assert await state_of(http) == READY
        await owner.execute("DELETE FROM alembic_version")
        assert await state_of(http) == (503, "schema-older", 503)


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_part_does_nothing_while_its_clock_is_off(settings: ProducerSettings, minutes: int) -> None:
    async with part(settings) as (app, http):
        app.state.standing._clock = ManualClock(SystemClock().now() + timedelta(minutes=minutes))
        assert await state_of(http) == (503, "clock-off", 503)
        app.state.standing._clock = SystemClock()
        assert await state_of(http) == READY


async def test_a_clock_within_the_limit_is_none_that_is_off(settings: ProducerSettings) -> None:
    class Behind:
        def now(self) -> Any:
            return SystemClock().now() - timedelta(seconds=4)

    standing = standing_on(settings)
    standing._clock = Behind()
    assert await standing.look() is Status.READY
    await standing._database.close()


def standing_on(settings: ProducerSettings, **changed: Any) -> Standing:
    standing = Standing("retention")
    database = Database(settings.model_copy(update=changed))
    standing.watch(database, Schema.read("retention", settings.common.installed))
    return standing


@pytest.mark.parametrize(
    ("url", "password", "status", "said"),
    [
        (None, "wrong", "database-refuses", "InvalidPasswordError"),
        ("retention_nobody@/dossier_retention", None, "database-refuses", "InvalidPasswordError"),
        ("retention_app@/dossier_nothing", None, "database-refuses", "InvalidCatalogNameError"),
        ("retention_app@/dossier_approvals", None, "database-refuses", "InsufficientPrivilegeError"),
        ("retention_app@nowhere.invalid/dossier_retention", None, "database-away", "host name is not known"),
        ("retention_app@127.0.0.1:1/dossier_retention", None, "database-away", "ConnectionRefusedError"),
        ("retention_app@/dossier_retention?host=/nowhere", None, "database-away", "ConnectionRefusedError"),
    ],
)
async def test_a_database_that_cannot_be_used_is_named_once(
    settings: ProducerSettings, url: str | None, password: str | None, status: str, said: str
) -> None:
    changed = {}
    if url is not None:
        sockets = settings.database_url.partition("?")[2]
        changed["database_url"] = f"postgresql://{url}" + (f"?{sockets}" if "@/" in url and "?" not in url else "")
    standing = standing_on(settings, **changed)
    if password is not None:
        standing._database._password = password
    with capture_logs() as logs:
        for _ in range(3):
            assert await standing.look() == status
    await standing._database.close()
    (line,) = logs
    assert (line["event"], line["status"]) == ("not-ready", status)
    assert said in line["detail"]
    assert "DOSSIER_RETENTION_DATABASE_URL" in line["detail"]
    assert not standing.open


async def test_a_worker_runs_its_jobs_only_while_it_may(settings: ProducerSettings, owner: asyncpg.Connection) -> None:
    revision = await owner.fetchval("SELECT version_num FROM alembic_version")
    await owner.execute("DELETE FROM alembic_version")
    standing = standing_on(settings)
    state = "never ran"

    async def job() -> None:
        nonlocal state
        state = "runs"
        try:
            await asyncio.Event().wait()
        finally:
            state = "was stopped"

    async def told() -> str:
        return state

    async with running(work(standing, {"job": job})):
        assert await standing.look() is Status.SCHEMA_OLDER
        await asyncio.sleep(0)
        assert state == "never ran"
        await owner.execute("INSERT INTO alembic_version VALUES ($1)", revision)
        assert await standing.look() is Status.READY
        await eventually(told, "runs")
        standing._clock = ManualClock(SystemClock().now() + timedelta(minutes=1))
        assert await standing.look() is Status.CLOCK_OFF
        await eventually(told, "was stopped")
        standing._clock = SystemClock()
        assert await standing.look() is Status.READY
        await eventually(told, "runs")
    assert state == "was stopped"
    await standing._database.close()


# -- the revisions that a version knows


def migration(folder: Path, name: str, text: str) -> None:
    versions = folder / "services" / "retention" / "migrations" / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    (versions / name).write_text(text)


def test_revisions_are_read_from_the_migrations(tmp_path: Path) -> None:
    migration(tmp_path, "a.py", 'revision = "one"\ndown_revision = None\nraise SystemExit\n')
    migration(tmp_path, "b.py", 'revision: str = "two"\ndown_revision: str | None = "one"\n')
    migration(tmp_path, "c.py", 'revision = "aside"\ndown_revision = "one"\n')
    with pytest.raises(ValueError, match="2 newest migrations of retention instead of one"):
        Schema.read("retention", tmp_path)
    migration(tmp_path, "d.py", 'revision = "both"\ndown_revision = ("two", "aside")\n')
    assert Schema.read("retention", tmp_path) == Schema("retention", "both", frozenset({"one", "two", "aside"}))
    migration(tmp_path, "e.py", "down_revision = None\n")
    with pytest.raises(ValueError, match="a migration without a revision"):
        Schema.read("retention", tmp_path)


def test_an_older_revision_is_told_from_a_newer_one() -> None:
    standing = Standing("retention")
    standing._schema = Schema("retention", "two", frozenset({"one"}))
    now = SystemClock().now()
    found = {each: standing._judged([each], now, now, now)[0] for each in ("one", "two", "three")}
    assert found == {"one": Status.SCHEMA_OLDER, "two": Status.READY, "three": Status.SCHEMA_NEWER}
