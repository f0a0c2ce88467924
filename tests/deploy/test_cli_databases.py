"""Databases from nothing to ready, by the operator's commands: roles, migrations, the ceremony, and what follows."""

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from tests.support.command import Said, called, dossier, variables
from tests.support.waiting import eventually

from dossier_cli import roles, scram
from dossier_common.migrations import LOCK
from dossier_common.topology import PARTS
from dossier_local import cluster as servers
from dossier_local.cluster import Cluster

OFFICERS = (
    *("--system-administrator", "zhao.lei"),
    *("--security-administrator", "qian.min"),
    *("--security-auditor", "sun.hao"),
)


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """Servers with roles, without tables."""
    with servers.temporary(migrate=False) as running:
        yield running


@pytest.fixture(scope="module")
def migrated(bare: Cluster) -> Cluster:
    """The same, migrated by the command."""
    dossier("migrate", **variables(bare.postgres)).success()
    return bare


def forget(cluster: Cluster, part: str) -> None:
    """Removes a part's database and roles."""
    cluster.postgres.psql(f"DROP DATABASE IF EXISTS dossier_{part} WITH (FORCE);\n")
    for role in ("owner", "migrator", "app"):
        cluster.postgres.psql(f"DROP ROLE IF EXISTS {part}_{role};\n")


async def entered(cluster: Cluster, part: str, role: str) -> str:
    """Who one is after signing in with this role's password file."""
    connection = await asyncpg.connect(cluster.database_url(part, role))
    try:
        return str(await connection.fetchval("SELECT current_user || ' in ' || current_database()"))
    finally:
        await connection.close()


def verifiers(cluster: Cluster) -> str:
    return cluster.postgres.psql("SELECT rolname, rolpassword FROM pg_authid ORDER BY rolname")


# -- verifiers ---------------------------------------------------------------------------------------------------------


def test_a_verifier_is_that_of_the_rfc() -> None:
    salt = bytes.fromhex("5b6d99689d12358eeca04b141236fa81")  # RFC 7677, 3: W22ZaJ0SNY7soEsUEjb6gQ==, password pencil
    assert scram.verifier("pencil", salt=salt) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_a_verifier_holds_for_its_password_alone() -> None:
    verifier = scram.verifier("pencil")
    assert verifier != scram.verifier("pencil"), "each has a salt of its own"
    assert scram.holds("pencil", verifier)
    assert not scram.holds("pen", verifier)
    assert not scram.holds("pencil", None)
    assert not scram.holds("pencil", "md5abc")


@pytest.mark.parametrize("password", ["", "密码", "pass\tword", "caf\u00e9"])
def test_a_password_that_could_be_written_in_two_ways_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        scram.verifier(password)


# -- roles -------------------------------------------------------------------------------------------------------------


def test_what_is_missing_is_made_and_then_everything_is_there(bare: Cluster) -> None:
    forget(bare, "retention")
    said = dossier("roles", **variables(bare.postgres))
    assert said.success() == "made: dossier_retention\npassword set: retention_migrator, retention_app\n"
    before = verifiers(bare)
    assert dossier("roles", **variables(bare.postgres)).success() == "everything is there\n"
    assert verifiers(bare) == before
    assert asyncio.run(entered(bare, "retention", "app")) == "retention_app in dossier_retention"


def test_a_changed_password_is_set_and_no_other(bare: Cluster) -> None:
    path = bare.postgres.password_file("approvals", "app")
    path.write_text("another-password")
    said = dossier("roles", "approvals", "--json", **variables(bare.postgres))
    assert json.loads(said.success()) == {"databases": [], "passwords": ["approvals_app"]}
    assert asyncio.run(entered(bare, "approvals", "app")) == "approvals_app in dossier_approvals"


