"""Who sends to the engine: orders and their webhook, enhanced mode, and strangers at the MLLP port."""

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from .peers import (
    Sender,
    appointments,
    arrived,
    client_hello,
    frame,
    is_idle,
    message_of,
    sample,
    siu,
    told,
    value,
)

Site = Any
WaitFor = Callable[..., Any]

#: Short waits between attempts, and a limit that a test can pass.
EDITS = (
    (
        "channels/ris-siu-router.yaml",
        'mllp: {port: "${SIU_PORT:-2575}"}',
        'mllp: {port: "${SIU_PORT:-2575}", max_size: 100KiB}',
    ),
    ("channels/ris-orders.yaml", "retry: {give_up: 24h}", "retry: {backoff: [100ms], give_up: 24h}"),
)


@pytest.fixture
def ris(site: Site) -> Any:
    """A connection to the port where the RIS's notifications come in."""
    with Sender(site.port("SIU")) as sender:
        yield sender


@pytest.fixture
def orders(site: Site) -> Any:
    """A connection to the port where the RIS's orders come in."""
    with Sender(site.port("ORDERS")) as sender:
        yield sender


@pytest.fixture
def delivered(site: Site, wait_for: WaitFor) -> Callable[[str, int], list[dict[str, Any]]]:
    """``delivered("epic", 3)``: what the EMR received, as soon as there are so many and nothing more is owed."""

    def delivered(emr: str, count: int) -> list[dict[str, Any]]:
        wait_for(lambda: len(arrived(site, emr)) >= count and is_idle(site), f"{count} messages at {emr}")
        return arrived(site, emr)

    return delivered


# -- orders --------------------------------------------------------------------------------------------------------


def order(number: str, control: str = "NW") -> bytes:
    """The RIS's order of the examples under another number, with the phone of the example."""
    text = sample("O1_ORM_order_from_RIS_v23").decode()
    for old, new in ((value(text, "MSH-10"), f"O{number}"), ("ORDER123", number), ("ORC|NW", f"ORC|{control}")):
        text = text.replace(old, new)
    return text.encode()


def test_an_order_reaches_the_webhook_with_token_and_phone(site: Site, orders: Sender, wait_for: WaitFor) -> None:
    assert told(orders.ask(order("ORDER901"))) == ("AA", "OORDER901")
    (called,) = wait_for(lambda: site.control("GET", "/webhook?bodies=1")["received"], "the webhook called")
    body = called["body"]
    assert (body["orderId"], body["accession"], body["mrn"]) == ("ORDER901", "ACC778899", "MRN123456")
    assert (body["modality"], body["facility"], body["phone"]) == ("CR", "DTI", "+12175550111")
    assert body["procedure"] == {"code": "XRCHEST2", "description": "Chest X-ray 2 views"}
    wait_for(lambda: is_idle(site, "ris-orders"), "settled")
    shown = message_of(site, "OORDER901")
    assert body["correlationId"] == shown["message"]["correlation_id"]
    kept = json.loads(site.cli("message", str(shown["message"]["id"]), "--bodies", "--json").stdout)
    (delivery,) = kept["deliveries"]
    assert (delivery["state"], delivery["codes"]) == ("delivered", {"ack": "200"})
    assert "2175550111" not in delivery["body"], "a delivered body keeps the phone's hash only"
    assert len(json.loads(delivery["body"])["phone"]) == 64


def test_a_webhook_that_says_500_is_called_again(site: Site, orders: Sender, wait_for: WaitFor) -> None:
    site.fault("status", "webhook", status=500, times=2)
    orders.ask(order("ORDER902"))
    wait_for(lambda: site.control("GET", "/webhook")["count"] == 1, "the webhook served")
    wait_for(lambda: is_idle(site, "ris-orders"), "settled")
    assert [refused["status"] for refused in site.control("GET", "/webhook")["refused"]] == [500, 500]
    (delivery,) = message_of(site, "OORDER902")["deliveries"]
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 3)


def test_a_webhook_that_says_401_parks_and_a_person_sends_again(site: Site, orders: Sender, wait_for: WaitFor) -> None:
    site.fault("status", "webhook", status=401)
    orders.ask(order("ORDER903"))
    orders.ask(order("ORDER904"))
    wait_for(lambda: site.control("GET", "/webhook")["count"] == 1, "the later one served")
    wait_for(lambda: is_idle(site, "ris-orders"), "settled")
    (parked,) = message_of(site, "OORDER903")["deliveries"]
    assert (parked["state"], parked["cause"]) == ("parked", "rejected 401")
    assert site.cli("resend", "--delivery", str(parked["id"])).returncode == 0
    wait_for(lambda: site.control("GET", "/webhook")["count"] == 2, "the parked one served")
    received = site.control("GET", "/webhook?bodies=1")["received"]
    assert [entry["orderId"] for entry in received] == ["ORDER904", "ORDER903"]
    assert received[1]["body"]["phone"] == "+12175550111", "a body that is not delivered yet is kept whole, sealed"


# -- enhanced mode -------------------------------------------------------------------------------------------------


