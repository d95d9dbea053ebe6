"""Sites that are not right: a broken file is told with its place and stops nothing else; a taken port is waited for."""

import json
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from .peers import Sender, appointments, arrived, channel, sample, siu, told

Site = Any
WaitFor = Callable[..., Any]

BROKEN = """\
name: {name}
source:
  mllp: {{port: 0}}
{rest}
"""
GOOD = "destinations:\n  - name: out\n    to: {discard: {}}\n"

#: name → what stands in the file after the source; line, key, a part of what is told, the nearest word
FAULTS = {
    "typo-in-a-key": ("destinatons:\n  - name: out\n    to: {discard: {}}", 4, "destinatons", "", "destinations"),
    "unknown-connector": ("destinations:\n  - name: out\n    to:\n      mlp: {port: 1}", 7, "mlp", "mllp", "mllp"),
    "unknown-step": (f"transform:\n  - lokup: {{table: facility_emr}}\n{GOOD}", 5, "lokup", "", "lookup"),
    "no-such-table": (
        f"transform:\n  - lookup: {{table: facility_emrs, key: MSH-4, into: emr}}\n{GOOD}",
        5,
        "table",
        "facility_emrs",
        "facility_emr",
    ),
    "no-such-include": (f"transform:\n  - include: emr/epik\n{GOOD}", 5, "include", "emr/epik", "emr/epic"),
    "wrong-port": ("destinations:\n  - name: out\n    to:\n      mllp: {host: h, port: 99999}", 7, "port", "65535", ""),
    "wrong-time": (
        "destinations:\n  - name: out\n    to: {discard: {}}\n    retry: {backoff: [1 fortnight]}",
        7,
        "backoff",
        "500ms",
        "",
    ),
    "not-yaml": ("destinations: [", 5, "", "", ""),
}


