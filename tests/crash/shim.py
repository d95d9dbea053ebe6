"""The other side of ``shim.c``: compiles it and says, while the engine runs, what its disk answers.

One shared page: a test writes a fault into it, and the next write or fsync of the engine meets it. Needs ``cc``.
"""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

from .counters import WRITER

SOURCE = Path(__file__).with_name("shim.c")
SIZE = 4096
PREFIX = 256
KINDS = ("wal", "database", "other")
OPERATIONS = ("write", "fsync")
MOMENTS = ("before", "after", "halfway")

_SPACE = _CLOCK = struct.Struct("<q")
_NUMBER = struct.Struct("<i")
#: Offsets of ``struct control``.
_FIELDS = {
    name: PREFIX + _SPACE.size + _CLOCK.size + 4 * place
    for place, name in enumerate(
        (
            "write_errno",
            "fsync_errno",
            "fsync_milliseconds",
            "kill_kind",
            "kill_operation",
            "kill_moment",
            "kill_countdown",
            "kill_apart",
            "failed",
            "passed",
        )
    )
}


def is_possible() -> bool:
    """Whether there is a compiler."""
    return shutil.which("cc") is not None


class Disk:
    """The disk of one engine, as the tests want it."""

    def __init__(self, folder: Path) -> None:
        self.library, self.page = folder / "disk.so", folder / "disk.page"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", self.library, SOURCE, "-ldl"], check=True)
        self.page.write_bytes(bytes(SIZE))
        with self.page.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)
        self.space = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process is started with so that this is its disk. An engine hands it on to the process that writes, as
        whatever begins as its loader's variables do.
        """
        return {"LD_PRELOAD": str(self.library), "LD_TEST_DISK": str(self.page)}

    def watch(self, folder: Path) -> None:
        """Only files below ``folder`` are concerned."""
        self._map[:PREFIX] = str(folder).encode().ljust(PREFIX, b"\0")

    @property
    def space(self) -> int | None:
        """Bytes by which files may still grow; None is no limit."""
        (left,) = _SPACE.unpack_from(self._map, PREFIX)
        return None if left < 0 else left

    @space.setter
    def space(self, left: int | None) -> None:
        _SPACE.pack_into(self._map, PREFIX, -1 if left is None else left)

    def fail(self, *, write: int = 0, fsync: int = 0) -> None:
        """Answer with these error numbers from now on; 0 answers as the disk does."""
        self._set("write_errno", write)
        self._set("fsync_errno", fsync)

    def slow(self, milliseconds: int) -> None:
        """Let every fsync take so long."""
        self._set("fsync_milliseconds", milliseconds)

    def set_clock(self, seconds: int) -> None:
        """Let the wall clock be so many seconds ahead, or behind when negative."""
        _CLOCK.pack_into(self._map, PREFIX + _SPACE.size, seconds)

    @property
    def failed(self) -> int:
        """Operations that were answered with a fault."""
        return self._get("failed")

    def kill_at(self, point: str, nth: int) -> None:
        """Kill the engine at the ``nth`` passing of ``wal.write.before``, ``database.fsync.after``, …; or, at that of
        ``writer.wal.write.before``, …, the process that writes for it.
        """
        apart, kind, operation, moment = _parts(point)
        self._set("kill_apart", apart)
        self._set("kill_kind", kind)
        self._set("kill_operation", operation)
        self._set("kill_moment", moment)
        self._set("kill_countdown", nth)

    def live(self) -> None:
        """Kill nobody."""
        self._set("kill_countdown", 0)

    def passed(self, point: str) -> int:
        """How often a point was passed."""
        apart, kind, operation, moment = _parts(point)
        place = ((apart * len(KINDS) + kind) * len(OPERATIONS) + operation) * len(MOMENTS) + moment
        return _NUMBER.unpack_from(self._map, _FIELDS["passed"] + 4 * place)[0]

    def _set(self, name: str, number: int) -> None:
        _NUMBER.pack_into(self._map, _FIELDS[name], number)

    def _get(self, name: str) -> int:
        return int(_NUMBER.unpack_from(self._map, _FIELDS[name])[0])


def _parts(point: str) -> tuple[int, int, int, int]:
    kind, operation, moment = point.removeprefix(WRITER).split(".")
    return int(point.startswith(WRITER)), KINDS.index(kind), OPERATIONS.index(operation), MOMENTS.index(moment)


#: Steps inside of one commit or checkpoint, of the engine and of the process that writes for it.
POINTS = tuple(
    f"{process}{kind}.{operation}.{moment}"
    for process in ("", WRITER)
    for kind in ("wal", "database")
    for operation, moments in (("write", MOMENTS), ("fsync", MOMENTS[:2]))
    for moment in moments
)
