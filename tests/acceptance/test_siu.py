"""The RIS's notifications on their way to the EMRs: routed, converted, in order, once, whatever a partner does."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from engine.tls import ensure_certificates

from .peers import (
    Partner,
    Sender,
    ack,
    appointments,
    arrived,
    as_expected,
    channel,
    expected,
    is_idle,
    message_of,
    sample,
    siu,
    told,
    value,
)

Site = Any
WaitFor = Callable[..., Any]
Booking = Callable[..., dict[str, Any]]
Local = Callable[..., datetime]

ROUTER = "channels/ris-siu-router.yaml"
#: Short waits between attempts, short patience with an EMR, and a practice whose EMR no destination takes.
EDITS = (
    (ROUTER, "retry: {backoff: [1s, 5s, 15s, 60s], give_up: never}", "retry: {backoff: [100ms]}"),
    (ROUTER, '"${EPIC_PORT:-2602}", tls', '"${EPIC_PORT:-2602}", timeout: 500ms, tls'),
    (ROUTER, '"${ATHENA_PORT:-2601}"}', '"${ATHENA_PORT:-2601}", timeout: 500ms}\n    retry: {backoff: [100ms]}'),
    ("tables/facility_emr.csv", "FACILITY,athena", "FACILITY,athena\nCSI,nobody"),
)


@pytest.fixture
def ris(site: Site) -> Any:
    """A connection to the port where the RIS's notifications come in."""
    with Sender(site.port("SIU")) as sender:
        yield sender


@pytest.fixture
def delivered(site: Site, wait_for: WaitFor) -> Callable[[str, int], list[dict[str, Any]]]:
    """``delivered("epic", 3)``: what the EMR received, as soon as there are so many and nothing more is owed."""

    def delivered(emr: str, count: int) -> list[dict[str, Any]]:
        wait_for(lambda: len(arrived(site, emr)) >= count and is_idle(site), f"{count} messages at {emr}")
        return arrived(site, emr)

    return delivered


# -- routing and conversion ----------------------------------------------------------------------------------------


def test_each_facility_reaches_its_own_emrs_once(site: Site, ris: Sender, delivered: Any) -> None:
    for appointment, facility in (("A1", "NSI"), ("A2", "DTI"), ("A3", "WSI")):
        assert told(ris.ask(siu(appointment, facility))) == ("AA", f"C{appointment}S12")
    found = {emr: delivered(emr, count) for emr, count in (("epic", 2), ("athena", 1), ("cerner", 1))}
    assert {emr: appointments(entries) for emr, entries in found.items()} == {
        "epic": ["A1", "A3"],
        "athena": ["A2"],
        "cerner": ["A3"],
    }
    entries = [entry for entries in found.values() for entry in entries]
    assert all(entry["answers"] == ["AA"] and not entry["duplicate"] for entry in entries)
    assert len({entry["controlId"] for entry in entries}) == 4, "every destination has ids of its own"


def test_a_practice_moves_to_another_emr_by_one_changed_line(new_site: Callable[..., Site], wait_for: WaitFor) -> None:
    """The expected outputs of systems.md D.6, byte for byte, while practice DTI moves from EMR to EMR."""
    site = new_site()
    # The same notifications are sent to each EMR, on purpose.
    site.edit("channels/ris-siu-router.yaml", "on_error: park", "duplicates: none\non_error: park")
    site.start(orders=False)
    sent = ["N1_SIU_S12_RIS_v23", "N1_SIU_S12_RIS_v251", "N2_SIU_S15_v23"]
    moves = (("athena", "athena"), ("epic", "epic"), ("generic", "generic27"))
    for number, (emr, profile) in enumerate(moves):
        if number:
            site.edit("tables/facility_emr.csv", f"DTI,{moves[number - 1][0]}", f"DTI,{emr}")
            site.restart()
        with Sender(site.port("SIU")) as ris:
            for name in sent:
                assert told(ris.ask(sample(name)))[0] == "AA"
        wait_for(lambda emr=emr: len(arrived(site, emr)) == 3, f"three messages at {emr}")
        outputs = [as_expected(entry["body"]) for entry in arrived(site, emr)]
        assert outputs[:2] == [expected(f"P_{profile}_S12"), expected(f"P_{profile}_S12_from_v251")]
        if emr != "generic":
            assert outputs[2] == expected(f"P_{profile}_S15")
        assert all(entry["answers"] == ["AA"] for entry in arrived(site, emr))
    assert [len(arrived(site, emr)) for emr, _ in moves] == [3, 3, 3]


