"""MLLP by hand, and nothing of the engine's own: a sender, a partner that answers as it is told, and messages.

Written from the standard, so that a fault of the engine's codec is not mirrored here. Everything blocks with a
deadline; a partner runs in threads of its own and ends with its ``with`` block. At the end, short words for what is
asked of a running site again and again; the site itself is in ``conftest.py``.
"""

import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

VT, FS, CR = b"\x0b", b"\x1c", b"\r"
SAMPLES = Path(__file__).parents[2] / "samples" / "hl7"
PATIENCE = 20.0


def sample(name: str) -> bytes:
    """A message of ``samples/hl7`` as a partner sends it, segments ended by CR."""
    lines = (SAMPLES / f"{name}.hl7").read_bytes().replace(b"\r\n", b"\r").replace(b"\n", b"\r")
    return lines.strip(CR) + CR


def siu(
    appointment: str,
    facility: str = "NSI",
    event: str = "S12",
    *,
    control_id: str = "",
    version: str = "v23",
    replace: Iterable[tuple[str, str]] = (),
) -> bytes:
    """The RIS's SIU of the examples about another appointment, at another facility."""
    name = f"N2_SIU_S15_{version}" if event == "S15" else f"N1_SIU_S12_RIS_{version}"
    text = sample(name).decode()
    old = value(text, "MSH-10")
    for before, after in (
        (old, control_id or f"C{appointment}{event}"[:20]),
        ("APT556677", appointment),
        ("DTI", facility),
        ("Downtown Imaging", facility),
        *replace,
    ):
        assert before in text, f"{name} holds no {before!r}"
        text = text.replace(before, after)
    return text.encode()


def segments(text: str | bytes) -> list[list[str]]:
    """Fields by segment; index 0 is the name."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    return [line.split("|") for line in re.split("[\r\n]+", text) if line]


def value(text: str | bytes, path: str) -> str:
    """``value(ack, "MSA-2")``: that field of the first such segment, "" when it is not there."""
    name, _, number = path.partition("-")
    index = int(number) - (name == "MSH")
    for fields in segments(text):
        if fields[0] == name:
            return fields[index] if index < len(fields) else ""
    return ""


def as_expected(text: str | bytes) -> str:
    """A message with placeholders where the engine's clock and its own id stand, a segment per line."""
    shown = segments(text)
    assert re.fullmatch(r"20\d{10}(\d{2})?([+-]\d{4})?", shown[0][6]), "MSH-7 is no time"
    assert re.fullmatch(r"[A-Z0-9]{1,20}", shown[0][9]), "MSH-10 is no id of the engine"
    shown[0][6], shown[0][9] = "@NOW", "@MSG"
    return "\n".join("|".join(fields) for fields in shown)


def expected(name: str) -> str:
    """An expected output of ``samples/hl7``, in the form of ``as_expected``."""
    return sample(name).decode().strip("\r").replace("\r", "\n")


def frame(message: bytes) -> bytes:
    return VT + message + FS + CR