def test_one_check_tells_every_broken_file_with_line_key_and_the_nearest_word(new_site: Callable[..., Site]) -> None:
    site = new_site()
    for name, (rest, *_) in FAULTS.items():
        (site.folder / "channels" / f"{name}.yaml").write_text(BROKEN.format(name=name, rest=rest))
    done = site.run("check", str(site.folder), "--data", str(site.data), "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert {name for name, state in found["channels"].items() if state == "broken"} == set(FAULTS)
    assert {name for name, state in found["channels"].items() if state == "valid"} >= {"ris-siu-router", "ris-orders"}
    for name, (_, line, key, expected, nearest) in FAULTS.items():
        problem = next(item for item in found["problems"] if item["file"] == f"channels/{name}.yaml")
        assert abs(problem["line"] - line) <= (1 if name == "not-yaml" else 0), problem
        assert key in problem["key"] + problem["message"], problem
        assert expected in problem["message"] + problem["expected"], problem
        assert nearest in problem["nearest"], problem
    # What people read says the same.
    shown = site.run("check", str(site.folder), "--data", str(site.data))
    assert shown.returncode == 1
    assert "channels/typo-in-a-key.yaml:4" in shown.stdout
    assert "did you mean destinations" in shown.stdout
    assert re.search(r"11 channels can run, 8 cannot", shown.stdout)


def test_the_other_channels_run_and_serve(new_site: Callable[..., Site], wait_for: WaitFor) -> None:
    site = new_site([("channels/ris-orders.yaml", "remember:", "remembr:")])
    site.start(orders=False)
    printed = site.engine_log.with_suffix(".out").read_text()
    assert "channels/ris-orders.yaml:9" in printed
    assert "did you mean remember" in printed
    shown = channel(site, "ris-orders")
    assert shown["state"] == "broken"
    assert "channels/ris-orders.yaml:9" in " ".join(shown["problems"])
    assert "broken" in site.cli("channels").stdout
    with pytest.raises(OSError), Sender(site.port("ORDERS")):
        pass
    with Sender(site.port("SIU")) as ris:
        assert told(ris.ask(siu("R1"))) == ("AA", "CR1S12")
    wait_for(lambda: appointments(arrived(site, "epic")) == ["R1"], "delivered")
    assert site.locations().status == 200
    started = site.cli("start", "ris-orders")
    assert started.returncode == 1
    assert "not valid" in started.stderr
    # Mended, it needs a restart, and its orders come.
    site.edit("channels/ris-orders.yaml", "remembr:", "remember:")
    site.restart()
    wait_for(site.has_orders, "orders acknowledged")
    assert channel(site, "ris-orders")["state"] == "running"


def test_a_site_file_that_cannot_be_used_starts_nothing(new_site: Callable[..., Site]) -> None:
    site = new_site([("site.yaml", "rest: {host", "rest: {hots")])
    for words in (("run", str(site.folder)), ("check", str(site.folder))):
        done = site.run(*words, "--data", str(site.data))
        assert done.returncode == 1
        assert re.search(r"site\.yaml:\d+ rest\.hots", done.stdout)
        assert "did you mean host" in done.stdout
    assert not (site.data / "engine.db").exists()


def test_two_channels_on_one_port_are_refused_by_name(new_site: Callable[..., Site]) -> None:
    site = new_site([("channels/ris-orders.yaml", "${ORDERS_PORT:-2577}", "${SIU_PORT:-2575}")])
    done = site.run("check", str(site.folder), "--data", str(site.data))
    assert done.returncode == 1
    assert f"port {site.port('SIU')} belongs to channels/ris-orders.yaml" in done.stdout


def test_a_channel_whose_port_is_taken_starts_by_itself_when_it_is_free(
    new_site: Callable[..., Site], wait_for: WaitFor
) -> None:
    site = new_site()
    with socket.create_server(("127.0.0.1", site.port("SIU"))):
        site.simulators = site.spawn(
            "simulate", str(site.folder), "--data", str(site.data), log=site.folder.with_name("simulators.log")
        )
        site.engine = site.spawn("run", str(site.folder), "--data", str(site.data), log=site.engine_log)
        wait_for(lambda: is_told(site, 503), "degraded")
        assert site.health().json["channels"]["ris-siu-router"] == "failed"
        assert channel(site)["state"] == "failed"
        assert "ddress already in use" in channel(site)["error"]
        wait_for(site.has_orders, "the other channels serve")
    wait_for(lambda: is_told(site, 200), "started again")
    with Sender(site.port("SIU")) as ris:
        assert told(ris.ask(sample("N3_SIU_seed_v23"))) == ("AA", "MSG001")
    wait_for(lambda: arrived(site, "athena"), "delivered")


def is_told(site: Site, status: int) -> bool:
    """Whether /health answers with this status."""
    try:
        return bool(site.health().status == status)
    except OSError:
        return False


DEADLY = '''
"""A function of the site that ends the task it runs in, once."""

import asyncio
from pathlib import Path


def once(message, context):
    """Let a cancellation through that is nobody's."""
    marker = Path({marker!r})
    if message.value("MSH-10") == "DEADLY" and not marker.exists():
        marker.touch()
        raise asyncio.CancelledError
    if message.value("MSH-10") == "EXIT":
        raise SystemExit(1)
    return message
'''


def test_a_channel_that_dies_comes_back_alone_and_has_lost_nothing(
    new_site: Callable[..., Site], wait_for: WaitFor
) -> None:
    site = new_site(
        [
            (
                "channels/ris-siu-router.yaml",
                "  - keep: {MSH-9.1: SIU}",
                "  - keep: {MSH-9.1: SIU}\n  - python: deadly:once",
            )
        ]
    )
    (site.folder / "transforms" / "deadly.py").write_text(DEADLY.format(marker=str(site.folder / "died")))
    site.start(orders=False)
    with Sender(site.port("SIU")) as ris:
        for appointment, control_id in (("Q1", ""), ("Q2", "EXIT"), ("Q3", "DEADLY")):
            assert told(ris.ask(siu(appointment, control_id=control_id)))[0] == "AA"
        assert ris.ends(), "its connections end with it"
    wait_for(lambda: appointments(arrived(site, "epic")) == ["Q1", "Q3"], "both delivered")
    assert [message["control_id"] for message in site.messages(state="failed")] == ["EXIT"]
    assert channel(site)["state"] == "running"
    assert [line["channel"] for line in site.log_lines("channel.failed")] == ["ris-siu-router"]
    starts = [line["channel"] for line in site.log_lines("channel.running")]
    assert starts.count("ris-siu-router") == 2
    assert starts.count("ris-orders") == 1