def test_an_umlaut_arrives_in_each_emrs_own_charset(site: Site, booking: Booking, delivered: Any) -> None:
    assert site.book(booking("ORDER127")).status == 201
    (at_epic,), (at_cerner,) = delivered("epic", 1), delivered("cerner", 1)
    # The control port shows bytes that are no UTF-8 as \x…
    assert (value(at_epic["body"], "MSH-18"), value(at_epic["body"], "PID-5")) == ("8859/1", "M\\xfcller^Eva")
    assert (value(at_cerner["body"], "MSH-18"), value(at_cerner["body"], "PID-5")) == ("UNICODE UTF-8", "Müller^Eva")
    assert at_epic["answers"] == at_cerner["answers"] == ["AA"]


def test_a_cancellation_follows_its_booking(site: Site, booking: Booking, local: Local, delivered: Any) -> None:
    assert site.book(booking("ORDER124", local(10))).status == 201
    site.control("POST", "/ris/emit", {"event": "S15", "orderId": "ORDER124"})
    entries = delivered("epic", 2)
    assert [entry["kind"] for entry in entries] == ["SIU^S12", "SIU^S15"]
    state = site.control("GET", "/emr/epic")
    assert (state["violations"], list(state["appointments"].values())) == ([], ["ended"])


@pytest.mark.parametrize(("facility", "cause"), [("XYZ", "lookup_missing"), ("CSI", "unroutable")])
def test_a_facility_without_an_emr_is_a_recorded_failure(
    site: Site, ris: Sender, wait_for: WaitFor, facility: str, cause: str
) -> None:
    control_id = f"LOST{facility}"
    assert told(ris.ask(siu("L1", facility, control_id=control_id))) == ("AA", control_id)
    wait_for(lambda: site.messages(control_id=control_id, state="failed"), "the message failed")
    shown = site.cli("messages", "--state", "failed", "--control-id", control_id).stdout
    assert cause in shown
    assert control_id in shown
    assert "ris-siu-router" in shown
    assert message_of(site, control_id)["deliveries"] == []
    assert channel(site)["failed"] >= 1


def test_a_message_that_failed_is_routed_again_when_told(new_site: Callable[..., Site], wait_for: WaitFor) -> None:
    site = new_site().start(orders=False)
    with Sender(site.port("SIU")) as ris:
        ris.ask(siu("L2", "XYZ", control_id="LATE"))
    failed = wait_for(lambda: site.messages(control_id="LATE", state="failed"), "the message failed")
    site.edit("tables/facility_emr.csv", "NSI,epic", "NSI,epic\nXYZ,generic")
    site.restart()
    done = site.cli("resend", str(failed[0]["id"]))
    assert (done.returncode, done.stdout.strip()) == (0, "routed again")
    wait_for(lambda: arrived(site, "generic"), "the message at generic")
    assert appointments(arrived(site, "generic")) == ["L2"]


def test_the_seeds_own_sample_leaves_corrected(site: Site, delivered: Any, tmp_path: Any) -> None:
    file = tmp_path / "seed.hl7"
    file.write_bytes(sample("N3_SIU_seed_v23").replace(b"\r", b"\n"))
    done = site.run("send", str(file), "--to", f"127.0.0.1:{site.port('SIU')}")
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["AA", "MSG001"])
    (entry,) = delivered("athena", 1)
    assert as_expected(entry["body"]) == expected("N3_SIU_seed_athena_v231")
    assert entry["answers"] == ["AA"]


def test_what_is_no_appointment_is_filtered_and_recorded(site: Site, ris: Sender, wait_for: WaitFor) -> None:
    order = sample("O1_ORM_order_from_RIS_v23")
    assert told(ris.ask(order)) == ("AA", value(order, "MSH-10"))
    wait_for(lambda: site.messages(control_id=value(order, "MSH-10"), state="filtered"), "the message filtered")


# -- partners in trouble -------------------------------------------------------------------------------------------


