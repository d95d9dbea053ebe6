"""A RIS that was set up for one dialect refuses every other, with the code that a real one gives."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine.simulators import Dialect, Ris

Make = Callable[..., Awaitable[Ris]]
Sample = Callable[..., bytes]
Change = Callable[..., bytes]

LOCATIONS, MASTER_FILE = "L1_QRY_Q01", "L5_MFQ_M05"
OPEN_SLOTS, SCHEDULE = "S1_QRY_Q01", "S4_SQM_S25"
ORDER, REQUEST = "B1_ORM_O01", "B6_SRM_S01"
ONE = {"version": "2.5.1", "locations": "qry", "slots": "qry", "booking": "orm", "order_control": "NW"}


async def told(ris: Ris, connect: Any, message: bytes) -> tuple[str, str, str]:
    """MSA-1, ERR-3 and ERR-2 of the answer."""
    client = await connect(ris.port)
    answer = await client.ask(message)
    return answer.text("MSA-1"), answer.text("ERR-3"), answer.raw("ERR-2")


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        ({}, LOCATIONS, ("AA", "", "")),
        ({"locations": "mfq"}, LOCATIONS, ("AE", "103", "QRD^1^9")),
        ({"locations": "mfq"}, MASTER_FILE, ("AA", "", "")),
        ({}, MASTER_FILE, ("AR", "200", "MSH^1^9")),
        ({"locations": "mfq", "slots": "sqm"}, LOCATIONS, ("AR", "200", "MSH^1^9")),
        ({}, OPEN_SLOTS, ("AA", "", "")),
        ({"slots": "sqm"}, OPEN_SLOTS, ("AE", "103", "QRD^1^9")),
        ({"slots": "db"}, OPEN_SLOTS, ("AE", "103", "QRD^1^9")),
        ({"slots": "sqm"}, SCHEDULE, ("AA", "", "")),
        ({}, SCHEDULE, ("AR", "200", "MSH^1^9")),
        ({}, ORDER, ("AA", "", "")),
        ({"order_control": "XO"}, ORDER, ("AE", "103", "ORC^1^1")),
        ({"booking": "srm"}, ORDER, ("AR", "200", "MSH^1^9")),
        ({"booking": "srm"}, REQUEST, ("AA", "", "")),
        ({"booking": "srm", "order_control": "XO"}, REQUEST, ("AE", "103", "ARQ^1^24")),
        ({"booking": "siu"}, REQUEST, ("AR", "200", "MSH^1^9")),
        ({"version": "2.5"}, LOCATIONS, ("AR", "203", "MSH^1^12")),
    ],
)
async def test_a_ris_speaks_its_own_dialect_alone(
    words: dict[str, str], name: str, expected: tuple[str, str, str], make_ris: Make, connect: Any, sample: Sample
) -> None:
    ris = await make_ris(dialect=Dialect.of(ONE | words))
    assert await told(ris, connect, sample(f"{name}_v251")) == expected


async def test_a_cancellation_comes_under_the_numbers_of_the_dialect(
    make_ris: Make, connect: Any, sample: Sample, change: Change
) -> None:
    ris = await make_ris(dialect=Dialect.of(ONE | {"version": "2.3", "order_control": "XO"}))
    client = await connect(ris.port)
    known = {"ORC-1": "XO", "ORC-2": "ORDER123^ATHENA", "ORC-3": "ACC778899^SYNAPSE"}
    known |= {"OBR-2": "ORDER123^ATHENA", "OBR-3": "ACC778899^SYNAPSE"}
    assert (await client.ask(change(sample("B1_ORM_O01_v23"), known))).text("MSA-1") == "AA"
    refused = await client.ask(sample("B9_ORM_CA_v23"))
    assert (refused.text("MSA-1"), refused.raw("ERR-1").split("^")[:3]) == ("AE", ["ORC", "1", "2"])
    cancel = change(sample("B9_ORM_CA_v23"), {"MSH-10": "RS9", "ORC-2": "ORDER123^ATHENA"})
    assert (await client.ask(cancel)).text("MSA-1") == "AA"


async def test_what_the_ris_sends_by_itself_is_in_its_version(make_ris: Make) -> None:
    ris = await make_ris(dialect=Dialect.of({"version": "2.4"}))
    ris.orders.hold()
    ris.send_orders()
    ris.emit_invented("S12", facility="DTI", location="DTI")
    assert {emission.data.split(b"\r")[0].split(b"|")[11] for emission in (*ris.orders.waiting, *ris.siu.waiting)} == {
        b"2.4"
    }


def test_words_of_site_yaml_are_words_of_the_ris() -> None:
    one = Dialect.of(ONE | {"facility": "DTI", "slots": "vxq"})
    assert (one.version, one.slots, one.own_version) == (("2.5.1",), ("qry",), "2.5.1")
    assert Dialect.of({}) == Dialect.of({"slots": "any"}) == Dialect()
    with pytest.raises(ValueError, match=r"ris.booking is none of orm, srm, siu, nor any"):
        Dialect.of({"booking": "fax"})
