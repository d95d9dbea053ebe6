"""Messages of the harness, and MLLP by hand: nothing of the engine's codec, so that a fault of it is not mirrored here.

Every message has a number, and ``C`` with that number is its MSH-10 all the way: what a partner gets names what was
sent. What a partner does with it follows from the number too, so that traffic is the same for the same seed.
"""

import asyncio
from dataclasses import dataclass

VT, END = b"\x0b", b"\x1c\r"

#: So many times four bytes are more than the engine keeps in one piece.
LARGE = 300_000
#: The same of one that the process that writes is given whole: a hundred pages of one batch.
PAGES = 100_000
#: Letter in PV1-2 → destinations of channel ``notes`` that want it. F: nobody; X: its step fails.
CLASSES = {
    "S": ("steady",),
    "C": ("cautious",),
    "D": ("dead",),
    "R": ("refusing",),
    "H": ("hop",),
    "A": ("steady", "cautious", "dead", "hop"),
    "F": (),
    "X": (),
}
LETTERS = "SSRADSCSHRDSAFXS"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a sender."""

    number: int
    channel: str
    #: Ordering key (PID-3.1); messages with it come in order of number.
    key: str
    letter: str
    body: bytes

    @property
    def control_id(self) -> str:
        """MSH-10 in and out."""
        return control_id(self.number)


def control_id(number: int) -> str:
    """``C00000042``"""
    return f"C{number:08d}"


def number_of(control: str) -> int:
    """The number in an MSH-10, -1 for another's."""
    return int(control[1:]) if control[:1] == "C" and control[1:].isdigit() else -1


def note(number: int, key: str, enhanced: bool) -> Message:
    """An ADT of channel ``notes``."""
    letter = LETTERS[number % len(LETTERS)]
    ward = "NOWHERE" if letter == "X" else "W1"
    modes = "|||AL|AL" if enhanced else ""
    body = (
        f"MSH|^~\\&|CRASH|HARNESS|ENGINE|SITE|20260101120000||ADT^A08|{control_id(number)}|P|2.5{modes}\r"
        f"PID|1||{key}^^^H^MR||Doe^Jane\rPV1|1|{letter}|{ward}\r"
    )
    return Message(number, "notes", key, letter, body.encode())


def order(number: int, key: str) -> Message:
    """An ORM of channel ``orders``; every fifth takes its order back."""
    control = "CA" if number % 5 == 0 else "NW"
    body = (
        f"MSH|^~\\&|CRASH|HARNESS|ENGINE|SITE|20260101120000||ORM^O01|{control_id(number)}|P|2.3\r"
        f"PID|1||{key}||Doe^Jane\rORC|{control}|O{number}\rOBR|1|O{number}||CT1\r"
    )
    return Message(number, "orders", key, "", body.encode())


def result(number: int, key: str) -> Message:
    """An ORU of channel ``results``."""
    body = (
        f"MSH|^~\\&|CRASH|HARNESS|ENGINE|SITE|20260101120000||ORU^R01|{control_id(number)}|P|2.4\r"
        f"PID|1||{key}||Doe^Jane\rOBX|1|NM|GLU||5.{number % 10}\r"
    )
    return Message(number, "results", key, "", body.encode())


def letter(number: int, channel: str, key: str) -> Message:
    """An MDM of channel ``moving`` (some are large, and some are many pages of the database and no more), ``later``
    (which is told of it twice) or ``again``.
    """
    modes = "|||AL|AL" if channel == "later" else ""
    length = {0: LARGE, 20: PAGES}.get(number % 40, 0) if channel == "moving" else 0
    document = f"OBX|1|ED|DOC||^AP^PDF^Base64^{'QUJD' * length}\r" if length else ""
    body = (
        f"MSH|^~\\&|CRASH|HARNESS|ENGINE|SITE|20260101120000||MDM^T02|{control_id(number)}|P|2.5{modes}\r"
        f"PID|1||{key}^^^H^MR||Doe^Jane\rTXA|1|CN\r{document}"
    )
    return Message(number, channel, key, "", body.encode())


def field(message: bytes, segment: str, number: int) -> str:
    """A field of the first such segment, "" when it is not there."""
    for line in message.decode("utf-8", "replace").split("\r"):
        fields = line.split("|")
        if fields[0] == segment:
            index = number - (segment == "MSH")
            return fields[index] if index < len(fields) else ""
    return ""


def acknowledge(message: bytes, code: str, text: str = "", condition: str = "") -> bytes:
    """A framed answer to ``message``."""
    version = field(message, "MSH", 12)
    lines = [
        f"MSH|^~\\&|PARTNER|P|CRASH|H|20260101120000||ACK|A{field(message, 'MSH', 10)}|P|{version}",
        f"MSA|{code}|{field(message, 'MSH', 10)}|{text}",
    ]
    if condition:
        lines.append(f"ERR||PID^1^3|{condition}|E")
    return framed("".join(f"{line}\r" for line in lines).encode())


def framed(message: bytes) -> bytes:
    """In its MLLP frame."""
    return VT + message + END


async def next_frame(reader: asyncio.StreamReader) -> bytes:
    """The next message of a stream. Raises asyncio.IncompleteReadError at its end."""
    data = await reader.readuntil(END)
    return data[data.index(VT) + 1 : -len(END)]
