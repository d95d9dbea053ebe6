"""A real SQLite on the simulated disk: a file system for it, and a connection that looks like the standard library's.

The database's locks and its shared memory lie in a real folder (empty files); every byte of content is the disk's.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw

from simulation.disk import Disk, DiskError, File
from simulation.workload import Writing
from simulation.world import World
from simulation.writing import WritingChild

_WAL = ".db-wal"
_POWERSAFE_OVERWRITE = 0x1000


def _failure(error: DiskError) -> apsw.Error:
    code = getattr(apsw, error.code)
    failure = apsw.FullError(error.code) if error.code == "SQLITE_FULL" else apsw.IOError(error.code)
    failure.result, failure.extendedresult = code & 0xFF, code
    return failure


class _Content:
    """The methods of a file that are about its bytes."""

    disk: Disk
    file: File
    generation: int

    def xRead(self, amount: int, offset: int) -> bytes:
        try:
            return self.disk.read(self.generation, self.file, amount, offset)
        except DiskError as error:
            raise _failure(error) from None

    def xWrite(self, data: bytes, offset: int) -> None:
        try:
            self.disk.write(self.generation, self.file, bytes(data), offset)
        except DiskError as error:
            raise _failure(error) from None

    def xTruncate(self, size: int) -> None:
        try:
            self.disk.truncate(self.generation, self.file, size)
        except DiskError as error:
            raise _failure(error) from None

    def xSync(self, flags: int) -> None:
        try:
            self.disk.sync(self.generation, self.file)
        except DiskError as error:
            raise _failure(error) from None

    def xFileSize(self) -> int:
        return len(self.file.cached)


class _Database(_Content, apsw.VFSFile):
    """The database: locks and shared memory are the real file's."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        apsw.VFSFile.__init__(self, "unix", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.disk, self.file, self.generation = disk, disk.open(Path(path).name), disk.opener


class _Other(_Content):
    """A log or a journal."""

    def __init__(self, disk: Disk, name: str) -> None:
        self.disk, self.file, self.generation = disk, disk.open(name), disk.opener

    def xClose(self) -> None:
        """Nothing to release."""

    def xLock(self, level: int) -> None:
        """Nobody else is there."""

    def xUnlock(self, level: int) -> None:
        """Nobody else is there."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, operation: int, pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return 4096

    def xDeviceCharacteristics(self) -> int:
        return _POWERSAFE_OVERWRITE


class FileSystem(apsw.VFS):
    """The disk as SQLite sees it."""

    def __init__(self, name: str, disk: Disk) -> None:
        super().__init__(name, "unix")
        self.disk = disk

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            return _Database(self.disk, name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return _Other(self.disk, Path(path).name)

    def xDelete(self, name: str, sync: bool) -> None:
        self.disk.delete(Path(name).name, sync=sync)

    def xAccess(self, name: str, flags: int) -> bool:
        file = self.disk.files.get(Path(name).name)
        return file is not None and (bool(file.cached) or flags != apsw.mapping_access["SQLITE_ACCESS_EXISTS"])

    def xRandomness(self, number: int) -> bytes:
        return self.disk.random.randbytes(number)


# -- the standard library's face -----------------------------------------------------------------------------------

_KINDS: dict[int, type[sqlite3.Error]] = {
    apsw.SQLITE_CONSTRAINT: sqlite3.IntegrityError,
    apsw.SQLITE_CORRUPT: sqlite3.DatabaseError,
    apsw.SQLITE_NOTADB: sqlite3.DatabaseError,
    apsw.SQLITE_MISUSE: sqlite3.ProgrammingError,
}


def _translated(error: apsw.Error) -> sqlite3.Error:
    extended = int(getattr(error, "extendedresult", 0)) or apsw.SQLITE_ERROR
    translated = _KINDS.get(extended & 0xFF, sqlite3.OperationalError)(str(error))
    names = apsw.mapping_extended_result_codes
    translated.sqlite_errorcode = extended
    translated.sqlite_errorname = str(names.get(extended) or apsw.mapping_result_codes[extended & 0xFF])
    return translated


class Cursor:
    """As much of ``sqlite3.Cursor`` as the store uses."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self._cursor = connection, connection.real.cursor()
        self._many: int | None = None

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Cursor:
        self._many = None
        try:
            self._cursor.execute(statement, parameters)
        except apsw.Error as error:
            raise _translated(error) from None
        return self

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> Cursor:
        changed = 0
        for row in rows:
            changed += self.execute(statement, row).rowcount
        self._many = changed
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        try:
            return self._cursor.fetchone()
        except apsw.Error as error:
            raise _translated(error) from None

    def fetchall(self) -> list[tuple[Any, ...]]:
        try:
            return self._cursor.fetchall()
        except apsw.Error as error:
            raise _translated(error) from None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.fetchall())

    @property
    def rowcount(self) -> int:
        return self.connection.real.changes() if self._many is None else self._many

    @property
    def lastrowid(self) -> int:
        return self.connection.real.last_insert_rowid()


