"""One engine and one simulated RIS in this process, both set by the same words; every message between them is kept.

The engine runs this site's own channels on real sockets and a store of its own. What would go to EMRs and to
RadScheduler's webhook is discarded: it is not what these tests are about.
"""

import asyncio
import base64
import csv
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import yaml

from engine.config import load_site
from engine.hl7.message import Message
from engine.hl7.validation import Level, validate
from engine.runtime.supervisor import Supervisor
from engine.simulators import Dialect, Ris
from engine.simulators.calendar_table import CalendarTable, rows_of
from engine.simulators.outbox import Emission, Outbox
from engine.store.audit import Who
from engine.store.sqlite import SqliteStore

SITE = Path(__file__).parents[2]
LOCATIONS = SITE / "tables" / "locations.csv"
CENTRAL = ZoneInfo("America/Chicago")
NO_MASTER_FILE = re.compile("(MFI: MFI|MFE: group MF_QUERY .*|MFE: MFE) is missing at the end")
#: order → (MRN, location, room, modality)
ORDERS = {
    "ORDER123": ("MRN123456", "DTI", "XR1", "CR"),
    "ORDER126": ("MRN123459", "DTI", "US1", "US"),
    "ORDER128": ("MRN123461", "DTI", "XR1", "DX"),
}


class KeepingOutbox(Outbox):
    """Keeps what is sent through it."""

    def __init__(self, name: str) -> None:
        super().__init__(name, None, retry_seconds=0.01)
        self.kept: list[bytes] = []

    def put(self, emission: Emission) -> None:
        self.kept.append(emission.data)
        super().put(emission)


class KeepingRis(Ris):
    """Keeps what it was sent and what it answered."""

    def __init__(self, words: Mapping[str, str]) -> None:
        super().__init__(LOCATIONS, dialect=Dialect.of(words))
        self.exchanges: list[tuple[bytes, list[bytes]]] = []
        self.close_table: Callable[[], None] = lambda: None
        self.own_siu, self.own_orders = KeepingOutbox("siu"), KeepingOutbox("orders")
        self.siu, self.orders = self.own_siu, self.own_orders
        self.outboxes |= {"siu": self.siu, "orders": self.orders}

    def handle(self, data: bytes) -> list[bytes]:
        answers = super().handle(data)
        self.exchanges.append((data, answers))
        return answers

    def asked(self, kind: str = "") -> list[Message]:
        """What the engine sent, in order; of a kind such as ``ORM``."""
        found = [Message.parse(data) for data, _ in self.exchanges]
        return [message for message in found if message.type.startswith(kind)]

    def all_messages(self) -> list[Message]:
        """Everything that crossed the wire, both ways."""
        bodies = [body for data, answers in self.exchanges for body in (data, *answers)]
        return [Message.parse(body) for body in (*bodies, *self.own_siu.kept, *self.own_orders.kept)]


@dataclass
class Pair:
    """The engine and its RIS, and a caller of the engine."""

    supervisor: Supervisor
    ris: KeepingRis
    http: aiohttp.ClientSession

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON, without the correlation id."""
        async with self.http.get(self.supervisor.http.address + path) as answer:
            return answer.status, without_id(await answer.json())

    async def book(self, body: Mapping[str, Any], key: str) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON without the correlation id, headers."""
        url = self.supervisor.http.address + "/api/ris/book-appointment"
        async with self.http.post(url, json=body, headers={"Idempotency-Key": key}) as answer:
            return answer.status, without_id(await answer.json()), answer.headers

    async def until_resolved(self, channel: str) -> None:
        """Wait until no delivery of the channel is unknown any more."""
        async with asyncio.timeout(20):
            while self.is_unknown(channel):  # noqa: ASYNC110 - the store announces nothing
                await asyncio.sleep(0.005)

    def is_unknown(self, channel: str) -> bool:
        return any(key[0] == channel and key[2] == "unknown" for key in self.supervisor.store.open_counts())

    async def cancel(self, order: str) -> tuple[int, Any]:
        """Status and JSON, without the correlation id."""
        reply = await self.supervisor.ask("radscheduler-cancel", {"orderId": order}, None, Who.local(0))
        return reply.status, without_id(reply.body)


def without_id(body: Any) -> Any:
    found = {name: value for name, value in body.items() if name != "correlationId"}
    if isinstance(found.get("error"), dict):
        found["error"] = {name: value for name, value in found["error"].items() if name != "correlationId"}
    return found


