"""``pilot`` in parts: who meets which fault, how it is judged and told, and on which engines it refuses to run."""

import random
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, web
from typer.testing import CliRunner

from engine.cli import app, pilot
from engine.cli.client import Client
from engine.cli.exits import Exit
from engine.cli.piloting import ground, report
from engine.cli.piloting.bookings import Booking, Evidence, Routes, was_accepted
from engine.cli.piloting.faults import DOWN, FAULTS, TAKEN, Control, Fault, deal
from engine.cli.piloting.ground import Ground, NoGround
from engine.cli.piloting.judge import Result, judge, timed
from engine.config.site import load_site
from engine.simulators.radscheduler import NO_SLOT, Call, Outcome

REPOSITORY = Path(__file__).parents[2]
ROUTES = Routes({"WSI": "WSI"}, {"WSI": ("epic", "generic")})
AR = next(fault for fault in FAULTS if fault.name == "AR")


def test_the_days_are_the_next_weekdays() -> None:
    friday = date(2027, 1, 29)
    assert pilot.weekdays(3, friday) == [date(2027, 2, 1), date(2027, 2, 2), date(2027, 2, 3)]


def test_every_kind_of_fault_is_dealt_equally_often_and_the_seed_says_to_whom() -> None:
    dealt = deal(100, 12, random.Random(5))
    assert Counter(fault.name for fault in dealt.values()) == {fault.name: 2 for fault in FAULTS}
    assert dealt == deal(100, 12, random.Random(5)) != deal(100, 12, random.Random(6))
    assert deal(100, 0, random.Random(5)) == {}


# -- verdicts ------------------------------------------------------------------------------------------------------


def booking(number: int = 1, fault: Fault | None = None, **outcome: Any) -> Booking:
    given = {"booked": True, "slot": {"id": f"WSI-CT1-{number}"}, "attempts": 1, "slots": 1, **outcome}
    call = Call("book", 12.0, 201 if given["booked"] else 502, given.get("code", ""))
    return Booking(f"P1X{number}", "CT", f"pilot-P1X{number}", fault, Outcome(calls=[call], **given))


def delivery(emr: str, number: int = 1, **others: Any) -> dict[str, Any]:
    base = {"destination": emr, "state": "delivered", "cause": "", "attempts": 1, "control_id": f"{emr}-{number}"}
    return {**base, "settled_at": "2027-01-28T09:00:00.250Z", **others}


def entry(emr: str, number: int = 1) -> dict[str, Any]:
    return {"appointmentId": f"APT{number}", "controlId": f"{emr}-{number}", "answers": ["AA"], "duplicate": False}


def evidence(number: int = 1) -> Evidence:
    """Everything as it should be for one booking at WSI."""
    message = {"state": "routed", "cause": "", "received_at": "2027-01-28T09:00:00.000Z"}
    deliveries = [delivery("epic", number), delivery("generic", number)]
    return Evidence(
        {f"P1X{number}": {"appointmentId": f"APT{number}", "slotId": f"WSI-CT1-{number}", "facility": "WSI"}},
        {f"APT{number}": f"SY{number}"},
        {f"SY{number}": {**message, "deliveries": deliveries}},
        {"epic": [entry("epic", number)], "generic": [entry("generic", number)], "athena": []},
    )


def test_an_appointment_in_its_place_is_passed() -> None:
    result = judge([booking()], evidence(), ROUTES)
    [verdict] = result.verdicts
    assert (result.passed, verdict.problems, verdict.became) == (True, [], "booked")
    assert verdict.arrivals == pytest.approx({"epic": 250.0, "generic": 250.0})


def break_(change: Callable[[Evidence], object]) -> Evidence:
    found = evidence()
    change(found)
    return found


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (break_(lambda e: e.appointments.clear()), "the RIS has no such appointment"),
        (break_(lambda e: e.appointments["P1X1"].update(slotId="WSI-CT1-9")), "the RIS has it in slot WSI-CT1-9"),
        (break_(lambda e: e.announced.clear()), "the RIS has not announced it"),
        (break_(lambda e: e.messages.clear()), "the engine has no message SY1"),
        (break_(lambda e: e.messages["SY1"]["deliveries"].pop()), "the engine has nothing for generic: message routed"),
        (
            break_(lambda e: e.messages["SY1"]["deliveries"][0].update(state="parked", cause="rejected AE")),
            "epic: parked rejected AE",
        ),
        (break_(lambda e: e.inboxes["epic"].clear()), "epic: delivered says the engine, its inbox has it 0 times"),
        (break_(lambda e: e.inboxes["epic"].append(entry("epic"))), "its inbox has it 2 times"),
        (break_(lambda e: e.inboxes["athena"].append(entry("athena"))), "athena got it, and facility WSI is not"),
        (break_(lambda e: e.messages["SY1"]["deliveries"].append(delivery("athena"))), "athena got it"),
    ],
)
def test_whatever_is_not_in_its_place_fails_the_pilot(found: Evidence, problem: str) -> None:
    result = judge([booking()], found, ROUTES)
    [text] = result.verdicts[0].problems
    assert problem in text
    assert not result.passed


