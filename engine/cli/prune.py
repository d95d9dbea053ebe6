"""``prune``: remove what is older than its channel keeps it, without waiting for the hour."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.client import Client
from engine.cli.options import Data, Json, Site, data_folder
from engine.cli.output import bytes_of, print_json, print_table

#: Seconds: the first run over years of messages takes its time, because it gives way to the traffic.
LONGEST = 86400.0


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")] = False,
    site: Site = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Remove messages, or their contents, that are finished and older than retention: of their channel says.

    The engine does so by itself every hour. What is unfinished is never removed.

    [dim]Example:[/dim] hl7engine prune --dry-run
    """
    found = Client(data_folder(site, data), LONGEST).post("prune", body={"dry_run": dry_run})
    if as_json:
        print_json(found)
        return
    would = "would go" if dry_run else "removed"
    print_table(("channel", "kept as", f"messages {would}", f"contents {would}"), lines(found))
    given_back = "" if dry_run else f", {bytes_of(found['bytes_given_back'])} given back to the disk"
    typer.echo(f"{bytes_of(found['bytes'])} of contents{given_back}")


def lines(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What was removed, a line for each channel and word."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for column, name in enumerate(("pruned", "bodies")):
        for row in found[name]:
            numbers.setdefault((row["channel"], row["kept_as"]), [0, 0])[column] = row["number"]
    return [(*key, *(number or "" for number in columns)) for key, columns in sorted(numbers.items())]