def write_site(folder: Path, words: Mapping[str, str]) -> None:
    """This site with other words, and nobody behind it."""
    settings = yaml.safe_load((SITE / "site.yaml").read_text("utf-8"))
    settings["ris"] |= words
    settings["rest"] = settings["admin"] = {"port": 0}
    (folder / "channels").mkdir(parents=True)
    (folder / "site.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    for name in ("transforms", "tables"):
        (folder / name).symlink_to(SITE / name)
    for name, text in channels().items():
        (folder / "channels" / name).write_text(text, "utf-8")


@cache
def channels() -> dict[str, str]:
    """The channels between RadScheduler and the RIS as they are; those of EMRs and the webhook end nowhere."""
    found = {path.name: path.read_text("utf-8") for path in (SITE / "channels").glob("radscheduler-*.yaml")}
    for name in ("ris-orders.yaml", "ris-siu-router.yaml"):
        channel = yaml.safe_load((SITE / "channels" / name).read_text("utf-8"))
        channel["transform"] = [step for step in channel["transform"] if "lookup" not in step]
        channel["destinations"] = [{"name": "nowhere", "to": {"discard": {}}}]
        found[name] = yaml.safe_dump(channel)
    return found


@asynccontextmanager
async def running(folder: Path, words: Mapping[str, str]) -> AsyncIterator[Pair]:
    """Both, started, the orders of the RIS in the engine's cache."""
    write_site(folder / "site", words)
    ris = KeepingRis(words)
    key = secrets.token_bytes(32)
    async with ris_started(ris):
        if words["slots"] == "db":
            keep_table(ris, folder)
        env = {
            "HL7ENGINE_STORE_KEY": base64.b64encode(key).decode(),
            "RADSCHEDULER_API_KEY": "test-key",
            "RADSCHEDULER_TOKEN": "unused",
            "PHONE_SALT": "salt",
            "RIS_PORT": str(ris.port),
            "SIU_PORT": "0",
            "ORDERS_PORT": "0",
            "RIS_CALENDAR_DSN": f"sqlite:{folder / 'calendar.sqlite'}",
        }
        plan = load_site(folder / "site", folder / "data", env)
        assert not plan.broken, [str(problem) for problem in plan.problems]
        store = SqliteStore(folder / "data", key)
        await store.open()
        supervisor = Supervisor(plan, store)
        await supervisor.start()
        try:
            ris.siu.address = listening(supervisor, "ris-siu-router")
            ris.orders.address = listening(supervisor, "ris-orders")
            ris.send_orders()
            await ris.orders_sent.wait()
            async with aiohttp.ClientSession(headers={"X-API-Key": "test-key"}) as http:
                yield Pair(supervisor, ris, http)
        finally:
            await supervisor.stop(5.0)
            await store.close()


def keep_table(ris: KeepingRis, folder: Path) -> None:
    """The calendar of the day that is asked about as a table, beside what the messages tell."""
    table = CalendarTable(f"sqlite:{folder / 'calendar.sqlite'}", folder)
    place = ris.calendar.locations["DTI"]
    slots = ris.calendar.slots(place, workday())
    table.database.make(row for slot in slots for row in rows_of(slot, ris.calendar.state(slot)))
    ris.calendar.changed = table.slot_changed
    ris.close_table = table.close


@asynccontextmanager
async def ris_started(ris: KeepingRis) -> AsyncIterator[None]:
    ris.sends_orders = False
    await ris.start()
    try:
        yield
    finally:
        await ris.stop()
        ris.close_table()


def listening(supervisor: Supervisor, channel: str) -> tuple[str, int]:
    source: Any = supervisor.plan.channels[channel].source
    return "127.0.0.1", source.port


def faults_of(message: Message) -> list[str]:
    """What the structure validator finds wrong with a message: errors, not what it merely remarks on."""
    found = [str(finding) for finding in validate(message) if finding.level is Level.ERROR]
    if message.type == "MFR" and message.value("QAK-2") == "NF":
        # MFR has no form for "none" (systems.md D.1): the master file is left out, and nothing else may be wrong.
        found = [fault for fault in found if not NO_MASTER_FILE.match(fault)]
    return found


# -- what is expected, whatever the dialect -----------------------------------------------------------------------


def workday() -> date:
    """The next day from Monday to Friday at the simulated locations."""
    day = datetime.now(CENTRAL).date() + timedelta(days=1)
    return day + timedelta(days=max(0, 7 - day.weekday()) if day.weekday() > 4 else 0)


def at(hour: int, minute: int = 0) -> datetime:
    """A moment of that day."""
    day = workday()
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=CENTRAL)


def known_locations(modality: str = "") -> dict[str, Any]:
    """The answer to a question for locations, from the table that the RIS reads as well."""
    with LOCATIONS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("id", "name", "address", "phone", "timezone")
    found = [{**{name: row[name] for name in names}, "modalities": row["modalities"].split()} for row in rows]
    return {"locations": [each for each in found if not modality or modality in each["modalities"]]}


def open_slots(ris: Ris, location: str, modality: str) -> dict[str, Any]:
    """The answer to a question for slots of that day, from the RIS's own calendar."""
    return {
        "slots": [
            {
                "id": slot["id"],
                "locationId": location,
                "modality": modality,
                "start": slot["start"],
                "end": slot["end"],
                "durationMinutes": 30,
                "resource": slot["resource"],
            }
            for slot in ris.slots(location, modality, workday())
            if slot["state"] == "open"
        ]
    }


def booking(order: str, start: datetime) -> dict[str, Any]:
    """The body of a booking."""
    mrn, location, room, modality = ORDERS[order]
    return {
        "orderId": order,
        "slotId": f"{location}-{room}-{start:%Y%m%d%H%M}",
        "locationId": location,
        "modality": modality,
        "start": start.isoformat(),
        "durationMinutes": 30,
        "patient": {"mrn": mrn},
        "notes": "Booked by SMS",
    }
