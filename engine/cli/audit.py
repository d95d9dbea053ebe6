"""``audit``: who did what, and whether the trail is whole. Reads the files themselves where no engine runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from engine.cli.client import Client
from engine.cli.exits import Exit
from engine.cli.messages import Moment, moment
from engine.cli.options import Data, Json, Site, data_folder, store_keys
from engine.cli.output import fail, local_time, print_facts, print_json, print_table
from engine.errors import NotRunning

Action = Annotated[
    Literal["list", "verify"], typer.Argument(help="list: the entries. verify: check all of them.", metavar="ACTION")
]


def audit(
    action: Action = "list",
    act: Annotated[str | None, typer.Option(help="Only this act: delivery.resent, bodies.viewed, …")] = None,
    who: Annotated[str | None, typer.Option(help="Only what this one did, as it is shown.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only this channel.")] = None,
    message: Annotated[int | None, typer.Option(help="Only this message.", metavar="ID")] = None,
    since: Moment = None,
    until: Moment = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most.")] = 50,
    before: Annotated[int | None, typer.Option(help="Older than this entry (the next page).")] = None,
    head: Annotated[
        str, typer.Option(help="verify: a head that was noted earlier and must be in the trail.", metavar="ID:HASH")
    ] = "",
    site: Site = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show who did what, newest first; or verify that no entry was changed, added or removed.

    verify also works on a data folder whose engine does not run, and on a backup: name it with --data. Ends with 1
    when the trail is not whole.

    [dim]Examples:[/dim]

    hl7engine audit --act bodies.viewed --since 7d

    hl7engine audit verify --data /backup/hl7engine.db
    """
    folder = data_folder(site, data)
    if action == "verify":
        verify(site, folder, head, as_json)
        return
    found = Client(folder).get(
        "audit",
        act=act,
        who=who,
        channel=channel,
        message=message,
        since=moment(since),
        until=moment(until),
        limit=limit,
        before=before,
    )
    if as_json:
        print_json(found)
        return
    print_table(("entry", "time", "who", "act", "on", "with"), map(line, found["entries"]))
    if found["next"]:
        typer.echo(f"There are more: --before {found['next']}")


def verify(site: Path, folder: Path, head: str, as_json: bool) -> None:
    """Ask the engine, or read the files where none runs."""
    try:
        found = Client(folder, timeout=3600).get("audit", "verify", head=head or None)
    except NotRunning:
        from dataclasses import asdict

        from engine.store.look import verify_audit

        found = asdict(verify_audit(folder, store_keys(site), head))
    if as_json:
        print_json(found)
    else:
        seal = {True: "fits", False: "does not fit", None: "not checked: the store key is not at hand"}[found["sealed"]]
        purged = f"up to entry {found['purged_id']}" if found["purged_id"] else ""
        print_facts({"entries": str(found["entries"]), "purged": purged, "head": found["head"], "seal": seal})
    if found["fault"]:
        fail(f"the audit trail is not whole: {found['fault']}", Exit.NEGATIVE)


def line(entry: dict[str, Any]) -> tuple[Any, ...]:
    numbers = [f"{number} {name}" for name, number in entry.get("numbers", {}).items()]
    changed = entry.get("changed", [])
    files = [*changed[:5], f"and {len(changed) - 5} more"] if len(changed) > 5 else changed
    subject = [entry.get("channel", ""), entry.get("destination", "")]
    subject += [f"{name} {entry[key]}" for name, key in NUMBERED if key in entry]
    facts = ", ".join(filter(None, (entry.get("peer", ""), *numbers, *files)))
    return entry["id"], local_time(entry["time"]), entry["who"], entry["act"], " ".join(filter(None, subject)), facts


NUMBERED = (("message", "message_id"), ("delivery", "delivery_id"))
