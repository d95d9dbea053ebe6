"""``status``: how a running engine is doing as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.cli.client import Client
from engine.cli.options import Data, Json, Site, data_folder
from engine.cli.output import bytes_of, left, local_time, print_facts, print_json

#: What the states of the process that writes mean.
PROCESS = {
    "off": "none, the engine always writes by itself",
    "resting": "none now, it comes when much is to be written",
    "starting": "is starting",
    "running": "runs, process {pid}",
    "ending": "is ending",
    "died": "died or could not be started, the engine writes by itself; another one is tried half a minute later",
    "outdated": "none before the engine is started again, whose files were replaced",
}


def status(site: Site = Path(), data: Data = None, as_json: Json = False) -> None:
    """Show how the engine is doing: version, store, the process that writes, the last pruning and the next one.

    [dim]Example:[/dim] hl7engine status
    """
    found = Client(data_folder(site, data)).get("status")
    if as_json:
        print_json(found)
        return
    pruning, process = found["pruning"], found["writing_process"]
    print_facts(
        {
            "version": found["version"],
            "process": found["pid"],
            "running since": local_time(found["started_at"]),
            "site": found["site"],
            "data": found["data"],
            "store": found["store"],
            "writing process": PROCESS[process["state"]].format(**process),
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
