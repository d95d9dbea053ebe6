"""What the RIS sends by itself: the shapes of the samples, the charset, the order, and repetition until AA."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine.simulators import Emr, Ris
from engine.simulators.orders import order_message, starting_orders
from engine.simulators.outbox import Emission
from engine.simulators.ris import Unknown
from engine.simulators.wire import Unreadable, parse

Sample = Callable[..., bytes]
Change = Callable[[bytes, dict[str, str]], bytes]
Lines = Callable[[bytes], list[str]]
MakeRis = Callable[..., Awaitable[Ris]]


@pytest.mark.parametrize("version", ["v23", "v251"])
async def test_booking_and_cancelling_are_announced_in_the_requests_version(
    make_ris: MakeRis, engine: Any, sample: Sample, change: Change, lines: Lines, version: str
) -> None:
    ris = await make_ris(siu=engine.address)
    ris.handle(sample(f"B1_ORM_O01_{version}"))
    cancel = sample("B9_ORM_CA_v23")
    if version == "v251":
        cancel = change(cancel, {"MSH-12": "2.5.1", "MSH-9": "ORM^O01^ORM_O01"})
    ris.handle(cancel)
    await engine.wait_for(2)
    booked, cancelled = engine.bodies
    assert lines(booked) == lines(sample(f"N1_SIU_S12_RIS_{version}"))
    assert lines(cancelled) == lines(sample(f"N2_SIU_S15_{version}"))


async def test_the_notice_carries_the_facility_of_the_location_booked(
    make_ris: MakeRis, engine: Any, sample: Sample, change: Change
) -> None:
    ris = await make_ris(siu=engine.address)
    elsewhere = {"PV1-3": "NSI^XR1^^NSI", "OBR-18": "NSI-XR1-202501160900", "OBR-19": "NSI", "MSH-6": "NSI"}
    assert parse(ris.handle(change(sample("B1_ORM_O01_v23"), elsewhere))[0]).text("MSA-1") == "AA"
    await engine.wait_for(1)
    (notice,) = engine.received
    assert [notice.text(path) for path in ("MSH-4", "AIL-3.4", "AIL-3.9", "PID-3.4")] == [
        "NSI",
        "NSI",
        "Northside Imaging",
        "DTI",
    ]


async def test_all_orders_are_sent_at_start_and_repeated_until_they_are_accepted(
    make_ris: MakeRis, engine: Any, sample: Sample, lines: Lines
) -> None:
    engine.codes = ["AE", "close", "mismatch"]
    ris = await make_ris(orders=engine.address, sends_orders=True)
    async with asyncio.timeout(20):
        await ris.orders_sent.wait()
    ids = [message.control_id for message in engine.received]
    assert ids == ["SY0000000123"] * 4 + [f"SY0000000{number}" for number in range(124, 130)]
    assert lines(engine.bodies[0])[1:] == orm_of_the_sample(sample, lines)
    assert ris.describe()["ordersSent"] is True


def orm_of_the_sample(sample: Sample, lines: Lines) -> list[str]:
    return [text.replace("20250115080000", "20250115083001") for text in lines(sample("O1_ORM_order_from_RIS_v23"))[1:]]


async def test_an_order_with_an_umlaut_comes_in_8859_1(make_ris: MakeRis, engine: Any) -> None:
    ris = await make_ris(orders=engine.address, sends_orders=True)
    async with asyncio.timeout(20):
        await ris.orders_sent.wait()
    charsets = {message.text("ORC-2"): message.raw("MSH-18") for message in engine.received}
    assert charsets.pop("ORDER127") == "8859/1"
    assert set(charsets.values()) == {""}
    body = next(body for body in engine.bodies if b"ORDER127" in body)
    assert b"M\xfcller^Eva" in body


def test_the_orders_are_those_of_the_table() -> None:
    orders = starting_orders()
    assert [order.id for order in orders] == [f"ORDER{number}" for number in range(123, 130)]
    assert (orders[4].facility, orders[4].patient.told, orders[4].modality) == ("WSI", "Müller, Eva (MRN123460)", "MG")
    assert orders[-1].accession == "ACC778905^SYNAPSE"


def test_an_order_at_251_carries_offsets_and_the_name_type(sample: Sample, ris: Ris) -> None:
    message = parse(order_message(starting_orders()[0], "SY1", ris.now(), "XO", "2.5.1"))
    assert [message.text(path) for path in ("MSH-9.3", "MSH-7", "ORC-1", "PID-5.7", "ORC-12.10")] == [
        "ORM_O01",
        "20250115083001-0500",
        "XO",
        "L",
        "L",
    ]


async def test_emissions_go_out_in_order_and_one_at_a_time(make_ris: MakeRis, engine: Any) -> None:
    engine.codes = ["AA", "AE", "AE", "close"]
    ris = await make_ris(siu=engine.address)
    ris.emit_invented("S12", facility="NSI", location="NSI", count=5)
    await engine.wait_for(8)
    ids = [message.text("SCH-2") for message in engine.received]
    assert ids == [f"APT800000{number}" for number in (1, 2, 2, 2, 2, 3, 4, 5)]


async def test_what_is_sent_before_the_engine_listens_arrives_later(make_ris: MakeRis, engine: Any) -> None:
    ris = await make_ris(siu=None)
    ris.emit_invented("S12", facility="DTI", location="DTI")
    ris.siu.address = engine.address
    await engine.wait_for(1)


async def test_a_held_outbox_keeps_everything_until_it_is_released(make_ris: MakeRis, engine: Any) -> None:
    ris = await make_ris(siu=engine.address)
    ris.siu.hold()
    ris.emit_invented("S12", facility="DTI", location="DTI")
    ris.emit_raw("MSH|^~\\&|A|B|C|D|||ORU^R01|X1|P|2.3\n", "orders")
    ris.orders.address = engine.address
    await engine.wait_for(1)
    assert [message.control_id for message in engine.received] == ["X1"]
    assert ris.describe()["outboxes"]["siu"]["waiting"] == 1
    ris.siu.release()
    await engine.wait_for(2)


async def test_an_engine_that_does_not_answer_is_asked_again(make_ris: MakeRis, engine: Any) -> None:
    engine.codes = ["mismatch", "AA"]
    ris = await make_ris(siu=engine.address, answer_seconds=0.05)
    ris.emit_invented("S12", facility="DTI", location="DTI")
    await engine.wait_for(2)
    assert engine.bodies[0] == engine.bodies[1]


async def test_a_raw_message_is_settled_by_any_answer(make_ris: MakeRis, engine: Any, sample: Sample) -> None:
    engine.codes = ["AR"]
    ris = await make_ris(siu=engine.address)
    ris.emit_raw(sample("N3_SIU_seed_v23").decode().replace("\r", "\n"))
    ris.emit_invented("S12", facility="FACILITY", location="")
    await engine.wait_for(2)
    assert engine.bodies[0] == sample("N3_SIU_seed_v23")
    assert ris.describe()["outboxes"]["siu"]["emissions"][0]["answer"] == "AR"


async def test_raw_text_goes_out_in_the_charset_it_names(make_ris: MakeRis, engine: Any) -> None:
    ris = await make_ris(siu=engine.address)
    for charset in ("8859/1", "UNICODE UTF-8", ""):
        ris.emit_raw(f"MSH|^~\\&|A|B|C|D|||SIU^S12|X1|P|2.3||||||{charset}\nPID|1||M1||Müller^Eva")
    await engine.wait_for(3)
    names = [body.split(b"||")[-1].split(b"^")[0] for body in engine.bodies]
    assert names == ["Müller".encode("latin-1"), "Müller".encode(), "Müller".encode()]
    with pytest.raises(Unreadable):
        ris.emit_raw("hello")


@pytest.mark.parametrize(
    ("event", "status", "action"),
    [("S13", "Booked", "U"), ("S14", "Booked", "U"), ("S15", "Cancelled", "D"), ("S26", "Noshow", "U")],
)
def test_events_of_an_appointment(ris: Ris, sample: Sample, event: str, status: str, action: str) -> None:
    ris.handle(sample("B1_ORM_O01_v23"))
    control_id = ris.emit(event, order_id="ORDER123")
    notice = parse(ris.siu.waiting[-1].data)
    assert (notice.control_id, notice.kind, notice.text("SCH-2")) == (control_id, f"SIU^{event}", "APT556677")
    assert (notice.text("SCH-25"), notice.text("RGS-2"), notice.text("AIL-2")) == (status, action, action)
    if event == "S13":
        assert notice.text("SCH-11.4") == "20250116093000"


def test_a_result_and_an_order_are_emitted(ris: Ris, sample: Sample, lines: Lines) -> None:
    ris.handle(sample("B1_ORM_O01_v23"))
    ris.emit("ORU", order_id="ORDER123")
    result = lines(ris.results.waiting[-1].data)
    expected = lines(sample("O2_ORU_critical_v251"))
    assert [text.split("|")[0] for text in result] == [text.split("|")[0] for text in expected]
    assert result[:3] == expected[:3]
    assert result[-1] == expected[-1]
    ris.emit("CA", order_id="ORDER124")
    assert parse(ris.orders.waiting[-1].data).text("ORC-1") == "CA"


@pytest.mark.parametrize(
    ("event", "order_id"), [("S13", "ORDER124"), ("S99", "ORDER123"), ("S12", "ORDER999"), ("ORU", "ORDER999")]
)
def test_what_cannot_be_emitted(ris: Ris, event: str, order_id: str) -> None:
    with pytest.raises(Unknown):
        ris.emit(event, order_id=order_id)


@pytest.mark.parametrize(("profile", "facility"), [("epic", "NSI"), ("cerner", "WSI"), ("athena", "DTI")])
def test_made_up_appointments_differ_and_carry_known_procedures(ris: Ris, profile: str, facility: str) -> None:
    ids = ris.emit_invented("S12", facility=facility, location=facility, count=30, version="2.5.1")
    notices = [parse(emission.data) for emission in ris.siu.waiting]
    assert len(set(ids)) == len({notice.control_id for notice in notices}) == 30
    assert {notice.text("AIL-3.4") for notice in notices} == {facility}
    known = {"XRCHEST2", "XRWRIST", "CTHEAD", "MRKNEE", "USABD", "MGSCREEN"}
    assert {notice.text("AIS-3") for notice in notices} <= known
    again = ris.emit_again("S15", appointment_id=ids[0])
    assert parse(ris.siu.waiting[-1].data).text("SCH-2") == ids[0]
    assert ris.siu.waiting[-1].control_id == again
    with pytest.raises(Unknown):
        ris.emit_again("S15", appointment_id="APT0")


async def test_reset_restores_the_start(make_ris: MakeRis, engine: Any, sample: Sample) -> None:
    ris = await make_ris(siu=None)
    ris.handle(sample("B1_ORM_O01_v23"))
    await ris.add_fault({"fault": "refuse"})
    await ris.reset(orders=True)
    state = ris.describe()
    assert (state["bookings"], state["history"], state["received"], state["faults"]) == ([], [], [], [])
    assert (state["up"], state["outboxes"]["siu"]["waiting"], state["outboxes"]["orders"]["waiting"]) == (True, 0, 7)
    assert parse(ris.handle(sample("B1_ORM_O01_v23"))[0]).text("MSA-1") == "AA"
    assert ris.describe()["bookings"][0]["appointmentId"] == "APT556677"


def test_an_emission_settled_after_a_reset_says_nothing(ris: Ris) -> None:
    told: list[str] = []
    emission = Emission("SY1", "ORM^O01", b"", then=lambda: told.append("sent"))
    ris.orders.put(emission)
    ris.orders.clear()
    ris.orders.settle(emission)
    assert told == []


def test_no_state_names_a_patient(ris: Ris, sample: Sample) -> None:
    ris.handle(sample("B1_ORM_O01_v23"))
    text = str(ris.describe())
    assert "Doe" not in text
    assert "MRN123456" not in text
    assert "Doe^John" in str(ris.describe(bodies=True))


async def test_logs_carry_ids_only(
    make_ris: MakeRis, make_emr: Callable[..., Awaitable[Emr]], sample: Sample, change: Change,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    ris, emr = await make_ris(), await make_emr("epic")
    ris.handle(sample("B1_ORM_O01_v23"))
    ris.handle(change(sample("B1_ORM_O01_v23"), {"MSH-10": "X2", "PID-5": "Doe^Jack"}))
    ris.handle(b"MSH|^~\\&|Doe")
    emr.handle(sample("P_epic_S12"))
    emr.handle(change(sample("P_epic_S12"), {"MSH-10": "X3", "PID-3": ""}))
    logged = capsys.readouterr().out
    assert "ris.appointment" in logged
    assert "emr.received" in logged
    for private in ("Doe", "John", "MRN123456", "19800101"):
        assert private not in logged
