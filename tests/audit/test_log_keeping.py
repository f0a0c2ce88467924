"""The log as it is kept: in order, whole, shown only when a copy lies outside, by one writer."""

import hashlib
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import orjson
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from tests.audit.log_world import ProofFile, World, entries_of, fails, until, world
from tests.audit.test_log_tree import included, mth
from tests.support.waiting import eventually, running

from dossier_audit.erasure import erase
from dossier_audit.log import notes
from dossier_audit.log.notes import Checkpoint
from dossier_audit.log.tree import leaf_hash
from dossier_audit.publication import publish
from dossier_audit.rules import LONGEST_ORDER, NoReference
from dossier_audit.sequencer import LogDamaged, Run
from dossier_common.ids import new_id
from dossier_common.keys import SigningKey
from dossier_common.leaves import NO_LEAF
from dossier_local import cluster as servers
from dossier_local.cluster import Cluster


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    with servers.temporary() as running_servers:
        yield running_servers


@pytest.fixture(scope="module")
async def kept(own_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(own_cluster, tmp_path_factory.mktemp("checkpoints")) as opened:
        yield opened


async def all_entries(kept: World, size: int) -> list[bytes]:
    found: list[bytes] = []
    for index in range(-(-size // 256)):
        width = min(256, size - index * 256)
        path = f"/v1/audit/log/tile/entries/{index:03d}" + (f".p/{width}" if width < 256 else "")
        found += entries_of((await kept.get(path)).content)
    return found


@pytest.mark.invariant(3)
async def test_what_was_ingested_is_in_the_log_whole_and_in_order(kept: World) -> None:
    async with kept.logging():
        for number in (1, 3, 600, 40):
            await kept.ingested(number)
        await kept.all_shown()
    checkpoint = await kept.checkpoint()
    assert checkpoint.size == await kept.count("SELECT count(*) FROM leaves") == 645
    entries = await all_entries(kept, checkpoint.size)
    assert mth([leaf_hash(entry) for entry in entries]) == checkpoint.root
    first, *others = [orjson.loads(entry) for entry in entries]
    assert (first["producer"], first["type"], first["seq"]) == ("log", "audit.v1.log.opened", 1)
    assert [each["seq"] for each in others] == list(range(1, 645))
    prev = NO_LEAF.hex()
    for entry, said in zip(entries[1:], others, strict=True):
        assert said["prev"] == prev
        prev = hashlib.sha256(entry).hexdigest()


async def test_tiles_of_every_size_that_was_ever_shown_are_served(kept: World) -> None:
    entries = await all_entries(kept, 645)
    hashes = [leaf_hash(entry) for entry in entries]
    for path, expected in {
        "0/000": hashes[:256],
        "0/001": hashes[256:512],
        "0/000.p/1": hashes[:1],
        "0/002.p/133": hashes[512:],
        "0/002.p/7": hashes[512:519],
        "1/000.p/2": [mth(hashes[:256]), mth(hashes[256:512])],
        "1/000.p/1": [mth(hashes[:256])],
    }.items():
        answer = await kept.get(f"/v1/audit/log/tile/{path}")
        assert answer.content == b"".join(expected), path
        assert answer.headers["content-type"] == "application/octet-stream"
        assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "path",
    [
        *("tile/0/002", "tile/0/003", "tile/0/003.p/1", "tile/0/002.p/134", "tile/1/000", "tile/1/000.p/3"),
        *("tile/2/000.p/1", "tile/63/000", "tile/64/000", "tile/00/000", "tile/0/0", "tile/0/000.p/0", "tile/0/x"),
        *("tile/entries/003", "tile/entries/000.p/256", "tile/entries/x000/000", "tile/data/000", "tile/-1/000"),
        *("tile/0/x999/x999/x999/x999/x999/999", "bodies/003.p/1", "bodies/9", "tile/0/000/", "tile/0/000.p/"),
    ],
)
async def test_what_is_not_there_is_404(kept: World, path: str) -> None:
    answer = await kept.get(f"/v1/audit/log/{path}", status=404)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_who_may_not_verify_sees_nothing_of_the_log(kept: World) -> None:
    for path in ("checkpoint", "tile/0/000", "tile/entries/000"):
        assert (await kept.client.get(f"/v1/audit/log/{path}")).status_code == 401
        await kept.get(f"/v1/audit/log/{path}", "audit:read", status=403)
    await kept.get("/v1/audit/log/bodies/000", "audit:verify", status=403)


@pytest.mark.invariant(3)
async def test_every_event_has_a_proof_that_leads_to_the_signed_root(kept: World) -> None:
    records = await kept.ingested(3)
    async with kept.logging():
        await kept.all_shown()
    for record in records:
        event = await kept.event_of(record)
        answer = await kept.get(f"/v1/audit/events/{event}/proof")
        proof = ProofFile.read(answer.text)
        assert orjson.loads(proof.extra)["id"] == str(event)
        key = notes.key_of(kept.settings.log_address, kept.key)
        checkpoint = Checkpoint.opened(proof.note, key)
        assert included(proof.index, checkpoint.size, leaf_hash(proof.extra), proof.hashes) == checkpoint.root
        assert answer.headers["content-disposition"].endswith('.tlog-proof"')
    await kept.get(f"/v1/audit/events/{new_id()}/proof", status=404)
    proved = await kept.count("SELECT count(*) FROM outbox WHERE type = 'audit.v1.event.proved'")
    assert proved == len(records)


async def test_an_event_that_is_not_under_a_checkpoint_yet_says_so(kept: World) -> None:
    (record,) = await kept.ingested(1)
    event = await kept.event_of(record)
    answer = await kept.get(f"/v1/audit/events/{event}/proof", status=503)
    assert answer.json()["type"] == "urn:dossier:problem:not-yet-provable"
    assert answer.headers["retry-after"] == "1"
    async with kept.logging():
        await kept.all_shown()
    await kept.get(f"/v1/audit/events/{event}/proof")


@pytest.mark.invariant(3)
async def test_a_checkpoint_is_shown_only_after_its_copy_lies_outside(kept: World) -> None:
    before = await kept.checkpoint()
    signed = await kept.count("SELECT max(size) FROM log_checkpoints")
    kept.folder.chmod(0o500)
    renamed = kept.folder.rename(kept.folder.with_name("gone"))
    try:
        await kept.ingested(2)
        outside = kept.outside()
        outside._folder = None  # the sequencer has read it before it went
        async with running(kept.sequencer(outside).run()):
            with pytest.raises(FileNotFoundError):
                await publish(kept.worker.database, kept.worker.clock, kept.outside())

            async def behind() -> int:
                return await kept.count("SELECT max(size) FROM log_checkpoints") - signed

            await eventually(behind, 2)
            with pytest.raises(FileNotFoundError):
                await publish(kept.worker.database, kept.worker.clock, kept.outside())
        assert await kept.checkpoint() == before
    finally:
        renamed.rename(kept.folder)
        kept.folder.chmod(0o700)
    async with kept.logging():
        await kept.all_shown()
    shown = await kept.checkpoint()
    assert shown.size == before.size + 2
    copy = (kept.folder / "log-1.checkpoint").read_text()
    assert Checkpoint.opened(copy, notes.key_of(kept.settings.log_address, kept.key)) == shown


async def test_one_sequencer_writes_and_its_successor_goes_on(kept: World) -> None:
    first, second = kept.sequencer(), kept.sequencer()
    async with running(first.run()):
        async with running(second.run()):
            await kept.ingested(5)
            await until_signed(kept)
        await kept.ingested(5)
        await until_signed(kept)
    async with running(second.run()):
        await kept.ingested(5)
        await until_signed(kept)


async def until_signed(kept: World) -> None:
    query = "SELECT (SELECT count(*) FROM leaves) - (SELECT max(size) FROM log_checkpoints)"

    async def missing() -> int:
        return await kept.count(query)

    await eventually(missing, 0)


@pytest.mark.invariant(3)
async def test_one_that_was_frozen_and_wakes_beside_its_successor_writes_nothing(kept: World) -> None:
    frozen = kept.sequencer()
    connection = await kept.worker.database.connect()
    try:
        state = await frozen._opened(connection)
        await kept.ingested(4)
        async with kept.logging():
            await kept.all_shown()
        size = await kept.count("SELECT max(size) FROM log_checkpoints")
        runs = await frozen._waiting(connection, state)
        assert [len(run.leaves) for run in runs] == [4]
        with pytest.raises(asyncpg.UniqueViolationError):
            await frozen._append(connection, state, runs)
        with pytest.raises(asyncpg.UniqueViolationError):
            await frozen._append(connection, state, [Run("retention", 1, 10_000, [b"{}"])])
        assert await kept.count("SELECT max(size) FROM log_checkpoints") == size
    finally:
        await connection.close()


@pytest.mark.invariant(3)
async def test_nothing_is_signed_over_an_edge_that_somebody_changed(kept: World, own_cluster: Cluster) -> None:
    await kept.ingested(3)
    async with kept.logging():
        await kept.all_shown()
    size = await kept.count("SELECT max(size) FROM log_checkpoints")
    edge = "WHERE first_index = (SELECT max(first_index) FROM log_runs)"

    def as_superuser(statement: str) -> None:
        own_cluster.postgres.psql(f"SET session_replication_role = replica; {statement}", "dossier_audit")

    as_superuser(f"UPDATE log_runs SET hashes = set_byte(hashes, 9, 255 - get_byte(hashes, 9)) {edge}")
    raised = await fails(kept.sequencer(), LogDamaged)
    assert f"size {size}" in str(raised)
    as_superuser(f"UPDATE log_runs SET hashes = set_byte(hashes, 9, 255 - get_byte(hashes, 9)) {edge}")
    async with kept.logging():
        await kept.all_shown()


@pytest.mark.invariant(7)
async def test_a_body_erased_by_law_leaves_a_stub_and_every_proof(kept: World, own_cluster: Cluster) -> None:
    kept_record, record = await kept.ingested(2)
    async with kept.logging():
        await kept.all_shown()
        event = await kept.event_of(record)
        before = await kept.get(f"/v1/audit/events/{event}/proof")
        url = own_cluster.database_url("audit", "migrator", scheme="postgresql+asyncpg")
        engine = create_async_engine(url, poolclass=NullPool)
        assert await erase(engine, event, "order 2026-17", kept.worker.clock) == 1
        assert await erase(engine, event, "order 2026-18", kept.worker.clock) == 0
        assert await erase(engine, new_id(), "order 2026-19", kept.worker.clock) == 0
        for order in ("", "x" * (LONGEST_ORDER + 1), "two\nlines"):
            with pytest.raises(NoReference):
                await erase(engine, event, order, kept.worker.clock)
    opened = (await kept.get(f"/v1/audit/events/{event}")).json()
    assert (opened["body"], opened["salt"], opened["data"]) == (None, None, None)
    assert opened["erased"]["order"] == "order 2026-17"
    assert hashlib.sha256(opened["leaf"].encode()).hexdigest() == opened["hash"]
    after = await kept.get(f"/v1/audit/events/{event}/proof")
    assert ProofFile.read(after.text).extra == ProofFile.read(before.text).extra
    assert await kept.count("SELECT count(*) FROM outbox WHERE type = 'audit.v1.body.erased'") == 1
    found = await kept.client.get(f"/v1/audit/events?record={record}", headers=kept.headers())
    assert found.json()["items"] == []
    assert await kept.event_of(kept_record)


@pytest.mark.invariant(3)
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE bodies SET salt = NULL, body = NULL",
        "UPDATE bodies SET type = 'other' WHERE body IS NULL",
        "UPDATE bodies SET body = 'x' WHERE body IS NULL",
        "DELETE FROM bodies WHERE body IS NULL",
        "UPDATE erasures SET at = now()",
        "DELETE FROM erasures",
    ],
)
async def test_the_owner_erases_only_what_an_order_names(own_cluster: Cluster, kept: World, change: str) -> None:
    assert await kept.count("SELECT count(*) FROM erasures") == 1
    connection = await asyncpg.connect(own_cluster.database_url("audit", "migrator"))
    try:
        await connection.execute("SET ROLE audit_owner")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="is append-only"):
            await connection.execute(change)
    finally:
        await connection.close()


