"""The life of an engine's process: start, run until a signal, drain, stop.

Things start in the order store → admin → channels → simulators and stop the other way round, except that simulators
outlive the channels so that a drain still finds its partners. The first SIGTERM or SIGINT drains; the second ends the
process at once, which loses nothing that was acknowledged (``docs``: promises).
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import structlog

from engine.admin.local import SOCKET
from engine.admin.server import AdminServer
from engine.cli import logs
from engine.cli.partners import Partners
from engine.cli.prepare import environment
from engine.cli.signals import stop_on_signal, wake_on_hangup
from engine.config.plan import SitePlan
from engine.config.secrets import ADMIN_KEY, METRICS_KEY
from engine.config.site import load_site
from engine.errors import HL7EngineError
from engine.runtime.supervisor import Supervisor
from engine.store import Store
from engine.store.audit import Who

log = structlog.get_logger("engine.process")

#: Objects made and not freed since the garbage collector last looked, when it looks again.
GARBAGE = 10_000
#: Seconds the channels get to finish what is under way.
DRAIN = 20.0

Announce = Callable[[Supervisor, AdminServer, Partners | None], None]


async def serve(plan: SitePlan, store: Store, partners: Partners | None, announce: Announce) -> None:
    """Run the site until a signal. Raises DataFolderInUse, StoreError, OSError (a port is taken), PartnersFailed."""
    logs.watch_loop()
    stop, hangup = stop_on_signal(), wake_on_hangup()
    async with AsyncExitStack() as stack:
        recovered = await store.open()
        stack.push_async_callback(store.close)
        log.info(
            "store.opened",
            data=str(plan.data),
            received=recovered.received,
            queued=recovered.queued,
            durability=recovered.durability,
        )
        supervisor = Supervisor(plan, store, load=lambda: read_again(plan))
        settings = plan.settings.admin
        admin_key, metrics_key = plan.env.get(ADMIN_KEY, ""), plan.env.get(METRICS_KEY, "")
        contexts = settings.tls.contexts(plan.folder, plan.data) if settings.tls is not None else None
        socket = plan.data / SOCKET
        admin = AdminServer(supervisor, settings.host, settings.port, admin_key, socket, contexts, metrics_key)
        with door(f"the admin API on {settings.host}:{settings.port}"):
            await admin.start()
        stack.push_async_callback(admin.stop)
        if partners is not None:
            stack.push_async_callback(partners.stop)
        stack.push_async_callback(supervisor.stop, DRAIN)
        with door(f"the REST listener on {plan.settings.rest.host}:{plan.settings.rest.port}"):
            if not await until(stop, supervisor.start()):
                return
        collect_what_is_new()
        if partners is not None and not await until(stop, partners.start()):
            return
        announce(supervisor, admin, partners)
        log.info("engine.started", pid=os.getpid(), admin=admin.address)
        await until(stop, reload_on(hangup, supervisor))
        log.info("engine.stopping", deadline=DRAIN)


def collect_what_is_new() -> None:
    """Let the garbage collector run from now on, and never look through what the start made: it stays.

    Some dozens of messages on their way are more objects than Python's own threshold of 700: it would look through the
    same living ones again and again. What hangs in circles here is little (tasks, exceptions) and can wait.
    """
    gc.freeze()
    gc.set_threshold(GARBAGE, 10, 10)
    gc.enable()


def read_again(plan: SitePlan) -> SitePlan:
    """The site's files as they are now. Raises ConfigError when site.yaml cannot be used."""
    return load_site(plan.folder, plan.data, environment(plan.folder))


async def reload_on(hangup: asyncio.Event, supervisor: Supervisor) -> None:
    """Read the files again whenever ``hangup`` is set; what is wrong with them is logged."""
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            await supervisor.reload(Who.command(os.getuid()))
        except HL7EngineError as error:
            log.error("engine.not_reloaded", error=str(error))
        except OSError as error:
            log.error("engine.not_reloaded", error=error.strerror or type(error).__name__)


@contextmanager
def door(name: str) -> Iterator[None]:
    """Let an OSError say which listener could not open."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or type(error).__name__, name) from error


async def until(stop: asyncio.Event, action: Coroutine[Any, Any, None]) -> bool:
    """Await ``action`` unless ``stop`` comes first; whether it ended. Its exceptions are raised."""
    doing = asyncio.create_task(action, name="starting")
    stopping = asyncio.create_task(stop.wait(), name="stopping")
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            await doing
        return doing.done()
    finally:
        doing.cancel()
        stopping.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)