def asking(message: bytes, accept: str, application: str) -> bytes:
    """The message with MSH-15 and MSH-16."""
    header, rest = message.split(b"\r", 1)
    fields = header.decode().split("|")
    fields += [""] * (16 - len(fields))
    fields[14:16] = [accept, application]
    return "|".join(fields).encode() + b"\r" + rest


@pytest.mark.parametrize(
    ("accept", "application", "answers"),
    [
        ("AL", "NE", ["CA"]),
        ("AL", "AL", ["CA", "AA"]),
        ("NE", "AL", ["AA"]),
        ("NE", "NE", []),
        ("AL", "ER", ["CA"]),
        ("ER", "AL", ["AA"]),
        ("AL", "SU", ["CA", "AA"]),
    ],
)
def test_enhanced_senders_get_the_answers_they_asked_for(
    site: Site, ris: Sender, delivered: Any, accept: str, application: str, answers: list[str]
) -> None:
    name = f"E{accept}{application}"
    ris.send(asking(siu(name, version="v251"), accept, application), siu(f"{name}Z"))
    found = [told(ris.receive()) for _ in range(len(answers) + 1)]
    assert found == [*((code, f"C{name}S12") for code in answers), ("AA", f"C{name}ZS12")]
    assert appointments(delivered("epic", 2)) == [name, f"{name}Z"]


def test_in_enhanced_mode_the_accept_ack_does_not_wait_for_the_transforms(site: Site, orders: Sender) -> None:
    """``ris-orders`` acknowledges when routed: CA is commit 1, the application ack commit 2."""
    orders.send(asking(order("ORDER905"), "AL", "AL"))
    assert [told(orders.receive()) for _ in range(2)] == [("CA", "OORDER905"), ("AA", "OORDER905")]
    # A message whose transforms fail (two orders in one) is accepted all the same, then refused by the application.
    twice = order("ORDER906") + b"ORC|NW|ORDER907^ATHENA\r"
    orders.send(asking(twice, "AL", "AL"))
    assert [told(orders.receive()) for _ in range(2)] == [("CA", "OORDER906"), ("AE", "OORDER906")]
    assert told(orders.ask(twice)) == ("AE", "OORDER906")


# -- a listener among strangers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="http"),
        pytest.param(client_hello(), id="tls"),
        pytest.param(b"\x00\xff" * 50_000, id="garbage"),
    ],
)
def test_a_stranger_is_sent_away(site: Site, ris: Sender, delivered: Any, said: bytes) -> None:
    with Sender(site.port("SIU")) as stranger:
        with suppress(ConnectionError):  # it may be sent away before everything was said
            stranger.write(said)
        assert stranger.ends()
    assert told(ris.ask(siu(f"G{len(said)}")))[0] == "AA"
    assert len(delivered("epic", 1)) == 1
    assert site.log_lines("mllp.wrong_protocol") or site.log_lines("mllp.junk")


def test_half_a_frame_and_a_frame_without_hl7_harm_nobody(site: Site, ris: Sender, delivered: Any) -> None:
    with ExitStack() as stack:
        half, odd = (stack.enter_context(Sender(site.port("SIU"))) for _ in range(2))
        half.write(frame(siu("X1"))[:100])
        odd.write(frame(b"this is no HL7\r"))
        assert value(odd.receive(), "MSA-1") == "AR"
        assert told(odd.ask(siu("X2"))) == ("AA", "CX2S12"), "the connection serves on"
        assert told(ris.ask(siu("X3"))) == ("AA", "CX3S12")
        assert half.is_silent()
        half.write(frame(siu("X1"))[100:])
        assert told(half.receive()) == ("AA", "CX1S12")
        # One that goes away in the middle leaves nothing behind.
        half.write(frame(siu("X4"))[:200])
    assert appointments(delivered("epic", 3)) == ["X2", "X3", "X1"]
    assert site.messages(state="refused", limit="1")[0]["cause"] == "malformed"


def test_a_frame_beyond_the_limit_is_refused_and_its_sender_leaves(site: Site, ris: Sender, delivered: Any) -> None:
    with Sender(site.port("SIU")) as boaster:
        large = siu("B1", replace=[("X-ray scheduled", "X" * 200_000)])
        with suppress(ConnectionError):  # it may be refused before everything was said
            boaster.send(large)
        assert told(boaster.receive()) == ("AR", "CB1S12")
        assert boaster.ends()
    assert told(ris.ask(siu("B2")))[0] == "AA"
    assert appointments(delivered("epic", 1)) == ["B2"]
    assert site.messages(state="refused", limit="1")[0]["cause"] == "too_large"


def test_messages_in_any_packaging_are_taken(site: Site, ris: Sender, delivered: Any) -> None:
    """Junk between frames, LF for CR, byte by byte, several in a packet."""
    ris.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ris.write(b"\r\n" + frame(siu("K1")) + b"\r\n\r\n" + frame(siu("K2").replace(b"\r", b"\n")))
    ris.send(siu("K3"), siu("K4").replace(b"\r", b"\r\n"))
    for byte in frame(siu("K5")):
        ris.write(bytes([byte]))
    assert [told(ris.receive()) for _ in range(5)] == [("AA", f"CK{number}S12") for number in range(1, 6)]
    assert appointments(delivered("epic", 5)) == [f"K{number}" for number in range(1, 6)]
