"""What a superuser of the database can do to the log: triggers and grants do not hold him. With the log's key, more."""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import asyncpg

from dossier_audit.log import notes
from dossier_audit.log.notes import Checkpoint
from dossier_audit.log.tree import Tile, Tree, leaf_hash
from dossier_common.keys import SigningKey
from dossier_local.cluster import Cluster
from dossier_local.postgres import SUPERUSER

_ROWS: Final = """
SELECT l.producer, l.epoch, l.seq, l.leaf, b.salt, b.body
FROM log_runs r JOIN leaves l ON l.producer = r.producer AND l.epoch = r.epoch
  AND l.seq >= r.first_seq AND l.seq < r.first_seq + r.count
JOIN bodies b ON (b.time, b.producer, b.epoch, b.seq) = (l.time, l.producer, l.epoch, l.seq)
WHERE r.generation = 1 ORDER BY r.first_index, l.seq
"""
_WRITE_LEAF: Final = "UPDATE leaves SET leaf = $4, hash = $5 WHERE (producer, epoch, seq) = ($1, $2, $3)"
_WRITE_BODY: Final = "UPDATE bodies SET body = $4 WHERE (producer, epoch, seq) = ($1, $2, $3)"
_WRITE_RUN: Final = "UPDATE log_runs SET hashes = $2 WHERE generation = 1 AND first_index = $1"
_WRITE_TILE: Final = "UPDATE log_tiles SET hashes = $3, root = $4 WHERE generation = 1 AND level = $1 AND index = $2"
_WRITE_CHECKPOINT: Final = "UPDATE log_checkpoints SET root = $2, note = $3 WHERE generation = 1 AND size = $1"


@dataclass(frozen=True)
class Row:
    """An event as it is stored."""

    producer: str
    epoch: int
    seq: int
    leaf: bytes
    salt: bytes
    body: bytes


@dataclass(frozen=True)
class Superuser:
    """A connection as superuser, with all triggers off."""

    connection: asyncpg.Connection

    async def run(self, *statements: str) -> None:
        """These statements; at least one row has to be there for each, or nothing was tampered with."""
        for statement in statements:
            done = await self.connection.execute(statement)
            assert not done.endswith(" 0"), statement

    async def rows(self) -> list[Row]:
        """All events of the log, in its order."""
        return [Row(**row) for row in await self.connection.fetch(_ROWS)]

    async def rewrite(self, index: int, key: SigningKey | None) -> None:
        """Another body at this index, and all that follows from it: commitment, chain, runs, tiles, roots.

        With the log's key the checkpoints are signed anew, and the cosignatures, which do not fit any more, are gone.
        """
        rows = await self.rows()
        changed = _rewritten(rows, index)
        for before, after in zip(rows, changed, strict=True):
            if before == after:
                continue
            place = (after.producer, after.epoch, after.seq)
            await self.connection.execute(_WRITE_LEAF, *place, after.leaf, hashlib.sha256(after.leaf).digest())
            await self.connection.execute(_WRITE_BODY, *place, after.body)
        for run in await self.connection.fetch("SELECT first_index, count FROM log_runs WHERE generation = 1"):
            first = run["first_index"]
            hashes = b"".join(leaf_hash(each.leaf) for each in changed[first : first + run["count"]])
            await self.connection.execute(_WRITE_RUN, first, hashes)
        tree, tiles = Tree(), list[Tile]()
        for row in await self.connection.fetch("SELECT size, note FROM log_checkpoints ORDER BY size"):
            tree, full = tree.extended([leaf_hash(each.leaf) for each in changed[tree.size : row["size"]]])
            tiles += full
            text, _ = notes.split(row["note"])
            checkpoint = Checkpoint(Checkpoint.read(text).origin, tree.size, tree.root())
            note = notes.sign(checkpoint.text(), checkpoint.origin, key) if key else row["note"]
            await self.connection.execute(_WRITE_CHECKPOINT, tree.size, checkpoint.root, note)
        for tile in tiles:
            await self.connection.execute(_WRITE_TILE, tile.level, tile.index, tile.hashes, tile.root)
        if key:
            await self.run("DELETE FROM log_cosignatures")


def _rewritten(rows: list[Row], index: int) -> list[Row]:
    victim = rows[index]
    body = victim.body.replace(b'"outcome":"success"', b'"outcome":"refused"')
    assert body != victim.body
    commitment = hashlib.sha256(victim.salt + body).hexdigest()
    changed = [*rows]
    changed[index] = replace(victim, body=body, leaf=_with(victim.leaf, "commitment", commitment))
    prev = hashlib.sha256(changed[index].leaf).hexdigest()
    for at in range(index + 1, len(rows)):
        if (rows[at].producer, rows[at].epoch) == (victim.producer, victim.epoch):
            changed[at] = replace(rows[at], leaf=_with(rows[at].leaf, "prev", prev))
            prev = hashlib.sha256(changed[at].leaf).hexdigest()
    return changed


def _with(leaf: bytes, member: str, value: str) -> bytes:
    said = json.loads(leaf)
    assert member in said
    return json.dumps(said | {member: value}, sort_keys=True, separators=(",", ":")).encode()


@asynccontextmanager
async def superuser(cluster: Cluster) -> AsyncIterator[Superuser]:
    """Of the audit service's database."""
    connection = await asyncpg.connect(
        host=str(cluster.postgres.sockets),
        user=SUPERUSER,
        password=cluster.state.read_secret("postgres-superuser"),
        database="dossier_audit",
    )
    try:
        await connection.execute("SET session_replication_role = replica")
        yield Superuser(connection)
    finally:
        await connection.close()
