"""Fifty megabytes through a real engine: they arrive whole, in bounded memory, and small messages pass meanwhile."""

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .peers import Partner, Sender, ack, channel, frame, is_idle, siu, told

Site = Any
WaitFor = Callable[..., Any]

SIZE = 50_000_000
DOCUMENTS = """\
name: documents
source:
  mllp: {port: %d, max_size: 64MiB}
transform:
  - set: {MSH-5: ARCHIVE}
destinations:
  - name: archive
    to: {mllp: {host: 127.0.0.1, port: %d}}
  - name: folder
    transform: [{set: {OBX-11: C}}]
    to: {file: {path: "documents/{control_id}.hl7"}}
"""


def document(control_id: str, size: int = SIZE) -> bytes:
    head = f"MSH|^~\\&|LAB|A|E|S|20260101120000||ORU^R01|{control_id}|P|2.5.1\rPID|1||P1\rOBR|1\r"
    return f"{head}OBX|1|ED|PDF||^application^pdf^Base64^".encode() + b"QUJD" * (size // 4) + b"||||||F\r"


def memory(site: Site, name: str) -> int:
    """``VmHWM`` or ``VmRSS`` of the engine, in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{site.engine.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_fifty_megabytes_arrive_in_bounded_memory_while_small_messages_pass(
    new_site: Callable[..., Site], wait_for: WaitFor
) -> None:
    site = new_site()
    with Partner(site.port("ATHENA")) as archive, Partner(site.port("GENERIC")):
        file = DOCUMENTS % (site.port("SIMULATOR_CONTROL"), site.port("ATHENA"))
        (site.folder / "channels" / "documents.yaml").write_text(file)
        site.start(simulators=False)
        before = memory(site, "VmRSS")
        sent = document("L1")
        answers: list[str] = []
        with Sender(site.port("SIMULATOR_CONTROL")) as large, Sender(site.port("SIU")) as small:
            large.socket.settimeout(None)
            thread = threading.Thread(target=lambda: large.write(frame(sent)))
            thread.start()
            while not any(b"ARCHIVE" in message[:200] for _, message in list(archive.received)):
                answers.append(told(small.ask(siu(f"S{len(answers)}", "DTI")))[0])
            thread.join()
            assert told(large.receive(60)) == ("AA", "L1")
        wait_for(lambda: is_idle(site, "documents") and is_idle(site), "everything delivered", 60)
        growth = memory(site, "VmHWM") - before
        changed = sent.replace(b"|E|S|", b"|ARCHIVE|S|", 1)
        arrived = [message for _, message in archive.received if b"ORU^R01" in message[:200]]
        assert arrived == [changed]
    folder = site.data / "documents" / "L1.hl7"
    assert folder.read_bytes() == changed[:-2] + b"C\r"
    assert len(answers) > 3
    assert set(answers) == {"AA"}
    # Received, sent to two partners at once: what is held once for each of them, and what is read and written of it.
    assert growth < 4 * SIZE, f"{growth / SIZE:.1f} times its size"


def test_what_is_too_large_is_refused_without_reading_it(new_site: Callable[..., Site], wait_for: WaitFor) -> None:
    site = new_site()
    (site.folder / "channels" / "documents.yaml").write_text(
        DOCUMENTS.replace("64MiB", "2MiB") % (site.port("SIMULATOR_CONTROL"), site.port("ATHENA"))
    )
    site.start(simulators=False)
    before = memory(site, "VmRSS")
    with Sender(site.port("SIMULATOR_CONTROL")) as sender:
        sender.socket.settimeout(20)
        with suppress(OSError):  # the engine has heard enough
            sender.write(frame(document("L1")))
        assert told(sender.receive()) == ("AR", "L1")
    assert memory(site, "VmHWM") - before < 16_000_000
    assert channel(site, "documents")["received_since_start"] == 0


def test_a_crash_in_the_middle_of_a_large_message_leaves_nothing_and_its_repetition_arrives_once(
    new_site: Callable[..., Site], wait_for: WaitFor
) -> None:
    site = new_site()
    with Partner(site.port("ATHENA"), lambda message, _: [ack(message)]) as archive:
        file = DOCUMENTS % (site.port("SIMULATOR_CONTROL"), site.port("ATHENA"))
        (site.folder / "channels" / "documents.yaml").write_text(file)
        site.start(simulators=False)
        with Sender(site.port("SIMULATOR_CONTROL")) as sender:
            sender.send(document("L1"))
            database = site.data / "engine.db"
            wait_for(lambda: database.stat().st_size > 10_000_000, "parts on the disk")
            site.kill()
        site.start(simulators=False)
        began = time.monotonic()
        if channel(site, "documents")["lanes"]["archive"]["delivered_since_start"] == 0 and not site.messages():
            with Sender(site.port("SIMULATOR_CONTROL")) as sender:
                sender.send(document("L1"))
                assert told(sender.receive(60)) == ("AA", "L1")
        wait_for(lambda: is_idle(site, "documents") and archive.received, "everything delivered", 60)
        assert time.monotonic() - began < 60
        assert {message for _, message in archive.received} == {document("L1").replace(b"|E|S|", b"|ARCHIVE|S|", 1)}
