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
#: Seconds after the turns in which nobody sends.
AT_REST = 15.0


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


def filled(folder: Path, stored: int) -> Rig:
    """A store with so many delivered messages."""
    rig = Rig(folder / "stored")
    live = rig.sink("live")
    rig.start()
    Load(rig, "siu", connections=64, messages=stored).result()
    until(lambda: live.counts()["frames"] == stored)
    rig.stop()
    return rig


def pair(folder: Path, stored: int, more: str = "") -> dict[str, Rig]:
    """Two engines on so many delivered messages."""
    rig = filled(folder, stored)
    rigs = {"with": rig.copy(folder / "with", more), "without": rig.copy(folder / "without")}
    rig.end()
    for rig in rigs.values():
        rig.sink("live")
        rig.start()
    return rigs


def pruning(folder: Path, number: int, turns: int, seconds: float) -> dict[str, Any]:
    """Old and new messages go while others come."""
    rigs = pair(folder, number, PRUNED)
    try:
        ours, beside = rigs["with"], Steadily(seconds, "/api/prune")
        result = in_turns(rigs, turns, seconds, beside={"with": beside})
        rows = {name: stored(rig) for name, rig in rigs.items()}
        time.sleep(AT_REST)  # what was begun in the last turn goes on
        return {
            "stored_before": number,
            **result,
            "stored_after_turns_with": rows["with"],
            "stored_after_turns_without": rows["without"],
            "removed_per_s_at_rest": (rows["with"] - stored(ours)) / AT_REST,
        }
    finally:
        for rig in rigs.values():
            rig.end()


def stored(rig: Rig) -> int:
    """Messages that are stored."""
    database = (rig.folder / "data" / "engine.db").absolute()
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM message").fetchone()[0])


def resealing(folder: Path, number: int, turns: int, seconds: float) -> dict[str, Any]:
    """A new key in each turn, so that everything is to be sealed again."""
    rigs = pair(folder, number)
    try:
        result = in_turns(rigs, turns, seconds, beside={"with": Steadily(0.1, "/api/store/rotate-key")})
        return {"stored_before": number, "keys": turns + 2, **result}
    finally:
        for rig in rigs.values():
            rig.end()
