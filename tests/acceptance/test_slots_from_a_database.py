"""`ris: {slots: db}`: open slots from the RIS's calendar table, the same JSON as its messages give."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any

Site = Any
Booking = Callable[..., dict[str, Any]]
Local = Callable[..., datetime]

QRY, DB = "slots: qry", "slots: db"
#: A calendar without an end, and with nothing on the day that is asked for.
ENDLESS = """
CREATE VIEW calendar AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
SELECT i AS slot_id, 'DTI' AS location_id, 'CR' AS modality, '' AS resource,
    '9' || i AS starts_at, '' AS ends_at, 'open' AS state FROM n
"""


def test_the_same_slots_whichever_way_the_ris_is_asked(
    new_site: Callable[..., Site], booking: Booking, local: Local, workday: Callable[..., date]
) -> None:
    site = new_site(edits=[("site.yaml", QRY, DB)], simulator_options=["--ris", "slots=any"]).start()
    days = [workday(number) for number in (1, 40)]
    asked = [
        f"?location={location}&modality={modality}&date={day}"
        for day in days
        for location, modality in (("DTI", "CR"), ("DTI", "DX"), ("DTI", "MR"))
    ]
    free = slots(site, asked)
    assert all(free[:2])
    assert free[2] == [], "DTI has no MR"
    assert not site.received("QRY"), "no message is sent"
    [row] = [each for each in site.messages(limit="1") if each["channel"] == "radscheduler-available-slots"]
    assert (row["state"], row["cause"]) == ("routed", "answered by its steps")

    assert site.book(booking(), "first").status == 201
    taken = slots(site, asked)
    assert [slot["id"] for slot in free[0] if slot not in taken[0]] == [booking()["slotId"]]
    again = site.book(booking("ORDER128", local(9)), "second")
    assert (again.status, again.error["code"]) == (409, "slot_taken")
    assert again.error["alternatives"] == taken[1], "what is still open is asked of the database too"
    site.edit("site.yaml", DB, QRY)
    assert site.cli("reload").returncode == 0
    assert slots(site, asked) == taken, "asked by message"


def test_what_is_wrong_with_the_database_has_its_own_status(new_site: Callable[..., Site], tmp_path: Path) -> None:
    place = tmp_path / "calendar.sqlite"
    quick = ("transforms/ris/slots/db.yaml", "timeout: 10s", "timeout: 2s")
    site = new_site(edits=[("site.yaml", QRY, DB), quick], env={"RIS_CALENDAR_DSN": f"sqlite:{place}"})
    site.start(simulators=False)
    away = site.slots()
    assert (away.status, away.error["code"], away.error["retryable"]) == (503, "ris_unavailable", True)
    assert away.headers["retry-after"] == "10"
    place.write_text("this is no database, but a text that is long enough to be taken for its header " * 20)
    assert site.slots().status == 503
    place.unlink()
    place.touch()
    refused = site.slots()
    assert (refused.status, refused.error["code"]) == (502, "ris_error")
    with closing(sqlite3.connect(place)) as calendar:
        calendar.execute(ENDLESS)
    slow = site.slots()
    assert (slow.status, slow.error["code"]) == (504, "ris_timeout")
    causes = {row["cause"] for row in site.messages(state="refused")}
    assert causes == {"ris_unavailable", "ris_error", "ris_timeout"}
    reasons = [line["reason"] for line in site.log_lines() if line["event"].startswith("database.")]
    assert reasons == ["SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_ERROR", "timeout"]


def slots(site: Site, asked: list[str]) -> list[list[dict[str, Any]]]:
    """The open slots for each question."""
    answers = [site.slots(query) for query in asked]
    assert [answer.status for answer in answers] == [200] * len(answers), answers[0].text
    return [answer.json["slots"] for answer in answers]
