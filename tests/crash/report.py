"""What a run came to: for people, as JSON, and as the page ``docs/crash-report.md``."""

import json
import os
import platform
import sqlite3
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .harness import Outcome

PAGE = """# Crash report

Made by `make crash`; do not edit. One engine is killed with SIGKILL again and again on the same data folder, while
clients (original and enhanced mode, REST with idempotency keys) and partners (one dead, one that refuses, one slow,
some silent) work on and a person renames, pauses, prunes, rotates keys, backs up and turns the clock; after every round
each message is accounted for, and the store and every backup are verified. How is in `tests/crash/`, what it means in
[promises](promises.md).

`{command}` · {day} · {minutes} min · {machine} · commit {commit}

The same seed gives the same kills, traffic and partners; how processes interleave is not repeated.

| | |
|---|---|
{figures}

A message that reached a partner again without having been refused was on its way when the engine died, was not answered
in time, or was sent again by a person. The first two bear the mark `may_be_duplicated`; one without is a violation.

## Named points

`commit.X` is the COMMIT that covers an operation X; `wal` and `database` are inside of a commit or a checkpoint,
halfway is half of the bytes of one write; `ack` and `reply` are answers to senders and callers; `send` is what goes to
partners; `process` is the engine's end of the process that writes, `writer` is inside of it: there it dies alone, and
the engine goes on (`writer.wal.write`: also deep inside of a batch of a hundred pages and more); `start` and `stop` are
recovery and shutdown; `backup` is a copy of the store, `step` one of its pieces. A point that no engine passed, or died
at when it was to, fails the run.

| Point | Passed | Died there |
|---|---|---|
{points}
"""

#: What a person did, by errand.
WORDS = {
    "back_up": "backups begun",
    "pause": "destinations paused",
    "prune": "prunings asked for",
    "rename": "destinations renamed",
    "rotate": "store keys rotated",
    "set_clock_ahead": "clock set ahead, by 36 hours",
    "set_clock_back": "clock set back, by 10 minutes",
}
#: Violations shown in the text.
SHOWN = 20


def missed(outcome: Outcome) -> list[str]:
    """Named points that no engine passed, and those that one was to die at and none did."""
    return [
        point
        for point, times in outcome.passed.items()
        if not times or (point in outcome.planned and not outcome.died_at[point])
    ]


def numbers(outcome: Outcome) -> dict[str, int]:
    """The figures, by name."""
    total = outcome.total
    return {
        "kills": outcome.kills,
        "at a named point": sum(outcome.died_at.values()),
        "named points died at": len(outcome.died_at),
        "named points": len(outcome.passed),
        "messages sent": total.sent,
        "acknowledged": total.acknowledged,
        "deliveries taken by partners": total.delivered,
        "deliveries held or parked": total.visible,
        "filtered": total.filtered,
        "failed": total.failed,
        "bookings": total.bookings,
        "queries": total.queries,
        "application acks on a connection of their own": total.acks,
        "repetitions by senders, told the same": total.repetitions,
        "messages pruned": outcome.removed,
        **{WORDS[errand]: times for errand, times in sorted(outcome.errands.items())},
        "lost": len(total.lost),
        "out of order": len(total.out_of_order),
        "twice without a mark": len(total.unexplained),
        "answered twice differently, or otherwise wrong": len(total.wrong),
        "faults of the process": len(outcome.faults),
        **{f"twice: {why}": times for why, times in sorted(total.repeated.items())},
    }


def text(outcome: Outcome) -> str:
    """For a terminal."""
    lines = [f"seed {outcome.seed}, {outcome.seconds:.0f} s, {outcome.rounds} rounds"]
    lines += [f"{number:>9}  {name}" for name, number in numbers(outcome).items()]
    lines += [f"{times:>9}  passed {point}, died {outcome.died_at[point]}" for point, times in outcome.passed.items()]
    lines += [f"never passed, or never died at: {point}" for point in missed(outcome)]
    lines += outcome.violations[:SHOWN]
    return "\n".join(lines)


def as_json(outcome: Outcome) -> str:
    """For machines."""
    found: dict[str, Any] = {
        "seed": outcome.seed,
        "seconds": round(outcome.seconds),
        "numbers": numbers(outcome),
        "how": dict(outcome.how),
        "died_at": dict(outcome.died_at),
        "passed": outcome.passed,
        "violations": outcome.violations,
    }
    return json.dumps(found, indent=1) + "\n"


def page(outcome: Outcome) -> str:
    """``docs/crash-report.md``."""
    machine = f"{os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}"
    command = f"make crash KILLS={outcome.kills} SEED={outcome.seed}"
    figures = "\n".join(f"| {name} | {number} |" for name, number in numbers(outcome).items())
    points = "\n".join(f"| `{point}` | {times} | {outcome.died_at[point]} |" for point, times in outcome.passed.items())
    return PAGE.format(
        command=command,
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        minutes=f"{outcome.seconds / 60:.0f}",
        machine=f"{machine}, SQLite {sqlite3.sqlite_version}",
        figures=figures,
        points=points,
        commit=commit(),
    )


def commit() -> str:
    """The commit of the engine that runs, and whether files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain", "engine") else "")
