"""``pilot``: the pilot of the RadScheduler site as a command. What it does is in ``piloting/``."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.exits import Exit
from engine.cli.options import Json, SiteArgument, site_folder
from engine.cli.output import fail

if TYPE_CHECKING:
    from engine.cli.piloting.bookings import PilotPlan
    from engine.cli.piloting.ground import Ground, Urls
    from engine.cli.piloting.judge import Result

URL = "URL"


def pilot(
    site: SiteArgument = Path(),
    bookings: Annotated[int, typer.Option(min=1, max=10_000, help="Patients who book.")] = 100,
    days: Annotated[int, typer.Option(min=1, max=30, help="Weekdays, from tomorrow on, whose slots they book.")] = 2,
    faults: Annotated[float, typer.Option(min=0, max=100, help="Percent of the bookings that meet a fault.")] = 6.0,
    seed: Annotated[int, typer.Option(help="The same seed deals the same faults to the same bookings.")] = 1,
    at_once: Annotated[int, typer.Option(min=1, max=100, help="Patients who book at the same time.")] = 4,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Data folder of a running engine, or of the pilot's own, which then stays."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="REST listener of a running engine.", metavar=URL)] = None,
    admin: Annotated[str | None, typer.Option(help="Its admin API.", metavar=URL)] = None,
    simulators: Annotated[str | None, typer.Option(help="Control port of its simulators.", metavar=URL)] = None,
    as_json: Json = False,
) -> None:
    """Book many patients through the engine, faults included, and say how many have an appointment everywhere.

    Each asks for locations and slots and books, as RadScheduler does, while slots go to others, the RIS refuses, says
    nothing or drops the connection, and EMRs are down. Then it looks whether each appointment is in the RIS and at the
    right EMRs. An engine of this site that runs with simulators is used; else one is started, with a data folder that
    goes with it. Ends with 1 when fewer than 95 % are booked, or anything is not explained or not where it belongs.

    [dim]Example:[/dim] hl7engine pilot --bookings 200 --faults 10
    """
    from engine.cli.check import print_problems
    from engine.cli.piloting.bookings import PilotPlan
    from engine.cli.piloting.ground import Urls
    from engine.errors import ConfigError

    folder = site_folder(site)
    plan = PilotPlan(bookings, weekdays(days), faults, seed, at_once)
    try:
        with asyncio.Runner() as runner:
            result = runner.run(carry_out(folder, data, Urls(url, admin, simulators), plan, as_json))
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    except ConfigError as error:
        print_problems(error.problems)
        fail("site.yaml cannot be used; nothing was booked", Exit.NEGATIVE)
    if not result.passed:
        raise typer.Exit(Exit.NEGATIVE)


def weekdays(number: int, today: date | None = None) -> list[date]:
    """The next so many days on which the simulated locations are open."""
    from engine.cli.tour import ZONE, next_weekday

    found = [next_weekday(today or datetime.now(ZONE).date())]
    while len(found) < number:
        found.append(next_weekday(found[-1]))
    return found


async def carry_out(site: Path, data: Path | None, urls: Urls, plan: PilotPlan, as_json: bool) -> Result:
    """Find an engine, book, judge, tell. Raises NoGround, ControlFailed, ConfigError, NotRunning, ApiError."""
    import aiohttp

    from engine.cli.piloting import report
    from engine.cli.piloting.bookings import Pilot
    from engine.cli.piloting.ground import ground
    from engine.cli.piloting.judge import judge

    end_on_sigterm()
    async with (
        ground(site, data, urls) as found,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=found.tls)) as http,
    ):
        if not as_json:
            report.print_head(found, plan)
        with progress(plan.bookings) as told:
            run = Pilot(found, plan, http, told)
            made = await run.run()
        result = judge(made, await run.settled(made), run.routes)
    if as_json:
        report.print_as_json(found, plan, result)
    else:
        report.print_result(result)
        hint(found, data)
    return result


def hint(ground: Ground, data: Path | None) -> None:
    """Where the correlation ids can be followed."""
    if ground.own and data is None:
        typer.echo("To follow a correlation id afterwards, keep the data (--data DIR) or use a running engine.")
    else:
        typer.echo("hl7engine trace CORRELATION_ID shows every hop of one of them, while an engine runs on that data.")


def end_on_sigterm() -> None:
    """Let SIGTERM end this command as Ctrl-C does: what it started is stopped."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


@contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal's stderr; called once for each that is done."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("booking"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