def test_an_emr_that_was_down_gets_everything_in_order_once(site: Site, delivered: Any, wait_for: WaitFor) -> None:
    site.control("POST", "/emr/epic/down")
    at_epic = site.control("POST", "/ris/emit", {"event": "S12", "facility": "NSI", "count": 300})["appointmentIds"]
    at_both = site.control("POST", "/ris/emit", {"event": "S12", "facility": "WSI", "count": 50})["appointmentIds"]
    # The others do not wait for the one that is down.
    wait_for(lambda: channel(site)["lanes"]["cerner"]["delivered_since_start"] and len(arrived(site, "cerner")) == 50,
             "everything at cerner")  # fmt: skip
    lane = channel(site)["lanes"]["epic"]
    assert lane["queued"] == 350
    assert lane["last_error"] == "unavailable refused"
    assert "350 queued" in site.cli("channels").stdout
    site.control("POST", "/emr/epic/up")
    entries = delivered("epic", 350)
    assert sorted(appointments(entries)) == sorted(at_epic + at_both)
    assert len(entries) == 350
    assert appointments(arrived(site, "cerner")) == at_both
    assert site.control("GET", "/emr/epic")["violations"] == []


def test_ae_parks_the_one_and_lets_later_ones_pass(site: Site, ris: Sender, delivered: Any) -> None:
    site.fault("error", "emr/epic", ack="AE", condition=103, location="SCH-8", times=1)
    for appointment in ("P1", "P2", "P3"):
        ris.ask(siu(appointment))
    entries = delivered("epic", 3)
    assert [(entry["appointmentId"][:2], entry["answers"]) for entry in entries] == [
        ("P1", ["AE"]),
        ("P2", ["AA"]),
        ("P3", ["AA"]),
    ]
    (parked,) = message_of(site, "CP1S12")["deliveries"]
    assert (parked["state"], parked["attempts"]) == ("parked", 1)
    assert parked["cause"].startswith("rejected AE 103 SCH-8")
    assert "1 parked" in site.cli("channels").stdout
    assert "CP1S12" in site.cli("messages", "--delivery-state", "parked").stdout
    done = site.cli("resend", "--delivery", str(parked["id"]))
    assert done.returncode == 0
    again = delivered("epic", 4)[-1]
    assert (again["controlId"], again["body"], again["answers"]) == (
        entries[0]["controlId"],
        entries[0]["body"],
        ["AA"],
    ), "the same bytes, the same MSH-10"
    assert "parked" not in site.cli("channels").stdout


def test_ar_holds_its_lane_until_a_person_acts(site: Site, ris: Sender, delivered: Any, wait_for: WaitFor) -> None:
    site.fault("error", "emr/epic", ack="AR", condition=200, times=1)
    for appointment, facility in (("H1", "NSI"), ("H2", "NSI"), ("H3", "WSI")):
        ris.ask(siu(appointment, facility))
    wait_for(lambda: channel(site)["lanes"]["epic"]["held"] == 1 and arrived(site, "cerner"), "held")
    assert appointments(arrived(site, "epic")) == ["H1"], "nothing of its lane passes"
    assert appointments(arrived(site, "cerner")) == ["H3"], "other lanes go on"
    assert "2 queued 1 held" in site.cli("channels").stdout
    assert "CH1S12" in site.cli("messages", "--delivery-state", "held").stdout
    held = message_of(site, "CH1S12")
    assert site.cli("resend", str(held["message"]["id"])).returncode == 0
    assert appointments(delivered("epic", 4)[1:]) == ["H1", "H2", "H3"]


def test_a_held_delivery_that_is_discarded_lets_the_lane_go_on(
    site: Site, ris: Sender, delivered: Any, wait_for: WaitFor
) -> None:
    site.fault("error", "emr/epic", ack="AR", condition=200, times=1)
    ris.ask(siu("D1"))
    ris.ask(siu("D2"))
    wait_for(lambda: channel(site)["lanes"]["epic"]["held"] == 1, "held")
    (held,) = message_of(site, "CD1S12")["deliveries"]
    done = site.cli("discard", "--delivery", str(held["id"]), "--json")
    assert json.loads(done.stdout)["state"] == "discarded"
    assert appointments(delivered("epic", 2)) == ["D1", "D2"]
    (discarded,) = message_of(site, "CD1S12")["deliveries"]
    assert (discarded["state"], discarded["cause"]) == ("discarded", "by hand")


