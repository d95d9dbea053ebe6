"""Where a pilot runs: an engine that runs already, or one of its own, and always with simulators of all partners.

A pilot books patients who do not exist. So nothing is asked of an engine before every address that its channels send
to, or take messages in at, turned out to be a simulator's or one that was made for this pilot.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import socket
import ssl
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from engine.cli.client import Client, PortClient
from engine.cli.exits import Exit
from engine.cli.options import data_folder
from engine.cli.output import fail
from engine.cli.tour import BOOKING, LOCATIONS, SLOTS
from engine.errors import HL7EngineError, NotRunning

if TYPE_CHECKING:
    from engine.config.plan import SitePlan

NEEDED = (LOCATIONS, SLOTS, BOOKING)
ROUTER = "ris-siu-router"
ADMIN_KEY = "HL7ENGINE_ADMIN_KEY"
CONTROL_PORT = "SIMULATOR_CONTROL_PORT"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
#: What the simulators read, whatever the site's files do.
READ_BY_SIMULATORS = (
    *("RIS_HOST", "RIS_PORT", "ENGINE_HOST", "SIU_PORT", "ORDERS_PORT", "ORU_PORT", "REST_PORT", CONTROL_PORT),
    *("RIS_CALENDAR_DSN", "RIS_CALENDAR_OWNER_DSN"),
)
#: Ports that no system gives to somebody's outgoing connection.
PORTS = range(12_000, 32_000)
#: Seconds for an engine and its simulators to start, with the orders acknowledged.
PATIENCE = 90.0
#: Lines of an engine that did not start which are shown.
LAST_LINES = 8

_VARIABLE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(?::-([^}]*))?\}")


class NoGround(HL7EngineError):
    """There is no engine on which a pilot may run; the text says why."""


@dataclass(frozen=True, slots=True)
class Urls:
    """Where a running engine and its simulators are, as far as a person said so."""

    rest: str | None = None
    admin: str | None = None
    simulators: str | None = None

    @property
    def given(self) -> bool:
        return any((self.rest, self.admin, self.simulators))


@dataclass(frozen=True, slots=True)
class Ground:
    """An engine with simulators. `key` is the API key of RadScheduler's three channels."""

    site: Path
    rest: str
    key: str
    admin: Client
    control: str
    #: For an engine that speaks TLS.
    tls: ssl.SSLContext
    #: Whether it was started for this pilot.
    own: bool
    #: Whether the RIS wants the procedure with the question for slots.
    asks_procedure: bool = False
    #: The ports that were made for this pilot.
    ports: frozenset[int] = frozenset()


@asynccontextmanager
async def ground(site: Path, data: Path | None, urls: Urls) -> AsyncIterator[Ground]:
    """An engine of this site that may be asked for anything. Raises NoGround, ConfigError, NotRunning."""
    if urls.given or is_running(data_folder(site, data)):
        found = running(site, data, urls)
        await refuse_real_partners(found)
        yield found
        return
    with place(data) as folder:
        async with own_engine(site, folder) as found:
            await refuse_real_partners(found)
            yield found


def is_running(data: Path) -> bool:
    """Whether an engine answers on this data folder."""
    try:
        Client(data).get("status")
    except NotRunning:
        return False
    return True


@contextmanager
def place(data: Path | None) -> Iterator[Path]:
    """The data folder of an engine of the pilot's own: the one that was named, else one that goes with the pilot."""
    if data is not None:
        yield data.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="hl7engine-pilot-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


# -- an engine that runs -------------------------------------------------------------------------------------------


def running(site: Path, data: Path | None, urls: Urls) -> Ground:
    """The engine of this site that runs, or the one at the addresses that were given."""
    from engine.cli.prepare import load

    plan = load(site, data)
    admin: Client = Client(plan.data)
    if urls.given:
        where = urls.admin or f"http://{plan.settings.admin.host}:{plan.settings.admin.port}"
        admin = PortClient(where, plan.env.get(ADMIN_KEY, ""), trust(plan.data))
    rest = urls.rest or callable_at(admin.get("status")["rest"]["address"])
    control = urls.simulators or f"http://127.0.0.1:{plan.env.get(CONTROL_PORT) or default_control_port()}"
    return Ground(plan.folder, rest, key_of(plan), admin, control, trust(plan.data), False, asks_procedure(plan))