class Sender:
    """One MLLP connection to the engine."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.buffer = b""

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def write(self, data: bytes) -> None:
        """Bytes as they are."""
        self.socket.sendall(data)

    def send(self, *messages: bytes) -> None:
        """Messages in their frames, without waiting."""
        self.write(b"".join(map(frame, messages)))

    def receive(self, patience: float = PATIENCE) -> str:
        """The next answer. Raises TimeoutError, ConnectionError."""
        deadline = time.monotonic() + patience
        while FS + CR not in self.buffer:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionResetError("closed before an answer")
            self.buffer += data
        answer, _, self.buffer = self.buffer.partition(FS + CR)
        assert answer.startswith(VT), "an answer does not begin with VT"
        return answer[1:].decode("utf-8", "backslashreplace")

    def ask(self, message: bytes) -> str:
        """Send one message and return what it is answered."""
        self.send(message)
        return self.receive()

    def ends(self, patience: float = PATIENCE) -> bool:
        """Whether the engine closes the connection, saying nothing more."""
        self.socket.settimeout(patience)
        try:
            return self.socket.recv(65536) == b""
        except ConnectionError:
            return True

    def is_silent(self) -> bool:
        """Whether the engine has neither said anything nor closed, right now."""
        return not select.select([self.socket], [], [], 0)[0]


def ack(message: bytes, code: str = "AA", control_id: str | None = None, *more: str) -> bytes:
    """An answer to ``message``; ``control_id`` stands in MSA-2 when it is given, ``more`` are further segments."""
    head = segments(message)[0]
    text = [
        f"MSH|^~\\&|{head[4]}|{head[5]}|{head[2]}|{head[3]}|20260101120000||ACK|A{head[9]}|P|{head[11]}",
        f"MSA|{code}|{head[9] if control_id is None else control_id}",
        *more,
    ]
    return "".join(f"{line}\r" for line in text).encode()


def told(answer: str) -> tuple[str, str]:
    """Code and control id of an acknowledgement."""
    return value(answer, "MSA-1"), value(answer, "MSA-2")


#: message, number of the connection (from 1) → answers; None: none, and the connection is closed
Answers = Callable[[bytes, int], list[bytes] | None]


class Partner:
    """An MLLP listener in place of an EMR. ``received`` holds (connection, message) in the order of arrival."""

    def __init__(self, port: int, answers: Answers = lambda message, _: [ack(message)]) -> None:
        self.answers = answers
        self.received: list[tuple[int, bytes]] = []
        #: Numbers of the connections that the engine has closed.
        self.closed: list[int] = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", port))
        self.threads: list[threading.Thread] = []
        self.open: list[socket.socket] = []

    def __enter__(self) -> "Partner":
        self.begin(self.accept)
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes up the thread that waits in accept.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the engine was faster
        for thread in self.threads:
            thread.join(PATIENCE)
        for connection in self.open:
            connection.close()

    def begin(self, target: Callable[..., None], *arguments: object) -> None:
        self.threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self.threads[-1].start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.append(connection)
            self.begin(self.serve, connection, self.connections)

    def serve(self, connection: socket.socket, number: int) -> None:
        buffer, seen = bytearray(), 0
        while True:
            try:
                data = connection.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                self.closed.append(number)
                return
            buffer += data
            while (end := buffer.find(FS + CR, seen)) >= 0:
                message = bytes(memoryview(buffer)[:end]).lstrip(VT)
                del buffer[: end + 2]
                seen = 0
                self.received.append((number, message))
                answers = self.answers(message, number)
                if answers is None:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                try:
                    connection.sendall(b"".join(map(frame, answers)))
                except OSError:
                    self.closed.append(number)
                    return
            # A message may be large: what was looked at is not looked at again.
            seen = max(len(buffer) - 1, 0)

    @property
    def control_ids(self) -> list[str]:
        return [value(message, "MSH-10") for _, message in self.received]

    @property
    def appointments(self) -> list[str]:
        """SCH-2.1 of what came."""
        return [value(message, "SCH-2").partition("^")[0] for _, message in self.received]


def client_hello() -> bytes:
    """What a TLS client says first."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a server")


# -- what a running site is asked ----------------------------------------------------------------------------------


def channel(site: Any, name: str = "ris-siu-router") -> dict[str, Any]:
    """The channel as the admin API shows it; its destinations by name under ``lanes``."""
    found: dict[str, Any] = site.admin("GET", f"/api/channels/{name}").json["channel"]
    return {**found, "lanes": {lane["name"]: lane for lane in found["destinations"]}}


def is_idle(site: Any, name: str = "ris-siu-router") -> bool:
    """Whether everything that came in is routed and nothing is on its way or waits for its turn."""
    found = channel(site, name)
    return not found["received"] and not any(lane["queued"] + lane["sending"] for lane in found["destinations"])


def message_of(site: Any, control_id: str) -> dict[str, Any]:
    """``hl7engine message ID --json`` of the newest message with this MSH-10, in or out."""
    found = site.messages(control_id=control_id)
    assert found, f"no message has {control_id}"
    shown: dict[str, Any] = site.admin("GET", f"/api/messages/{found[0]['id']}").json
    return shown


def arrived(site: Any, emr: str) -> list[dict[str, Any]]:
    """What an EMR received, in order, bodies included."""
    entries: list[dict[str, Any]] = site.control("GET", f"/emr/{emr}?bodies=1")["received"]
    return entries


def appointments(entries: Iterable[dict[str, Any]]) -> list[str]:
    """SCH-2.1 of what an EMR received, in order; a message that came again (the same MSH-10) is left out."""
    seen: set[str] = set()
    found = []
    for entry in entries:
        if entry["controlId"] not in seen:
            seen.add(entry["controlId"])
            found.append(entry["appointmentId"].partition("^")[0])
    return found
