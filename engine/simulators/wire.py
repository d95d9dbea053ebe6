"""HL7 v2 on the wire as the simulated partners read and write it: frames, segments, fields, escapes, charset, times.

Written from the standard and from the partners' documents, not from the engine's own encoder, so that a mistake of the
engine is not made twice. Strict where partners are strict: CR ends every segment, delimiters are `|^~\\&`, MSH-18 names
the charset. It checks no table and no structure: see `checks.py` and `structure.py`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import lru_cache

START = b"\x0b"
END = b"\x1c\r"
#: Partners of this size refuse to buffer more; no HL7 message of the reference site comes near.
MAX_FRAME = 16 * 1024 * 1024

#: MSH-18 → Python codec. Empty means ASCII (HL7 v2.5.1 §2.15.9.18).
CHARSETS: Mapping[str, str] = {"": "ascii", "ASCII": "ascii", "8859/1": "latin-1", "UNICODE UTF-8": "utf-8"}

ESCAPES = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\", ".br": "\n"}
ESCAPED = {"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\", "\n": "\\.br\\", "\r": "\\X0D\\"}
TIME = re.compile(r"(\d{8}|\d{10}|\d{12}|\d{14})(?:\.\d{1,4})?([+-]\d{4})?")


class Unreadable(ValueError):
    """The bytes are no HL7 message. The reason names no content."""


class FrameReader:
    """Cuts a byte stream into the messages between VT and FS CR; what lies outside the frames is counted as junk."""

    def __init__(self) -> None:
        self.buffer = b""
        self.junk = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages completed by `data`. Raises Unreadable when an unfinished frame passes the limit."""
        self.buffer += data
        messages = []
        while (end := self.buffer.find(END)) >= 0:
            start = self.buffer.find(START, 0, end)
            self.junk += end if start < 0 else start
            if start >= 0:
                messages.append(self.buffer[start + 1 : end])
            self.buffer = self.buffer[end + len(END) :]
        if len(self.buffer) > MAX_FRAME:
            raise Unreadable("frame too large")
        return messages


def frame(message: bytes) -> bytes:
    return START + message + END


@dataclass(slots=True)
class Segment:
    """One segment; `fields[n]` is field n exactly as sent (MSH-1 and MSH-2 included)."""

    name: str
    fields: list[str]

    def raw(self, field: int) -> str:
        return self.fields[field] if field < len(self.fields) else ""

    def text(self, field: int, component: int = 1, subcomponent: int = 1) -> str:
        """The unescaped value of the field's first repetition; empty where nothing was sent."""
        repetition = self.raw(field).split("~")[0]
        return unescape(part(part(repetition, "^", component), "&", subcomponent))

    def repetitions(self, field: int) -> list[str]:
        return [repetition for repetition in self.raw(field).split("~") if repetition]


@dataclass(slots=True)
class Message:
    """A parsed message. `undecodable` says that MSH-18 does not describe the bytes; the text is then Latin-1."""

    segments: list[Segment]
    undecodable: bool = False

    def segment(self, name: str) -> Segment | None:
        return next((segment for segment in self.segments if segment.name == name), None)

    def all(self, name: str) -> list[Segment]:
        return [segment for segment in self.segments if segment.name == name]

    def names(self) -> list[str]:
        return [segment.name for segment in self.segments]

    def raw(self, path: str) -> str:
        """The field as sent, of the first segment of that name (`SCH-11`)."""
        name, field, _, _ = place(path)
        segment = self.segment(name)
        return "" if segment is None else segment.raw(field)

    def text(self, path: str) -> str:
        """The unescaped value at `PID-3.4` or `PID-3`, which is `PID-3.1`; empty where nothing was sent."""
        name, field, component, subcomponent = place(path)
        segment = self.segment(name)
        return "" if segment is None else segment.text(field, component, subcomponent)

    def content(self) -> str:
        """All but MSH-7: a repetition may be stamped anew and is still the same message."""
        header = [field for number, field in enumerate(self.segments[0].fields) if number != 7]
        return "\r".join("|".join(fields) for fields in [header, *(item.fields for item in self.segments[1:])])

    @property
    def control_id(self) -> str:
        return self.text("MSH-10")

    @property
    def version(self) -> str:
        return self.text("MSH-12")

    @property
    def kind(self) -> str:
        """`ORM^O01`: the first two components of MSH-9."""
        return "^".join(filter(None, (self.text("MSH-9.1"), self.text("MSH-9.2"))))