def trust(data: Path) -> ssl.SSLContext:
    """The authorities of this machine, and the private one of the data folder."""
    context = ssl.create_default_context()
    own = data / "tls" / "ca.pem"
    if own.is_file():
        context.load_verify_locations(own)
    return context


def callable_at(address: str) -> str:
    """An address to call where a listener takes every address of its machine."""
    return re.sub(r"//(0\.0\.0\.0|\[::\])(?=:|$)", "//127.0.0.1", address)


def default_control_port() -> int:
    from engine.simulators.app import CONTROL_PORT as port

    return port


def asks_procedure(plan: SitePlan) -> bool:
    """Whether slots are asked for by SQM^S25, which names a service (``ris: {slots: sqm}``)."""
    ris = (plan.settings.model_extra or {}).get("ris")
    return isinstance(ris, dict) and ris.get("slots") == "sqm"


def key_of(plan: SitePlan) -> str:
    """The API key that may call all three of RadScheduler's channels. Raises NoGround."""
    missing = [name for name in NEEDED if name not in plan.channels]
    if missing:
        broken = [name for name in missing if name in plan.broken]
        why = "has faults, see hl7engine check" if broken else "is not there"
        raise NoGround(
            f"a pilot books at a RadScheduler site; of {plan.folder} the channel {(broken or missing)[0]} {why} "
            "(hl7engine init --example radscheduler writes such a site)"
        )
    for caller in plan.settings.api_keys.values():
        if set(NEEDED) <= set(caller.channels):
            return caller.key.get_secret_value()
    raise NoGround(f"no API key of site.yaml may call all of {', '.join(NEEDED)}")


# -- an engine of the pilot's own ----------------------------------------------------------------------------------


@asynccontextmanager
async def own_engine(site: Path, data: Path) -> AsyncIterator[Ground]:
    """Start the site with simulators on free ports of the loopback interface; it ends with this process."""
    from engine.cli.prepare import environment, prepare_data
    from engine.config.site import load_site

    environ = own_environment(site, data)
    ports = frozenset(own_ports(environ))
    folder = prepare_data(site, data)
    plan = load_site(site, folder, {**environment(site), **environ})
    key = key_of(plan)
    refuse_listeners_of_the_site(plan, ports)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "engine.cli", "run", str(site), "--data", str(folder), "--simulators", "--child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
    )
    try:
        await until_started(child)
        reading = asyncio.create_task(drained(child), name="engine-log")
        admin = Client(folder)
        rest = admin.get("status")["rest"]["address"]
        control = f"http://127.0.0.1:{environ[CONTROL_PORT]}"
        yield Ground(plan.folder, rest, key, admin, control, trust(folder), True, asks_procedure(plan), ports)
    finally:
        if child.stdin is not None:
            child.stdin.close()  # it stops in order
        await child.wait()
    await reading


