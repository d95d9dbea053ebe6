"""``backup``, ``verify`` and ``restore`` with a real engine that takes messages meanwhile."""

import base64
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

Command = Any


def siu(control_id: str) -> bytes:
    text = f"MSH|^~\\&|RIS|DTI|E|S|20260101120000||SIU^S12|{control_id}|P|2.3\rSCH|1|2\rPID|1||MRN1||Doe^John\r"
    return b"\x0b" + text.encode() + b"\x1c\r"


class Sender(threading.Thread):
    """Sends one message after the other until it is told to stop; remembers what was acknowledged."""

    def __init__(self, port: str) -> None:
        super().__init__(daemon=True)
        self.port, self.acknowledged, self.enough = int(port), list[str](), threading.Event()
        self.some = threading.Event()

    def run(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            number = 0
            while not self.enough.is_set():
                number += 1
                connection.sendall(siu(f"B{number}"))
                answer = b""
                while not answer.endswith(b"\x1c\r"):
                    answer += connection.recv(65536)
                if f"MSA|AA|B{number}".encode() in answer:
                    self.acknowledged.append(f"B{number}")
                if number >= 50:
                    self.some.set()


class Reading(threading.Thread):
    """Reads an engine's log, so that it never waits for somebody to do so."""

    def __init__(self, engine: Any) -> None:
        super().__init__(daemon=True)
        self.engine, self.enough = engine, threading.Event()

    def run(self) -> None:
        while not self.enough.is_set():
            self.engine._read(time.monotonic() + 0.1)


@contextmanager
def meanwhile(sender: Sender, reading: Reading) -> Iterator[None]:
    """Both go on for as long as they are wanted; they end when the test fails, too."""
    sender.start()
    reading.start()
    try:
        yield
    finally:
        for thread in (sender, reading):
            thread.enough.set()
            thread.join(30)


def stored(folder: Path) -> list[str]:
    """MSH-10 of every message of a store that is not in use."""
    with closing(sqlite3.connect(folder / "engine.db")) as connection:
        return [
            control_id
            for (control_id,) in connection.execute("SELECT coalesce(late_control_id, control_id) FROM message")
        ]


def test_everything_acknowledged_before_the_backup_began_is_in_the_restored_store(
    hl7engine: Command, start: Any, tmp_path: Path, site: Path
) -> None:
    engine = start()
    sender, reading = Sender(engine.mllp_port), Reading(engine)
    with meanwhile(sender, reading):  # an engine whose log nobody reads stands still as soon as the pipe is full
        assert sender.some.wait(30)
        before = list(sender.acknowledged)
        made = hl7engine("backup", str(tmp_path / "monday"), "--json")
        during = len(sender.acknowledged) - len(before)
        sender.enough.set()
        sender.join(30)
        assert made.returncode == 0, made.stderr
        assert during > 0, "the sender was acknowledged while the backup was made"
        assert json.loads(made.stdout)["messages"] >= len(before)
        assert hl7engine("backup", str(tmp_path / "monday")).returncode == 1
        assert hl7engine("verify").stdout == "whole\n", "beside the traffic"
        assert hl7engine("restore", str(tmp_path / "monday"), "--replace").returncode == 4
    assert engine.end() == 0

    assert hl7engine("verify").stdout == "whole\n"
    assert hl7engine("verify", str(tmp_path / "monday")).stdout == "whole\n"
    assert hl7engine("restore", str(tmp_path / "monday")).returncode == 1, "there is a store"
    elsewhere = ("--data", str(tmp_path / "elsewhere"))
    restored = hl7engine("restore", str(tmp_path / "monday"), "--hold", *elsewhere)
    assert (restored.returncode, restored.stdout.startswith("restored; unfinished")) == (0, True), restored.stderr
    kept = stored(tmp_path / "elsewhere")
    assert set(before) - set(kept) == set()
    assert len(kept) == len(set(kept))
    again = start(*elsewhere)
    again.until("engine.started")
    assert "backup.restored" in hl7engine("audit", *elsewhere).stdout
    again.end()


def test_a_backup_without_a_running_engine(hl7engine: Command, start: Any, tmp_path: Path) -> None:
    start().end()
    made = hl7engine("backup", str(tmp_path / "cold"))
    assert (made.returncode, "sha256" in made.stdout) == (0, True)
    assert hl7engine("verify", str(tmp_path / "cold")).stdout == "whole\n"
    (tmp_path / "cold" / "manifest.json").write_text('{"sha256": ""}')
    broken = hl7engine("verify", str(tmp_path / "cold"))
    assert (broken.returncode, "the manifest names" in broken.stderr) == (1, True)


def test_a_restore_without_the_key_is_refused(hl7engine: Command, start: Any, tmp_path: Path, site: Path) -> None:
    start().end()
    hl7engine("backup", str(tmp_path / "cold"))
    (site / ".env").unlink()
    refused = hl7engine("restore", str(tmp_path / "cold"), "--data", str(tmp_path / "new"))
    assert (refused.returncode, "the store key is not at hand" in refused.stderr) == (2, True)
    (site / ".env").write_text(f"HL7ENGINE_STORE_KEY={base64.b64encode(bytes(32)).decode()}\n")
    refused = hl7engine("restore", str(tmp_path / "cold"), "--data", str(tmp_path / "new"))
    assert (refused.returncode, "this backup needs store key 1 with fingerprint" in refused.stderr) == (1, True)
    assert not (tmp_path / "new").exists()
