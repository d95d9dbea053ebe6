"""The RIS's results on their way to the EMRs: emitted, routed by facility, in order for each result, once."""

from collections.abc import Callable
from typing import Any

import pytest

from .peers import arrived, is_idle, sample, value

Site = Any
WaitFor = Callable[..., Any]
ROUTER = "ris-oru-router"
EDITS = (("tables/facility_emr.csv", "FACILITY,athena", "FACILITY,athena\nCSI,nobody"),)


@pytest.fixture
def delivered(site: Site, wait_for: WaitFor) -> Callable[[str, int], list[dict[str, Any]]]:
    """``delivered("epic", 3)``: what the EMR received, as soon as there are so many and nothing more is owed."""

    def delivered(emr: str, count: int) -> list[dict[str, Any]]:
        wait_for(lambda: len(arrived(site, emr)) >= count and is_idle(site, ROUTER), f"{count} messages at {emr}")
        return arrived(site, emr)

    return delivered


def emit(site: Site, **what: Any) -> str:
    return str(site.control("POST", "/ris/emit", what)["controlId"])


def oru(facility: str, control_id: str, status: str = "F") -> str:
    text = sample("O2_ORU_critical_v251").decode().replace("DTI", facility).replace("SY0000000051", control_id)
    return text.replace("||CR|F\r", f"||CR|{status}\r")


def test_a_result_of_an_order_reaches_the_emr_of_its_facility(site: Site, delivered: Any) -> None:
    control_id = emit(site, event="ORU", orderId="ORDER123")
    (entry,) = delivered("athena", 1)
    assert (entry["controlId"], entry["kind"], entry["answers"]) == (control_id, "ORU^R01", ["AA"])
    assert value(entry["body"], "OBX-3") == "IMP^Impression^L"
    assert arrived(site, "epic") == []


def test_every_emr_of_a_facility_hears_of_it_and_corrections_come_after(site: Site, delivered: Any) -> None:
    for number, status in enumerate("PFC"):
        emit(site, message=oru("WSI", f"R{number}", status), outbox="results")
    for emr in ("epic", "cerner"):
        assert [entry["controlId"] for entry in delivered(emr, 3)] == ["R0", "R1", "R2"]
        state = site.control("GET", f"/emr/{emr}")
        assert (state["results"], state["violations"]) == ({"ACC778899": "C"}, [])


def test_a_result_for_nobody_is_a_recorded_failure(site: Site, wait_for: WaitFor) -> None:
    emit(site, message=oru("XYZ", "R7"), outbox="results")
    emit(site, message=oru("CSI", "R8"), outbox="results")

    def causes() -> list[str]:
        found = site.admin("GET", f"/api/messages?channel={ROUTER}&state=failed").json["messages"]
        return sorted(message["cause"] for message in found)

    wait_for(lambda: len(causes()) == 2, "both recorded")
    assert causes()[0].startswith("step lookup: lookup_missing")
    assert causes()[1].startswith("step where: unroutable")


def test_an_emr_that_was_down_gets_its_results_in_order(site: Site, delivered: Any, wait_for: WaitFor) -> None:
    site.control("POST", "/emr/epic/down")
    for number in range(3):
        emit(site, message=oru("NSI", f"D{number}"), outbox="results")
    wait_for(lambda: site.control("GET", "/ris")["outboxes"]["results"]["waiting"] == 0, "all taken in")
    site.control("POST", "/emr/epic/up")
    assert [entry["controlId"] for entry in delivered("epic", 3)] == ["D0", "D1", "D2"]