async def until_started(child: asyncio.subprocess.Process) -> None:
    """Read the engine's log until it says that everything runs. Raises NoGround with its last lines."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    assert child.stderr is not None  # noqa: S101 - it was started with a pipe
    try:
        async with asyncio.timeout(PATIENCE):
            while line := await child.stderr.readline():
                last.append(line.decode(errors="replace").rstrip())
                if event_of(line) == "engine.started":
                    return
    except TimeoutError:
        raise NoGround(f"the engine did not start within {PATIENCE:.0f} s:\n" + "\n".join(last)) from None
    raise NoGround("the engine did not start:\n" + "\n".join(last))


def event_of(line: bytes) -> str:
    """``event`` of a line of the log."""
    try:
        found = json.loads(line)
    except ValueError:
        return ""
    return str(found.get("event", "")) if isinstance(found, dict) else ""


async def drained(child: asyncio.subprocess.Process) -> None:
    """Read on, so that the engine never waits for this process."""
    while child.stderr is not None and await child.stderr.read(65536):
        pass


def own_environment(site: Path, data: Path) -> dict[str, str]:
    """Every port, host and address that the site's files or the simulators read, on free ports of the loopback.

    Databases are a file in ``data``.
    """
    from engine.simulators.app import EMR_PORTS

    named = dict.fromkeys(READ_BY_SIMULATORS, "")
    for emr in EMR_PORTS:
        named |= {f"{emr.upper()}_PORT": "", f"{emr.upper()}_HOST": ""}
    for file in (site / "site.yaml", *sorted((site / "channels").glob("*.yaml"))):
        named |= dict(_VARIABLE.findall(file.read_text(encoding="utf-8", errors="replace")))
    free = free_ports()
    found = {}
    for name, default in named.items():
        address = urlsplit(default)
        if name.endswith("_PORT"):
            found[name] = str(next(free))
        elif name.endswith("_HOST"):
            found[name] = "127.0.0.1"
        elif name.endswith("_CA"):
            found[name] = ""  # the simulators show certificates of the data folder's own authority
        elif name.endswith("_DSN"):
            found[name] = f"sqlite:{data}/calendar.sqlite"
        elif address.scheme == "http" and address.hostname in LOOPBACK:
            found[name] = f"http://127.0.0.1:{next(free)}{address.path}"
    return found


def own_ports(environment: Mapping[str, str]) -> Iterator[int]:
    """The ports in it."""
    for name, value in environment.items():
        if name.endswith("_PORT"):
            yield int(value)
        elif value.startswith("http"):
            yield urlsplit(value).port or 80


def free_ports() -> Iterator[int]:
    """Ports that nobody has at this moment, each once."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


def refuse_listeners_of_the_site(plan: SitePlan, ports: Collection[int]) -> None:
    """Whoever sends to a port that the site's files fix would be answered by the pilot's engine. Raises NoGround."""
    doors = {f"the source of {channel.name}": channel.source.address for channel in plan.channels.values()}
    doors |= {"rest of site.yaml": f"http://{plan.settings.rest.host}:{plan.settings.rest.port}"}
    for name, address in doors.items():
        where = urlsplit(address)
        if where.port and not (where.hostname in LOOPBACK and where.port in ports):
            raise NoGround(
                f"{name} listens at {address} in every case, so that real senders could reach an engine that is only "
                'for this pilot. Write port: "${NAME_PORT:-…}" there, or run the pilot against a running engine'
            )


# -- nobody real ---------------------------------------------------------------------------------------------------


async def refuse_real_partners(found: Ground) -> None:
    """Raise NoGround when a channel sends to anything but a simulator; ends the command when there are none."""
    import aiohttp

    try:
        async with aiohttp.ClientSession() as http, http.get(found.control) as answer:
            ports = found.ports.union(simulated((await answer.json())["running"]))
    except (aiohttp.ClientError, ValueError, KeyError, TypeError, TimeoutError):
        fail(
            f"no simulators answer at {found.control}. A pilot books patients who do not exist, so it runs against "
            "simulators only: hl7engine run --simulators, or stop the engine and let the pilot start its own",
            Exit.USAGE,
        )
    for channel in found.admin.get("channels")["channels"]:
        for destination in channel["destinations"]:
            where = urlsplit(destination["address"])
            if where.netloc and not (where.hostname in LOOPBACK and where.port in ports):
                raise NoGround(
                    f"{channel['name']} sends to {destination['name']} at {destination['address']}, which is no "
                    f"simulator of {found.control}. Nothing was booked"
                )


def simulated(running: Any) -> Iterator[int]:
    """The port of every simulator in what the control port says of itself."""
    members = running.items() if isinstance(running, dict) else ()
    for name, value in members:
        if name == "port" and isinstance(value, int):
            yield value
        elif name == "url" and isinstance(value, str):
            yield urlsplit(value).port or 80
        else:
            yield from simulated(value)