def test_roles_that_got_more_than_their_duty_lose_it(bare: Cluster) -> None:
    bare.postgres.psql("ALTER ROLE audit_app CREATEDB; GRANT CONNECT ON DATABASE dossier_audit TO PUBLIC;")
    assert dossier("roles", "audit", **variables(bare.postgres)).success() == "everything is there\n"
    found = bare.postgres.psql(
        "SELECT rolcreatedb, has_database_privilege('records_app', 'dossier_audit', 'CONNECT') "
        "FROM pg_roles WHERE rolname = 'audit_app'"
    )
    assert found.strip() == "f|f"


async def test_two_runs_at_once_make_everything_once(bare: Cluster) -> None:
    forget(bare, "retention")
    results = await asyncio.gather(
        *(roles.apply(bare.postgres._superuser, PARTS, bare.postgres.password) for _ in "12")
    )
    assert sorted(result.databases for result in results) == [(), ("dossier_retention",)]


def test_the_printed_sql_does_the_same_and_holds_no_password(bare: Cluster) -> None:
    forget(bare, "retention")
    script = dossier("roles", "retention", "--print", **variables(bare.postgres)).success()
    assert "retention" in script
    assert "records" not in script
    assert not any(bare.postgres.password("retention", role) in script for role in roles.LOGINS)
    for _ in range(2):
        bare.postgres.psql(script)
    assert asyncio.run(entered(bare, "retention", "migrator")) == "retention_migrator in dossier_retention"
    assert dossier("roles", **variables(bare.postgres)).success() == "everything is there\n"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"DOSSIER_POSTGRES_URL": ""}, "DOSSIER_POSTGRES_URL is not set"),
        ({"DOSSIER_POSTGRES_URL": "mysql://root@host/db"}, "DOSSIER_POSTGRES_URL is not postgresql://"),
        ({"DOSSIER_POSTGRES_URL": "rubbish"}, "DOSSIER_POSTGRES_URL is no address"),
        ({"DOSSIER_POSTGRES_URL": "postgresql://postgres:secret@host/postgres"}, "has a password in it"),
        ({"DOSSIER_POSTGRES_URL": "postgresql://postgres@127.0.0.1:1/postgres"}, "127.0.0.1:1 cannot be reached"),
        ({"DOSSIER_POSTGRES_URL": "postgresql://postgres@h/postgres?sslmode=sometimes"}, "sslmode is one of"),
        ({"DOSSIER_POSTGRES_PASSWORD_FILE": ""}, "DOSSIER_POSTGRES_PASSWORD_FILE is not set"),
        ({"DOSSIER_POSTGRES_PASSWORD_FILE": "/nowhere/p"}, "/nowhere/p cannot be read (No such file or directory)"),
        ({"DOSSIER_POSTGRES_PASSWORD_FILE": "/dev/null"}, "/dev/null is empty"),
        ({"DOSSIER_SECRETS_DIR": "/nowhere"}, "/nowhere/postgres-gateway-migrator cannot be read"),
        ({"DOSSIER_CA_FILE": "/nowhere/ca.pem"}, "/nowhere/ca.pem cannot be read"),
    ],
)
def test_a_server_that_is_named_wrongly_is_said_in_one_line(
    bare: Cluster, changed: dict[str, str], expected: str
) -> None:
    said = called(("roles",), variables(bare.postgres) | changed)
    assert expected in said.refusal()
    assert "secret@" not in said.err


def test_a_wrong_password_and_a_password_that_is_none_are_said(bare: Cluster, tmp_path: Path) -> None:
    wrong = tmp_path / "postgres-audit-app"
    wrong.write_text("guessed")
    said = called(("roles",), variables(bare.postgres) | {"DOSSIER_POSTGRES_PASSWORD_FILE": str(wrong)})
    assert "refuses the password of postgres: see DOSSIER_POSTGRES_PASSWORD_FILE" in said.refusal()
    (tmp_path / "postgres-audit-migrator").write_text("密码")
    said = called(("roles", "audit"), variables(bare.postgres) | {"DOSSIER_SECRETS_DIR": str(tmp_path)})
    assert "postgres-audit-migrator: a password has printable ASCII" in said.refusal()


