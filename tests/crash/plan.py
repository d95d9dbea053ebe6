"""What dies when: a list of kills that follows from a seed alone.

Replaying a seed gives the same list, the same traffic and the same partners; not the same interleaving, since processes
and sockets are not deterministic. So a failure is looked for by its seed, and found again more or less often.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from . import points, shim

#: A kill at a named point has so many seconds to come about; then the engine dies where it is.
REACH = 2.5
#: Of a hundred kills, so many at a random moment under load, and at one during the start.
MOMENTS, STARTS = 25, 5

How = Literal["point", "disk", "moment", "start", "stop", "empty"]


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

    def __str__(self) -> str:
        what = f"{self.point} (passing {self.nth})" if self.point else f"after {self.seconds:.3f} s"
        return f"kill {self.number}: {self.how} {what}"


def how_of(point: str) -> How:
    """How a point is reached."""
    if point in shim.POINTS:
        return "disk"
    if point.startswith(points.EMPTY):
        return "empty"
    return "stop" if point.startswith(points.STOPPING) else "point"


def known(disk: bool) -> tuple[str, ...]:
    """Every named point; those inside of a write need the shim."""
    return (*points.POINTS, *shim.POINTS) if disk else points.POINTS


def kills(seed: int, count: int, disk: bool) -> Iterator[Kill]:
    """``count`` kills. Every named point that this traffic passes comes once before one comes twice."""
    chosen = random.Random(f"kills {seed}")
    waiting: list[str] = []
    for number in range(1, count + 1):
        down = tuple(name for name, chance in (("dead", 0.75), ("ris", 0.15)) if chosen.random() < chance)
        dice = chosen.randrange(100)
        if dice < MOMENTS:
            yield Kill(number, "moment", seconds=chosen.uniform(0.0, 0.6), down=down)
            continue
        if dice < MOMENTS + STARTS:
            yield Kill(number, "start", seconds=chosen.uniform(0.0, 0.3), down=down)
            continue
        if not waiting:
            waiting = [point for point in known(disk) if not point.startswith(points.UNPROVOKED)]
            chosen.shuffle(waiting)
        point = waiting.pop()
        how = how_of(point)
        nth = 1 if how in ("stop", "empty") or point.startswith(points.FIRST) else chosen.choice((1, 1, 1, 2, 3, 5))
        yield Kill(number, how, point, nth, chosen.uniform(0.05, 0.5) if how == "stop" else 0.0, down)
