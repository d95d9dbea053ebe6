"""Every fault, as a client meets it over a socket; and the board that hands them out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine.simulators import Ris
from engine.simulators.faults import MLLP_FAULTS, FaultBoard, FaultError
from engine.simulators.server import UMLAUTS
from engine.simulators.wire import frame, parse

Sample = Callable[..., bytes]
Change = Callable[[bytes, dict[str, str]], bytes]
Until = Callable[[Callable[[], bool]], Awaitable[None]]
Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def booking(sample: Sample) -> bytes:
    return sample("B1_ORM_O01_v23")


@pytest.fixture
def locations(sample: Sample) -> bytes:
    return sample("L1_QRY_Q01_v23")


def booked(ris: Ris) -> int:
    return len(ris.describe()["bookings"])


async def served(ris: Ris, connect: Connect, message: bytes) -> str:
    """MSA-1 of an answer on a connection of its own: the partner is well again."""
    client = await connect(ris.port)
    return (await client.ask(message)).text("MSA-1")


async def test_refuse_closes_listener_and_connections_until_cleared(
    ris: Ris, connect: Connect, locations: bytes
) -> None:
    client = await connect(ris.port)
    await client.ask(locations)
    await ris.add_fault({"fault": "refuse"})
    with pytest.raises((EOFError, ConnectionError)):
        await client.ask(locations)
    with pytest.raises(OSError):
        await connect(ris.port)
    await ris.clear_faults()
    assert await served(ris, connect, locations) == "AA"


@pytest.mark.parametrize("act", [True, False])
async def test_silence_acts_or_does_not(
    ris: Ris, connect: Connect, booking: bytes, locations: bytes, act: bool
) -> None:
    await ris.add_fault({"fault": "silence", "act": act})
    client = await connect(ris.port)
    await client.send(booking)
    # The next answer on this connection is the next message's: nothing came for the first.
    answer = await client.ask(locations)
    assert answer.text("MSA-2") == "RS0000000001"
    assert booked(ris) == (1 if act else 0)
    assert await served(ris, connect, booking) == "AA"
    assert len(ris.describe()["history"]) == 1


async def test_delay_answers_after_the_time(ris: Ris, connect: Connect, locations: bytes) -> None:
    await ris.add_fault({"fault": "delay", "ms": 40})
    started = asyncio.get_running_loop().time()
    assert await served(ris, connect, locations) == "AA"
    assert asyncio.get_running_loop().time() - started >= 0.04


async def test_late_acts_before_it_answers(ris: Ris, connect: Connect, booking: bytes) -> None:
    await ris.add_fault({"fault": "late", "ms": 60_000})
    client = await connect(ris.port)
    await client.send(booking)
    assert await served(ris, connect, booking) == "AA"
    assert booked(ris) == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.05)


@pytest.mark.parametrize("count", [0, 1, 30])
async def test_drop_closes_after_n_bytes(ris: Ris, connect: Connect, booking: bytes, count: int) -> None:
    await ris.add_fault({"fault": "drop", "bytes": count})
    client = await connect(ris.port)
    await client.send(booking)
    data = await client.rest()
    assert len(data) == count
    assert frame(ris.handle(booking)[0]).startswith(data)
    assert booked(ris) == 1


async def test_drop_without_acting(ris: Ris, connect: Connect, booking: bytes) -> None:
    await ris.add_fault({"fault": "drop", "act": False})
    client = await connect(ris.port)
    await client.send(booking)
    assert await client.rest() == b""
    assert booked(ris) == 0


async def test_an_answer_in_the_name_of_another_message(ris: Ris, connect: Connect, booking: bytes) -> None:
    await ris.add_fault({"fault": "wrong_control_id", "control_id": "NOTYOURS"})
    client = await connect(ris.port)
    answer = await client.ask(booking)
    assert (answer.text("MSA-1"), answer.text("MSA-2")) == ("AA", "NOTYOURS")
    assert (await client.ask(booking)).text("MSA-2") == "RS0000000003"


@pytest.mark.parametrize("version", ["v23", "v251"])
async def test_an_error_with_codes(ris: Ris, connect: Connect, sample: Sample, version: str) -> None:
    await ris.add_fault(
        {"fault": "error", "condition": 206, "location": "OBR-18", "application_error": "SLOT_TAKEN^Taken"}
    )
    client = await connect(ris.port)
    answer = await client.ask(sample(f"B1_ORM_O01_{version}"))
    if version == "v23":
        assert (answer.text("MSA-6"), answer.raw("ERR-1")) == ("206", "OBR^1^18^206&Application record locked&HL70357")
        text = answer.text("MSA-3")
    else:
        assert (answer.text("ERR-3"), answer.raw("ERR-2"), answer.raw("ERR-5")) == (
            "206",
            "OBR^1^18",
            "SLOT_TAKEN^Taken^99SYN",
        )
        text = answer.text("ERR-8")
    assert (answer.kind, answer.text("MSA-1")) == ("ORR^O02", "AE")
    assert "John Doe (MRN123456)" in text
    assert booked(ris) == 0


@pytest.mark.parametrize("version", ["v23", "v251"])
async def test_an_error_with_text_only(ris: Ris, connect: Connect, sample: Sample, version: str) -> None:
    await ris.add_fault({"fault": "error", "condition": None, "text": "no room for Doe^John MRN123456"})
    client = await connect(ris.port)
    answer = await client.ask(sample(f"L1_QRY_Q01_{version}"))
    assert (answer.text("MSA-1"), answer.text("MSA-6"), answer.text("ERR-3")) == ("AE", "", "")
    assert (answer.text("MSA-3") or answer.text("ERR-8")) == "no room for Doe^John MRN123456"


async def test_a_rejection_is_an_ack(ris: Ris, connect: Connect, booking: bytes) -> None:
    await ris.add_fault({"fault": "error", "ack": "AR", "condition": 207})
    answer = await (await connect(ris.port)).ask(booking)
    assert (answer.kind, answer.text("MSA-1"), answer.text("MSA-6")) == ("ACK", "AR", "207")


async def test_a_query_that_fails_names_a_patient_of_the_ris(ris: Ris, connect: Connect, locations: bytes) -> None:
    await ris.add_fault({"fault": "error"})
    answer = await (await connect(ris.port)).ask(locations)
    assert "John Doe (MRN123456)" in answer.text("MSA-3")


async def test_garbage_comes_framed(ris: Ris, connect: Connect, locations: bytes) -> None:
    await ris.add_fault({"fault": "garbage"})
    client = await connect(ris.port)
    await client.send(locations)
    assert not (await client.answer()).startswith(b"MSH")
    assert (await client.ask(locations)).text("MSA-1") == "AA"


async def test_split_sends_byte_by_byte(ris: Ris, connect: Connect, locations: bytes) -> None:
    await ris.add_fault({"fault": "split"})
    client = await connect(ris.port)
    answer = await client.ask(locations)
    assert answer.text("MSA-1") == "AA"
    assert len(client.chunks) > 1


async def test_two_answers_share_a_packet(ris: Ris, connect: Connect, locations: bytes) -> None:
    await ris.add_fault({"fault": "two_in_one"})
    client = await connect(ris.port)
    foreign = await client.ask(locations)
    right = parse(await client.answer())
    assert (foreign.text("MSA-2"), right.text("MSA-2")) == ("FOREIGN0000000001", "RS0000000001")
    assert len(client.chunks) == 1


@pytest.mark.parametrize("act", [True, False])
async def test_a_restart_cuts_the_connection_and_comes_back(
    ris: Ris, connect: Connect, booking: bytes, act: bool, until: Until
) -> None:
    await ris.add_fault({"fault": "restart", "ms": 20, "act": act})
    client, bystander = await connect(ris.port), await connect(ris.port)
    await client.send(booking)
    for cut in (client, bystander):
        with pytest.raises((EOFError, ConnectionError)):
            await cut.answer()
    assert booked(ris) == (1 if act else 0)
    await until(lambda: ris.server.is_up)
    assert await served(ris, connect, booking) == "AA"
    assert len(ris.describe()["history"]) == 1


@pytest.mark.parametrize("declared", [True, False])
async def test_an_answer_in_8859_1(ris: Ris, connect: Connect, locations: bytes, declared: bool) -> None:
    await ris.add_fault({"fault": "latin1", "declared": declared})
    client = await connect(ris.port)
    await client.send(locations)
    data = await client.answer()
    assert UMLAUTS.encode("latin-1") in data
    assert parse(data).undecodable is not declared
    assert parse(data).text("MSA-2") == "RS0000000001"


async def test_a_fault_meets_only_the_kind_it_is_for(
    ris: Ris, connect: Connect, booking: bytes, locations: bytes
) -> None:
    await ris.add_fault({"fault": "error", "only": "ORM"})
    assert await served(ris, connect, locations) == "AA"
    assert await served(ris, connect, booking) == "AE"
    assert await served(ris, connect, booking) == "AA"


async def test_a_stopping_partner_does_not_wait_for_a_slow_answer(
    ris: Ris, connect: Connect, locations: bytes, until: Until
) -> None:
    await ris.add_fault({"fault": "delay", "ms": 600_000})
    client = await connect(ris.port)
    await client.send(locations)
    await until(lambda: ris.server.faults.waiting == [])
    async with asyncio.timeout(20):
        await ris.stop()
    assert ris.server.connections == {}


async def test_two_messages_in_one_packet_are_both_answered(
    ris: Ris, connect: Connect, booking: bytes, locations: bytes
) -> None:
    client = await connect(ris.port)
    client.writer.write(frame(booking) + frame(locations))
    answers = [parse(await client.answer()).text("MSA-2") for _ in range(2)]
    assert answers == ["RS0000000003", "RS0000000001"]


def test_faults_are_counted_and_taken_in_order() -> None:
    board = FaultBoard()
    board.add({"fault": "silence", "times": 2, "only": "QRY^Q01"})
    board.add({"fault": "error", "times": None})
    board.add({"fault": "refuse"})
    taken = [board.take(kind) for kind in ("ORM^O01", "QRY^Q01", "QRY^Q01", "QRY^Q01")]
    assert [fault.name for fault in taken if fault] == ["error", "silence", "silence", "error"]
    assert [fault["fault"] for fault in board.describe()] == ["error", "refuse"]
    assert board.describe()[0]["met"] == 2
    board.clear()
    assert board.take("ORM^O01") is None


def test_a_one_shot_is_gone_after_its_message() -> None:
    board = FaultBoard()
    board.add({"fault": "garbage"})
    assert [board.take("ACK") is None for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"fault": "nonsense"}, "known are delay, drop, error"),
        ({"fault": "silence", "containing": ""}, "containing is text of the message"),
        ({}, "known are"),
        ({"fault": "delay", "seconds": 3}, "delay takes ms; not seconds"),
        ({"fault": "split", "ms": 3}, "no parameters"),
        ({"fault": "delay", "ms": "3"}, "ms of delay"),
        ({"fault": "delay", "ms": True}, "ms of delay"),
        ({"fault": "silence", "act": 1}, "act of silence"),
        ({"fault": "error", "condition": "207"}, "condition of error"),
        ({"fault": "error", "text": 5}, "text of error"),
        ({"fault": "delay", "times": 0}, "times is"),
        ({"fault": "delay", "only": 3}, "only is"),
    ],
)
def test_a_fault_nobody_knows_is_refused_with_what_is_known(spec: dict[str, object], text: str) -> None:
    with pytest.raises(FaultError, match=text):
        FaultBoard().add(spec)


def test_every_fault_is_carried_out_somewhere(ris: Ris) -> None:
    assert set(MLLP_FAULTS) == {*ris.server.remedies, "refuse"}


def test_a_fault_may_wait_for_the_message_that_contains_a_text(booking: bytes) -> None:
    board = FaultBoard()
    board.add({"fault": "silence", "containing": "ORDER999"})
    board.add({"fault": "error", "containing": "ORDER123", "only": "ORM"})
    assert board.take("QRY^Q01", booking) is None
    met = board.take("ORM^O01", booking)
    assert met is not None
    assert (met.name, met.describe()["containing"]) == ("error", "ORDER123")
    assert board.take("ORM^O01", booking) is None
    assert [fault["fault"] for fault in board.describe()] == ["silence"]
