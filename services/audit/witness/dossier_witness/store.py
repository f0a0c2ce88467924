"""What the witness remembers: for each origin the last checkpoint that it cosigned, and forks that were shown to it.

One SQLite file. It is the witness's whole worth: a witness that forgets would cosign a fork. So it is made once,
together with the key, and a missing file is an error, never an empty memory.
"""

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FORKS_KEPT: Final = 100
"""Forks that are kept for one origin: one is proof enough, and whoever has the log's key could make any number."""
_BUSY_SECONDS: Final = 5.0
_VERSION: Final = 1
_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE identity (vkey TEXT NOT NULL) STRICT;
CREATE TABLE cosigned (
    origin TEXT PRIMARY KEY,
    origin_hash TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL CHECK (size >= 0),
    root BLOB NOT NULL CHECK (length(root) = 32),
    time INTEGER NOT NULL CHECK (time > 0),
    note TEXT NOT NULL
) STRICT;
CREATE TABLE forks (
    origin TEXT NOT NULL,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    time INTEGER NOT NULL,
    cosigned TEXT NOT NULL,
    other TEXT NOT NULL,
    PRIMARY KEY (origin, size, root)
) STRICT;
PRAGMA user_version = {_VERSION};
COMMIT;
"""


class StateUnusable(Exception):
    """The state file is missing, damaged, or of another witness; its text is a sentence for the operator."""


@dataclass(frozen=True)
class Cosigned:
    """A checkpoint that the witness cosigned; `note` is its text, the log's signatures and the cosignature."""

    origin: str
    size: int
    root: bytes
    time: int
    note: str


@dataclass(frozen=True)
class Fork:
    """Two checkpoints of one size with different roots, both signed by the log: each reader can check that it lied."""

    origin: str
    size: int
    root: bytes
    time: int
    cosigned: str
    other: str


class Transaction:
    """Reads and writes while nobody else, in this process or another, can write."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def last(self, origin: str) -> Cosigned | None:
        """The last checkpoint of this origin that was cosigned."""
        return _cosigned(self._connection, "origin", origin)

    def remember(self, cosigned: Cosigned) -> None:
        """Takes the place of the last one."""
        self._connection.execute(
            "INSERT INTO cosigned (origin, origin_hash, size, root, time, note) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (origin) DO UPDATE SET size = excluded.size, root = excluded.root, time = excluded.time,"
            " note = excluded.note",
            (
                cosigned.origin,
                hashlib.sha256(cosigned.origin.encode()).hexdigest(),
                cosigned.size,
                cosigned.root,
                cosigned.time,
                cosigned.note,
            ),
        )

    def keep(self, fork: Fork) -> None:
        """Keeps the proof, once."""
        self._connection.execute(
            "INSERT INTO forks (origin, size, root, time, cosigned, other) SELECT ?, ?, ?, ?, ?, ?"
            " WHERE (SELECT count(*) FROM forks WHERE origin = ?) < ? ON CONFLICT DO NOTHING",
            (fork.origin, fork.size, fork.root, fork.time, fork.cosigned, fork.other, fork.origin, FORKS_KEPT),
        )


class Store:
    """An open state file; may be used from several threads."""

    def __init__(self, connection: sqlite3.Connection, vkey: str) -> None:
        self._connection, self.vkey = connection, vkey
        self._lock = threading.Lock()

    @staticmethod
    def create(path: Path, vkey: str) -> None:
        """Makes the empty memory of a new witness, whole or not at all. Raises StateUnusable, where one is already."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
            with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
                connection.executescript(_SCHEMA)
                connection.execute("INSERT INTO identity (vkey) VALUES (?)", (vkey,))
                connection.execute("PRAGMA journal_mode = WAL")
            os.link(draft, path)  # unlike a rename, this replaces nothing
            sync_folder(path.parent)
        except FileExistsError as error:
            raise StateUnusable(f"{path} exists already: a witness keeps its memory.") from error
        except (OSError, sqlite3.Error) as error:
            raise StateUnusable(f"{path} cannot be made: {error}.") from error
        finally:
            draft.unlink(missing_ok=True)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Raises StateUnusable."""
        if not path.is_file():
            raise StateUnusable(
                f"{path} is missing. A witness that forgot what it cosigned would cosign a fork: make a new key with "
                "`dossier-witness keygen`, which makes its memory too, and give its vkey to those who verify."
            )
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS)
        try:
            return cls(connection, _checked(connection, path))
        except sqlite3.Error as error:
            connection.close()
            raise StateUnusable(f"{path} cannot be read as a witness's state: {error}.") from error
        except StateUnusable:
            connection.close()
            raise

    def close(self) -> None:
        """Ends the connection; everything is on disk already."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Alone with the state, from the first read on; on disk when the context is left. Raises sqlite3.Error."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield Transaction(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def by_hash(self, origin_hash: str) -> Cosigned | None:
        """The last checkpoint of the origin with this SHA-256 (hex)."""
        with self._lock:
            return _cosigned(self._connection, "origin_hash", origin_hash)

    def all(self) -> list[Cosigned]:
        """The last checkpoint of each origin."""
        with self._lock:
            rows = self._connection.execute("SELECT origin, size, root, time, note FROM cosigned ORDER BY origin")
            return [Cosigned(*row) for row in rows]

    def forks(self) -> list[Fork]:
        """All forks that were shown to the witness."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT origin, size, root, time, cosigned, other FROM forks ORDER BY origin, time, size, root"
            )
            return [Fork(*row) for row in rows]


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(connection: sqlite3.Connection, path: Path) -> str:
    """The vkey of the witness whose state this is, with durability set."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StateUnusable(f"{path} lies where SQLite has no write-ahead log: put it on a local file system.")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: else fsync leaves data in the disk's cache
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if version != _VERSION or health != "ok":
        raise StateUnusable(f"{path} is not a state file of this program (version {version}, check: {health}).")
    connection.execute("SELECT 1 FROM cosigned, forks")
    (vkey,) = connection.execute("SELECT vkey FROM identity").fetchone()
    return str(vkey)


def _cosigned(connection: sqlite3.Connection, column: str, value: str) -> Cosigned | None:
    query = f"SELECT origin, size, root, time, note FROM cosigned WHERE {column} = ?"  # noqa: S608  # names of ours
    row = connection.execute(query, (value,)).fetchone()
    return None if row is None else Cosigned(*row)