def test_207_is_tried_again_before_anything_later(site: Site, ris: Sender, delivered: Any) -> None:
    site.fault("error", "emr/epic", ack="AR", condition=207, times=2)
    ris.ask(siu("T1"))
    ris.ask(siu("T2"))
    entries = delivered("epic", 4)
    assert [(entry["appointmentId"][:2], entry["answers"]) for entry in entries] == [
        ("T1", ["AR"]),
        ("T1", ["AR"]),
        ("T1", ["AA"]),
        ("T2", ["AA"]),
    ]
    (delivery,) = message_of(site, "CT1S12")["deliveries"]
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 3)


@pytest.mark.parametrize(
    ("fault", "settings"),
    [
        ("wrong_control_id", {}),
        ("two_in_one", {}),
        ("garbage", {}),
        ("silence", {}),
        ("drop", {"bytes": 20}),
        ("restart", {"act": True}),
    ],
)
def test_an_answer_that_does_not_count_is_asked_for_again_with_the_same_id(
    site: Site, ris: Sender, delivered: Any, fault: str, settings: dict[str, Any]
) -> None:
    """The EMR took the message each time; nothing but an answer in its name says so."""
    site.fault(fault, "emr/epic", **settings)
    number = f"{len(fault)}{fault[:3].upper()}"
    ris.ask(siu(f"{number}1"))
    ris.ask(siu(f"{number}2"))
    entries = delivered("epic", 3)
    assert [entry["appointmentId"].partition("^")[0] for entry in entries] == [f"{number}1", f"{number}1", f"{number}2"]
    assert [entry["duplicate"] for entry in entries] == [False, True, False]
    assert entries[0]["controlId"] == entries[1]["controlId"]
    (delivery,) = message_of(site, f"C{number}1S12")["deliveries"]
    # While an EMR restarts, attempts find nobody there.
    assert delivery["state"] == "delivered"
    assert delivery["attempts"] == 2 or (fault == "restart" and delivery["attempts"] > 2)
    assert delivery["may_be_duplicated"]


def test_answers_in_pieces_late_or_with_umlauts_are_answers(site: Site, ris: Sender, delivered: Any) -> None:
    site.fault("split", "emr/epic")
    site.fault("delay", "emr/epic", ms=200)
    site.fault("latin1", "emr/epic")
    site.fault("latin1", "emr/epic", declared=False)
    sent = [f"S{number}" for number in range(1, 5)]
    for appointment in sent:
        ris.ask(siu(appointment))
    entries = delivered("epic", 4)
    assert [entry["appointmentId"][:2] for entry in entries] == sent
    assert not any(entry["duplicate"] for entry in entries)


def test_after_an_answer_for_another_message_the_connection_is_closed(
    site: Site, ris: Sender, wait_for: WaitFor
) -> None:
    def answers(message: bytes, connection: int) -> list[bytes]:
        return [ack(message, control_id="SOMEBODYELSE" if connection == 1 else None)]

    site.control("POST", "/emr/athena/down")
    with Partner(site.port("ATHENA"), answers) as athena:
        ris.ask(siu("W1", "DTI"))
        ris.ask(siu("W2", "DTI"))
        wait_for(lambda: len(athena.received) == 3 and is_idle(site), "everything at athena")
        assert athena.closed == [1]
        assert athena.connections == 2
        assert [number for number, _ in athena.received] == [1, 2, 2]
        assert athena.control_ids[0] == athena.control_ids[1] != athena.control_ids[2]
        assert athena.received[0][1] == athena.received[1][1]
    (delivery,) = message_of(site, "CW1S12")["deliveries"]
    assert (delivery["state"], delivery["attempts"], delivery["may_be_duplicated"]) == ("delivered", 2, True)
    site.control("POST", "/emr/athena/up")


