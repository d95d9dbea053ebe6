"""A wall clock that jumps, under the real engine: a day ahead, an hour back, while messages wait for their next try.

The clock is the library's that also makes disks fail (``tests/crash/shim.c``, needs ``cc``); clocks that only run
forward are left alone, as when an administrator or a time server sets the time.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.crash.shim import Disk

from .peers import Sender, appointments, arrived, channel, is_idle, siu, told

Site = Any
WaitFor = Callable[..., Any]
HOUR, DAY = 3600, 86400
QUICK = (
    (
        "channels/ris-siu-router.yaml",
        "retry: {backoff: [1s, 5s, 15s, 60s], give_up: never}",
        "retry: {backoff: [200ms]}",
    ),
)


@pytest.mark.parametrize("jump", [DAY, -HOUR], ids=["a day ahead", "an hour back"])
def test_a_clock_that_jumps_keeps_nobody_waiting_and_changes_no_order(
    new_site: Callable[..., Site], wait_for: WaitFor, disk: Disk, jump: int
) -> None:
    site = new_site(QUICK, env=disk.environment).start(orders=False)
    site.control("POST", "/emr/epic/down")
    sent = []

    def send(*numbers: int) -> None:
        with Sender(site.port("SIU")) as sender:
            for number in numbers:
                assert told(sender.ask(siu(f"A{number}")))[0] == "AA"
                sent.append(f"A{number}")

    send(1, 2, 3)
    wait_for(lambda: "unavailable" in channel(site)["lanes"]["epic"]["last_error"], "the first attempt has failed")
    disk.set_clock(jump)
    send(4, 5, 6)
    (fourth,) = site.messages(control_id="CA4S12")
    seen = (datetime.fromisoformat(fourth["received_at"]) - datetime.now(UTC)).total_seconds()
    assert abs(seen - jump) < 300, "the engine's clock has jumped"
    site.control("POST", "/emr/epic/up")
    wait_for(lambda: is_idle(site), "delivered without waiting for the clock to come round")
    disk.set_clock(0)
    send(7)
    wait_for(lambda: is_idle(site), "delivered after the clock was put right")
    site.kill()
    site.start(orders=False)
    send(8)
    wait_for(lambda: is_idle(site), "delivered after a restart")
    entries = arrived(site, "epic")
    assert appointments(entries) == sent
    assert len({entry["controlId"] for entry in entries}) == len(entries) == len(sent), "no MSH-10 came back"
    shown = [message["id"] for message in site.messages()]  # once: the simulated RIS sends its orders meanwhile
    assert shown == sorted(shown, reverse=True)


def test_what_waited_when_the_clock_was_put_back_goes_after_a_restart_too(
    new_site: Callable[..., Site], wait_for: WaitFor, disk: Disk
) -> None:
    site = new_site(QUICK, env=disk.environment)
    disk.set_clock(HOUR)
    site.start(orders=False)
    site.control("POST", "/emr/epic/down")
    with Sender(site.port("SIU")) as sender:
        assert told(sender.ask(siu("A1")))[0] == "AA"
    wait_for(lambda: "unavailable" in channel(site)["lanes"]["epic"]["last_error"], "the first attempt has failed")
    site.kill()
    disk.set_clock(0)
    site.control("POST", "/emr/epic/up")
    site.start(orders=False)
    wait_for(lambda: is_idle(site), "delivered, an hour before the time that was written down")
    assert appointments(arrived(site, "epic")) == ["A1"]
