"""``run --simulators`` on this repository's own site: it becomes ready, and every line it prints does what it says."""

import http.client
import json
import shlex
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from engine.cli.exits import Exit
from engine.simulators.app import EMR_PORTS

Command = Any
Start = Any

REPOSITORY = Path(__file__).parents[2]
PORTS = ("ORDERS", "SIU", "ORU", "RIS", *(name.upper() for name in EMR_PORTS), "SIMULATOR_CONTROL", "WEBHOOK")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of the site whose own listeners take free ports."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("channels", "transforms", "tables"):
        shutil.copytree(REPOSITORY / name, folder / name)
    text = (REPOSITORY / "site.yaml").read_text()
    (folder / "site.yaml").write_text(text.replace("port: 8080", "port: 0").replace("port: 8090", "port: 0"))
    return folder


@pytest.fixture
def env() -> dict[str, str]:
    """Ports that engine and simulators must agree on, all free at this moment."""
    with ExitStack() as held:
        free = [held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in PORTS]
    ports = dict(zip(PORTS, free, strict=True))
    webhook = f"http://127.0.0.1:{ports.pop('WEBHOOK')}/api/webhooks/orders"
    others = {"RADSCHEDULER_WEBHOOK": webhook, "ATHENA_API": "http://127.0.0.1:0"}
    return {**{f"{name}_PORT": str(port) for name, port in ports.items()}, **others}


def paste(line: str, folder: Path) -> Any:
    """Do what a curl line says; what the shell fills in, the shell fills in."""
    words = subprocess.check_output(["sh", "-c", f"printf '%s\\0' {line}"], cwd=folder, text=True).split("\0")[:-1]
    headers, method, body, url = {}, "GET", None, ""
    given = iter(words[1:])
    for word in given:
        match word:
            case "-s":
                continue
            case "-H":
                name, _, value = next(given).partition(": ")
                headers[name] = value
            case "-X":
                method = next(given)
            case "-d":
                method, body = "POST", next(given)
            case _:
                url = word
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    connection.request(method, f"{parts.path or '/'}?{parts.query}", body, headers)
    response = connection.getresponse()
    value = json.loads(response.read())
    connection.close()
    return response.status, value


def test_the_printed_tour_works(
    hl7engine: Command, start: Start, site: Path, env: dict[str, str], tmp_path: Path
) -> None:
    engine = start("--simulators", env=env)
    printed = (tmp_path / "stdout-0").read_text()
    lines = [line.strip().partition("  #")[0] for line in printed.splitlines() if line.startswith("  curl")]
    locations, slots, booking, down, up = lines[:5]

    assert [location["id"] for location in paste(locations, site)[1]["locations"]] == ["DTI", "NSI"]
    assert json.loads(shlex.split(booking)[-2])["slotId"] in [slot["id"] for slot in paste(slots, site)[1]["slots"]]
    status, booked = paste(booking, site)
    assert (status, booked["status"], booked["correlationId"]) == (201, "booked", "try-1")
    trace = json.loads(hl7engine("trace", "try-1", "--json").stdout)["hops"]
    assert [hop["what"] for hop in trace if hop["what"] != "acknowledged"] == [
        "received",
        "routed",
        "sent",
        "delivered",
    ]

    assert paste(down, site) == (200, {"up": False})
    assert paste(locations, site)[0] == 503
    assert paste(up, site) == (200, {"up": True})
    for line in lines[5:]:
        assert paste(line, site)[0] < 300, line

    cancelled = hl7engine("ask", "radscheduler-cancel", '{"orderId": "ORDER123"}')
    assert (cancelled.returncode, json.loads(cancelled.stdout)["body"]["status"]) == (Exit.OK, "cancelled")
    assert engine.end(signal.SIGINT) == 0
    assert engine.log[-1]["event"] == "partners.ended"
    assert not any(name in json.dumps(engine.log) for name in ("Doe", "MRN123456", "Roe"))


def test_the_shipped_site_has_no_problems(hl7engine: Command) -> None:
    result = hl7engine("check")
    assert (result.returncode, "no problems" in result.stdout) == (Exit.OK, True), result.stdout
