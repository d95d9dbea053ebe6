"""What survives: ``kill -9`` and SIGTERM while messages come in and go out.

The sender never repeats a message, so that whatever comes twice came twice from the engine. Every message has a number
in SCH-2, which all EMR profiles pass on: the order of a lane is the order of these numbers. The seed of the moments of
death is printed; ``HL7ENGINE_CRASH_SEED`` repeats it.
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .peers import Partner, Sender, ack, appointments, arrived, channel, is_idle, message_of, siu, value

Site = Any
WaitFor = Callable[..., Any]

ROUTER = "channels/ris-siu-router.yaml"
#: Short waits between attempts at all three EMRs.
QUICK = (
    (ROUTER, "retry: {backoff: [1s, 5s, 15s, 60s], give_up: never}", "retry: {backoff: [100ms]}"),
    (ROUTER, '"${ATHENA_PORT:-2601}"}', '"${ATHENA_PORT:-2601}"}\n    retry: {backoff: [100ms]}'),
    (ROUTER, '"${CERNER_PORT:-2603}"}', '"${CERNER_PORT:-2603}"}\n    retry: {backoff: [100ms]}'),
)
FACILITIES = ("NSI", "DTI", "WSI")
EMRS = {"epic": ("NSI", "WSI"), "athena": ("DTI",), "cerner": ("WSI",)}
#: Messages a client has under way at once.
WINDOW = 20


class Client:
    """A sender that goes on, whatever happens to the engine; it notes what was sent and what was acknowledged."""

    def __init__(self, port: int, first: int, step: int) -> None:
        self.port, self.number, self.step = port, first, step
        self.sent: list[int] = []
        self.acknowledged: set[int] = set()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                with Sender(self.port) as sender:
                    self.stream(sender)
            except OSError:
                # The engine is gone; what had no answer is not sent again.
                self.stopping.wait(0.02)

    def stream(self, sender: Sender) -> None:
        waiting: list[int] = []
        while not self.stopping.is_set() or waiting:
            while len(waiting) < WINDOW and not self.stopping.is_set():
                self.number += self.step
                self.sent.append(self.number)
                waiting.append(self.number)
                sender.send(numbered(self.number))
            answer = sender.receive()
            number = waiting.pop(0)
            assert value(answer, "MSA-2") == control_id(number), "an ack out of order"
            if value(answer, "MSA-1") == "AA":
                self.acknowledged.add(number)


def control_id(number: int) -> str:
    return f"N{number:07d}"


def facility(number: int) -> str:
    return FACILITIES[number % len(FACILITIES)]


def numbered(number: int) -> bytes:
    return siu(f"APT{number:07d}", facility(number), control_id=control_id(number))


@contextmanager
def sending(site: Site, clients: int = 2) -> Iterator[list[Client]]:
    """Clients that send until the block ends, and until they have the answers to what they sent last."""
    running = [Client(site.port("SIU"), first, clients) for first in range(clients)]
    for client in running:
        client.thread.start()
    try:
        yield running
    finally:
        for client in running:
            client.stopping.set()
        for client in running:
            client.thread.join(30)
            assert not client.thread.is_alive()


def check_arrivals(site: Site, clients: Sequence[Client], most_repeated: int) -> dict[str, int]:
    """Everything acknowledged is there, nothing unsent is, each client's numbers rise; how many came twice, by EMR."""
    repeated = {}
    for emr, facilities in EMRS.items():
        entries = arrived(site, emr)
        assert all(entry["answers"] == ["AA"] for entry in entries)
        numbers = [int(text.removeprefix("APT")) for text in appointments(entries)]
        assert len(numbers) == len(set(numbers)), f"{emr} got a number under two ids"
        repeated[emr] = len(entries) - len(numbers)
        assert repeated[emr] <= most_repeated, f"{emr} got {repeated[emr]} messages twice"
        for client in clients:
            own = [number for number in numbers if number % client.step == client.sent[0] % client.step]
            assert own == sorted(own), f"{emr} got a client's messages out of order"
            missing = {number for number in client.acknowledged if facility(number) in facilities} - set(own)
            assert not missing, f"{emr} lacks {len(missing)} acknowledged messages"
            assert set(own) <= set(client.sent)
    return repeated


def count(site: Site) -> int:
    return int(channel(site)["received_since_start"])


