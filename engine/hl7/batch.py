"""Batches: FHS, BHS, BTS and FTS around messages, split and put together (HL7 v2.5.1 §2.10.3, §2.15.2 to §2.15.7).

``split`` looks at each byte once and copies nothing. Whatever is no header and no trailer belongs to a message, so that
nothing is lost: lines between a header and the first MSH, and a message whose MSH is garbled, come out as messages of
their own, which cannot be read. Trailers may be missing; whether a count is right is for the reader (``Split.counts``).
What is answered to a batch is ``batch_answers.py``'s. UTF-16 and UTF-32 are not read here.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from engine.errors import MalformedMessage
from engine.hl7.escape import escape
from engine.hl7.header import Header
from engine.hl7.separators import Separators

#: What stands before a header, and between messages, without meaning anything (0x1A ends a file of DOS).
BLANK = b" \t\r\n\x0b\x0c\x00\x1a\xef\xbb\xbf"
#: Segments that begin a batch.
BEGINS = (b"FHS", b"BHS")
#: Parts that are looked at in one go.
STEP = 1000

_NAMES = b"MSH|FHS|BHS|BTS|FTS"
_MARKS = frozenset((b"FHS", b"BHS", b"BTS", b"FTS"))
_BEGIN = re.compile(rb"MSH(?![A-Za-z0-9 ])")
_LINE_END = re.compile(rb"[\r\n]")
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
#: Delimiters of a header in bytes: the field separator and what follows it.
_USUAL = b"|^~\\&"


class TooManyParts(MalformedMessage):
    """A batch of more messages, headers and trailers than the reader takes."""


def is_batch(body: bytes | bytearray) -> bool:
    """Whether a body begins with FHS or BHS, behind blanks."""
    if body[:3] == b"MSH":
        return False
    return bytes(body[:64]).lstrip(BLANK)[:3] in BEGINS


class Member(NamedTuple):
    """Where a message stands in the body: from its first byte to the first of whatever comes next."""

    start: int
    stop: int


class Count(NamedTuple):
    """What a trailer says, and what there is."""

    #: ``BTS-1`` or ``FTS-1``.
    place: str
    #: None where it says no number.
    said: int | None
    found: int

    @property
    def right(self) -> bool:
        """Whether the two are the same."""
        return self.said == self.found


@dataclass(slots=True)
class Batch:
    """One batch: BHS to BTS. Both are empty for messages without them, which count as one batch."""

    header: bytes = field(default=b"", repr=False)
    trailer: bytes = field(default=b"", repr=False)
    members: list[Member] = field(default_factory=list, repr=False)


@dataclass(slots=True)
class File:
    """One file: FHS to FTS. Both are empty for batches without them."""

    header: bytes = field(default=b"", repr=False)
    trailer: bytes = field(default=b"", repr=False)
    batches: list[Batch] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Split:
    """A body, split."""

    files: tuple[File, ...]

    @property
    def batches(self) -> Iterator[tuple[File, Batch]]:
        """Every batch in order, and its file."""
        return ((file, batch) for file in self.files for batch in file.batches)

    @property
    def members(self) -> Iterator[Member]:
        """Every message in order."""
        return (member for _, batch in self.batches for member in batch.members)

    @property
    def wrong(self) -> tuple[Count, ...]:
        """The counts that do not match; a trailer that says none is not wrong (BTS-1 and FTS-1 are optional)."""
        return tuple(count for count in self.counts() if not count.right)

    def counts(self) -> Iterator[Count]:
        """Every count that a trailer gives."""
        for file in self.files:
            for batch in file.batches:
                yield from _count(batch.trailer, "BTS-1", len(batch.members))
            bare = all(not batch.header and not batch.trailer for batch in file.batches)
            yield from _count(file.trailer, "FTS-1", len(file.batches), none=bare)


def split(body: bytes | bytearray) -> Split:
    """Where the messages of a batch stand. MalformedMessage when it begins with neither FHS nor BHS."""
    steps = split_in_steps(body)
    try:
        while True:
            next(steps)
    except StopIteration as ended:
        parts: Split = ended.value
        return parts


def split_in_steps(body: bytes | bytearray, most: int | None = None) -> Generator[None, None, Split]:
    """The same with a step after each ``STEP`` parts, so that others have their turn.

    TooManyParts when there are more than ``most``: a part of four bytes costs far more than that.
    """
    begin = len(body[:64]) - len(bytes(body[:64]).lstrip(BLANK))
    if bytes(body[begin : begin + 3]) not in BEGINS:
        raise MalformedMessage("no FHS or BHS segment at the beginning", begin)
    reader = _Reader(body)
    at, name = begin, bytes(body[begin : begin + 3])
    for number, found in enumerate(_beginnings(delimiters(body, begin)).finditer(body, begin + 3), 1):
        reader.take(name, at, found.start())
        text = found[0].lstrip(BLANK)
        at, name = found.end() - len(text), text[:3]
        if most is not None and number > most:
            raise TooManyParts("more parts than are read", at)
        if number % STEP == 0:
            yield
    reader.take(name, at, len(body))
    return Split(tuple(reader.files))


def delimiters(body: bytes | bytearray, begin: int = 0) -> bytes:
    """The first two fields of a header as they stand (``|^~\\&``); the usual ones where there are none."""
    line = bytes(body[begin + 3 : begin + 10])
    end = line.find(line[:1], 1)
    declared = _LINE_END.split(line if end < 0 else line[:end])[0]
    return declared if len(declared) >= 5 else _USUAL


@lru_cache(maxsize=64)
def _beginnings(marks: bytes) -> re.Pattern[bytes]:
    """Finds each line that begins a part; also one that has a header's delimiters behind what is no name of any."""
    garbled = rb"[^\r\n" + re.escape(marks[:1]) + rb"]{0,8}" + re.escape(marks)
    return re.compile(rb"(?<=[\r\n])(?:(?:" + _NAMES + rb")(?![A-Za-z0-9 ])|" + garbled + rb")")


