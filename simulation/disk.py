"""Files as a disk keeps them: what was written, what of it is on the platter, and what a failure leaves.

A write is in the cache until an fsync. When the power goes, each sector that was written since survives, or does not,
or is torn in the middle. An fsync that fails has written some of the sectors and forgets that the others are dirty: a
later fsync says yes without writing them (Linux), and the cache keeps their bytes or goes back to the old ones, as the
file system likes. A file that is new, or removed, is so for good only after a sync of its folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from simulation.world import World

SECTOR = 512
#: What a page cache forgets as one piece.
PAGE = 4096


class DiskError(Exception):
    """What the system answers; ``code`` is SQLite's name for it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Trouble:
    """What the disk does wrong at present; probabilities per call."""

    #: Nothing may grow.
    full: bool = False
    write_error: float = 0.0
    read_error: float = 0.0
    sync_error: float = 0.0
    #: Seconds of an fsync, at the least and on average above it.
    sync_seconds: float = 0.0002
    sync_spread: float = 0.0003


class File:
    """One file."""

    def __init__(self, content: bytes = b"") -> None:
        self.cached = bytearray(content)
        self.durable = bytearray(content)
        #: Offset and length of what was written since the last sync, oldest first.
        self.dirty: list[tuple[int, int]] = []
        #: Its name is on disk.
        self.named = bool(content)

    def write(self, data: bytes, offset: int) -> None:
        cached = self.cached
        if len(cached) < offset:
            cached.extend(bytes(offset - len(cached)))
        cached[offset : offset + len(data)] = data
        self.dirty.append((offset, len(data)))

    def sync(self) -> None:
        """Everything reaches the platter."""
        cached, durable = self.cached, self.durable
        del durable[len(cached) :]
        if len(durable) < len(cached):
            durable.extend(bytes(len(cached) - len(durable)))
        for offset, length in self.dirty:
            durable[offset : offset + length] = cached[offset : offset + length]
        self.dirty.clear()

    def half_sync(self, random: Random, *, forgets: bool) -> None:
        """A sync fails: some sectors reach the platter, and all of them count as written from now on."""
        share = random.choice((0.0, 0.5, 1.0))
        sectors = self._sectors()
        for sector in sectors:
            if random.random() < share:
                self._persist(sector)
        if forgets:
            for page in {sector * SECTOR // PAGE: None for sector in sectors}:
                start, end = page * PAGE, min((page + 1) * PAGE, len(self.cached))
                old = self.durable[start:end]
                self.cached[start:end] = old + bytes(end - start - len(old))
        self.dirty.clear()

    def lose_power(self, random: Random) -> None:
        """Only the platter is left, with what happened to get there."""
        share = random.choice((0.0, 0.3, 0.7, 1.0, 1.0))
        in_order = random.random() < 0.3
        grown, size = len(self.cached), len(self.durable)
        for sector in self._sectors():
            if random.random() < share:
                torn = random.random() < 0.15
                self._persist(sector, random.randrange(1, SECTOR) if torn else SECTOR)
            elif in_order:
                break
        if grown < size and random.random() < 0.5:  # a truncation that was on its way
            del self.durable[grown:]
        self.cached = bytearray(self.durable)
        self.dirty.clear()

    def _sectors(self) -> list[int]:
        """The sectors written since the last sync, each once, in the order in which they were first written."""
        return list(
            {
                sector: None
                for offset, length in self.dirty
                for sector in range(offset // SECTOR, (offset + length - 1) // SECTOR + 1)
            }
        )

    def _persist(self, sector: int, tear: int = SECTOR) -> None:
        """One sector reaches the platter, or its first ``tear`` bytes do."""
        start = sector * SECTOR
        piece = self.cached[start : start + tear]
        if not piece:
            return
        if len(self.durable) < start + len(piece):
            self.durable.extend(bytes(start + len(piece) - len(self.durable)))
        self.durable[start : start + len(piece)] = piece


class Disk:
    """The files of the data folder."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random("disk")
        self.files: dict[str, File] = {}
        #: Removed, and perhaps back after a power loss.
        self.removed: dict[str, File] = {}
        self.trouble = Trouble()
        #: Changes whenever the process that has files open dies: its handles are worth nothing then.
        self.generation = 0
        #: Processes beside the engine that live; which of them is at work, and is told of what it asks the disk for.
        self._others: set[int] = set()
        self._begun = 0
        self.at_work: int | None = None
        self.counted: Callable[[], None] | None = None
        #: What a sync does when it is told to lie.
        self.lying = False
        self.forgetful = self.random.random() < 0.5
        self.operations = 0
        #: Called before the operation with this number, once.
        self.strike_at: int | None = None
        self.strike: Callable[[], None] = lambda: None
        self.syncs = 0
        #: Called when an fsync has failed.
        self.failed: Callable[[], None] = lambda: None

    # -- what a process may do -------------------------------------------------------------------------------------

    def open(self, name: str) -> File:
        if name not in self.files:
            self.files[name] = File()
        return self.files[name]

    @property
    def opener(self) -> int:
        """Whose the files are that are opened now."""
        return self.generation if self.at_work is None else self.at_work

    def read(self, generation: int, file: File, amount: int, offset: int) -> bytes:
        if not self._lives(generation) or self._happens("read error", self.trouble.read_error):
            raise DiskError("SQLITE_IOERR_READ")
        return bytes(file.cached[offset : offset + amount])

    def write(self, generation: int, file: File, data: bytes, offset: int) -> None:
        self._count()
        if not self._lives(generation):
            raise DiskError("SQLITE_IOERR_WRITE")
        if self.trouble.full and offset + len(data) > len(file.cached):
            room = len(file.cached) - offset
            if room > 0:
                file.write(data[:room], offset)
            self.world.counts["disk full"] += 1
            raise DiskError("SQLITE_FULL")
        if self._happens("write error", self.trouble.write_error):
            part = self.random.randrange(len(data))
            if part:
                file.write(data[:part], offset)
            raise DiskError("SQLITE_IOERR_WRITE")
        file.write(data, offset)

    def truncate(self, generation: int, file: File, size: int) -> None:
        self._count()
        if not self._lives(generation):
            raise DiskError("SQLITE_IOERR_TRUNCATE")
        del file.cached[size:]
        file.dirty = [(offset, min(length, size - offset)) for offset, length in file.dirty if offset < size]

    def sync(self, generation: int, file: File) -> None:
        self._count()
        if not self._lives(generation):
            raise DiskError("SQLITE_IOERR_FSYNC")
        self.syncs += 1
        trouble = self.trouble
        self.world.now += trouble.sync_seconds + self.random.random() * trouble.sync_spread
        if self._happens("fsync error", trouble.sync_error):
            self.world.note("sync failed", len(file.dirty))
            file.half_sync(self.random, forgets=self.forgetful)
            self.failed()
            raise DiskError("SQLITE_IOERR_FSYNC")
        if self.lying:
            return
        file.sync()
        # SQLite syncs the folder with the first sync of a log: every name in it is on disk then.
        self.removed.clear()
        for other in self.files.values():
            other.named = True

    def delete(self, name: str, *, sync: bool) -> None:
        self._count()
        file = self.files.pop(name, None)
        if file is not None and file.named and not sync:
            self.removed[name] = file

    def write_anew(self, name: str) -> None:
        file = self.files.get(name)
        if file is None or not file.cached:
            return
        self.write(self.generation, file, bytes(file.cached), 0)
        self.sync(self.generation, file)

    # -- what happens to it ----------------------------------------------------------------------------------------

    def begin_process(self) -> int:
        """A process beside the engine; its number."""
        self._begun += 1
        self._others.add(-self._begun)
        return -self._begun

    def end_process(self, number: int) -> None:
        """It is gone: what it has open is worth nothing."""
        self._others.discard(number)

    def process_died(self) -> None:
        """Nothing is lost: what was written is in the system's hands."""
        self.generation += 1
        self.strike_at = None

    def lose_power(self) -> None:
        """Only what is on the platter is left."""
        self.process_died()
        for name, file in list(self.files.items()):
            file.lose_power(self.random)
            if not file.named and self.random.random() < 0.5:
                del self.files[name]
        for name, file in self.removed.items():
            if name not in self.files and self.random.random() < 0.5:
                file.lose_power(self.random)
                self.files[name] = file
        self.removed.clear()

    def _lives(self, process: int) -> bool:
        return process == self.generation or process in self._others

    def _count(self) -> None:
        self.operations += 1
        if self.counted is not None:
            self.counted()
        if self.strike_at is not None and self.operations >= self.strike_at:
            self.strike_at = None
            self.strike()

    def _happens(self, what: str, probability: float) -> bool:
        if probability <= 0.0 or self.random.random() >= probability:
            return False
        self.world.counts[what] += 1
        return True
