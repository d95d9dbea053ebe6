"""``status``: how a running engine is doing as a whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.cli.client import Client, NotTold
from engine.cli.options import Data, Json, Site, data_folder
from engine.cli.output import bytes_of, left, local_time, print_facts, print_json

#: What the states of the process that writes mean.
PROCESS = {
    "off": "none, the engine always writes by itself",
    "resting": "none now, it comes when much is to be written",
    "starting": "is starting",
    "running": "runs, process {pid}",
    "silent": "does not answer, process {pid}: stopped, or waiting for the disk; it is killed after a minute or two",
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
    print_facts({name: fact(read, found) for name, read in FACTS.items()})


def fact(read: Callable[[dict[str, Any]], str], found: dict[str, Any]) -> str:
    """What ``read`` finds; an engine of another version may not tell it."""
    try:
        return read(found)
    except NotTold:
        return "not told: the running engine is of another version"


def writing(process: dict[str, Any]) -> str:
    """How the process that writes is; a state of a newer engine is given as it is."""
    state = process["state"]
    return PROCESS[state].format(**process) if state in PROCESS else str(state)


def told(run: dict[str, Any]) -> str:
    """What a run of pruning removed."""
    messages, contents = (sum(row["number"] for row in run[name]) for name in ("pruned", "bodies"))
    when = local_time(run["ended_at"]) if run["ended_at"] else f"under way since {local_time(run['began_at'])}"
    return (
        f"{when}: {messages} messages and the contents of {contents} removed, {bytes_of(run['bytes'])} of contents,"
        f" {bytes_of(run['bytes_given_back'])} given back to the disk"
    )


FACTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "version": lambda found: found["version"],
    "process": lambda found: found["pid"],
    "running since": lambda found: local_time(found["started_at"]),
    "site": lambda found: found["site"],
    "data": lambda found: found["data"],
    "store": lambda found: found["store"],
    "writing process": lambda found: writing(found["writing_process"]),
    "disk": lambda found: f"{found['disk']['state']}, {left(found['disk'])}",
    "last pruning": lambda found: (
        told(found["pruning"]["last"]) if found["pruning"]["last"] else "none since the start"
    ),
    "next pruning": lambda found: local_time(found["pruning"]["next_at"]),
}