class _Reader:
    """Puts the parts of a body into files and batches."""

    def __init__(self, body: bytes | bytearray) -> None:
        self.body = body
        self.files: list[File] = []
        self._file: File | None = None
        self._batch: Batch | None = None

    def take(self, name: bytes, start: int, stop: int) -> None:
        """The part of the body that begins with the segment ``name``."""
        if name not in _MARKS:
            self._member(start, stop)
            return
        end = _LINE_END.search(self.body, start, stop)
        line_end = end.start() if end is not None else stop
        line = bytes(self.body[start:line_end])
        if name == b"FHS":
            self._file, self._batch = File(header=line), None
            self.files.append(self._file)
        elif name == b"BHS":
            self._batch = Batch(header=line)
            self._in_file().batches.append(self._batch)
        elif name == b"BTS":
            self._in_batch().trailer, self._batch = line, None
        else:
            self._in_file().trailer, self._file, self._batch = line, None, None
        # What follows a header or a trailer and begins no part is a message that nobody can read: it is not lost.
        if line_end < stop and bytes(self.body[line_end:stop]).strip(BLANK):
            self._member(line_end + 1, stop)

    def _member(self, start: int, stop: int) -> None:
        self._in_batch().members.append(Member(start, stop))

    def _in_file(self) -> File:
        if self._file is None:
            self._file = File()
            self.files.append(self._file)
        return self._file

    def _in_batch(self) -> Batch:
        if self._batch is None:
            self._batch = Batch()
            self._in_file().batches.append(self._batch)
        return self._batch


def _count(trailer: bytes, place: str, found: int, *, none: bool = False) -> Iterator[Count]:
    """``none``: nothing counts as one, and so does a count of zero."""
    if not trailer:
        return
    said = trailer[4:].split(trailer[3:4] or b"|", 1)[0].strip().decode("ascii", "replace")
    if said:
        number = int(said) if _NUMBER.fullmatch(said) else None
        yield Count(place, found if none and number == 0 and found == 1 else number, found)


# Headers and trailers


def header(line: bytes) -> Header:
    """FHS or BHS for reading: numbers are the standard's, FHS-11 and BHS-11 are field 11. MalformedMessage."""
    text = line.decode("ascii", "surrogateescape")
    return Header.of(text, Separators.of(text), "ascii")


def reading(line: bytes) -> Header:
    """The same; one that is not there, or cannot be read, has no fields."""
    try:
        return header(line) if line else Header.empty()
    except MalformedMessage:
        return Header.empty()


def header_line(
    name: str,
    separators: Separators,
    parties: Iterable[str],
    timestamp: datetime,
    control_id: str,
    reference: str = "",
) -> str:
    """FHS or BHS. ``parties`` are fields 3 to 6 as HL7 text; ``reference`` (HL7 text) is field 12.

    ``timestamp`` is aware, else ValueError.
    """
    if timestamp.tzinfo is None:
        raise ValueError("the time of a batch needs a time zone")
    fields = [
        f"{name}{separators.field}{separators.encoding_characters}",
        *parties,
        timestamp.strftime("%Y%m%d%H%M%S%z"),
        "",
        "",
        "",
        escape(control_id, separators),
    ]
    return separators.field.join([*fields, reference] if reference else fields)


def join(messages: Iterable[bytes], batch: bytes, file: bytes = b"") -> bytes:
    """The messages between BHS and BTS; with ``file`` (FHS) between FHS and FTS as well. BTS-1 and FTS-1 are filled.

    Everything ends with a CR; one is added where it is missing.
    """
    parts = [_ended(message) for message in messages]
    trailer = b"BTS%b%d\r" % (batch[3:4], len(parts))
    inside = b"".join((_ended(batch), *parts, trailer))
    return b"".join((_ended(file), inside, b"FTS%b1\r" % file[3:4])) if file else inside


def _ended(part: bytes) -> bytes:
    return part if part.endswith(b"\r") else part + b"\r"


def joinable(message: bytes, batch: bytes = _USUAL) -> bool:
    """Whether a message can be a member: it begins with MSH, and no line in it would begin another part.

    ``batch``: the delimiters of the header that it will stand behind.
    """
    if _BEGIN.match(message) is None:
        return False
    return all(_beginnings(marks).search(message, 3) is None for marks in {batch, delimiters(message)})