@pytest.mark.invariant(3)
async def test_the_service_cannot_erase(own_cluster: Cluster) -> None:
    connection = await asyncpg.connect(own_cluster.database_url("audit", "app"))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await connection.execute("SELECT erase_body($1, 'mine', now())", new_id())
    finally:
        await connection.close()


async def test_bodies_fit_their_commitments_and_erased_ones_say_so(kept: World) -> None:
    checkpoint = await kept.checkpoint()
    entries = await all_entries(kept, checkpoint.size)
    index = (checkpoint.size - 1) // 256
    width = checkpoint.size - index * 256
    opened = (await kept.get(f"/v1/audit/log/bodies/{index:03d}.p/{width}")).text.splitlines()
    erased = 0
    for entry, line in zip(entries[index * 256 :], map(orjson.loads, opened), strict=True):
        if "erased" in line:
            assert line["erased"]["order"] == "order 2026-17"
            erased += 1
            continue
        salt = b64decode(line["salt"], validate=True)
        digest = hashlib.sha256(salt + line["body"].encode()).hexdigest()
        assert orjson.loads(entry)["commitment"] == digest
    assert erased == 1
    said = await kept.count("SELECT count(*) FROM outbox WHERE type = 'audit.v1.bodies.opened'")
    assert said == 1


async def test_the_log_describes_itself(kept: World) -> None:
    (described,) = (await kept.get("/v1/audit/logs")).json()["logs"]
    assert described["origin"] == kept.settings.log_address
    assert described["url"] == f"{kept.settings.common.issuer}/v1/audit/log"
    assert described["vkey"] == notes.key_of(kept.settings.log_address, kept.key).vkey()
    assert (described["generation"], described["state"], described["predecessor"]) == (1, "open", None)
    assert orjson.loads(described["opened"]["body"])["data"] == {"generation": 1}
    await kept.get("/v1/audit/logs/2/checkpoint", status=404)
    await kept.get("/v1/audit/logs/1/checkpoint", status=422)


async def test_a_copy_that_another_key_signed_is_not_believed(kept: World, tmp_path: Path) -> None:
    origin = kept.settings.log_address
    forged = notes.sign(Checkpoint(origin, 10**9, bytes(32)).text(), origin, SigningKey.generate())
    outside = kept.outside()
    outside._folder = tmp_path
    (tmp_path / "log-1.checkpoint").write_text(forged)
    (tmp_path / "notes.txt").write_text("not a copy")
    await outside.gather(1)
    assert outside.newest() is None
    assert outside.generation == 0
    await until(lambda: outside.explained)