class Connection:
    """As much of ``sqlite3.Connection`` as the store uses."""

    def __init__(self, path: Path, mode: str, file_system: str) -> None:
        access = apsw.SQLITE_OPEN_READWRITE if mode == "rw" else apsw.SQLITE_OPEN_READONLY
        try:
            self.real = apsw.Connection(str(path), flags=access, vfs=file_system, statementcachesize=256)
        except apsw.Error as error:
            raise _translated(error) from None

    def cursor(self) -> Cursor:
        return Cursor(self)

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Cursor:
        return Cursor(self).execute(statement, parameters)

    executescript = execute

    def create_function(self, name: str, arguments: int, function: Callable[..., Any], **_: Any) -> None:
        self.real.create_scalar_function(name, function, arguments)

    @property
    def total_changes(self) -> int:
        return self.real.total_changes()

    @property
    def in_transaction(self) -> bool:
        return self.real.in_transaction

    def close(self) -> None:
        # A checkpoint that fails while SQLite closes is nobody's business: the log stays.
        with suppress(apsw.Error):
            self.real.close(True)


class _Lock:
    descriptor = 0

    def release(self) -> None:
        """There is one process at a time."""


class SimulatedMachine:
    """What the store stands on: see ``engine.store.machine.Machine``."""

    def __init__(self, world: World, disk: Disk, folder: Path, file_system: str) -> None:
        self.world, self.disk, self.folder, self.file_system = world, disk, folder, file_system
        self.connections: list[Connection] = []
        #: How the process that writes behaves, where there is one.
        self.writing = Writing()
        self._child: WritingChild | None = None

    def lock(self, folder: Path) -> _Lock:
        return _Lock()

    def write_anew(self, path: Path) -> None:
        try:
            self.disk.write_anew(path.name)
        except DiskError as error:
            raise OSError(5, error.code) from None

    def connect(self, path: Path, mode: str) -> Connection:
        connection = self._connected(path, mode)
        self.connections.append(connection)
        return connection

    def _connected(self, path: Path, mode: str) -> Connection:
        if mode == "rw":
            self.disk.open(path.name)
        return Connection(path, mode, self.file_system)

    async def start(self, module: str, end: asyncio.Protocol, held: Sequence[int]) -> WritingChild:
        if self.world.random(f"start {self.world.now}").random() < self.writing.not_started:
            raise BlockingIOError(11, "no process")
        child = self._child = WritingChild(self.world, self.disk, self.writing, self._connected, end)
        end.connection_made(child)  # type: ignore[arg-type]  # as much of a transport as is used
        return child

    @property
    def is_held(self) -> bool:
        """A process that wrote for an engine is still there: the next engine waits for it."""
        return self._child is not None and self._child.ended() is None

    def calm(self) -> None:
        """The process that writes stops in the middle of nothing any more. One that has stops the world for minutes,
        until it is killed; how often it dies is left as it is.
        """
        self.writing = replace(self.writing, hangs=0.0)
        if self._child is not None:
            self._child.work = self.writing

    def engine_died(self, *, power: bool) -> None:
        """So has, or will, the process that wrote for it."""
        if self._child is not None:
            self._child.engine_died(power=power)

    def committer(self) -> SimulatedCommitter:
        return SimulatedCommitter(self.world)

    def leave(self) -> None:
        """The world has ended: nothing stays open."""
        self.die()
        if self._child is not None:
            self._child.close()

    def die(self) -> None:
        """The process is gone: let go of the real files, whatever SQLite thinks of it."""
        for connection in self.connections:
            connection.close()
        self.connections.clear()


class SimulatedCommitter:
    """A thread that commits: it begins a little later, takes as long as the disk, and is heard a little later."""

    def __init__(self, world: World) -> None:
        self._world, self._random = world, world.random(f"committer {world.now}")
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._idle.set()

    def seconds(self) -> float:
        return self._world.now

    def run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._idle.clear()
        self._loop.call_later(self._random.expovariate(1 / 0.0005), self._work, work, done)

    def _work(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        result = work()
        self._loop.call_later(self._random.expovariate(1 / 0.0002), self._heard, result, done)

    def _heard(self, result: Any, done: Callable[[Any], None]) -> None:
        self._idle.set()
        done(result)

    async def close(self) -> None:
        await self._idle.wait()
