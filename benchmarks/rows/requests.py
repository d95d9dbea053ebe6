"""Request and answer on the site of this repository: open slots (REST → QRY → JSON) and bookings (an intent first)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from benchmarks.finding import Finding, Line, at_least, at_most
from benchmarks.machine import ROOT
from benchmarks.measure import Bench, Watch, column, finding, scraped
from benchmarks.processes import KEY, Engine, Sink, free_port, load, send

PORTS = ("REST_PORT", "ADMIN_PORT", "RIS_PORT", "SIU_IN_PORT", "ORDERS_IN_PORT")
#: A site's own names for ports; the engine's listeners are told by their endings.
SAME = {"SIU_PORT": "SIU_IN_PORT", "ORDERS_PORT": "ORDERS_IN_PORT"}
HEAD = "MSH|^~\\&|SYNAPSE|DTI|RADSCHED|RADORDERPAD|20260101080000||{type}|SY{{control_id}}|P|2.3\r"
ORDER = (
    "MSH|^~\\&|SYNAPSE|DTI|RADSCHED|RADORDERPAD|20260101080000||ORM^O01|SY0000000041|P|2.3\r"
    "PID|1||MRN123456^^^DTI^MR||Doe^John||19800101|M|||100 Elm St^^Springfield^IL^62701||(217)555-0111\rPV1|1|O|DTI\r"
    "ORC|NW|ORDER123^ATHENA|ACC778899^SYNAPSE||||1^^^^^R||20260101080000|||1234567893^Smith^Jane^^^^^^NPI\r"
    "OBR|1|ORDER123^ATHENA|ACC778899^SYNAPSE|XRCHEST2^Chest X-ray 2 views^L||||||||||||1234567893^Smith^Jane^^^^^^NPI"
    "||||||||CR|||1^^^^^R\r"
)
PATH = "/api/ris/available-slots?location=DTI&modality=CR&date={day}"
BOOKING = "/api/ris/book-appointment"


def weekday() -> date:
    """A working day that is neither today nor tomorrow, wherever the location is."""
    day = date.today() + timedelta(2)
    return day + timedelta(max(0, 7 - day.weekday()) if day.weekday() >= 5 else 0)


def slots_answer(day: date) -> str:
    """A DSR^Q01 with ten slots, in the form of the simulated RIS."""
    lines = [HEAD.format(type="DSR^Q01"), "MSA|AA|{control_id}\r", "QAK|{control_id}|OK\r"]
    for number in range(10):
        start = f"{day:%Y%m%d}{9 + number // 2:02}{number % 2 * 30:02}"
        end = f"{day:%Y%m%d}{9 + (number + 1) // 2:02}{(number + 1) % 2 * 30:02}"
        slot = f"DTI-XR1-{start}"
        lines.append(f"DSP|{number + 1}||ID={slot};START={start};END={end};DUR=30;LOC=DTI;RES=XR1;MOD=CR||{slot}\r")
    return "".join(lines)


def booking_answer(day: date) -> str:
    """The ORR^O02 of a booking that was made."""
    quantity = f"1^^M30^{day:%Y%m%d}090000^{day:%Y%m%d}093000^R"
    lines = [HEAD.format(type="ORR^O02"), "MSA|AA|{control_id}\r", "PID|1||MRN123456^^^DTI^MR||Doe^John\r"]
    lines += [
        f"ORC|OK|ORDER123^RADSCHED|ACC778899^SYNAPSE||SC||{quantity}\r",
        "OBR|1|ORDER123^RADSCHED|ACC778899^SYNAPSE|XRCHEST2^Chest X-ray 2 views^L|||||||||||||||DTI|||||CR\r",
    ]
    return "".join(lines)


def booking(day: date) -> str:
    """The body of a call."""
    body = {"orderId": "ORDER123", "slotId": f"DTI-XR1-{day:%Y%m%d}0900", "locationId": "DTI", "modality": "CR"}
    start = datetime.combine(day, datetime.min.time(), ZoneInfo("America/Chicago")).replace(hour=9)
    return json.dumps(body | {"start": start.isoformat(), "patient": {"mrn": "MRN123456"}})


def engine_in(folder: Path) -> Engine:
    """An engine on this repository's site."""
    engine = Engine(folder, ROOT, PORTS, RADSCHEDULER_API_KEY=KEY, RADSCHEDULER_TOKEN=KEY, PHONE_SALT=KEY)
    engine.environment |= {name: str(engine.ports[other]) for name, other in SAME.items()}
    return engine