@pytest.mark.parametrize(
    ("met", "code", "explained"),
    [
        (AR, "ris_rejected", True),
        (AR, "internal_error", False),
        (None, "ris_rejected", False),
        (TAKEN, "slot_taken", True),
        (DOWN, "ris_unavailable", False),
        (None, NO_SLOT, True),
        (None, "no_answer", False),
    ],
)
def test_a_booking_that_was_not_made_wants_a_reason(met: Fault | None, code: str, explained: bool) -> None:
    [verdict] = judge([booking(fault=met, booked=False, code=code)], Evidence(), ROUTES).verdicts
    assert (verdict.explained, verdict.became) == (explained, "not booked")


def test_a_slot_that_another_patient_has_is_a_reason() -> None:
    taken = booking(2, booked=False, code="slot_taken")
    taken.outcome.slot = {"id": "WSI-CT1-1"}
    assert judge([taken], evidence(1), ROUTES).verdicts[0].explained
    assert not judge([taken], Evidence(), ROUTES).verdicts[0].explained


def test_a_refused_booking_that_the_ris_made_is_a_problem() -> None:
    [verdict] = judge([booking(fault=AR, booked=False, code="ris_rejected")], evidence(), ROUTES).verdicts
    assert verdict.problems == ["the caller was refused, and the RIS has booked it"]


@pytest.mark.parametrize(("refused", "passed"), [(5, True), (6, False)])
def test_ninety_five_of_a_hundred_will_do(refused: int, passed: bool) -> None:
    made = [booking(n, fault=AR, booked=False, code="ris_rejected") for n in range(refused)]
    whole = Evidence()
    for number in range(refused, 100):
        one = evidence(number)
        made.append(booking(number))
        whole.appointments |= one.appointments
        whole.announced |= one.announced
        whole.messages |= one.messages
        for emr, entries in one.inboxes.items():
            whole.inboxes.setdefault(emr, []).extend(entries)
    result = judge(made, whole, ROUTES)
    assert (result.share, result.unexplained, result.misplaced, result.passed) == (100 - refused, 0, 0, passed)


def test_how_a_booking_came_about_is_told_apart() -> None:
    words = [(1, 1), (2, 1), (2, 2), (1, 2)]
    became = [
        judge([booking(attempts=attempts, slots=slots)], evidence(), ROUTES).verdicts[0].became
        for attempts, slots in words
    ]
    assert became == ["booked", "booked at another try", "booked in another slot", "booked in another slot"]


def test_percentiles_are_values_that_were_measured() -> None:
    times = timed([float(number) for number in range(1, 101)], 99)
    assert times is not None
    assert (times.p50, times.p95, times.p99, times.longest, times.positive) == (50, 95, 99, 100, 99)
    assert timed([], 0) is None


def test_only_what_an_emr_took_for_the_first_time_counts() -> None:
    assert was_accepted({"answers": ["CA", "AA"], "duplicate": False})
    assert not was_accepted({"answers": ["CA", "AE"], "duplicate": False})
    assert not was_accepted({"answers": ["AA"], "duplicate": True})


def test_the_report_names_every_failure_with_its_correlation_id(capsys: pytest.CaptureFixture[str]) -> None:
    refused = booking(2, fault=AR, booked=False, code="ris_rejected", message="The RIS rejected the message.")
    report.print_result(judge([booking(), refused], evidence(), ROUTES))
    told = capsys.readouterr().out
    assert "the RIS answers AR 202" in told
    assert "502 ris_rejected" in told
    assert "not booked: The RIS rejected the message." in told
    assert "pilot-P1X2" in told
    assert "Not passed: 50.0 % booked (at least 95 %), every one of the rest explained." in told
    report.print_result(Result(judge([booking()], break_(lambda e: e.inboxes["epic"].clear()), ROUTES).verdicts))
    told = capsys.readouterr().out
    assert "epic: delivered says the engine, its inbox has it 0 times" in told
    assert "0 of 1 appointments are once in the RIS" in told


# -- where it runs -------------------------------------------------------------------------------------------------


def reference_plan(tmp_path: Path, **env: str) -> Any:
    secret = dict.fromkeys(("RADSCHEDULER_API_KEY", "RADSCHEDULER_TOKEN", "PHONE_SALT"), "secret-of-this-test")
    return load_site(REPOSITORY, tmp_path / "data", {**secret, **env})