def test_killed_again_and_again_the_engine_keeps_every_acknowledged_message(
    new_site: Callable[..., Site], wait_for: WaitFor, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("HL7ENGINE_CRASH_SEED") or random.randrange(1_000_000))
    moments = random.Random(seed)
    site = new_site(QUICK).start(orders=False)
    site.control("POST", "/emr/epic/down")
    kills = 4
    with sending(site) as clients:
        # A few thousand for Epic alone wait in its lane before the first death, with athena and cerner served.
        wait_for(lambda: channel(site)["lanes"]["epic"]["queued"] >= 2000, "2000 in the lane")
        for death in range(kills):
            before = sum(len(client.acknowledged) for client in clients)
            wait_for(lambda before=before: sum(len(client.acknowledged) for client in clients) > before, "traffic")
            time.sleep(moments.uniform(0.0, 0.4))  # the moment of death, not a wait for something
            site.kill()
            if death == 1:
                site.control("POST", "/emr/epic/up")
            site.start()
    wait_for(lambda: is_idle(site), "everything delivered", 60)
    repeated = check_arrivals(site, clients, kills)
    acknowledged = sum(len(client.acknowledged) for client in clients)
    unanswered = sum(len(client.sent) for client in clients) - acknowledged
    with capsys.disabled():
        print(f"\n  seed {seed}: {kills} kills, {acknowledged} acknowledged, {unanswered} unanswered, twice {repeated}")
    assert acknowledged >= 3000


def test_sigterm_under_load_loses_nothing_and_repeats_nothing(new_site: Callable[..., Site], wait_for: WaitFor) -> None:
    site = new_site(QUICK).start(orders=False)
    with sending(site) as clients:
        for _ in range(2):
            wait_for(lambda: count(site) > 200, "traffic")
            begun = time.monotonic()
            assert site.terminate() == 0
            assert time.monotonic() - begun < 20
            site.start()
    wait_for(lambda: is_idle(site), "everything delivered")
    assert check_arrivals(site, clients, 0) == dict.fromkeys(EMRS, 0)
    # Nobody was left without a word: what the engine took in it answered before it went.
    stopped = [line for line in site.log_lines("mllp.disconnected") if line["unanswered"]]
    assert not stopped


@pytest.mark.timeout(300)
def test_sigterm_with_a_silent_partner_a_waiting_caller_and_a_long_queue_ends_in_time_and_loses_nothing(
    new_site: Callable[..., Site], wait_for: WaitFor
) -> None:
    site = new_site(QUICK).start()
    site.control("POST", "/emr/epic/down")
    with sending(site) as clients:
        wait_for(lambda: channel(site)["lanes"]["epic"]["queued"] >= 1000, "1000 in the lane")
    wait_for(lambda: not channel(site)["lanes"]["athena"]["queued"], "athena has everything", 100)
    site.fault("silence", "emr/athena")
    with Sender(site.port("SIU")) as sender:
        assert value(sender.ask(siu("APT9999999", "DTI", control_id="N9999999")), "MSA-1") == "AA"
    wait_for(
        lambda: arrived(site, "athena")[-1]["appointmentId"].startswith("APT9999999"), "athena has it and keeps silent"
    )
    site.fault("silence", "ris")
    answers: list[int] = []
    caller = threading.Thread(target=lambda: answers.append(site.slots().status))
    caller.start()
    wait_for(lambda: site.received("QRY"), "the RIS keeps silent")
    assert site.engine is not None
    begun = time.monotonic()
    site.engine.send_signal(signal.SIGTERM)
    assert site.engine.wait(40) == 0
    assert time.monotonic() - begun < 30, "the drain has 20 s"
    site.engine = None
    caller.join(20)
    assert answers, "the caller was answered"
    assert answers[0] >= 500
    site.control("POST", "/emr/epic/up")
    site.start(orders=False)
    wait_for(lambda: is_idle(site), "everything delivered", 100)
    entries = [entry for entry in arrived(site, "athena") if entry["appointmentId"].startswith("APT9999999")]
    assert len(entries) == 2
    (again,) = message_of(site, "N9999999")["deliveries"]
    assert again["may_be_duplicated"], "what the stop interrupted is marked"
    epic = appointments(arrived(site, "epic"))
    wanted = {f"APT{number:07d}" for client in clients for number in client.acknowledged if facility(number) != "DTI"}
    assert wanted <= set(epic)
    assert len(arrived(site, "epic")) == len(epic), "nothing came twice"


def test_a_second_signal_ends_at_once_and_loses_nothing(new_site: Callable[..., Site], wait_for: WaitFor) -> None:
    site = new_site(QUICK).start(orders=False)
    site.fault("silence", "emr/epic")
    with Sender(site.port("SIU")) as sender:
        sender.ask(siu("Z1"))
        sender.ask(siu("Z2"))
    wait_for(lambda: arrived(site, "epic"), "the first at epic, which says nothing")
    assert site.engine is not None
    site.engine.send_signal(signal.SIGTERM)
    wait_for(lambda: site.log_lines("engine.stopping"), "the engine waits for epic's answer")
    begun = time.monotonic()
    assert site.terminate() == 128 + signal.SIGTERM
    assert time.monotonic() - begun < 5
    site.start()
    wait_for(lambda: is_idle(site), "everything delivered")
    assert appointments(arrived(site, "epic")) == ["Z1", "Z2"]
    assert site.control("GET", "/emr/epic")["duplicates"] == 1


