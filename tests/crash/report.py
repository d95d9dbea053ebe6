"""What a run came to: for people, as JSON, and as the page ``docs/crash-report.md``."""

import json
import os
import platform
import sqlite3
from datetime import UTC, datetime
from typing import Any

from .harness import Outcome
from .points import UNPROVOKED

PAGE = """# Crash report

Made by `make crash`; do not edit. One engine is killed with SIGKILL again and again on the same data folder, while
clients (original and enhanced mode, REST with idempotency keys) and partners (one dead, one that refuses, one slow,
some silent) work on; after every round each message is accounted for. How is in `tests/crash/`, what it means in
[promises](promises.md).

`{command}` · {day} · {minutes} min · {machine}

The same seed gives the same kills, traffic and partners; how processes interleave is not repeated.

| | |
|---|---|
{figures}

A message that reached a partner again without having been refused was on its way when the engine died, was not answered
in time, or was sent again by a person. The first two bear the mark `may_be_duplicated`; one without is a violation.

## Named points

`commit.X` is the COMMIT that covers an operation X; `wal` and `database` are inside of a commit or a checkpoint,
halfway is half of the bytes of one write; `ack` and `reply` are answers to senders and callers; `send` is what goes to
partners; `start` and `stop` are recovery and shutdown. Of some operations this
traffic causes none (a destination renamed, a further store key, the audit trail); their own tests do.

| Point | Passed | Died there |
|---|---|---|
{points}
"""

#: Violations shown in the text.
SHOWN = 20


def missed(outcome: Outcome) -> list[str]:
    """Named points that no engine ever passed though it should have."""
    return [point for point, times in outcome.passed.items() if not times and not point.startswith(UNPROVOKED)]


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
    lines += [f"never passed: {point}" for point in missed(outcome)]
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
    )