@contextmanager
def running(bench: Bench, answer: str) -> Iterator[tuple[Engine, Sink, Path]]:
    """This repository's site, and a stand-in for the RIS, in C, that gives one answer: the simulator is too slow."""
    with bench.scratch() as folder:
        (folder / "answer").write_text(answer, newline="")
        engine = engine_in(folder)
        with Sink(engine.ports["RIS_PORT"], answer=folder / "answer") as ris, engine.start():
            yield engine, ris, folder


def exchanges(engine: Engine, ris: Sink, connections: int, seconds: float, **options: Any) -> dict[str, Any]:
    """Calls for so long, after a short run that is not counted; the metrics are scraped meanwhile."""
    options |= {"mode": "http", "header": [f"X-API-Key: {KEY}", *options.pop("header", [])]}
    port = engine.ports["REST_PORT"]
    load(port, connections, seconds=min(1.0, seconds / 4), **options)
    watch = Watch(engine, ris)
    with scraped(engine):
        result = load(port, connections, seconds=seconds, **options)
    return {"per_s": result["per_s"], **watch.told(result)}


def ask(bench: Bench, connections: int, seconds: float) -> dict[str, Any]:
    """Open slots, asked for again and again."""
    day = weekday()
    with running(bench, slots_answer(day)) as (engine, ris, _):
        return exchanges(engine, ris, connections, seconds, path=PATH.format(day=day))


def book(bench: Bench, connections: int, seconds: float) -> dict[str, Any]:
    """Bookings of one order, each under an idempotency key of its own."""
    day = weekday()
    with running(bench, booking_answer(day)) as (engine, ris, folder):
        (folder / "body").write_text(booking(day))
        send(engine.ports["ORDERS_IN_PORT"], ORDER)
        options = {"header": ["Idempotency-Key: %s"], "body": folder / "body", "path": BOOKING}
        return exchanges(engine, ris, connections, seconds, **options)


def simulator(bench: Bench, connections: int, seconds: float, answer: str) -> dict[str, Any]:
    """The stand-in alone: the load generator asks it over MLLP."""
    with bench.scratch() as folder:
        (folder / "answer").write_text(answer, newline="")
        with Sink(free_port(), answer=folder / "answer") as ris:
            result = load(ris.port, connections, seconds=seconds)
    return {name: result[name] for name in ("per_s", "p50_ms", "p99_ms")}


def slots(connections: int, bench: Bench) -> Finding:
    """Exchanges a second; at one connection what the caller waits."""
    answer = slots_answer(weekday())
    runs = bench.rounds(
        engine=partial(ask, bench, connections, bench.seconds(5.0)),
        simulator=partial(simulator, bench, connections, bench.seconds(1.0), answer),
    )
    return told(runs, "exchanges", "exchanges/s", at_least(5_000) if connections == 8 else None, connections == 1)


def bookings(bench: Bench) -> Finding:
    """Bookings a second: the intent is committed before the order leaves, the outcome before the answer."""
    answer = booking_answer(weekday())
    runs = bench.rounds(
        engine=partial(book, bench, 8, bench.seconds(5.0)),
        simulator=partial(simulator, bench, 8, bench.seconds(1.0), answer),
    )
    return told(runs, "bookings", "bookings/s", at_least(3_500), False)


def told(runs: dict[str, list[dict[str, Any]]], figure: str, unit: str, aim: Any, felt: bool) -> Finding:
    """Rate, and the caller's wait."""
    result = finding(runs, "engine", "p50_ms", "p99_ms")
    what = "the stand-in for the RIS alone, over MLLP"
    alone = column(runs["simulator"], "per_s")
    result.lines.append(Line(figure, unit, column(runs["engine"], "per_s"), aim, what, alone))
    if felt:
        wait, other = column(runs["engine"], "p50_ms"), column(runs["simulator"], "p50_ms")
        result.lines.append(Line("caller's view, p50", "ms", wait, at_most(0.6), what, other))
    return result