def test_who_is_no_superuser_is_told_so(bare: Cluster) -> None:
    url = f"postgresql://audit_app@/dossier_audit?host={bare.postgres.sockets}"
    own = {
        "DOSSIER_POSTGRES_URL": url,
        "DOSSIER_POSTGRES_PASSWORD_FILE": str(bare.state.secrets / "postgres-audit-app"),
    }
    refused = called(("roles",), variables(bare.postgres) | own).refusal()
    assert "does not let audit_app do this: permission denied" in refused


# -- migrations --------------------------------------------------------------------------------------------------------


def test_migrations_are_run_once_and_say_from_where_to_where(bare: Cluster) -> None:
    forget(bare, "records")
    dossier("roles", **variables(bare.postgres)).success()
    first = dossier("migrate", "records", **variables(bare.postgres)).success()
    assert re.fullmatch(r"records +empty → \d{4}_\d{2}_\d{2}_records\n", first)
    again = dossier("migrate", "records", **variables(bare.postgres)).success()
    assert re.fullmatch(r"records +\d{4}_\d{2}_\d{2}_records \(up to date\)\n", again)
    said = json.loads(dossier("migrate", "--json", "records", **variables(bare.postgres)).success())
    assert said["records"]["from"] == said["records"]["to"]


async def test_of_two_runs_the_second_waits_and_finds_nothing_to_do(bare: Cluster) -> None:
    forget(bare, "records")
    assert await asyncio.to_thread(dossier, "roles", **variables(bare.postgres))
    holder = await asyncio.wait_for(asyncpg.connect(bare.database_url("records", "migrator")), 60)
    environment = {**os.environ, **variables(bare.postgres)}
    command = (sys.executable, "-m", "dossier_cli", "migrate", "records")
    try:
        await holder.execute(f"SELECT pg_advisory_lock({LOCK})")
        runs = [await asyncio.create_subprocess_exec(*command, env=environment, stdout=-1, stderr=-1) for _ in "12"]

        async def waiting() -> object:
            return await holder.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")

        await eventually(waiting, 2, 120)
        await holder.execute("SELECT pg_advisory_unlock_all()")
        said = [await run.communicate() for run in runs]
    finally:
        await holder.close()
    assert [run.returncode for run in runs] == [0, 0], said
    assert sorted("empty" in out.decode() for out, _ in said) == [False, True]


def test_a_database_of_a_newer_version_is_refused_before_anything_is_changed(migrated: Cluster) -> None:
    newer, older = "UPDATE alembic_version SET version_num = '2099_01_01_later'", "TRUNCATE alembic_version"
    known = migrated.postgres.psql("SELECT version_num FROM alembic_version", "dossier_retention").strip()
    gateway = migrated.postgres.psql("SELECT version_num FROM alembic_version", "dossier_gateway").strip()
    migrated.postgres.psql(newer, "dossier_retention")
    migrated.postgres.psql(older, "dossier_gateway")  # it comes first, and would fail
    try:
        said = dossier("migrate", **variables(migrated.postgres))
        assert "the database of retention is at 2099_01_01_later, which this version does not know" in said.refusal()
        assert said.out == ""
        assert migrated.postgres.psql("SELECT count(*) FROM alembic_version", "dossier_gateway").strip() == "0"
    finally:
        migrated.postgres.psql(f"UPDATE alembic_version SET version_num = '{known}'", "dossier_retention")
        migrated.postgres.psql(f"INSERT INTO alembic_version VALUES ('{gateway}')", "dossier_gateway")


