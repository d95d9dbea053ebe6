"""What the store needs of the machine under it: a folder of its own, connections to a database, a hand that commits.

``Machine`` is the real one. A simulation puts another in its place, whose disk forgets, fails and tears at a word.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, perf_counter, sleep
from typing import Any, Protocol

from engine.errors import DataFolderInUse

LOCK_FILE = "engine.lock"

_BUSY_SECONDS = 2.0
#: Seconds that the process of an engine that was killed is waited for: its last commit.
_LEFT_SECONDS = 10.0
_PIECE = 1 << 20
#: Variables of the environment that a process of the engine needs: where its interpreter finds what it runs, how its
#: libraries behave, where temporary files lie. Whatever else stands there may be a secret of the site.
_NEEDED = re.compile("(PYTHON|LD_|DYLD_|MALLOC_|OPENSSL_|LC_).*|GLIBC_TUNABLES|HOME|LANG|PATH|(SQLITE_)?TMPDIR|TZ")


class FolderLock:
    """The data folder belongs to this process while this is held; the kernel lets go of it when the process ends."""

    def __init__(self, folder: Path) -> None:
        """Take it. Raises DataFolderInUse with the holder's pid."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        #: Whoever has it open holds the folder too: the process that writes for an engine ends after the engine.
        self.descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            holder = self._take()
        except BaseException:  # whatever ends it: no descriptor stays open that nobody has
            os.close(self.descriptor)
            raise
        if holder is not None:
            os.close(self.descriptor)
            raise DataFolderInUse(
                f"the data folder {folder} is in use by another engine (process {holder or 'unknown'})"
            )
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    def _take(self) -> str | None:
        """Take it, or give its holder. What is left of an engine that is gone is waited for: it is ending."""
        until = monotonic() + _LEFT_SECONDS
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(self.descriptor, 32, 0).decode("ascii", "replace").strip()
                if monotonic() > until or (holder.isdecimal() and _runs(int(holder))):
                    return holder
                sleep(_LEFT_SECONDS / 1000)
            else:
                return None

    def release(self) -> None:
        """Let go. The file stays: removing it would race with the next holder."""
        os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class Committer(Protocol):
    """Does one piece of work at a time beside the event loop."""

    def seconds(self) -> float:
        """A clock that only runs forward, to measure how long a commit takes."""
        ...

    def run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Do ``work`` beside the loop, then call ``done`` in the loop with what it gave. It may not raise."""
        ...

    async def close(self) -> None:
        """After the work under way. Nothing may be run any more."""
        ...


class CommitThread:
    """A thread of its own: an fsync does not hold up the loop."""

    def __init__(self) -> None:
        self.seconds = perf_counter
        self._loop = asyncio.get_running_loop()
        self._work: SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="store-commit", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """See ``Committer``."""
        self._work.put((work, done))

    async def close(self) -> None:
        """See ``Committer``."""
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        while (given := self._work.get()) is not None:
            work, done = given
            result = work()
            try:
                self._loop.call_soon_threadsafe(done, result)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more
            del given, work, done, result  # what was written, a large message too, is not kept until the next commit


class Child(Protocol):
    """A process that was started."""

    pid: int

    def ended(self) -> int | None:
        """Its exit status once nothing of it goes on; None before."""
        ...

    def kill(self) -> None:
        """End it, whatever it does."""
        ...


class ChildProcess:
    """A process of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid, self.ended, self.kill = process.pid, process.poll, process.kill


class Machine:
    """The machine the engine runs on."""

    def lock(self, folder: Path) -> FolderLock:
        """Take the data folder. Raises DataFolderInUse, OSError."""
        return FolderLock(folder)

    def write_anew(self, path: Path) -> None:
        """Write a file's bytes over themselves, and sync it; a file that is not there is left alone. Raises OSError.

        After an fsync that failed, Linux takes the pages for clean: this process could read what never reached the
        disk, build on it, and lose all of it with the power. Whatever is read here is on the disk afterwards.
        """
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            at = 0
            while piece := os.pread(file, _PIECE, at):
                written = 0
                while written < len(piece):
                    written += os.pwrite(file, piece[written:], at + written)
                at += len(piece)
            if at:
                os.fsync(file)
        finally:
            os.close(file)

    def connect(self, path: Path, mode: str) -> sqlite3.Connection:
        """Open a database: ``rw`` makes the file if need be (mode 0600), ``ro`` cannot write. Raises sqlite3.Error."""
        if mode == "rw":
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its -wal and -shm the same mode
            path.chmod(0o600)
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            timeout=_BUSY_SECONDS,
        )

    def committer(self) -> Committer:
        """What commits beside the running loop."""
        return CommitThread()

    async def start(self, module: str, end: asyncio.Protocol, held: Sequence[int]) -> Child:
        """Start a process that runs a module of the engine, given the descriptor of a socket; ``end`` is the running
        loop's end of it. Descriptors that are ``held`` are open as long as the process lives. It may have itself ended
        with the thread that calls this: the loop's. Raises OSError.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = subprocess.Popen(  # noqa: ASYNC220, S603 - forks and goes on; nothing of it comes from outside
                    [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *held),
                    env={name: value for name, value in os.environ.items() if _NEEDED.fullmatch(name)},
                    process_group=0,
                )
            ours.setblocking(False)
            await asyncio.get_running_loop().create_unix_connection(lambda: end, sock=ours)
        except BaseException:  # whatever ends it: a process that was started ends when its socket is closed
            ours.close()
            raise
        return ChildProcess(process)


MACHINE = Machine()
