"""What dies when: a list of kills that follows from a seed alone.

Replaying a seed gives the same list, the same traffic and the same partners; not the same interleaving, since processes
and sockets are not deterministic. So a failure is looked for by its seed, and found again more or less often.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from . import points, shim
from .counters import WRITER

#: A kill at a named point has so many seconds to come about, and more where a person must do something for it; then
#: the engine dies where it is.
REACH, ERRAND_REACH = 2.5, 6.0
#: The process that writes has so many to be there.
WRITER_REACH = 10.0
#: Of a hundred kills, so many at a random moment under load, and at one during the start.
MOMENTS, STARTS = 25, 5

#: ``writer``: the process that writes dies, the engine goes on for a while; ``both``: it dies, the engine after it.
How = Literal["point", "disk", "moment", "start", "stop", "empty", "apart", "writer", "both"]


@dataclass(frozen=True, slots=True)
class Kill:
    """One death."""

    number: int
    how: How
    #: The named point; empty for a random moment.
    point: str = ""
    #: Which passing of the point.
    nth: int = 1
    #: Seconds of load before a random moment, or before the signal to stop.
    seconds: float = 0.0
    #: Partners that are not there meanwhile.
    down: tuple[str, ...] = ()

    @property
    def errand(self) -> str:
        """What a person must do so that the point is passed; empty where traffic does."""
        return next((errand for start, errand in points.ERRANDS.items() if self.point.startswith(start)), "")

    @property
    def apart(self) -> bool:
        """Whether a process of its own writes."""
        return self.how in ("apart", "writer", "both") or (self.how in ("moment", "start") and self.number % 2 == 1)

    @property
    def reach(self) -> float:
        """Seconds in which the point must be passed."""
        if self.how == "writer":
            return WRITER_REACH
        return ERRAND_REACH if self.errand else REACH

    def __str__(self) -> str:
        what = f"{self.point} (passing {self.nth})" if self.point else f"after {self.seconds:.3f} s"
        return f"kill {self.number}: {self.how} {what}"


def how_of(point: str) -> How:
    """How a point is reached."""
    if point.startswith(WRITER):
        return "writer"
    if point in shim.POINTS:
        return "disk"
    if point.startswith(points.APART):
        return "apart"
    if point.startswith(points.EMPTY):
        return "empty"
    return "stop" if point.startswith(points.STOPPING) else "point"


def known(disk: bool) -> tuple[str, ...]:
    """Every named point; those inside of a write or an fsync, and those of a clock that is set back, need the shim."""
    if disk:
        return (*points.POINTS, *shim.POINTS)
    return tuple(point for point in points.POINTS if not point.startswith(points.CLOCK))


def kills(seed: int, count: int, disk: bool) -> Iterator[Kill]:
    """``count`` kills. Every named point comes once before one comes twice, and one of each errand comes first."""
    chosen = random.Random(f"kills {seed}")
    waiting = _first(known(disk), chosen)
    for number in range(1, count + 1):
        down = {name for name, chance in (("dead", 0.75), ("mover", 0.4), ("ris", 0.15)) if chosen.random() < chance}
        dice = chosen.randrange(100)
        if dice < MOMENTS:
            how: How = "both" if dice % 3 == 0 else "moment"
            yield Kill(number, how, seconds=chosen.uniform(0.0, 0.6), down=tuple(sorted(down)))
            continue
        if dice < MOMENTS + STARTS:
            yield Kill(number, "start", seconds=chosen.uniform(0.0, 0.3), down=tuple(sorted(down)))
            continue
        if not waiting:
            waiting = _shuffled(known(disk), chosen)
        point = waiting.pop()
        how = how_of(point)
        nth = 1 if how in ("stop", "empty") or point.startswith(points.FIRST) else chosen.choice(_passings(point))
        if point.startswith("commit.Readdress"):
            down.add("mover")  # something must wait for what is renamed
        if point.startswith("commit.SweepParts"):
            down.discard("mover")  # large messages must have arrived
        seconds = chosen.uniform(0.05, 0.5) if how == "stop" else 0.0
        yield Kill(number, how, point, nth, seconds, tuple(sorted(down)))


def _passings(point: str) -> Sequence[int]:
    """Which passing may be the last: also one deep inside of a batch, where the process that writes does so."""
    if point.startswith(f"{WRITER}wal.write"):
        return 1, 10, 100, 300, 1000
    return 1, 1, 1, 2, 3, 5


def _shuffled(names: Iterable[str], chosen: random.Random) -> list[str]:
    shuffled = list(names)
    chosen.shuffle(shuffled)
    return shuffled


def _first(names: Sequence[str], chosen: random.Random) -> list[str]:
    """Shuffled, with one point of each errand at the end, where kills are taken from."""
    shuffled = _shuffled(names, chosen)
    errands = dict.fromkeys(points.ERRANDS.values())
    ones = [next((p for p in shuffled if Kill(0, "point", p).errand == errand), "") for errand in errands]
    firsts = _shuffled(filter(None, ones), chosen)
    return [point for point in shuffled if point not in firsts] + firsts