SLOW = '''
"""Transforms of a test."""

import asyncio
from pathlib import Path


async def wait(message, context):
    """Let nothing pass while the gate is shut."""
    while Path({gate!r}).exists():
        await asyncio.sleep(0.01)
    return message
'''


def test_what_was_received_and_not_routed_is_routed_after_the_crash(
    new_site: Callable[..., Site], wait_for: WaitFor, tmp_path: Path
) -> None:
    gate = tmp_path / "shut"
    site = new_site([*QUICK, (ROUTER, "  - keep: {MSH-9.1: SIU}", "  - python: slow:wait\n  - keep: {MSH-9.1: SIU}")])
    (site.folder / "transforms" / "slow.py").write_text(SLOW.format(gate=str(gate)))
    gate.touch()
    site.start(orders=False)
    sent = [f"APT{number:07d}" for number in range(200)]
    with Sender(site.port("SIU")) as sender:
        for appointment in sent:
            assert value(sender.ask(siu(appointment)), "MSA-1") == "AA"
    assert channel(site)["received"] == len(sent)
    notices = [message for message in site.messages() if message["type"] == "SIU^S12"]
    assert {message["state"] for message in notices} == {"received"}
    site.kill()
    assert not arrived(site, "epic")
    gate.unlink()
    site.start()
    wait_for(lambda: is_idle(site), "everything delivered")
    assert appointments(arrived(site, "epic")) == sent
    assert site.control("GET", "/emr/epic")["duplicates"] == 0


def test_a_message_in_flight_that_may_not_be_repeated_waits_for_a_person(
    new_site: Callable[..., Site], wait_for: WaitFor
) -> None:
    site = new_site([(ROUTER, "on_unanswered: repeat", "on_unanswered: hold")]).start(orders=False)
    site.fault("silence", "emr/epic")
    with Sender(site.port("SIU")) as sender:
        sender.ask(siu("F1"))
        sender.ask(siu("F2"))
    wait_for(lambda: arrived(site, "epic"), "the first at epic")
    assert channel(site)["lanes"]["epic"]["sending"] == 1
    site.kill()
    site.start()
    (delivery,) = message_of(site, "CF1S12")["deliveries"]
    assert (delivery["state"], delivery["cause"], delivery["may_be_duplicated"]) == ("held", "interrupted", True)
    assert appointments(arrived(site, "epic")) == ["F1"]
    assert site.cli("resend", "--delivery", str(delivery["id"])).returncode == 0
    wait_for(lambda: is_idle(site), "everything delivered")
    entries = arrived(site, "epic")
    assert [entry["appointmentId"].partition("^")[0] for entry in entries] == ["F1", "F1", "F2"]
    assert [entry["duplicate"] for entry in entries] == [False, True, False]


def test_several_connections_may_repeat_no_more_than_they_had_in_flight(
    new_site: Callable[..., Site], wait_for: WaitFor
) -> None:
    """Four lanes at once (one per patient) to an EMR that answers slowly; each lane keeps its order."""
    connections = 4
    site = new_site(
        [
            (
                ROUTER,
                '"${ATHENA_PORT:-2601}"}',
                '"${ATHENA_PORT:-2601}"}\n    connections: 4\n    retry: {backoff: [100ms]}',
            ),
        ]
    ).start(orders=False)
    site.control("POST", "/emr/athena/down")
    barrier = threading.Event()

    def answers(message: bytes, _: int) -> list[bytes]:
        if not barrier.is_set():
            barrier.wait(20)
        return [ack(message)]

    lanes = 8
    with Partner(site.port("ATHENA"), answers) as athena, Sender(site.port("SIU")) as sender:
        for number in range(80):
            sender.ask(siu(f"APT{number:07d}", "DTI", replace=[("MRN123456", f"MRN90{number % lanes}")]))
        wait_for(lambda: len(athena.received) == connections, "every connection busy")
        site.kill()
        in_flight = list(athena.control_ids)
        barrier.set()
        site.start()
        wait_for(lambda: is_idle(site), "everything delivered")
        ids = athena.control_ids
        assert len(set(ids)) == 80
        assert sorted(control_id for control_id in set(ids) if ids.count(control_id) > 1) == sorted(in_flight)
        numbers = [int(text.removeprefix("APT")) for text in dict.fromkeys(athena.appointments)]
        for lane in range(lanes):
            own = [number for number in numbers if number % lanes == lane]
            assert own == sorted(own)
