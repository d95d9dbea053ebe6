"""``prune``: remove what is older than its channel keeps it, without waiting for the hour."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.client import Client
from engine.cli.options import Data, Json, Site, data_folder
from engine.cli.output import print_json, print_table

#: Seconds: the first run over years of messages takes its time, because it gives way to the traffic.
LONGEST = 86400.0


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    site: Site = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Remove messages that are finished and older than retention: of their channel says.

    The engine does so by itself every hour. What is unfinished is never removed.

    [dim]Example:[/dim] hl7engine prune --dry-run
    """
    found = Client(data_folder(site, data), LONGEST).post("prune", body={"dry_run": dry_run})
    if as_json:
        print_json(found)
        return
    rows = [(row["channel"], row["kept_as"], row["number"]) for row in found["pruned"]]
    print_table(("channel", "kept as", "would go" if dry_run else "removed"), rows)