def test_an_engine_of_its_own_has_no_door_and_no_partner_outside(tmp_path: Path) -> None:
    environ = ground.own_environment(REPOSITORY, tmp_path)
    ports = list(ground.own_ports(environ))
    assert len(set(ports)) == len(ports)
    assert environ["RIS_CALENDAR_DSN"] == environ["RIS_CALENDAR_OWNER_DSN"] == f"sqlite:{tmp_path}/calendar.sqlite"
    plan = reference_plan(tmp_path, **environ)
    ground.refuse_listeners_of_the_site(plan, ports)
    addresses = [urlsplit(to.to.address) for channel in plan.channels.values() for to in channel.destinations]
    outside = [address for address in addresses if address.netloc]
    assert len(outside) > len(plan.channels) / 2
    assert {address.hostname for address in outside} == {"127.0.0.1"}
    assert {address.port for address in outside} <= set(ports)


def test_a_site_that_fixes_a_port_gets_no_engine_of_the_pilots_own(tmp_path: Path) -> None:
    environ = ground.own_environment(REPOSITORY, tmp_path)
    ports = list(ground.own_ports(environ))
    plan = reference_plan(tmp_path, **{**environ, "SIU_PORT": "2575"})
    with pytest.raises(
        NoGround, match=r"the source of ris-siu-router listens at mllp://127\.0\.0\.1:2575 in every case"
    ):
        ground.refuse_listeners_of_the_site(plan, ports)


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_a_listener_on_every_address_is_called_on_this_machine(host: str) -> None:
    assert ground.callable_at(f"http://{host}:8080") == "http://127.0.0.1:8080"


def test_every_simulator_that_the_control_port_names_counts() -> None:
    running = {"ris": {"port": 1, "up": True}, "emr": {"epic": {"port": 2}}, "webhook": {"url": "http://127.0.0.1:3/x"}}
    assert set(ground.simulated(running)) == {1, 2, 3}


@pytest.fixture
async def control() -> Any:
    """A control port whose only simulator listens at port 2576."""

    async def overview(request: web.Request) -> web.Response:
        return web.json_response({"running": {"ris": {"port": 2576, "up": True}}})

    site = web.Application()
    site.router.add_get("/", overview)
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("address", "is_real"),
    [
        ("mllp://127.0.0.1:2576", False),
        ("file:out/{control_id}.hl7", False),
        ("channel:other", False),
        ("mllp://127.0.0.1:2602", True),
        ("mllp://10.1.2.3:2576", True),
        ("https://athena.example/v1", True),
    ],
)
async def test_nothing_is_booked_where_a_partner_is_real(control: str, api: Any, address: str, is_real: bool) -> None:
    destination = {"name": "ris", "address": address}
    api.answer("GET", "/api/channels", {"channels": [{"name": "booking", "destinations": [destination]}]})
    found = Ground(REPOSITORY, "", "", Client(api.data), control, ground.trust(api.data), own=False)
    if is_real:
        with pytest.raises(
            NoGround, match=r"booking sends to ris at .*, which is no simulator of .* Nothing was booked"
        ):
            await ground.refuse_real_partners(found)
    else:
        await ground.refuse_real_partners(found)


def test_a_site_without_the_channels_is_told_what_is_missing(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["init", str(tmp_path / "site")])
    done = CliRunner().invoke(app, ["pilot", str(tmp_path / "site")])
    assert isinstance(done.exception, NoGround)
    assert "the channel radscheduler-locations is not there" in str(done.exception)


def test_without_simulators_nobody_is_booked(api: Any, tmp_path: Path) -> None:
    site = tmp_path / "site"
    CliRunner().invoke(app, ["init", str(site), "--example", "radscheduler"])
    api.data.chmod(0o700)
    api.answer("GET", "/api/status", {"rest": {"address": "http://127.0.0.1:1"}})
    done = CliRunner().invoke(app, ["pilot", str(site), "--data", str(api.data)], env={"SIMULATOR_CONTROL_PORT": "1"})
    assert done.exit_code == Exit.USAGE
    assert "no simulators answer at http://127.0.0.1:1" in done.output


@pytest.mark.parametrize(("emr", "partner"), [("epic", "/emr/epic"), ("athena_rest", "/athena-rest")])
async def test_every_emr_of_the_site_can_be_down(emr: str, partner: str) -> None:
    told: list[str] = []

    async def note(request: web.Request) -> web.Response:
        told.append(request.path)
        return web.json_response({})

    async def noticed(name: str) -> None:
        told.append(name)

    site = web.Application()
    site.router.add_post("/{path:.*}", note)
    runner = web.AppRunner(site)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession() as http:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with Control(http, url).outage([emr, "cerner"], noticed):
            told.append("the body")
    await runner.cleanup()
    assert told == [f"{partner}/down", "the body", emr, f"{partner}/up"]