def parse(data: bytes) -> Message:
    """Read one message. Raises Unreadable when it is none."""
    if not data.startswith(b"MSH|^~\\&"):
        raise Unreadable("no MSH with the delimiters |^~\\&")
    if not data.endswith(b"\r"):
        raise Unreadable("the last segment does not end with CR")
    if b"\n" in data:
        raise Unreadable("a line feed stands in the message")
    codec = CHARSETS.get(charset_of(data), "latin-1")
    try:
        text, undecodable = data.decode(codec), charset_of(data) not in CHARSETS
    except UnicodeDecodeError:
        text, undecodable = data.decode("latin-1"), True
    return Message([read_segment(line) for line in text[:-1].split("\r")], undecodable)


def charset_of(data: bytes) -> str:
    header = data.split(b"\r", 1)[0].split(b"|")
    return header[17].decode("latin-1") if len(header) > 17 else ""


def read_segment(line: str) -> Segment:
    fields = line.split("|")
    if not re.fullmatch("[A-Z][A-Z0-9]{2}", fields[0]):
        raise Unreadable("a segment has no name")
    if fields[0] == "MSH":
        fields.insert(1, "|")
    return Segment(fields[0], fields)


def line(name: str, fields: Mapping[int, str]) -> str:
    """One segment from field number → HL7 text as it shall stand; empty fields at the end are cut."""
    last = max((number for number, value in fields.items() if value), default=0)
    parts = [name, *(fields.get(number, "") for number in range(1, last + 1))]
    if name == "MSH":
        parts[1:3] = ["^~\\&"]
    return "|".join(parts)


def components(*parts: str) -> str:
    return "^".join(parts).rstrip("^")


def encode(lines: Iterable[str], charset: str = "") -> bytes:
    """The message's bytes. What the charset lacks becomes `?`: only free text of answers can meet this."""
    text = "".join(f"{line}\r" for line in lines)
    return text.encode(CHARSETS.get(charset, "latin-1"), "replace")


def replace_field(data: bytes, segment: str, field: int, value: str) -> bytes:
    """The same message with one field of the first such segment replaced; the charset stays."""
    message = parse(data)
    found = message.segment(segment)
    if found is None:
        raise Unreadable(f"no {segment} segment")
    found.fields += [""] * (field + 1 - len(found.fields))
    found.fields[field] = value
    lines = [line(item.name, dict(enumerate(item.fields))) for item in message.segments]
    return encode(lines, message.raw("MSH-18"))


def escape(text: str) -> str:
    return "".join(ESCAPED.get(character, character) for character in text)


def unescape(text: str) -> str:
    return text if "\\" not in text else re.sub(r"\\([^\\]+)\\", unescape_one, text)


def unescape_one(match: re.Match[str]) -> str:
    code = match.group(1)
    if code.startswith("X") and re.fullmatch("X([0-9A-F]{2})+", code):
        return bytes.fromhex(code[1:]).decode("latin-1")
    return ESCAPES.get(code, match.group(0))


def part(text: str, separator: str, number: int) -> str:
    parts = text.split(separator)
    return parts[number - 1] if number <= len(parts) else ""


@lru_cache(maxsize=512)
def place(path: str) -> tuple[str, int, int, int]:
    name, _, rest = path.partition("-")
    numbers = [int(number) for number in rest.split(".")]
    field, component, subcomponent = (*numbers, 1, 1)[:3]
    return name, field, component, subcomponent


def at_least(version: str, wanted: str) -> bool:
    """Whether an HL7 version is `wanted` or later; a version that is no version is the oldest."""
    return version_numbers(version) >= version_numbers(wanted)


def version_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".")) if re.fullmatch(r"\d+(\.\d+)*", version) else (0,)


def stamp(when: datetime, version: str) -> str:
    """A time as this site writes it: seconds, and from 2.5 the offset of the time's own zone."""
    return when.strftime("%Y%m%d%H%M%S%z" if at_least(version, "2.5") else "%Y%m%d%H%M%S")


def read_time(text: str, zone: tzinfo) -> datetime:
    """An HL7 time as an aware datetime; without offset it is local to `zone`. Raises ValueError."""
    match = TIME.fullmatch(text)
    if match is None:
        raise ValueError("no HL7 time")
    digits = match.group(1).ljust(14, "0")
    when = datetime.strptime(digits, "%Y%m%d%H%M%S")
    if match.group(2):
        return datetime.strptime(digits + match.group(2), "%Y%m%d%H%M%S%z").astimezone(zone)
    return when.replace(tzinfo=zone)
