"""How commands print: tables for people, ``--json`` for machines, errors to stderr.

rich is imported where something is drawn, not before. Piped tables are as wide as they need to be, so that ``grep``
finds whole ids. Times are shown in the zone of the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from engine.cli.exits import Exit

if TYPE_CHECKING:
    from rich.console import Console

#: States that want a person's eye, and those that are well.
COLOURS = {
    **dict.fromkeys(("failed", "refused", "held", "parked", "unknown", "broken", "removed", "discarded"), "red"),
    **dict.fromkeys(("queued", "sending", "stopped", "received"), "yellow"),
    **dict.fromkeys(("delivered", "running", "routed"), "green"),
}


def console() -> Console:
    """Where tables go: stdout, unbounded in width when it is no terminal."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 1000)


def print_json(value: Any) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """A table; cells are plain text, words that are states get their colour."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(*columns, box=SIMPLE, pad_edge=False, title=title or None, title_justify="left", title_style="bold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    console().print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Names and values below each other; what is empty is left out."""
    shown = {name: value for name, value in facts.items() if value not in ("", None, [], {})}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        console().print(f"{name:<{width}}  ", end="")
        console().print(cell(value))


def cell(value: Any) -> Any:
    from rich.text import Text

    text = "" if value is None else "\n".join(map(printable, str(value).split("\n")))
    return Text(text, style=COLOURS.get(text.split(" ")[0], ""))


def printable(text: str) -> str:
    """Text of a partner that cannot steer the terminal."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def local_time(moment: str | None) -> str:
    """A time of the API (ISO 8601, UTC) as the terminal's user reads it."""
    if not moment:
        return ""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def bytes_of(number: float) -> str:
    """``1.4 GiB``"""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def left(disk: Mapping[str, Any]) -> str:
    """How much of a disk is free."""
    if "free_bytes" not in disk:
        return "cannot be seen"
    share = 100 * disk["free_bytes"] / (disk["total_bytes"] or 1)
    return f"{bytes_of(disk['free_bytes'])} ({share:.0f}%) free of {bytes_of(disk['total_bytes'])}"


def complain(message: str) -> None:
    """One line on stderr."""
    typer.echo(f"hl7engine: {message}", err=True)


def fail(message: str, code: Exit) -> NoReturn:
    """Say why on stderr and end the command."""
    complain(message)
    raise typer.Exit(code)
