"""``run``: start the engine on a site and stay until a signal."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.exits import Exit
from engine.cli.options import Data, SiteArgument
from engine.cli.output import complain, console, fail, print_table

if TYPE_CHECKING:
    from engine.admin.server import AdminServer
    from engine.cli.partners import Partners
    from engine.config.plan import SitePlan
    from engine.runtime.supervisor import Supervisor
    from engine.store import Store


def run(
    site: SiteArgument = Path(),
    data: Data = None,
    simulators: Annotated[
        bool, typer.Option("--simulators", help="Start simulators of the site's partners as well.")
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    child: Annotated[bool, typer.Option("--child", hidden=True)] = False,
) -> None:
    """Start the engine on a site and run until Ctrl-C or SIGTERM.

    The first run makes what is missing: secrets in .env, the data folder, a private CA. A channel whose file is not
    valid is told and left out; the others run. A signal stops in order and lets what is under way finish; a second one
    ends at once, which loses nothing that was acknowledged. Log lines go to stderr, as JSON unless it is a terminal.

    [dim]Examples:[/dim]

    hl7engine run

    hl7engine run /srv/radscheduler --data /var/lib/hl7engine
    """
    # What a start makes is kept: looking through it for garbage, again and again, takes a seventh of the start.
    # `serve` lets the collector go on once everything listens.
    gc.disable()
    from engine.cli import logs
    from engine.cli.check import print_problems
    from engine.cli.partners import Partners
    from engine.cli.prepare import load
    from engine.cli.serve import serve
    from engine.cli.signals import end_with_parent
    from engine.errors import ConfigError

    try:
        logs.configure(log_level)
    except KeyError:
        raise typer.BadParameter("--log-level is debug, info, warning or error") from None
    try:
        plan = load(site, data)
    except ConfigError as error:
        print_problems(error.problems)
        fail("site.yaml cannot be used; nothing was started", Exit.NEGATIVE)
    print_problems(plan.problems)
    if child:
        end_with_parent()
    partners = Partners(plan.folder, plan.data, plan.env) if simulators else None
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve(plan, open_store(plan), partners, announce))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(f"cannot start {where}{error.strerror or type(error).__name__}", Exit.NEGATIVE)


def open_store(plan: SitePlan) -> Store:
    """The embedded store of the data folder, with its keys. Raises StoreError when they cannot be read."""
    from engine.config.store_keys import StoreKeys
    from engine.store.sqlite import SqliteStore

    settings = plan.settings.store
    apart = cores() > 1 if settings.writing_process is None else settings.writing_process
    return SqliteStore(plan.data, StoreKeys(plan.folder, settings).read(), encrypt=settings.encrypt, apart=apart)


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def announce(supervisor: Supervisor, admin: AdminServer, partners: Partners | None) -> None:
    """Say what runs where, and with simulators how to try it."""
    from engine.cli.tour import tour

    plan = supervisor.plan
    rows = [
        (status.name, status.state, status.source, "\n".join(f"{to.name}: {to.address}" for to in status.destinations))
        for status in supervisor.channels()
    ]
    print_table(("channel", "state", "takes in at", "sends to"), rows)
    typer.echo(f"REST: {supervisor.http.address}")
    typer.echo(f"Admin API: {admin.address} · health: {admin.address}/health · data: {plan.data}")
    if partners is not None:
        print_table(("simulator", "address"), partners.addresses.items())
        if not partners.orders_acknowledged:
            complain(
                "the simulated RIS's orders are not acknowledged yet; bookings answer unknown_order until they are"
            )
        for line in tour(plan, supervisor.http.address, partners.addresses):
            console().print(line, markup=False, soft_wrap=True)
