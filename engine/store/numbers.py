"""What the store counts of its own work, for whoever asks how the engine is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.spread import Spread


@dataclass(slots=True)
class Numbers:
    """Since the store was opened."""

    #: Units that were committed, with those that the store makes of its own accord.
    units: int = 0
    #: Seconds of each COMMIT, which is the fsync and what goes with it.
    took: Spread = field(default_factory=Spread)
    #: Pages of the log that were moved into the database.
    pages_moved: int = 0
    #: Processes that write which died.
    deaths: int = 0

    @property
    def commits(self) -> int:
        """How many there were."""
        return self.took.number


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is unfinished, or waits for a person."""

    #: As ``Store.open_counts``.
    counts: Mapping[tuple[str, str, str], int]
    #: (channel, destination or "" for messages that are not routed) → since when the oldest waits that is to go on by
    #: itself, or that keeps others waiting; seconds since the epoch.
    oldest: Mapping[tuple[str, str], float]