def test_an_emr_whose_certificate_nobody_vouches_for_gets_nothing(
    new_site: Callable[..., Site], wait_for: WaitFor, tmp_path: Path
) -> None:
    """Epic's certificate is of the data folder's private CA; this channel trusts another one."""
    ensure_certificates(tmp_path / "another")
    site = new_site(env={"EPIC_CA": str(tmp_path / "another" / "ca.pem")}).start(orders=False)
    with Sender(site.port("SIU")) as ris:
        ris.ask(siu("N1"))
    wait_for(lambda: channel(site)["lanes"]["epic"]["last_error"], "an attempt")
    lane = channel(site)["lanes"]["epic"]
    assert (lane["queued"], lane["last_error"]) == (1, "unavailable tls")
    assert "unavailable tls" in site.cli("channels").stdout
    assert arrived(site, "epic") == []


# -- one id for everything -----------------------------------------------------------------------------------------


def test_one_command_shows_every_hop_of_a_notification(site: Site, ris: Sender, delivered: Any) -> None:
    ris.ask(siu("C1", "WSI", control_id="HOPS1"))
    ids = {emr: delivered(emr, 1)[0]["controlId"] for emr in ("epic", "cerner")}
    correlation_id = message_of(site, "HOPS1")["message"]["correlation_id"]
    shown = json.loads(site.cli("trace", correlation_id, "--json").stdout)["hops"]
    seen = {(hop["what"], hop.get("destination", "")): hop for hop in shown}
    assert {what for what, _ in seen} == {"received", "routed", "acknowledged", "sent", "delivered"}
    assert seen["received", ""]["control_id_in"] == "HOPS1"
    assert seen["acknowledged", ""]["codes"] == {"ack": "AA"}
    for emr, control_id in ids.items():
        for what in ("sent", "delivered"):
            assert seen[what, emr]["control_id_out"] == control_id
    times = [datetime.fromisoformat(hop["time"]) for hop in shown]
    assert times == sorted(times)
    table = site.cli("trace", correlation_id).stdout
    for word in ("HOPS1", *ids.values(), "received", "routed", "delivered", "epic", "cerner"):
        assert word in table
    # The same id finds the message by what went out, and stands in every log line about it.
    assert site.messages(control_id=ids["epic"])[0]["correlation_id"] == correlation_id
    lines = [line for line in site.log_lines() if line.get("correlation_id") == correlation_id]
    assert {(line["event"], line["destination"]) for line in lines} >= {
        ("delivery.delivered", name) for name in ("epic", "cerner")
    }


def test_one_command_shows_every_hop_of_a_booking(
    site: Site, booking: Booking, local: Local, wait_for: WaitFor
) -> None:
    answer = site.book(booking("ORDER126", local(11)), headers={"X-Correlation-ID": "hops-of-a-booking"})
    assert (answer.status, answer.headers["x-correlation-id"]) == (201, "hops-of-a-booking")
    at_ris = next(entry for entry in site.received("ORM") if entry["kind"] == "ORM^O01")
    shown = json.loads(site.cli("trace", "hops-of-a-booking", "--json").stdout)["hops"]
    assert [hop["what"] for hop in shown] == ["received", "routed", "sent", "delivered", "acknowledged"]
    sent = next(hop for hop in shown if hop["what"] == "delivered")
    assert sent["control_id_out"] == at_ris["controlId"]
    assert sent["codes"]["ack"] == "AA"
    assert at_ris["controlId"] in site.cli("trace", "hops-of-a-booking").stdout


# -- the channel's own life ----------------------------------------------------------------------------------------


def test_a_stopped_channel_takes_nothing_in_and_goes_on_where_it_was(
    site: Site, ris: Sender, delivered: Any, wait_for: WaitFor
) -> None:
    site.control("POST", "/emr/epic/down")
    for number in range(1, 6):
        ris.ask(siu(f"Y{number}"))
    wait_for(lambda: channel(site)["lanes"]["epic"]["queued"] == 5, "queued")
    assert site.cli("stop", "ris-siu-router").returncode == 0
    assert ris.ends()
    with pytest.raises(OSError), Sender(site.port("SIU")):
        pass
    site.control("POST", "/emr/epic/up")
    assert site.health().status == 200, "stopped by a person is no fault"
    assert site.locations().status == 200, "the others serve on"
    assert site.cli("start", "ris-siu-router").returncode == 0
    assert appointments(delivered("epic", 5)) == [f"Y{number}" for number in range(1, 6)]
