"""``check``: every file of a site, all problems at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from engine.cli.exits import Exit
from engine.cli.options import Data, Json, SiteArgument
from engine.cli.output import console, print_json

if TYPE_CHECKING:
    from engine.config.plan import SitePlan
    from engine.errors import Problem


def check(site: SiteArgument = Path(), data: Data = None, as_json: Json = False) -> None:
    """Check every file of a site and tell all problems at once, each with file, line and key.

    Looks into the data folder as well: a destination or channel that is gone from the files although messages wait for
    it is a problem. Makes what a first run makes (.env, the data folder), and starts nothing. Ends with 1 when
    something keeps a channel from running.

    [dim]Example:[/dim] hl7engine check
    """
    from engine.cli.prepare import load
    from engine.errors import ConfigError

    plan: SitePlan | None = None
    try:
        plan = with_what_waits(load(site, data))
        problems: Sequence[Problem] = plan.problems
    except ConfigError as error:
        problems = error.problems
    bad = any(problem.level == "error" for problem in problems)
    if as_json:
        states = dict.fromkeys(plan.channels, "valid") | dict.fromkeys(plan.broken, "broken") if plan else {}
        print_json({"ok": not bad, "channels": states, "problems": [dataclasses.asdict(item) for item in problems]})
    else:
        print_problems(problems)
        typer.echo(summary(plan, problems))
    if bad:
        raise typer.Exit(Exit.NEGATIVE)


def with_what_waits(plan: SitePlan) -> SitePlan:
    """The plan as the engine would take it, given what waits in the data folder."""
    from engine.config.certificates import problems as ending
    from engine.runtime.orphans import left_behind, lost_channels

    counts = waiting(plan.data)
    lost = {name: left_behind(channel, counts) for name, channel in plan.channels.items()}
    refused = {name: problems for name, problems in lost.items() if problems}
    removed = lost_channels({*plan.channels, *plan.broken}, counts)
    return dataclasses.replace(
        plan,
        channels={name: channel for name, channel in plan.channels.items() if name not in refused},
        broken={**plan.broken, **refused},
        problems=(
            *plan.problems,
            *(found for problems in refused.values() for found in problems),
            *removed.values(),
            *ending(plan, datetime.now(UTC)),
        ),
    )


def waiting(data: Path) -> Mapping[tuple[str, str, str], int]:
    """What waits in a data folder, as its engine says, or as it lies there when none runs."""
    from engine.cli.client import Client
    from engine.errors import NotRunning
    from engine.store.look import open_counts

    try:
        found = Client(data).get("waiting")["waiting"]
    except NotRunning:
        return open_counts(data)
    return {(item["channel"], item["destination"], item["state"]): item["number"] for item in found}


def print_problems(problems: Sequence[Problem]) -> None:
    """Problems below the file they are in, as ``FILE:LINE`` so that editors and terminals can jump there."""
    from rich.text import Text

    out = console()
    for file, found in groupby(problems, key=lambda problem: problem.file):
        out.print(Text(file or "site", style="bold"))
        for problem in found:
            line = Text("  ")
            line.append(f"{problem.file}:{problem.line}" if problem.line else problem.file, style="cyan")
            line.append(f" {problem.key}" if problem.key else "", style="bold")
            line.append(f" {problem.message}", style="" if problem.level == "error" else "dim")
            out.print(line)
            for word, text in (("expected", problem.expected), ("did you mean", problem.nearest)):
                if text:
                    out.print(Text(f"      {word} {text}", style="dim"))


def summary(plan: SitePlan | None, problems: Sequence[Problem]) -> str:
    """One sentence about all of it."""
    errors = sum(problem.level == "error" for problem in problems)
    found = f"{errors} {'problem' if errors == 1 else 'problems'}" if errors else "no problems"
    if plan is None:
        return f"The site cannot run: {found}."
    valid = f"{len(plan.channels)} {'channel' if len(plan.channels) == 1 else 'channels'} can run"
    broken = f", {len(plan.broken)} cannot ({', '.join(sorted(plan.broken))})" if plan.broken else ""
    return f"{valid}{broken}: {found}."
