"""All simulators of one site in one process: which there are, where they listen, how they start and stop.

Ports and names are those of design.md; the environment overrides them. The simulated Epic speaks TLS with a
certificate of the private CA in `<data>/tls` (see `engine/tls.py`). What each one does is in its own module.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from engine import tls
from engine.simulators.athena_rest import AthenaRest
from engine.simulators.calendar_table import CalendarTable
from engine.simulators.control import Control
from engine.simulators.dialect import Dialect
from engine.simulators.emr import Emr
from engine.simulators.profiles import PROFILES
from engine.simulators.ris import Ris
from engine.simulators.twilio import Twilio
from engine.simulators.webhook import PATH, STATUS_PATH, Webhook

log = structlog.get_logger("engine.simulators")

HOST = "127.0.0.1"
RIS_PORT = 2576
CONTROL_PORT = 8071
SIU_PORT = 2575
ORDERS_PORT = 2577
ORU_PORT = 2578
REST_PORT = 8080
ATHENA_API = "http://127.0.0.1:8075"
TWILIO_PATH = "/api/webhooks/twilio/status"
TWILIO_URL = f"http://127.0.0.1:8080{TWILIO_PATH}"
WEBHOOK = f"http://127.0.0.1:8070{PATH}"
#: The calendar table of a site with `slots: db`, as `transforms/ris/slots/db.yaml` has it.
CALENDAR = "sqlite:data/calendar.sqlite"
#: EMR → port: one for each profile, in their order.
EMR_PORTS = {name: 2601 + number for number, name in enumerate(PROFILES)}
TLS_EMRS = frozenset({"epic"})


class Part(Protocol):
    """What can be started and stopped."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Simulators:
    """The RIS, the EMRs, RadScheduler's webhook and their control port, made from the environment.

    Read are `RIS_HOST`, `RIS_PORT`, `<EMR>_HOST`, `<EMR>_PORT`, `<EMR>_VERSIONS` (blank-separated) and `<EMR>_FACILITY`
    (what the EMR takes as MSH-12 and MSH-6), `RADSCHEDULER_WEBHOOK` (a URL), `RADSCHEDULER_TOKEN` (required),
    `SIMULATOR_CONTROL_PORT`, `RIS_CALENDAR_DSN` (or `RIS_CALENDAR_OWNER_DSN`, where the engine's account only reads),
    `RADSCHEDULER_SMS_WEBHOOK` (its path), `TWILIO_AUTH_TOKEN` and `TWILIO_STATUS_URL` (without a token there is no
    Twilio), `ATHENA_API`, `ATHENA_PRACTICE`, `ATHENA_CLIENT_ID` and `ATHENA_CLIENT_SECRET` (without a secret athena has
    no REST API), and the engine's own `ENGINE_HOST`, `SIU_PORT`, `ORDERS_PORT`, `ORU_PORT` and `REST_PORT`. Port 0
    takes a free one. `dialect` is the RIS's; None speaks them all. Raises ValueError for a setting that is none and for
    a missing token; OSError for files and ports.
    """

    def __init__(self, site: Path, data: Path, env: Mapping[str, str], dialect: Dialect | None = None) -> None:
        engine = env.get("ENGINE_HOST", HOST)
        self.ris = Ris(
            site / "tables" / "locations.csv",
            host=env.get("RIS_HOST", HOST),
            port=port(env, "RIS_PORT", RIS_PORT),
            siu=(engine, port(env, "SIU_PORT", SIU_PORT)),
            orders=(engine, port(env, "ORDERS_PORT", ORDERS_PORT)),
            results=(engine, port(env, "ORU_PORT", ORU_PORT)),
            dialect=dialect,
        )
        self.emrs = {name: make_emr(name, data, env) for name in EMR_PORTS}
        self.webhook = make_webhook(env)
        self.athena_rest = make_athena_rest(env)
        self.control = Control(
            ris=self.ris,
            emrs=self.emrs,
            webhook=self.webhook,
            twilio=make_twilio(env),
            athena_rest=self.athena_rest,
            port=port(env, "SIMULATOR_CONTROL_PORT", CONTROL_PORT),
        )
        dsn = calendar_dsn(dialect, env)
        self.table = CalendarTable(dsn, site) if dsn else None
        self.stack = AsyncExitStack()

    async def start(self) -> None:
        """Start all, the RIS last because it sends its orders at once; when one cannot start, none stays."""
        try:
            if self.table is not None:
                self.stack.callback(self.table.close)
                self.table.fill(self.ris.calendar, self.ris.now().date())
                self.ris.calendar.changed = self.table.slot_changed
            parts: list[Part] = [*self.emrs.values(), self.webhook]
            parts += [self.athena_rest] if self.athena_rest is not None else []
            parts += [self.control, self.ris]
            for part in parts:
                self.stack.push_async_callback(part.stop)
                await part.start()
        except BaseException:  # also a cancellation: what was started is stopped, then it goes on
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all in reverse order; harmless when nothing runs."""
        await self.stack.aclose()

    def addresses(self) -> dict[str, str]:
        """Name → where it listens, for people and for the `ready` callback."""
        emrs = {name: f"{emr.server.host}:{emr.port}" for name, emr in self.emrs.items()}
        ris = f"{self.ris.server.host}:{self.ris.port}"
        more = {"athena-rest": self.athena_rest.url} if self.athena_rest is not None else {}
        return {"ris": ris, **emrs, **more, "webhook": self.webhook.url, "control": self.control.url}


async def run(
    site: Path,
    data: Path,
    env: Mapping[str, str],
    ready: Callable[[dict[str, str]], None] | None,
    stop: asyncio.Event,
) -> None:
    """Run all simulators until `stop` is set. `ready` is called once, when all listeners are open."""
    simulators = Simulators(site, data, env)
    await simulators.start()
    try:
        log.info("simulators.ready", **simulators.addresses())
        if ready is not None:
            ready(simulators.addresses())
        await stop.wait()
    finally:
        await simulators.stop()


def make_emr(name: str, data: Path, env: Mapping[str, str]) -> Emr:
    prefix = name.upper()
    context = None
    if name in TLS_EMRS:
        folder = data / "tls"
        tls.ensure_certificates(folder)
        context = tls.server_context(folder / "server.pem", folder / "server.key")
    return Emr(
        name,
        host=env.get(f"{prefix}_HOST", HOST),
        port=port(env, f"{prefix}_PORT", EMR_PORTS[name]),
        context=context,
        versions=env.get(f"{prefix}_VERSIONS", "").split() or None,
        receiving_facility=env.get(f"{prefix}_FACILITY") or None,
    )


def calendar_dsn(dialect: Dialect | None, env: Mapping[str, str]) -> str:
    """Where the RIS keeps its calendar table; empty for nowhere, because nobody was told to ask it."""
    told = env.get("RIS_CALENDAR_OWNER_DSN") or env.get("RIS_CALENDAR_DSN")
    return told or (CALENDAR if dialect is not None and "db" in dialect.slots else "")


def make_webhook(env: Mapping[str, str]) -> Webhook:
    url = urlsplit(env.get("RADSCHEDULER_WEBHOOK") or WEBHOOK)
    if url.scheme != "http" or not url.hostname:
        raise ValueError("RADSCHEDULER_WEBHOOK is no http URL; the simulated webhook has no TLS")
    token = env.get("RADSCHEDULER_TOKEN", "")
    if not token:
        raise ValueError("RADSCHEDULER_TOKEN is not set")
    listen = 80 if url.port is None else url.port
    status = urlsplit(env.get("RADSCHEDULER_SMS_WEBHOOK", "")).path
    return Webhook(token, host=url.hostname, port=listen, path=url.path or PATH, status_path=status or STATUS_PATH)


def make_athena_rest(env: Mapping[str, str]) -> AthenaRest | None:
    """athena's REST API, where the site has a secret for it."""
    secret = env.get("ATHENA_CLIENT_SECRET")
    url = urlsplit(env.get("ATHENA_API") or ATHENA_API)
    if not secret:
        return None
    if url.scheme != "http" or not url.hostname:
        raise ValueError("ATHENA_API is no http URL; the simulated athena has no TLS")
    return AthenaRest(
        secret,
        client_id=env.get("ATHENA_CLIENT_ID") or "hl7engine",
        practice=env.get("ATHENA_PRACTICE") or "12345",
        host=url.hostname,
        port=80 if url.port is None else url.port,
    )


def make_twilio(env: Mapping[str, str]) -> Twilio | None:
    """Twilio, where the site has a token for it: it calls the engine here, and signs the site's public address."""
    token = env.get("TWILIO_AUTH_TOKEN")
    address = f"http://{env.get('ENGINE_HOST', HOST)}:{port(env, 'REST_PORT', REST_PORT)}{TWILIO_PATH}"
    return Twilio(token, address, env.get("TWILIO_STATUS_URL") or TWILIO_URL) if token else None


def port(env: Mapping[str, str], name: str, default: int) -> int:
    value = env.get(name) or str(default)
    if not value.isdigit() or int(value) > 65535:
        raise ValueError(f"{name} is no port number")
    return int(value)
