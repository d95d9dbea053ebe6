"""A partner that is away with 100,000 messages for it, while the others flow; and what happens when it comes back."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.soak.rig import Load, Rig, in_turns, until, watching

#: Of so many senders each is about one patient: as many lanes.
PATIENTS = 100


def run(folder: Path, queued: int, turns: int, seconds: float) -> dict[str, Any]:
    """Fill the lanes of ``other``, then measure ``live`` with and without them: connection refused, then silent."""
    filled = Rig(folder / "filled")
    try:
        result: dict[str, Any] = {"queued": queued, "filling": fill(filled, queued)}
        for word in ("refused", "silent"):
            result[word] = away(filled, folder / word, turns, seconds, silent=word == "silent")
        return result
    finally:
        filled.end()


def fill(rig: Rig, queued: int) -> dict[str, Any]:
    """Send them all while nobody listens; the memory that it took."""
    rig.start()
    with watching(rig) as samples:
        load = Load(rig, "adt", connections=PATIENTS, messages=queued, patients="connection", timeout_ms=60_000)
        done = load.result()
        until(lambda: rig.destination("other")["queued"] >= queued, 0.5)
    if done["codes"] != {"CA": queued}:
        raise RuntimeError(f"not everything was acknowledged: {done}")
    return {
        "per_s": done["per_s"],
        "memory_before": samples[0][1],
        "memory_at_half": samples[len(samples) // 2][1],
        "memory_after": samples[-1][1],
        "memory_peak": max(mib for _, mib in samples),
        "stop_seconds": rig.stop(),
    }


def away(filled: Rig, folder: Path, turns: int, seconds: float, *, silent: bool) -> dict[str, Any]:
    """``live`` in turns with an engine whose ``other`` is there and has nothing to do; then ``other`` comes back."""
    rigs = {"with": filled.copy(folder), "without": Rig(folder.with_name(f"{folder.name}-without"))}
    ours = rigs["with"]
    mute = ours.sink("other", silent=True) if silent else None
    rigs["without"].sink("other")
    try:
        result: dict[str, Any] = {}
        for name, rig in rigs.items():
            rig.sink("live")
            took = rig.start()
            if name == "with":
                result["start_seconds"], result["memory_before"] = took, rig.memory()
        with watching(ours, 0.5) as samples:
            result["idle"] = in_turns(rigs, turns, seconds)
            more = dict.fromkeys(rigs, partial(also, seconds))
            result["more comes for it"] = in_turns(rigs, max(2, turns // 2), seconds, 12, more)
        result["memory_peak"] = max(mib for _, mib in samples)
        rigs["without"].stop()
        if mute is not None:
            mute.stop()
        result["back"] = back(ours)
        return result
    finally:
        for rig in rigs.values():
            rig.end()


def also(seconds: float, rig: Rig) -> None:
    """Something for ``other`` as well."""
    Load(rig, "adt", connections=4, seconds=seconds, patients="connection")


def back(rig: Rig) -> dict[str, Any]:
    """The partner is there again: everything in order, once, or marked."""
    waiting, unanswered = rig.waiting(), rig.destination("other")["unanswered_since_start"]
    began = time.monotonic()
    with watching(rig) as samples:
        other = rig.sink("other")
        until(lambda: other.counts()["distinct"] >= waiting)
        took = time.monotonic() - began
        until(lambda: rig.waiting() == 0)
    counts, told = other.counts(), rig.destination("other")
    if counts["out_of_order"] > counts["duplicates"] or counts["distinct"] != waiting:
        raise RuntimeError(f"{waiting} waited, and there came {counts}")
    return {
        "waited": waiting,
        "seconds": took,
        "per_s": waiting / took,
        "out_of_order": counts["out_of_order"],
        "twice": counts["duplicates"],
        "sent_without_answer_before": unanswered,
        "marked": told["may_be_duplicated_since_start"],
        "memory_before": samples[0][1],
        "memory_peak": max(mib for _, mib in samples),
    }
