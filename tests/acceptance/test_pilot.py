"""``hl7engine pilot`` as a process: with an engine of its own, against one that runs, and against one with a defect."""

import json
from collections.abc import Callable
from typing import Any

from engine.cli.client import Client
from engine.cli.piloting.faults import FAULTS
from engine.errors import NotRunning

NewSite = Callable[..., Any]
WaitFor = Callable[..., Any]

#: So that a RIS that says nothing costs a second.
QUICK = ("channels/radscheduler-book-appointment.yaml", "timeout: 20s", "timeout: 1s")
#: What another RIS wants otherwise; the other tests run the dialect of the site as it is.
DIALECT = (
    "site.yaml",
    'ris: {version: "2.3", locations: qry, slots: qry, booking: orm',
    'ris: {version: "2.5.1", locations: mfq, slots: sqm, booking: srm',
)
#: One facility's EMR is called by REST.
BY_REST = ("tables/facility_emr.csv", "DTI,athena\n", "DTI,athena_rest\n")
#: epic hears of what belongs to another EMR.
MISROUTED = ("channels/ris-siu-router.yaml", "where: {$emr: epic}", "where: {$emr: athena}")


def piloted(site: Any, *words: str) -> tuple[int, dict[str, Any]]:
    done = site.run("pilot", str(site.folder), "--json", *words)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_pilot_starts_an_engine_books_among_faults_and_leaves_nothing(new_site: NewSite) -> None:
    site = new_site(edits=[QUICK, DIALECT, BY_REST])
    code, told = piloted(site, "--bookings", "20", "--faults", "30", "--seed", "3")
    assert (code, told["passed"], told["booked"], told["misplaced"]) == (0, True, 19, 0)
    faults = {each["fault"]: each for each in told["each"] if each["fault"]}
    assert set(faults) == {fault.name for fault in FAULTS}
    assert faults["slot taken"]["became"] == "booked in another slot"
    assert faults["AE"]["became"] == faults["dropped"]["became"] == "booked at another try"
    assert faults["time-out"]["became"] == faults["EMR down"]["became"] == "booked"
    assert faults["EMR down"]["late"]
    assert faults["AR"]["reason"] == {"code": "ris_rejected", "message": "The RIS rejected the message."}
    assert told["times_ms"]["book appointment"]["number"] >= 20 + 3
    assert not any("MRN" in json.dumps(each) for each in told["each"])
    assert not site.is_listening("REST")
    assert not (site.data / "engine.db").exists()  # its data was elsewhere, and is gone


def test_a_wrong_route_does_not_pass_on_an_engine_that_runs(new_site: NewSite) -> None:
    site = new_site(edits=[MISROUTED], options=["--simulators"])
    site.start(simulators=False)
    where = {"--url": "REST", "--admin": "ADMIN", "--simulators": "SIMULATOR_CONTROL"}
    urls = [word for name, port in where.items() for word in (name, f"http://127.0.0.1:{site.port(port)}")]
    code, told = piloted(site, "--bookings", "12", "--faults", "0", *urls)
    assert (code, told["passed"], told["booked"]) == (1, False, 12)
    problems = {problem for each in told["each"] for problem in each["problems"]}
    assert "epic got it, and facility DTI is not among its own" in problems
    assert "the engine has nothing for epic: message failed step where: unroutable emr" in problems
    done = site.run("pilot", str(site.folder), "--data", str(site.data), "--bookings", "4", "--faults", "0")
    assert done.returncode == 1
    assert f"the engine at http://127.0.0.1:{site.port('REST')}" in done.stdout
    assert "Not passed: 100.0 % booked" in done.stdout


def test_an_engine_of_the_pilots_own_ends_with_it_however_it_ends(new_site: NewSite, wait_for: WaitFor) -> None:
    site = new_site()
    words = ("pilot", str(site.folder), "--data", str(site.data), "--bookings", "500")
    piloting = site.spawn(*words, log=site.engine_log)
    try:
        wait_for(lambda: runs(site), "the pilot's engine")
    finally:
        piloting.kill()
        piloting.wait(60)
    wait_for(lambda: not runs(site), "its engine has ended")


def runs(site: Any) -> bool:
    try:
        Client(site.data).get("status")
    except NotRunning:
        return False
    return True
