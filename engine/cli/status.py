"""``status``: how a running engine is doing as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.cli.client import Client
from engine.cli.options import Data, Json, Site, data_folder
from engine.cli.output import bytes_of, left, local_time, print_facts, print_json


def status(site: Site = Path(), data: Data = None, as_json: Json = False) -> None:
    """Show how the engine is doing: version, store, what the last pruning removed and when the next one comes.

    [dim]Example:[/dim] hl7engine status
    """
    found = Client(data_folder(site, data)).get("status")
    if as_json:
        print_json(found)
        return
    pruning = found["pruning"]
    print_facts(
        {
            "version": found["version"],
            "process": found["pid"],
            "running since": local_time(found["started_at"]),
            "site": found["site"],
            "data": found["data"],
            "store": found["store"],
            "disk": f"{found['disk']['state']}, {left(found['disk'])}",
            "last pruning": told(pruning["last"]) if pruning["last"] else "none since the start",
            "next pruning": local_time(pruning["next_at"]),
        }
    )


def told(run: dict[str, Any]) -> str:
    """What a run of pruning removed."""
    messages, contents = (sum(row["number"] for row in run[name]) for name in ("pruned", "bodies"))
    when = local_time(run["ended_at"]) if run["ended_at"] else f"under way since {local_time(run['began_at'])}"
    return (
        f"{when}: {messages} messages and the contents of {contents} removed, {bytes_of(run['bytes'])} of contents,"
        f" {bytes_of(run['bytes_given_back'])} given back to the disk"
    )