def test_a_migration_that_fails_is_said_in_one_line_and_leaves_the_database_as_it_was(migrated: Cluster) -> None:
    known = migrated.postgres.psql("SELECT version_num FROM alembic_version", "dossier_audit").strip()
    migrated.postgres.psql("TRUNCATE alembic_version", "dossier_audit")  # so that its tables would be made again
    try:
        line = dossier("migrate", "audit", **variables(migrated.postgres)).refusal()
        assert "audit: its database is as it was, since a migration failed" in line
        assert "duplicate key" in line
        assert migrated.postgres.psql("SELECT count(*) FROM alembic_version", "dossier_audit").strip() == "0"
    finally:
        migrated.postgres.psql(f"INSERT INTO alembic_version VALUES ('{known}')", "dossier_audit")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"DOSSIER_AUDIT_MIGRATOR_URL": ""}, "DOSSIER_AUDIT_MIGRATOR_URL is not set"),
        ({"DOSSIER_AUDIT_MIGRATOR_URL": "postgresql://audit_migrator@127.0.0.1:1/x"}, "see DOSSIER_AUDIT_MIGRATOR_URL"),
        ({"DOSSIER_AUDIT_MIGRATOR_PASSWORD_FILE": "/nowhere"}, "/nowhere cannot be read"),
        ({"DOSSIER_HOME": "/nowhere"}, "there are no migrations of audit in /nowhere/services/audit: DOSSIER_HOME"),
    ],
)
def test_a_database_that_is_named_wrongly_is_said_in_one_line(
    bare: Cluster, changed: dict[str, str], expected: str
) -> None:
    assert expected in called(("migrate", "audit"), variables(bare.postgres) | changed).refusal()


def test_a_database_that_is_not_there_says_who_makes_it(bare: Cluster) -> None:
    url = f"postgresql://audit_migrator@/dossier_none?host={bare.postgres.sockets}"
    said = called(("migrate", "audit"), variables(bare.postgres) | {"DOSSIER_AUDIT_MIGRATOR_URL": url})
    assert "has no database dossier_none: `dossier roles` makes it" in said.refusal()


def test_partitions_are_made_ahead_and_can_be_repeated(migrated: Cluster) -> None:
    assert "bodies_" in dossier("partitions", "--months", "20", **variables(migrated.postgres)).success()
    assert dossier("partitions", "--months", "20", **variables(migrated.postgres)).success() == "everything is there\n"
    assert json.loads(dossier("partitions", "--json", **variables(migrated.postgres)).success()) == {"made": []}
    assert "DOSSIER_AUDIT_MIGRATOR_URL is not set" in dossier("partitions").refusal()


def test_what_is_not_there_is_not_erased_and_a_call_that_names_no_event_or_no_order_is_refused(
    migrated: Cluster,
) -> None:
    event = "01890a5d-ac96-774b-bcce-b302099a8057"
    done = dossier("erase", event, "order 2026-17", **variables(migrated.postgres))
    assert (done.status, done.out) == (1, "erased: 0\n")
    done = dossier("erase", event, "order 2026-17", "--json", **variables(migrated.postgres))
    assert (done.status, json.loads(done.out)) == (1, {"erased": 0})
    for wrong in (("1", "order"), (event, ""), (event, "x" * 201), (event, "two\nlines"), (event,)):
        assert dossier("erase", *wrong, **variables(migrated.postgres)).status == 2
    assert "DOSSIER_AUDIT_MIGRATOR_URL is not set" in dossier("erase", event, "order").refusal()


# -- the gateway's first start -----------------------------------------------------------------------------------------


def gateway(cluster: Cluster) -> dict[str, str]:
    """The gateway's environment."""
    return {name: value for name, value in cluster.environment.of("gateway").items() if name.startswith("DOSSIER_")}


def at_a_terminal(arguments: tuple[str, ...], environment: dict[str, str]) -> tuple[int, str]:
    """Exit status and output of the command whose standard output is a terminal."""
    reading, terminal = pty.openpty()
    command = (sys.executable, "-m", "dossier_cli", *arguments)
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=terminal, stderr=terminal) as started:
        os.close(terminal)
        said = b""
        try:
            while piece := os.read(reading, 65536):
                said += piece
        except OSError:  # how Linux says that nobody has the terminal open any more
            pass
        finally:
            os.close(reading)
    return started.returncode, said.decode()


