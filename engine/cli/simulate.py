"""``simulate``: the partners of the reference site, until a signal (or, as a child, until its parent goes away)."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.exits import Exit
from engine.cli.options import SITE_FILE, Data, SiteArgument, site_folder
from engine.cli.output import fail, print_table

if TYPE_CHECKING:
    from engine.simulators import Simulators


def simulate(
    site: SiteArgument = Path(),
    data: Data = None,
    ris: Annotated[
        list[str] | None,
        typer.Option(help="A word of the RIS's dialect, or any; else that of site.yaml.", metavar="WORD=VALUE"),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
    child: Annotated[bool, typer.Option("--child", hidden=True)] = False,
) -> None:
    """Run simulators of the RIS, the EMRs and RadScheduler's webhook, until Ctrl-C.

    Their control port shows what they hold and makes them fail on demand. The RIS speaks the dialect that site.yaml
    says under `ris:`, and refuses every other.

    [dim]Example:[/dim] hl7engine simulate --ris version=2.5.1 --ris slots=sqm
    """
    from engine.cli import logs
    from engine.cli.prepare import environment, prepare_data
    from engine.simulators import Dialect, Simulators

    logs.configure(log_level)
    folder = site_folder(site)
    env = environment(folder)
    try:
        dialect = Dialect.of({**words_of(folder, env), **given_words(ris or ())})
        asyncio.run(live(Simulators(folder, prepare_data(folder, data), env, dialect), child))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(f"the simulators cannot start: {where}{error.strerror or error}", Exit.NEGATIVE)
    except ValueError as error:
        fail(f"the simulators cannot start: {error}", Exit.NEGATIVE)


def words_of(folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """`ris:` of site.yaml, ``${VAR}`` filled in; empty when it says none."""
    from engine.config.files import read_document
    from engine.config.interpolate import Variables

    settings = read_document(folder, SITE_FILE, Variables(env, folder)).value
    words = settings.get("ris") if isinstance(settings, dict) else None
    return words if isinstance(words, dict) else {}


def given_words(options: Iterable[str]) -> dict[str, str]:
    """`WORD=VALUE`, each; ends the command for what is no word."""
    from engine.simulators.dialect import WORDS

    pairs = dict(option.partition("=")[::2] for option in options)
    for word, value in pairs.items():
        if word not in WORDS or not value:
            fail(f"`{word}` is no word with a value of the RIS's dialect; words are {', '.join(WORDS)}", Exit.USAGE)
    return pairs


async def live(simulators: Simulators, child: bool) -> None:
    """Start, say where, wait for the end, stop."""
    from engine.cli import logs
    from engine.cli.signals import stop_on_signal

    logs.watch_loop()
    stop = stop_on_signal()
    await simulators.start()
    try:
        addresses = simulators.addresses()
        if child:
            say("listening", addresses=addresses)
        else:
            print_addresses(addresses)
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(announce_orders(simulators, child), name="orders")]
            if child:
                waiting.append(tasks.create_task(parent_gone(stop), name="parent"))
            await stop.wait()
            for task in waiting:
                task.cancel()
    finally:
        await simulators.stop()


async def announce_orders(simulators: Simulators, child: bool) -> None:
    """Say when the engine has acknowledged the orders of the simulated RIS."""
    await simulators.ris.orders_sent.wait()
    if child:
        say("ready")
    else:
        typer.echo("The engine has acknowledged the orders of the simulated RIS.")


async def parent_gone(stop: asyncio.Event) -> None:
    """Stop when stdin ends: the parent holds its other end and has gone."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while await reader.read(4096):
            pass
        stop.set()
    finally:
        transport.close()


def say(event: str, **members: Any) -> None:
    """One JSON line on stdout, for the parent."""
    sys.stdout.write(json.dumps({"event": event, **members}) + "\n")
    sys.stdout.flush()


def print_addresses(addresses: Mapping[str, str]) -> None:
    """Where the simulators are."""
    print_table(("simulator", "address"), addresses.items())
