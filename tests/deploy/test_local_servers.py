"""The roles of PostgreSQL and the users of NATS: each part can do what its duty needs, and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import nats
import pytest
from nats.aio.client import Client

from dossier_cli import accounts, streams
from dossier_common import topology
from dossier_local import cluster as servers
from dossier_local.cluster import Cluster

PARTS = topology.PARTS
PUBLISHERS = topology.PUBLISHERS


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """Servers with roles and streams, without the tables of any part."""
    with servers.temporary(migrate=False) as running:
        yield running


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def session(bare: Cluster, part: str, role: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(bare.database_url(part, role))
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("part", PARTS)
async def test_the_application_role_creates_nothing(bare: Cluster, part: str) -> None:
    async with session(bare, part, "app") as app:
        for statement in ("CREATE TABLE t ()", "CREATE SCHEMA s", "CREATE TEMP TABLE t ()", "CREATE ROLE r"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await app.execute(statement)
        for role in (f"{part}_owner", f"{part}_migrator", "postgres"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await app.execute(f"SET ROLE {role}")


@pytest.mark.parametrize("part", PARTS)
async def test_the_migrator_acts_as_owner_and_the_application_has_what_is_granted(bare: Cluster, part: str) -> None:
    async with session(bare, part, "migrator") as migrator:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError)):
            await migrator.execute("CREATE TABLE t ()")
        await migrator.execute(f"SET ROLE {part}_owner")
        await migrator.execute("CREATE TABLE granted (value int); CREATE TABLE kept_back (value int)")
        await migrator.execute("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        await migrator.execute(f"GRANT SELECT ON granted TO {part}_app")
        try:
            async with session(bare, part, "app") as app:
                assert await app.fetch("SELECT * FROM granted") == []
                for statement in ("SELECT * FROM kept_back", "INSERT INTO granted VALUES (1)", "SELECT f()"):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await app.execute(statement)
        finally:
            await migrator.execute("DROP TABLE granted, kept_back; DROP FUNCTION f()")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("role", ["app", "migrator"])
async def test_no_role_enters_the_database_of_another_part(bare: Cluster, part: str, role: str) -> None:
    for database in (*(f"dossier_{other}" for other in PARTS if other != part), "postgres", "template1"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(bare.database_url(part, role), database=database)


@pytest.mark.parametrize("part", PARTS)
async def test_the_owner_cannot_log_in_and_passwords_are_asked_for(bare: Cluster, part: str) -> None:
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(bare.database_url(part, "app"), user=f"{part}_owner")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(bare.database_url(part, "app"), password="guessed")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(bare.database_url(part, "app"), user="postgres", password="postgres")


def test_roles_can_be_applied_again(bare: Cluster) -> None:
    (bare.postgres.data.parent / "roles.json").unlink()
    bare.postgres.apply_roles()
    assert bare.postgres.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'dossier\\_%'").strip() == "5"


@pytest.mark.invariant(7)
async def test_values_of_failing_statements_reach_no_log(bare: Cluster) -> None:
    canary = "canary-13800138000"
    async with session(bare, "records", "migrator") as migrator:
        await migrator.execute("SET ROLE records_owner")
        await migrator.execute("CREATE TABLE unique_values (value text PRIMARY KEY, number int)")
        try:
            await migrator.execute("INSERT INTO unique_values VALUES ($1, 1)", canary)
            with pytest.raises(asyncpg.UniqueViolationError):
                await migrator.execute("INSERT INTO unique_values VALUES ($1, 1)", canary)
            with pytest.raises(asyncpg.UniqueViolationError):
                await migrator.execute(f"INSERT INTO unique_values VALUES ('{canary}', 1)")
            with pytest.raises(asyncpg.InvalidTextRepresentationError):
                await migrator.execute(f"SELECT '{canary}'::text::int")
        finally:
            await migrator.execute("DROP TABLE unique_values")
    log = (bare.state.logs / "postgres.log").read_text()
    assert "duplicate key value" in log
    lines = [line for line in log.splitlines() if canary in line]
    assert all("invalid input syntax for type integer" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data_sync_retry", "off"),
        ("fsync", "on"),
        ("log_error_verbosity", "terse"),
        ("log_parameter_max_length_on_error", "0"),
        ("log_statement", "none"),
        ("log_min_duration_statement", "-1"),
        ("listen_addresses", ""),
        ("password_encryption", "scram-sha-256"),
    ],
)
def test_the_server_is_set_as_the_architecture_says(bare: Cluster, name: str, value: str) -> None:
    assert bare.postgres.psql(f"SHOW {name}").strip() == value


# -- NATS -------------------------------------------------------------------------------------------------------------


class Connected:
    """A connection of one user, with what the server refused it."""

    def __init__(self, client: Client, refusals: list[str]) -> None:
        self.client, self._refusals = client, refusals

    async def refused(self) -> list[str]:
        """What was refused since the last call; the server has answered everything before."""
        await self.client.flush()
        await asyncio.sleep(0.02)
        said, self._refusals[:] = list(self._refusals), []
        return said


@asynccontextmanager
async def user(bare: Cluster, name: str) -> AsyncIterator[Connected]:
    refusals: list[str] = []

    async def keep(error: Exception) -> None:
        refusals.append(str(error))

    client = await nats.connect(
        bare.broker.url,
        user=name,
        password=bare.broker.password(name),
        inbox_prefix=topology.inbox_prefix(name).encode(),
        error_cb=keep,
        allow_reconnect=False,
    )
    try:
        yield Connected(client, refusals)
    finally:
        await client.close()


async def publish(producer: Connected, part: str, count: int) -> dict[str, Any]:
    """An atomic batch on the part's own subject; the server's answer to its last message."""
    for place in range(1, count):
        headers = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": str(place)}
        await producer.client.publish(f"{part}.v1.thing.happened", b"{}", headers=headers)
    last = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": str(count), "Nats-Batch-Commit": "1"}
    reply = await producer.client.request(f"{part}.v1.thing.happened", b"{}", headers=last, timeout=5)
    answer: dict[str, Any] = json.loads(reply.data)
    return answer


@pytest.mark.parametrize("part", PUBLISHERS)
async def test_a_producer_publishes_batches_and_its_followers_fetch_and_acknowledge(bare: Cluster, part: str) -> None:
    followers = [follower for follower, followed in topology.FOLLOWS.items() if part in followed]
    async with user(bare, part) as producer:
        answer = await publish(producer, part, 5)
        assert answer["stream"] == topology.stream(part)
        assert answer["count"] == 5
        assert await producer.refused() == []
    for follower in followers:
        async with user(bare, follower) as consumer:
            subscription = await consumer.client.jetstream().pull_subscribe_bind(follower, topology.stream(part))
            messages = await subscription.fetch(5, timeout=5)
            assert len(messages) == 5
            await messages[-1].ack_sync(timeout=5)
            with pytest.raises(TimeoutError):
                await subscription.fetch(1, timeout=0.2)
            assert await consumer.refused() == []


@pytest.mark.parametrize("part", PARTS)
async def test_no_part_publishes_what_is_not_its_own(bare: Cluster, part: str) -> None:
    others = [f"{other}.v1.thing.happened" for other in PARTS if other != part or part == "audit"]
    inboxes = [f"{topology.inbox_prefix(other)}.x" for other in PARTS]
    receipts = [topology.receipt_subject(producer) for producer in PUBLISHERS if part != "audit"]
    own = [] if part not in PUBLISHERS else [f"{part}.v2.thing.happened"]
    async with user(bare, part) as connected:
        for subject in (*others, *inboxes, *receipts, *own, f"{part}.thing", "x", "$SYS.REQ.SERVER.PING"):
            await connected.client.publish(subject, b"{}")
            assert any("publish" in said.lower() for said in await connected.refused()), subject


@pytest.mark.parametrize("part", PARTS)
async def test_no_part_listens_to_what_is_not_its_own(bare: Cluster, part: str) -> None:
    inboxes = [f"{topology.inbox_prefix(other)}.>" for other in (*PARTS, accounts.OPERATOR) if other != part]
    events = [topology.subjects(other) for other in PARTS]
    receipts = [topology.receipt_subject(other) for other in PARTS if other != part or part == "audit"]
    async with user(bare, part) as connected:
        for subject in (*inboxes, *events, *receipts, ">", "_INBOX.>", "$JS.>", "$SYS.>", "audit.receipts.*"):
            await connected.client.subscribe(subject)
            assert any("subscription" in said.lower() for said in await connected.refused()), subject


@pytest.mark.parametrize("part", PARTS)
async def test_no_part_uses_the_api_of_streams_or_the_consumer_of_another(bare: Cluster, part: str) -> None:
    async with user(bare, part) as connected:
        for producer in PUBLISHERS:
            stream = topology.stream(producer)
            followers = [other for other in PARTS if other != part or producer not in topology.FOLLOWS[part]]
            api = [f"$JS.API.STREAM.{verb}.{stream}" for verb in ("INFO", "DELETE", "PURGE", "UPDATE", "MSG.GET")]
            api += [f"$JS.API.DIRECT.GET.{stream}", f"$JS.API.CONSUMER.CREATE.{stream}.{part}"]
            for follower in followers:
                api += [f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{follower}", f"$JS.ACK.{stream}.{follower}.1.1.1.1.1"]
            for subject in api:
                await connected.client.publish(subject, b"")
                assert any("publish" in said.lower() for said in await connected.refused()), subject


async def test_a_receipt_reaches_its_producer(bare: Cluster) -> None:
    async with user(bare, "records") as producer, user(bare, "audit") as audit:
        subscription = await producer.client.subscribe(topology.receipt_subject("records"))
        await producer.client.flush()
        await audit.client.publish(topology.receipt_subject("records"), b"receipt")
        await audit.client.flush()
        assert (await subscription.next_msg(30)).data == b"receipt"
        assert await producer.refused() == await audit.refused() == []


async def test_the_operator_manages_streams_and_reads_no_event(bare: Cluster) -> None:
    async with user(bare, accounts.OPERATOR) as operator:
        for subject in (
            "$JS.API.STREAM.MSG.GET.RECORDS",
            "$JS.API.CONSUMER.MSG.NEXT.RECORDS.audit",
            "$JS.API.DIRECT.GET.RECORDS",
            "$JS.API.STREAM.PURGE.RECORDS",
            "records.v1.thing.happened",
        ):
            await operator.client.publish(subject, b"")
            assert any("publish" in said.lower() for said in await operator.refused()), subject
        await operator.client.subscribe("records.v1.>")
        assert await operator.refused()


@pytest.mark.parametrize("given", [{}, {"user": "records", "pass": "guessed"}, {"user": "operator", "pass": ""}])
async def test_nobody_enters_without_a_password(bare: Cluster, given: dict[str, str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bare.broker.port)
    try:
        await reader.readline()
        writer.write(b"CONNECT " + json.dumps(given).encode() + b"\r\nPING\r\n")
        assert (await reader.readline()).startswith(b"-ERR 'Authorization Violation'")
    finally:
        writer.close()
        await writer.wait_closed()


async def test_streams_that_are_gone_come_back_and_what_is_there_stays(bare: Cluster) -> None:
    client = await streams.connect(bare.broker.url, bare.broker.password(accounts.OPERATOR))
    try:
        assert not await streams.ensure(client)
        await client.jetstream().delete_stream("APPROVALS")
        await client.jetstream().delete_consumer("RECORDS", "audit")
        made = await streams.ensure(client)
        assert made.streams == ("APPROVALS",)
        assert set(made.consumers) == {f"APPROVALS/{part}" for part in ("records", "retention", "audit")} | {
            "RECORDS/audit"
        }
        config = (await client.jetstream().stream_info("RECORDS")).config
        assert config.allow_atomic
        assert config.max_age == 7 * 86400
        assert config.discard == "new"
        assert config.deny_delete
        assert config.deny_purge
    finally:
        await client.close()
