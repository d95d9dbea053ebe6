"""What pruning and sealing again cost those who send meanwhile."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from benchmarks.soak.rig import Load, Rig, in_turns, until

#: Everything that is delivered is old enough at once, so there is work for as long as a turn lasts.
PRUNED = "retention: {delivered: 1s}\n"


class Steadily:
    """Calls the admin API of an engine again and again beside its turns."""

    def __init__(self, seconds: float, path: str) -> None:
        self.seconds, self.path = seconds, path
        self.answers: list[dict[str, Any]] = []

    def __call__(self, rig: Rig) -> None:
        """Begin; it ends with the turn."""
        threading.Thread(target=self._run, args=(rig, time.monotonic() + self.seconds), daemon=True).start()

    def _run(self, rig: Rig, end: float) -> None:
        with suppress(OSError, RuntimeError):  # the engine's turn may end in the middle of a call
            while time.monotonic() < end:
                self.answers.append(rig.api("POST", self.path, {}))
                time.sleep(0.2)


def run(folder: Path, stored: int, turns: int, seconds: float) -> dict[str, Any]:
    """Fill a store, then turns with and without each of the two works."""
    filled = Rig(folder / "stored")
    try:
        live = filled.sink("live")
        filled.start()
        Load(filled, "siu", connections=64, messages=stored).result()
        until(lambda: live.counts()["frames"] == stored)
        filled.stop()
        return {
            "stored": stored,
            "pruning": pruning(filled, folder / "pruned", turns, seconds),
            "sealing again": resealing(filled, folder / "sealed", turns, seconds),
        }
    finally:
        filled.end()


def pair(filled: Rig, folder: Path, more: str = "") -> dict[str, Rig]:
    """Two engines on what is stored."""
    rigs = {"with": filled.copy(folder, more), "without": filled.copy(folder.with_name(f"{folder.name}-without"))}
    for rig in rigs.values():
        rig.sink("live")
        rig.start()
    return rigs


def pruning(filled: Rig, folder: Path, turns: int, seconds: float) -> dict[str, Any]:
    """Old and new messages go while others come."""
    rigs = pair(filled, folder, PRUNED)
    try:
        ours, beside = rigs["with"], Steadily(seconds, "/api/prune")
        result = in_turns(rigs, turns, seconds, beside={"with": beside})
        sizes, rows = [size(ours)], [stored(rig) for rig in rigs.values()]
        began = time.monotonic()
        until(lambda: not ours.api("POST", "/api/prune", {})["pruned"])
        sizes.append(size(ours))
        return {
            **result,
            "stored_with": rows[0],
            "stored_without": rows[1],
            "file_mb_after_turns": sizes[0],
            "file_mb_when_all_is_gone": sizes[1],
            "seconds_until_all_is_gone": time.monotonic() - began,
        }
    finally:
        for rig in rigs.values():
            rig.end()


def size(rig: Rig) -> float:
    """Megabytes of the database."""
    return (rig.folder / "data" / "engine.db").stat().st_size / 1e6


def stored(rig: Rig) -> int:
    """Messages that are stored."""
    database = (rig.folder / "data" / "engine.db").absolute()
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM message").fetchone()[0])


def resealing(filled: Rig, folder: Path, turns: int, seconds: float) -> dict[str, Any]:
    """A new key in each turn, so that everything is to be sealed again."""
    rigs = pair(filled, folder)
    try:
        return in_turns(rigs, turns, seconds, beside={"with": Steadily(0.1, "/api/store/rotate-key")})
    finally:
        for rig in rigs.values():
            rig.end()
