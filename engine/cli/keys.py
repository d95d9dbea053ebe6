"""``keys`` and ``rotate-key``: which keys the store is sealed with, and a further one, without a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from engine.cli.client import Client
from engine.cli.options import Data, Json, Site, data_folder
from engine.cli.output import local_time, print_json, print_table


def keys(site: Site = Path(), data: Data = None, as_json: Json = False) -> None:
    """Show the keys of the store by number: which one seals, which ones stored values still need.

    [dim]Example:[/dim] hl7engine keys
    """
    show(Client(data_folder(site, data)).get("store", "keys"), as_json)


def rotate_key(site: Site = Path(), data: Data = None, as_json: Json = False) -> None:
    """Seal what is stored with a further key, while the engine runs.

    The key is made and written beside the others (.env, or the file of store.key_file), unless somebody has added one
    there already. What comes from here on is sealed with it at once, what is stored follows in the background.

    [dim]Example:[/dim] hl7engine rotate-key
    """
    show(Client(data_folder(site, data)).post("store", "rotate-key"), as_json)


def show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_table(("key", "fingerprint", "since", "state"), map(line, found["keys"]))
    if found["sealing_again"]:
        typer.echo(f"Stored values are being sealed again with the key in use (table {found['sealing_again']}).")


def line(row: dict[str, Any]) -> tuple[Any, ...]:
    if row["in_use"]:
        state = "seals"
    elif row["retired_at"]:
        state = f"no longer needed since {local_time(row['retired_at'])}; backups made before need it"
    else:
        state = "needed by stored values"
    return row["number"], row["fingerprint"], local_time(row["added_at"]), state
