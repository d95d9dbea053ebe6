"""What ``run --simulators`` prints to try things with: calls, traces, faults, each ready to paste.

Only for channels that are there. Keys are never printed: the lines read them from ``.env``. The day is the next
weekday, on which the simulated RIS has open slots.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from engine.config.plan import SitePlan

KEY = "RADSCHEDULER_API_KEY"
LOCATIONS, SLOTS, BOOKING = "radscheduler-locations", "radscheduler-available-slots", "radscheduler-book-appointment"
CORRELATION_ID = "try-1"
#: Where the simulated locations are.
ZONE = ZoneInfo("America/Chicago")


def tour(plan: SitePlan, rest: str, addresses: Mapping[str, str], today: date | None = None) -> list[str]:
    """Lines for the terminal; empty for a site without RadScheduler's channels. ``rest`` is the REST listener."""
    if not {LOCATIONS, SLOTS, BOOKING} & plan.channels.keys():
        return []
    day = next_weekday(today or datetime.now(ZONE).date())
    lines = ["Try it, in another terminal:", ""]
    lines += [f"  {line}" for line in calls(plan, rest, day)]
    lines += ["", "See every hop of the booking, and all messages:", ""]
    lines += [f"  {command(plan, words)}" for words in (f"trace {CORRELATION_ID}", "messages", "channels")]
    if control := addresses.get("control"):
        lines += ["", "Make partners fail, and mend them (curl that address alone lists everything):", ""]
        lines += [f"  {line}" for line in faults(control)]
    return [*lines, "", "Stop with Ctrl-C."]


def calls(plan: SitePlan, base: str, day: date) -> Iterator[str]:
    """RadScheduler's three calls as curl lines."""
    curl = f'curl -s -H "X-API-Key: {key(plan.folder)}"'
    if base.startswith("https:"):
        curl += " --insecure"
    if LOCATIONS in plan.channels:
        yield f"{curl} '{base}/api/ris/locations?modality=CR'"
    if SLOTS in plan.channels:
        yield f"{curl} '{base}/api/ris/available-slots?location=DTI&modality=CR&date={day}'"
    if BOOKING in plan.channels:
        headers = f"-H 'Content-Type: application/json' -H 'X-Correlation-ID: {CORRELATION_ID}'"
        yield f"{curl} {headers} -d '{booking(day)}' '{base}/api/ris/book-appointment'"


def booking(day: date) -> str:
    """The body of a booking that the simulated RIS accepts once."""
    start = datetime(day.year, day.month, day.day, 9, tzinfo=ZONE)
    return (
        f'{{"orderId":"ORDER123","slotId":"DTI-XR1-{start:%Y%m%d%H%M}","locationId":"DTI","modality":"CR",'
        f'"start":"{start.isoformat()}","durationMinutes":30,"patient":{{"mrn":"MRN123456"}}}}'
    )


def faults(control: str) -> Iterator[str]:
    """The control port of the simulators, in examples."""
    yield f"curl -s -X POST {control}/ris/down        # the RIS is gone: calls answer 503"
    yield f"curl -s -X POST {control}/ris/up"
    silence = '{"fault": "silence"}'
    yield f"curl -s -X POST {control}/ris/faults -d '{silence}'  # the next message gets no answer: 504"
    yield f"curl -s -X DELETE {control}/ris/faults"
    yield f"curl -s {control}/emr/epic        # what the simulated Epic received"
    yield f"curl -s {control}/"


def next_weekday(today: date) -> date:
    """The first day from Monday to Friday after ``today``."""
    day = today + timedelta(days=1)
    while day.weekday() > 4:
        day += timedelta(days=1)
    return day


def key(folder: Path) -> str:
    """The API key, as the shell reads it."""
    if os.environ.get(KEY):
        return f"${KEY}"
    return f"$(sed -n 's/^{KEY}=//p' {shlex.quote(shown(folder / '.env'))})"


def command(plan: SitePlan, words: str) -> str:
    """``hl7engine WORDS`` for this site and its data, from where the reader stands."""
    program = Path(".venv/bin/hl7engine")
    name = str(program) if (Path.cwd() / program).exists() else "hl7engine"
    line = f"{name} {words}"
    if plan.folder != Path.cwd():
        line += f" --site {shlex.quote(shown(plan.folder))}"
    if plan.data != (plan.folder / plan.settings.store.path).resolve():
        line += f" --data {shlex.quote(shown(plan.data))}"
    return line


def shown(path: Path) -> str:
    """A path relative to here when it is below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
