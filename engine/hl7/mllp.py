"""MLLP framing without I/O: bytes in, message bodies out. HL7 Transport Specification, MLLP release 1.

A frame is VT, body, FS, CR. Partners are less exact, so a frame also ends at FS LF, at FS VT (the next frame begins
there) and at an FS after which nothing comes (``flush``). FS before anything else is data. Sockets, time-outs and
acknowledgements are elsewhere: ``sources/mllp.py``, ``ack.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal

from engine.errors import FrameTooLarge, MalformedMessage
from engine.hl7.bulk import LARGE, Pieces

VT, FS, CR, LF = 0x0B, 0x1C, 0x0D, 0x0A
START, END = b"\x0b", b"\x1c\r"
_END_BLOCK = b"\x1c"
_BETWEEN = END + START

#: 16 MiB: a large PDF in base64 fits; a peer that never ends its frame cannot fill the memory.
DEFAULT_LIMIT = 16 * 1024 * 1024

#: What makes an FS the end of a frame.
_AFTER_END = (b"\r", b"\n", b"\x0b")
#: What a frame begins with.
_BEGINS = (b"MSH", b"FHS", b"BHS")
_HEAD = 4096
#: So much of what stands before the first frame is looked at; nothing of it once a frame has begun.
_BEGUN = b" " * 8
_HTTP = (
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"PATCH ",
    b"OPTIONS ",
    b"CONNECT ",
    b"TRACE ",
    b"HTTP/",
    b"PRI ",
)
_TLS = (b"\x16\x03", b"\x15\x03")


def frame(body: bytes) -> bytes:
    """The body as one frame. MalformedMessage if it holds an end of frame, since it would arrive as two messages."""
    if FS in body and (at := _end_inside(body, 0, len(body))) >= 0:
        raise MalformedMessage("an end of frame inside of the message", at)
    return START + body + END


def frame_pieces(body: Pieces, most: int) -> Iterator[bytes | memoryview]:
    """The body as one frame in pieces of ``most`` bytes, without a copy. MalformedMessage as ``frame``, at once."""
    last, seen = b"", 0
    for piece in body.pieces:
        data, start, stop = (piece, 0, len(piece)) if isinstance(piece, bytes) else piece.stretch
        if last == b"\x1c" and data[start : start + 1] in _AFTER_END:
            raise MalformedMessage("an end of frame inside of the message", seen - 1)
        if (at := _end_inside(data, start, stop)) >= 0:
            raise MalformedMessage("an end of frame inside of the message", seen + at - start)
        last, seen = bytes(data[stop - 1 : stop]), seen + stop - start
    return chain((START,), body.views(most), (END,))


def _end_inside(body: bytes | bytearray, start: int, stop: int) -> int:
    """Where an end of frame stands between ``start`` and ``stop``; -1 for none."""
    at = body.find(FS, start, stop)
    while at >= 0 and not (at + 1 < stop and body[at + 1 : at + 2] in _AFTER_END):
        at = body.find(FS, at + 1, stop)
    return at


class Framer:
    """Takes what a socket gives and returns complete message bodies, in whatever pieces they come.

    A VT inside of an unfinished frame begins a new one if ``MSH``, ``FHS`` or ``BHS`` follows it: the sender broke off
    and started again, and never had an answer for the first part, so that part is dropped and counted (``abandoned``).
    Any other VT is data (text pasted from office programs has them).

    A frame above ``limit`` raises FrameTooLarge. If the same ``feed`` completed other frames, those are returned first;
    ``too_large`` is then true and the next ``feed`` or ``flush`` raises. The owner may close the connection, or answer
    (``oversized_head`` holds the first 4 KiB, MSH included) and go on: the rest of that frame is
    skipped, and ``feed(b"")`` gives at once what came behind it.
    """

    __slots__ = (
        "_between", "_buffer", "_discarding", "_head", "_inside", "_most", "_scan", "_vt_scan",
        "abandoned", "hint", "junk_bytes", "limit", "oversized_head", "too_large",
    )  # fmt: skip

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        #: Bytes skipped because they belong to no frame.
        self.junk_bytes = 0
        #: Frames a sender began and never ended before it began anew.
        self.abandoned = 0
        #: What the junk at the beginning of the connection looks like, if it is another protocol.
        self.hint: Literal["http", "tls"] | None = None
        #: Whether the next ``feed`` or ``flush`` raises FrameTooLarge.
        self.too_large = False
        #: The first bytes of the last frame that was too large.
        self.oversized_head = b""
        self._buffer = bytearray()
        #: Bytes of a piece whose frames need not be measured one by one, nor be kept from being copied.
        self._most = min(limit, LARGE)
        self._head = b""
        self._inside = False
        self._discarding = False
        #: Nothing is held, or due: what comes begins anew.
        self._between = True
        # Where the search for FS and for VT goes on; what is before was searched already.
        self._scan = 0
        self._vt_scan = 0

    @property
    def incomplete(self) -> bool:
        """Whether a frame was begun and has not ended."""
        return self._inside

    @property
    def pending(self) -> int:
        """Bytes held of an unfinished frame."""
        return len(self._buffer) if self._inside else 0

    def single(self, data: bytes) -> bytes | None:
        """The body of one whole frame, as the standard has it, which is what most reads of a socket give.

        None for what is anything else, or comes in the middle of a frame: nothing was taken in, it is ``feed``'s.
        """
        size = len(data)
        # No VT but the first byte, no FS but the last but one.
        if not self._between or data.rfind(START) or data.find(_END_BLOCK) != size - 2 or data[-1] != CR:
            return None
        if size > self._most:
            return None
        self._head = _BEGUN
        return data[1:-2]

    def _several(self, data: bytes) -> list[bytes] | None:
        """The bodies of whole frames, one behind the other; None for what is not just that."""
        if not self._between or data[:1] != START or data[-2:] != END or len(data) > self._most:
            return None
        bodies = data[1:-2].split(_BETWEEN)
        if not data.count(START) == data.count(_END_BLOCK) == len(bodies):
            return None
        self._head = _BEGUN
        return bodies

    def feed(self, data: bytes) -> Sequence[bytes | bytearray]:
        """Take bytes in; return the message bodies that are now complete, in order."""
        if (whole := self._several(data)) is not None:
            return whole
        self._buffer += data
        self._between = False
        self._raise_if_due()
        bodies: list[bytes | bytearray] = []
        while not self.too_large and (self._inside or self._begin()):
            body = self._end()
            if body is None:
                break
            if not self._discarding and not self.too_large:
                bodies.append(body)
            self._discarding = False
        if not bodies:
            self._raise_if_due()
        self._between = not (self._buffer or self._inside or self.too_large)
        return bodies

    def flush(self) -> Sequence[bytes | bytearray]:
        """Nothing came for a while: an FS at the end of what came is taken for the end of its frame."""
        self._raise_if_due()
        if not self._inside or self._buffer[-1:] != b"\x1c":
            return []
        discarded, self._discarding = self._discarding, False
        end = len(self._buffer)
        if discarded:
            self._reset(end, inside=False)
            return []
        if end > LARGE:
            return [self._whole(end - 1, end)]
        body = bytes(self._buffer[:-1])
        self._reset(end, inside=False)
        return [body]

    def _raise_if_due(self) -> None:
        if self.too_large:
            self.too_large = False
            raise FrameTooLarge(self.limit)

    def _begin(self) -> bool:
        at = self._buffer.find(VT)
        skipped = len(self._buffer) if at < 0 else at
        if skipped:
            self._note(skipped)
        if at >= 0:
            # A hint is about the beginning of the connection; once a frame has begun it is MLLP.
            self._head = _BEGUN
        self._reset(len(self._buffer) if at < 0 else at + 1, inside=at >= 0)
        return at >= 0

    def _end(self) -> bytes | bytearray | None:
        """The body up to the end of the frame, or None when that has not come."""
        while True:
            buffer = self._buffer
            at = buffer.find(FS, self._scan)
            end = len(buffer) if at < 0 else at
            if self._restart(end):
                if self.too_large:
                    return None
                continue
            # Up to a VT at the end that may begin a new message: that part would then not belong to this one.
            if not self._discarding and self._vt_scan > self.limit:
                self._overflow()
            if at < 0 or at + 1 == len(buffer):
                self._scan = end
                self._shrink()
                return None
            after = buffer[at + 1]
            if after in (CR, LF, VT):
                used = at + 1 if after == VT else at + 2
                if at >= LARGE and not self._discarding:
                    return self._whole(at, used)
                body = b"" if self._discarding else bytes(buffer[:at])
                self._reset(used, inside=False)
                return body
            self._scan = at + 1

    def _whole(self, at: int, used: int) -> bytearray:
        """A large body: the buffer itself, so that it is not copied; what came behind it begins another."""
        body, rest = self._buffer, self._buffer[used:]
        del body[at:]
        self._buffer = rest
        self._reset(0, inside=False)
        return body

    def _restart(self, end: int) -> bool:
        """Drop what a sender broke off, when VT and the beginning of a message stand in it before ``end``.

        What was too large before it was broken off is told first; the next call drops it.
        """
        buffer = self._buffer
        at = buffer.find(VT, self._vt_scan, end)
        while at >= 0:
            following = bytes(buffer[at + 1 : at + 4])
            if following in _BEGINS:
                if at > self.limit and not self._discarding:
                    self._overflow()
                    return True
                self.abandoned += 1
                self.junk_bytes += at
                self._discarding = False
                self._reset(at + 1, inside=True)
                return True
            if at + 4 > len(buffer) and any(begin.startswith(following) for begin in _BEGINS):
                self._vt_scan = at
                return False
            at = buffer.find(VT, at + 1, end)
        self._vt_scan = end
        return False

    def _overflow(self) -> None:
        self.too_large = True
        self.oversized_head = bytes(self._buffer[:_HEAD])
        self._discarding = True

    def _shrink(self) -> None:
        """While a frame that is too large is skipped, keep no more of it than may still matter."""
        if self._discarding:
            keep = min(self._scan, self._vt_scan)
            del self._buffer[:keep]
            self._scan -= keep
            self._vt_scan -= keep

    def _reset(self, used: int, *, inside: bool) -> None:
        del self._buffer[:used]
        self._inside = inside
        self._scan = self._vt_scan = 0

    def _note(self, skipped: int) -> None:
        self.junk_bytes += skipped
        if len(self._head) < 8:
            self._head = (self._head + bytes(self._buffer[:skipped])).lstrip(b"\r\n")[:8]
            if self._head.startswith(_TLS):
                self.hint = "tls"
            elif self._head.startswith(_HTTP):
                self.hint = "http"
