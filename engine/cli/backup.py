"""``backup``, ``restore`` and ``verify``: copies of the store, and whether one is whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.client import Client
from engine.cli.exits import Exit
from engine.cli.options import Data, Json, Site, data_folder, store_keys
from engine.cli.output import fail, print_facts, print_json
from engine.errors import NotRunning

#: Seconds: a large store takes its time, because the copy gives way to the traffic.
LONGEST = 86400.0

Place = Annotated[Path, typer.Argument(help="Folder of the backup.", metavar="BACKUP", show_default=False)]


def backup(backup: Place, site: Site = Path(), data: Data = None, as_json: Json = False) -> None:
    """Copy the store into a new folder, while the engine runs or without it.

    The copy is one moment of the store, checked by its manifest. It holds no key: keep the store keys apart from it.

    [dim]Example:[/dim] hl7engine backup /backup/hl7engine-monday
    """
    folder, to = data_folder(site, data), backup.absolute()
    try:
        manifest = Client(folder, LONGEST).post("backup", body={"to": str(to)})
    except NotRunning:
        import time

        from engine.store.backup import back_up
        from engine.store.crypto import Crypto
        from engine.store.look import looking

        keys = store_keys(site)
        with looking(folder) as reader:
            manifest = back_up(reader, to, time.time(), Crypto(keys) if keys else None, lambda seconds: None)
    if as_json:
        print_json(manifest)
    else:
        facts = {name: str(manifest[name]) for name in ("messages", "deliveries", "bytes", "sha256", "audit_head")}
        for number in manifest["store_keys"]:
            known = manifest["key_fingerprints"].get(str(number))
            facts[f"store key {number}"] = f"fingerprint {known}" if known else "not at hand"
        print_facts(facts)


def restore(
    backup: Place,
    replace: Annotated[bool, typer.Option("--replace", help="Also where there is a store; it is kept aside.")] = False,
    hold: Annotated[bool, typer.Option("--hold", help="Let a person decide about what was unfinished.")] = False,
    site: Site = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Put a backup back as the store of a data folder; the engine must not run.

    What was unfinished when the backup was made may have been delivered since: it is sent again, with the same MSH-10,
    unless --hold says that a person decides.

    [dim]Example:[/dim] hl7engine restore /backup/hl7engine-monday --data /var/lib/hl7engine --hold
    """
    from engine.store.audit import Who
    from engine.store.backup import restore as put_back

    keys = store_keys(site)
    if not keys:
        fail("the store key is not at hand: a backup is not opened without it", Exit.USAGE)
    folder = data_folder(site, data)
    unfinished = put_back(backup, folder, keys, Who.command(os.getuid()), replace=replace, hold=hold)
    if as_json:
        print_json({"unfinished": unfinished, "held": hold})
        return
    told = ", ".join(f"{number} {state}" for state, number in unfinished.items()) or "nothing"
    after = "wait for a person (held, failed)" if hold else "go on, and may arrive twice"
    typer.echo(f"restored; unfinished at the backup: {told}" + (f"; these {after}" if unfinished else ""))


def verify(
    backup: Annotated[Path | None, typer.Argument(help="Folder of a backup; without one the data folder.")] = None,
    site: Site = Path(),
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Check a backup, or the store, while the engine runs or without it: file, rows, sealed values, audit trail.

    Ends with 1 when something is wrong.

    [dim]Example:[/dim] hl7engine verify /backup/hl7engine-monday
    """
    from engine.store.backup import verify as check
    from engine.store.backup import verify_backup

    folder = backup or data_folder(site, data)
    keys = store_keys(site)
    try:
        found = Client(folder, LONGEST).get("verify") if backup is None else None
    except NotRunning:
        found = None
    if found is None:
        faults = check(folder, keys) if backup is None else verify_backup(folder, keys)
        found = {"faults": faults, "left_out": [], "opened": bool(keys)}
    if as_json:
        print_json(found)
    elif not found["faults"]:
        typer.echo("whole" if found["opened"] else "whole, as far as it can be told without the store key")
        if found["left_out"]:
            tables = ", ".join(found["left_out"])
            typer.echo(f"too much came in to check the structure of {tables}: verify a backup for that")
    if found["faults"]:
        fail(f"{folder} is not whole: {'; '.join(found['faults'])}", Exit.NEGATIVE)
