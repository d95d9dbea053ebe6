"""An engine with a process that writes, as people run and end it: what stands in ``ps``, what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from engine.cli.status import PROCESS
from engine.store.process.state import ProcessState

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

SIU = (
    "MSH|^~\\&|SYNAPSE|DTI|RADSCHED|RADORDERPAD|20250115083203||SIU^S12|{id}|P|2.3\r"
    "PID|1||MRN123456||Planted^Person\rRGS|1|A\r"
)
PATIENCE = 30.0
#: In an engine: the process is started by the first message and writes whatever comes.
EAGER = """
from engine.store import group_commit
from engine.store.process import writing
group_commit._INLINE_UNITS = group_commit._INLINE_UNITS_APART = 0
writing._MANY = 1
"""


class Running:
    """An engine in a session of its own, as a terminal's foreground, with its log in a file."""

    def __init__(self, site: Path, folder: Path) -> None:
        self.log = folder / "log"
        (folder / "sitecustomize.py").write_text(EAGER)
        path = f"{folder}{os.pathsep}{Path(__file__).parents[2]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "engine.cli", "run", str(site)],
                env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "always::ResourceWarning"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.until(lambda: self.events("engine.started"))

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_bytes().splitlines(keepends=True) if line[:1] == b"{"]
        return [line for line in lines if line["event"] == name]

    def until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)
        return found

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.events('mllp.listening')[-1]['address'].rpartition(':')[2]}"

    def writing(self) -> list[int]:
        """Processes that it has started and that have not ended."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if alive(child)]


def alive(pid: object) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def running(site: Path, tmp_path: Path) -> Iterator[Running]:
    engine = Running(site, tmp_path)
    yield engine
    with suppress(ProcessLookupError):
        os.killpg(engine.process.pid, signal.SIGKILL)
    engine.process.wait(PATIENCE)


@pytest.fixture
def writing(running: Running, hl7engine: Any) -> int:
    """Its process that writes, at work."""
    first, *more = (SIU.format(id=f"IN{number}") for number in range(10))
    assert hl7engine("send", "--to", running.address, stdin=first).returncode == 0
    [pid] = running.until(running.writing)
    assert hl7engine("send", "--to", running.address, stdin="".join(more)).returncode == 0
    return int(pid)


@pytest.mark.parametrize(
    ("number", "everybody", "code"),
    [
        (signal.SIGTERM, False, 0),
        (signal.SIGTERM, True, 0),  # systemd
        (signal.SIGINT, True, 0),  # Ctrl-C
        (signal.SIGKILL, False, -signal.SIGKILL),
    ],
)
def test_nothing_of_it_stays_when_the_engine_ends(
    running: Running, writing: int, hl7engine: Any, site: Path, tmp_path: Path, number: int, everybody: bool, code: int
) -> None:
    os.kill(running.process.pid, number)
    if everybody:  # it is in a group of its own: a terminal does not reach it, a service manager does
        os.kill(writing, number)
    assert running.process.wait(PATIENCE) == code
    running.until(lambda: not alive(writing))
    assert b"Warning" not in running.log.read_bytes()
    assert not running.events("store.process_died")
    again = Running(site, tmp_path)
    try:
        found = json.loads(hl7engine("messages", "--json").stdout)["messages"]
        assert sorted(message["control_id"] for message in found) == [f"IN{number}" for number in range(10)]
    finally:
        again.process.terminate()
        assert again.process.wait(PATIENCE) == 0


def test_a_second_signal_to_everybody_ends_both_at_once(running: Running, writing: int) -> None:
    for _ in range(2):
        os.killpg(running.process.pid, signal.SIGINT)
    running.process.wait(PATIENCE)
    running.until(lambda: not alive(writing))
    assert b"Warning" not in running.log.read_bytes()


def test_commands_run_beside_it(running: Running, writing: int, hl7engine: Any, tmp_path: Path) -> None:
    backup = str(tmp_path / "backup")
    for words in (
        ("status",),
        ("channels",),
        ("messages",),
        ("backup", backup),
        ("verify", backup),
        ("verify",),
        ("audit",),
        ("audit", "verify"),
        ("rotate-key",),
        ("keys",),
        ("prune",),
        ("reload",),
    ):
        done = hl7engine(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert hl7engine("send", "--to", running.address, stdin=SIU.format(id="LATER")).returncode == 0
    assert b"Warning" not in running.log.read_bytes()
    assert not running.events("store.process_died")


def test_status_tells_of_it(running: Running, writing: int, hl7engine: Any) -> None:
    running.until(lambda: f"runs, process {writing}" in hl7engine("status").stdout)
    assert json.loads(hl7engine("status", "--json").stdout)["writing_process"] == {"state": "running", "pid": writing}


def test_status_has_words_for_each_of_its_states() -> None:
    assert set(PROCESS) == {state.value for state in ProcessState}


def test_killed_it_is_told_and_nothing_is_lost(running: Running, writing: int, hl7engine: Any) -> None:
    os.kill(writing, signal.SIGKILL)
    [told] = running.until(lambda: running.events("store.process_died"))
    assert "died or could not be started" in hl7engine("status").stdout
    assert (told["level"], told["status"]) == ("warning", -signal.SIGKILL)
    assert hl7engine("send", "--to", running.address, stdin=SIU.format(id="LATER")).returncode == 0
    found = json.loads(hl7engine("messages", "--json").stdout)["messages"]
    assert len(found) == 11
    running.process.terminate()
    assert running.process.wait(PATIENCE) == 0
