"""Files that change while messages come in and go out: nothing acknowledged is lost or comes twice, order is kept."""

import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .peers import PATIENCE, Partner, Sender, ack, channel, is_idle, siu, told
from .test_crash import EMRS, QUICK, ROUTER, check_arrivals, count, sending

Site = Any
WaitFor = Callable[..., Any]

RELOADS = 20


def turn_destinations(file: Path) -> None:
    """Put the first destination of the file last."""
    head, _, rest = file.read_text().partition("destinations:\n")
    first, *others = re.split(r"(?m)^(?=  - name: )", rest.removesuffix("\n"))[1:]
    file.write_text(f"{head}destinations:\n" + "\n".join(part.rstrip("\n") for part in (*others, first)) + "\n")


def names(site: Site) -> list[str]:
    return list(channel(site)["lanes"])


def settle(site: Site, wait_for: WaitFor) -> None:
    """Until nothing waits; on a busy machine that takes as long as it takes, while something is delivered."""

    def waiting() -> int:
        return sum(lane["queued"] + lane["sending"] for lane in channel(site)["lanes"].values())

    while not is_idle(site):
        before = waiting()
        wait_for(lambda before=before: is_idle(site) or waiting() < before, "one delivery more")


@pytest.mark.timeout(400)
def test_twenty_reloads_under_load_lose_nothing_repeat_nothing_and_keep_the_order(
    new_site: Callable[..., Site], wait_for: WaitFor
) -> None:
    site = new_site(QUICK).start(orders=False)
    before = names(site)
    site.control("POST", "/emr/epic/down")  # its lane waits over every reload
    with sending(site, 1) as clients:
        for number in range(RELOADS):
            wait_for(lambda: count(site) > 30, "traffic since the last reload")
            turn_destinations(site.folder / ROUTER)
            if number == RELOADS // 2:
                site.control("POST", "/emr/epic/up")
            if number % 5 == 4:
                assert site.engine is not None
                site.engine.send_signal(signal.SIGHUP)
                wait_for(lambda: len(site.log_lines("engine.reloaded")) == number + 1, "reloaded")  # noqa: B023
            else:
                done = site.admin("POST", "/api/reload", {})
                whats = {item["name"]: item["what"] for item in done.json["channels"]}
                assert whats.pop("ris-siu-router") == "restarted", done.text
                assert set(whats.values()) == {"unchanged"}
        assert names(site) == before[RELOADS % len(before) :] + before[: RELOADS % len(before)]
    settle(site, wait_for)
    assert check_arrivals(site, clients, 0) == dict.fromkeys(EMRS, 0)
    assert len(site.log_lines("mllp.listening")) == 3 + RELOADS
    assert not [line for line in site.log_lines("mllp.disconnected") if line["unanswered"]]


def test_senders_wait_and_are_not_refused_while_a_channel_passes_to_its_new_version(
    new_site: Callable[..., Site], wait_for: WaitFor
) -> None:
    site = new_site(QUICK)
    gate = threading.Event()

    def answer(message: bytes, _: int) -> list[bytes]:
        gate.wait(PATIENCE)
        return [ack(message)]

    with Partner(site.port("ATHENA"), answer) as athena:
        site.start(simulators=False)
        with Sender(site.port("SIU")) as sender:
            assert told(sender.ask(siu("A1", "DTI")))[0] == "AA"
        wait_for(lambda: athena.received, "a send under way, whose answer the reload waits for")
        turn_destinations(site.folder / ROUTER)
        assert site.engine is not None
        site.engine.send_signal(signal.SIGHUP)
        wait_for(lambda: channel(site)["received_since_start"] == 0, "the old version takes nothing more in")
        with Sender(site.port("SIU")) as sender:
            sender.send(siu("A2", "DTI"))
            assert sender.is_silent()
            assert not site.log_lines("engine.reloaded")
            gate.set()
            assert told(sender.receive())[0] == "AA"
        wait_for(lambda: is_idle(site), "everything delivered")
        assert athena.appointments == ["A1", "A2"]


def test_a_file_that_is_not_valid_leaves_the_running_version_alone(new_site: Callable[..., Site]) -> None:
    site = new_site(QUICK).start(simulators=False)
    with Sender(site.port("SIU")) as sender:
        sender.ask(siu("A1"))
        text = (site.folder / ROUTER).read_text()
        site.edit(ROUTER, "ack: received", "ack: recieved")
        done = site.cli("reload")
        assert done.returncode == 1
        assert "kept" in done.stdout
        assert "did you mean 'received'" in done.stdout
        assert told(sender.ask(siu("A2")))[0] == "AA"  # on the same connection
        assert "recieved" in channel(site)["problems"][0]
        (site.folder / ROUTER).write_text(text)
        assert site.cli("reload", "ris-siu-router").returncode == 0
        assert channel(site)["problems"] == []
        assert told(sender.ask(siu("A3")))[0] == "AA"
        site.edit("site.yaml", "rest:", "rest: [")
        refused = site.cli("reload")
        assert (refused.returncode, "site.yaml" in refused.stderr) == (1, True)
        assert told(sender.ask(siu("A4")))[0] == "AA"
