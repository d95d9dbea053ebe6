"""What a row finds: figures of several runs, what they are to reach, and what stands beside them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Aim:
    """What a figure is to reach: at least or at most so much."""

    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        """Whether ``value`` reaches it."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f"≥ {self.at_least:,g}" if self.at_least is not None else f"≤ {self.at_most:,g}"


def at_least(value: float) -> Aim:
    """An aim from below."""
    return Aim(at_least=value)


def at_most(value: float) -> Aim:
    """An aim from above."""
    return Aim(at_most=value)


@dataclass(frozen=True)
class Line:
    """One figure of a row: its samples, run by run, and a reference's of the same rounds."""

    figure: str
    unit: str
    samples: Sequence[float]
    aim: Aim | None = None
    #: What the reference is, and what it reached in the same rounds.
    against: str = ""
    reference: Sequence[float] = ()
    #: What the ratio of figure and reference, round by round, is to reach.
    ratio_aim: Aim | None = None

    @property
    def ratios(self) -> list[float]:
        """Round by round; without a reference none."""
        if len(self.reference) != len(self.samples):  # a reference of other rounds has a median only
            return [statistics.median(self.samples) / statistics.median(self.reference)] if self.reference else []
        return [ours / theirs for ours, theirs in zip(self.samples, self.reference, strict=True) if theirs]

    def as_json(self) -> dict[str, Any]:
        """For the file."""
        found: dict[str, Any] = {"figure": self.figure, "unit": self.unit, **spread(self.samples)}
        found |= judged(self.aim, self.samples)
        if self.reference:
            found["against"] = {"what": self.against, **spread(self.reference)}
            found["ratio"] = {**spread(self.ratios), **judged(self.ratio_aim, self.ratios)}
        return found


@dataclass
class Finding:
    """What one row found."""

    lines: list[Line] = field(default_factory=list)
    #: Durability, fsyncs, processor by process, backlog: what explains the figures.
    facts: dict[str, Any] = field(default_factory=dict)
    #: Each run as it was, in the order in which they ran.
    runs: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the file."""
        return {"lines": [line.as_json() for line in self.lines], "facts": self.facts, "runs": self.runs}


def judged(aim: Aim | None, samples: Sequence[float]) -> dict[str, Any]:
    """An aim, and whether the median of the samples meets it."""
    return {} if aim is None else {"aim": str(aim), "met": aim.met(statistics.median(samples))}


def spread(samples: Sequence[float]) -> dict[str, Any]:
    """Median, least and most, and all of them."""
    return {
        "median": rounded(statistics.median(samples)),
        "low": rounded(min(samples)),
        "high": rounded(max(samples)),
        "samples": [rounded(sample) for sample in samples],
    }


def rounded(value: float) -> float:
    """Four digits say more than any run knows."""
    return float(f"{value:.4g}")


def number(value: float) -> str:
    """As people write it: 12,300 · 45.1 · 4.52 · 0.52."""
    shown = rounded(value)
    if shown >= 1000 or shown == int(shown):
        return f"{shown:,.0f}"
    return f"{shown:.1f}" if shown >= 10 else f"{shown:.2f}" if shown >= 1 else f"{shown:.2g}"


def medians(runs: Sequence[Mapping[str, Any]], *names: str) -> dict[str, Any]:
    """The median of numbers that all runs have; of a mapping or a list of numbers, one by one."""
    found: dict[str, Any] = {}
    for name in names:
        values = [run[name] for run in runs]
        if isinstance(values[0], Mapping):
            found[name] = {inner: rounded(statistics.median(one[inner] for one in values)) for inner in values[0]}
        elif isinstance(values[0], str):
            found[name] = " · ".join(sorted(set(values)))
        elif isinstance(values[0], list):
            found[name] = [rounded(statistics.median(each)) for each in zip(*values, strict=True)]
        else:
            found[name] = rounded(statistics.median(values))
    return found