def test_codes_are_shown_at_a_terminal_once_and_written_nowhere_unasked(migrated: Cluster) -> None:
    unseen = called(("ceremony", *OFFICERS), gateway(migrated))
    assert "standard output is no terminal" in unseen.refusal()
    status, said = at_a_terminal(("ceremony", *OFFICERS), gateway(migrated))
    assert status == 0, said
    assert [line.split()[:2] for line in said.splitlines()] == [
        ["system_administrator", "zhao.lei"],
        ["security_administrator", "qian.min"],
        ["security_auditor", "sun.hao"],
    ]
    again = called(("ceremony", *OFFICERS, "--json"), gateway(migrated))
    assert again.refusal() == "There are accounts already: the ceremony is held once."
    assert again.out == ""


def test_what_the_ceremony_cannot_do_is_said_in_one_line(migrated: Cluster, tmp_path: Path) -> None:
    def held(**changed: str) -> Said:
        return called(("ceremony", *OFFICERS, "--json"), gateway(migrated) | changed)

    assert "DOSSIER_ISSUER" in dossier("ceremony", *OFFICERS, "--json").refusal()
    away = f"postgresql://gateway_app@/dossier_gateway?host={tmp_path}"
    assert "see DOSSIER_GATEWAY_DATABASE_URL" in held(DOSSIER_GATEWAY_DATABASE_URL=away).refusal()
    guessed = tmp_path / "guessed"
    guessed.write_text("guessed")
    assert "password" in held(DOSSIER_GATEWAY_DATABASE_PASSWORD_FILE=str(guessed)).refusal()
    assert dossier("ceremony", "--json").status == 2
    assert "dossier ceremony" in dossier("ceremony", "--help").success()


def test_keys_of_tokens_are_listed_and_rotated(migrated: Cluster) -> None:
    def words(*arguments: str) -> list[str]:
        return [line.split()[0] for line in called(("keys", *arguments), gateway(migrated)).success().splitlines()]

    assert words("list") == ["current"]
    assert words("rotate") == ["current", "next"]
    assert "may be used from" in called(("keys", "rotate"), gateway(migrated)).refusal()
    assert words("rotate", "--at-once") == ["current", "next", "retired"]


def test_a_backlog_is_counted_and_over_its_limit_the_status_says_so(migrated: Cluster) -> None:
    migrated.postgres.psql("TRUNCATE outbox", "dossier_gateway")

    def looked(*arguments: str, **changed: str) -> Said:
        return called(("backlog", "gateway", *arguments), gateway(migrated) | changed)

    empty = json.loads(looked("--json").success())
    assert (empty["without_receipt"], empty["unnumbered"], empty["over_limit"]) == (0, 0, 0)
    rows = "INSERT INTO outbox (id, type, time, body) SELECT gen_random_uuid(), 'x', now() - interval '1 h', '' "
    migrated.postgres.psql(f"{rows} FROM generate_series(1, 25000)", "dossier_gateway")
    waiting = looked("--json")
    found = json.loads(waiting.out)
    assert waiting.status == 1
    assert (found["without_receipt"], found["unnumbered"], found["unpublished"]) == (25000, 25000, 0)
    assert found["over_limit"] == 1, "an hour is more than 15 minutes, and less than ten times as much"
    assert found["oldest_seconds"] >= 3600
    assert "without number     25000" in looked().out
    assert looked(DOSSIER_GATEWAY_BACKLOG_SECONDS="86400").status == 0
    assert looked(DOSSIER_GATEWAY_BACKLOG_SECONDS="86400", DOSSIER_GATEWAY_BACKLOG_ROWS="100").status == 1
    migrated.postgres.psql("TRUNCATE outbox", "dossier_gateway")
    away = f"postgresql://gateway_app@/dossier_gateway?host={migrated.state.folder}"
    assert "cannot be reached" in looked(DOSSIER_GATEWAY_DATABASE_URL=away).refusal()
    assert dossier("backlog", "nobody").status == 2
