"""The database of a data folder and its connections. What opens files is ``machine.py``'s.

Exactly one connection writes and checkpoints at a time: SQLite before 3.51.3 can corrupt a WAL database when two do so
at the same moment. Where a process of its own writes (``process/``), the engine's own connection waits for its answer.
Every other connection is opened read-only. Durability is ``synchronous=FULL``: a commit is on disk when
it returns. The schema and its versions are ``schema.py``'s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from engine.store import ring
from engine.store.crypto import Crypto
from engine.store.machine import MACHINE
from engine.store.schema import migrate

DATABASE_FILE = "engine.db"
#: SQLite's write-ahead log: what is committed and not yet in the database.
LOG_FILE = "engine.db-wal"

#: Of a new data folder: a commit writes whole pages, and changes a few hundred bytes of most.
PAGE_BYTES = 4096
_CREATION_PRAGMAS = (
    f"PRAGMA page_size = {PAGE_BYTES}",
    "PRAGMA auto_vacuum = INCREMENTAL",  # cannot be changed later without rewriting the file
    "PRAGMA journal_mode = WAL",
)
_WRITER_PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # macOS: fsync alone leaves data in the drive's cache
    "PRAGMA wal_autocheckpoint = 0",  # see checkpoint.py
    "PRAGMA journal_size_limit = 67108864",  # bytes that a log which has grown keeps of the disk when it begins anew
    "PRAGMA cache_size = -65536",  # KiB
    "PRAGMA temp_store = MEMORY",
    "PRAGMA secure_delete = ON",  # what is deleted, or sealed in its place, is overwritten
)
#: Of a second one: with four times as much it commits no quicker, and an engine has the memory of both.
_FURTHER_WRITER_PRAGMAS = (*_WRITER_PRAGMAS, "PRAGMA cache_size = -16384")
_LEVELS = ("OFF", "NORMAL", "FULL", "EXTRA")
_READER_PRAGMAS = ("PRAGMA query_only = ON", "PRAGMA cache_size = -16384", "PRAGMA temp_store = MEMORY")

Connect = Callable[[Path, str], sqlite3.Connection]


def connect_writer(folder: Path, crypto: Crypto, connect: Connect = MACHINE.connect) -> sqlite3.Connection:
    """The connection that writes; makes the file (mode 0600) and brings its schema up to date."""
    connection = _prepared(connect(folder / DATABASE_FILE, "rw"), (*_CREATION_PRAGMAS, *_WRITER_PRAGMAS))
    try:
        ring.before_migration(connection, crypto)
        connection.execute("PRAGMA temp_store = FILE")  # an index of ten million rows is not sorted in memory
        migrate(connection)
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:  # whatever ends it: no connection stays open that nobody has
        connection.close()
        raise
    return connection


def connect_further_writer(folder: Path, connect: Connect = MACHINE.connect) -> sqlite3.Connection:
    """A second connection that writes, in a process of its own: they take turns, and never write at the same time."""
    return _prepared(connect(folder / DATABASE_FILE, "rw"), _FURTHER_WRITER_PRAGMAS)


def durability(connection: sqlite3.Connection) -> str:
    """How this connection commits, read from it and not from what it was told."""
    (journal,), (level,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous"))
    return f"journal_mode={journal} synchronous={_LEVELS[level]}"


def connect_reader(folder: Path, connect: Connect = MACHINE.connect) -> sqlite3.Connection:
    """A connection that cannot write, for a database whose writer is open."""
    return _prepared(connect(folder / DATABASE_FILE, "ro"), _READER_PRAGMAS)


def connect_alone(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for a database that no engine has open; nothing is left beside the file."""
    log = path.with_name(f"{path.name}-wal")
    # Without a log the file is the whole truth, also where the folder cannot be written (a backup on a read-only disk).
    how = "mode=ro" if log.is_file() and log.stat().st_size else "immutable=1"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None)
    return _prepared(connection, _READER_PRAGMAS)


def _prepared(connection: sqlite3.Connection, pragmas: tuple[str, ...]) -> sqlite3.Connection:
    try:
        for pragma in pragmas:
            connection.execute(pragma).fetchall()
    except BaseException:  # whatever ends it: no connection stays open that nobody has
        connection.close()
        raise
    return connection
