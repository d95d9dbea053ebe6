"""The README's ten minutes, pasted into a shell as they stand, against a running engine with simulators."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.simulators.app import EMR_PORTS

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PATIENCE = 60

#: Variable → the port that the page names.
PORTS = {
    "REST_PORT": 8080,
    "ADMIN_PORT": 8090,
    "SIU_PORT": 2575,
    "ORDERS_PORT": 2577,
    "ORU_PORT": 2578,
    "RIS_PORT": 2576,
    **{f"{name.upper()}_PORT": port for name, port in EMR_PORTS.items()},
    "SIMULATOR_CONTROL_PORT": 8071,
}


@dataclass
class Running:
    """A copy of the site with its engine; ``ports`` are page → real."""

    folder: Path
    ports: dict[int, int]


def free_ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(12000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    return sorted(found)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copy(ROOT / "site.yaml", folder)
    for name in ("channels", "transforms", "tables", "samples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(BIN)
    real = free_ports(len(PORTS) + 2)
    ports = dict(zip(PORTS, real, strict=False))
    own = re.compile(r"HL7ENGINE_|RADSCHEDULER_|TWILIO_|RIS_CALENDAR_|ATHENA_|PHONE_SALT|.*_(PORT|HOST)$")
    env = {name: value for name, value in os.environ.items() if not own.match(name)}
    env |= {name: str(port) for name, port in ports.items()}
    env["RADSCHEDULER_WEBHOOK"] = f"http://127.0.0.1:{real[-1]}/api/webhooks/orders"
    env["ATHENA_API"] = f"http://127.0.0.1:{real[-2]}"
    with (tmp_path / "log").open("wb") as log:
        engine = subprocess.Popen(
            [BIN / "hl7engine", "run", ".", "--simulators"],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert engine.stdout is not None
        # The last line that it prints when everything, the orders of the RIS included, is there.
        assert any(b"Stop with Ctrl-C" in line for line in engine.stdout), (tmp_path / "log").read_text()
        yield Running(folder, {PORTS[name]: port for name, port in ports.items()})
    finally:
        engine.send_signal(signal.SIGTERM)
        engine.wait(PATIENCE)
        if engine.stdout is not None:
            engine.stdout.close()


def test_the_tour_works_as_it_is_pasted(running: Running, pages: dict[str, Any]) -> None:
    section = pages["README.md"].section("## Ten minutes")
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))
    for page, real in running.ports.items():
        script = script.replace(f":{page}/", f":{real}/")
    assert not re.search(r"127\.0\.0\.1:(8080|8071)\b", script)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=running.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    for wanted in (
        '"locations":[{"id":"NSI"',
        '"slots":[{"id":"WSI-CT1-',
        '"status":"booked","confirmationNumber":"ACC778900"',
        "epic delivered, cerner delivered",
        '"profile": "epic"',
        "HTTP/1.1 503",
        '"code":"ris_unavailable","message":"The RIS cannot be reached."',
        "HTTP/1.1 504",
        '"code":"ris_timeout","message":"The RIS did not answer in time."',
        "athena parked",
        "rejected AE 204 PID-3",
        "queued again",
        "athena        delivered   2",
        "ack `recieved` is not known here",
        "did you mean received",
        "10 channels can run, 1 cannot (ris-siu-router): 1 problem.",
    ):
        begin = said.find(wanted)
        assert begin >= 0, f"{wanted!r} is not in, or not after what stands before it:\n{said}"
        said = said[begin:]
    assert "retry-after" in done.stdout.lower()
