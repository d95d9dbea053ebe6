"""What must be true of when things leave: no faster than a destination allows, and not at all while it is paused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise

from simulation.ledger import Departed, Ledger, Silence
from simulation.process import Shown
from simulation.workload import To, Workload

_LITTLE = 1e-6
#: Seconds between the look at the clock and the send of one turn of the event loop.
_TURN = 1e-3


def paces(work: Workload, ledger: Ledger, shown: Shown) -> Iterator[str]:
    """Everything that left too early."""
    for to in work.outlets:
        departed = ledger.departed[to.port]
        for _, group in groupby(departed, key=lambda item: (item.life, item.start)):
            together = list(group)
            if to.rate is not None:
                yield from _rate(to, together, to.rate)
            if to.delay and to.connections == 1:
                yield from _delay(to, together)
        for silence in ledger.silences:
            if silence.port == to.port:
                yield from _silent(to, silence, departed)


def _rate(to: To, departed: list[Departed], rate: float) -> Iterator[str]:
    """In no time more than the rate allows; one may be late by its interval and one turn."""
    begun = sorted(item.begun for item in departed)
    for first, since in enumerate(begun):
        for number, until in enumerate(begun[first + 1 :], 2):
            if number > rate * (until - since + _TURN) + 2 + _LITTLE:
                yield f"{number} left for {to.name} in {until - since:.3f} s, at {rate:g}/s"
                return


def _delay(to: To, departed: list[Departed]) -> Iterator[str]:
    for one, other in pairwise(departed):
        if other.at - one.at < to.delay - _LITTLE:
            yield f"{other.control_id} left for {to.name} {other.at - one.at:.3f} s after {one.control_id}"


def _silent(to: To, silence: Silence, departed: list[Departed]) -> Iterator[str]:
    """Nothing begins; what was under way at the begin may still leave, and dies with its process."""
    during = [item for item in departed if silence.begin + _LITTLE < item.at < silence.end - _LITTLE]
    if not silence.lasts:
        during = [item for item in during if item.start == silence.start]
    under_way = [item for item in during if item.life == silence.life]
    if len(under_way) > silence.under_way or len(during) > len(under_way):
        yield f"{len(during)} left for {to.name} while it was paused or stopped, {during[-1].control_id} the last"
