"""The files of a data folder: the lock, the database and its connections.

Exactly one connection writes and checkpoints: SQLite before 3.51.3 can corrupt a WAL database when two do so at the
same moment. Every other connection is opened read-only. Durability is ``synchronous=FULL``: a commit is on disk when
it returns. The schema and its versions are ``schema.py``'s.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from engine.errors import DataFolderInUse, StoreError
from engine.store.schema import migrate

DATABASE_FILE = "engine.db"
LOCK_FILE = "engine.lock"

_PAGE_BYTES = 8192
_CREATION_PRAGMAS = (
    f"PRAGMA page_size = {_PAGE_BYTES}",
    "PRAGMA auto_vacuum = INCREMENTAL",  # cannot be changed later without rewriting the file
    "PRAGMA journal_mode = WAL",
)
_WRITER_PRAGMAS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # macOS: fsync alone leaves data in the drive's cache
    "PRAGMA wal_autocheckpoint = 1000",
    "PRAGMA cache_size = -65536",  # KiB
    "PRAGMA temp_store = MEMORY",
)
_READER_PRAGMAS = ("PRAGMA query_only = ON", "PRAGMA cache_size = -16384", "PRAGMA temp_store = MEMORY")
_BUSY_MILLISECONDS = 2000


class FolderLock:
    """The data folder belongs to this process while this is held; the kernel lets go of it when the process ends."""

    def __init__(self, folder: Path) -> None:
        """Take it. Raises DataFolderInUse with the holder's pid."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._file = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            if not isinstance(error, BlockingIOError):
                raise
            raise DataFolderInUse(
                f"the data folder {folder} is in use by another engine (process {holder or 'unknown'})"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. The file stays: removing it would race with the next holder."""
        os.ftruncate(self._file, 0)
        os.close(self._file)


def connect_writer(folder: Path) -> sqlite3.Connection:
    """The connection that writes; makes the file (mode 0600) and brings its schema up to date."""
    path = folder / DATABASE_FILE
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its -wal and -shm the same mode
    path.chmod(0o600)
    connection = _connect(path, "rw", (*_CREATION_PRAGMAS, *_WRITER_PRAGMAS))
    try:
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(folder: Path) -> sqlite3.Connection:
    """A connection that cannot write, for a database whose writer is open."""
    return _connect(folder / DATABASE_FILE, "ro", _READER_PRAGMAS)


def _connect(path: Path, mode: str, pragmas: tuple[str, ...]) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        timeout=_BUSY_MILLISECONDS / 1000,
    )
    try:
        for pragma in pragmas:
            connection.execute(pragma).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def check_key(connection: sqlite3.Connection, fingerprint: bytes) -> None:
    """Remember the store key's fingerprint, or raise StoreError when another key wrote this folder.

    With another key nothing would open, and an idempotency key would not be found: a booking would go out twice.
    """
    connection.execute("INSERT OR IGNORE INTO meta (name, value) VALUES ('key_check', ?)", (fingerprint,))
    if connection.execute("SELECT value FROM meta WHERE name = 'key_check'").fetchone() != (fingerprint,):
        raise StoreError("the store key is not the one this data folder was written with")
