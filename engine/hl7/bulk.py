"""The bytes of a large message, kept once and shared by everything that is made of them.

A Bulk is what came in. A Slice is a stretch of it, and Pieces are a body put together of slices and of bytes written
anew: what nobody changed is neither copied nor decoded on its way through the engine. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

#: Bodies from this size on, in bytes, are handled in pieces.
LARGE = 1 << 20


class Bulk:
    """Bytes that are not changed any more."""

    __slots__ = ("_ascii", "data", "place")

    def __init__(self, data: bytes | bytearray, place: int = 0) -> None:
        self.data = data
        #: Where the store keeps them (a run of parts); 0: nowhere yet.
        self.place = place
        self._ascii: bool | None = None

    @property
    def is_ascii(self) -> bool:
        """Whether every byte is below 128; looked at once."""
        if self._ascii is None:
            self._ascii = self.data.isascii()
        return self._ascii

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"<Bulk of {len(self.data)} bytes>"


class Slice:
    """A stretch of a Bulk."""

    __slots__ = ("bulk", "start", "stop")

    def __init__(self, bulk: Bulk, start: int, stop: int) -> None:
        self.bulk, self.start, self.stop = bulk, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def stretch(self) -> tuple[bytes | bytearray, int, int]:
        """What it is a stretch of, from where, up to where."""
        return self.bulk.data, self.start, self.stop

    def view(self) -> memoryview:
        """The bytes, without a copy."""
        return memoryview(self.bulk.data)[self.start : self.stop]

    def decode(self, codec: str) -> str:
        """As text; bytes that are not of the charset become lone surrogates."""
        return str(self.view(), codec, "surrogateescape")

    def __repr__(self) -> str:
        return f"<Slice of {len(self)} bytes>"


class Pieces:
    """A body put together; its length is that of all pieces."""

    __slots__ = ("pieces", "size")

    def __init__(self, pieces: Iterable[bytes | Slice]) -> None:
        self.pieces = tuple(piece for piece in pieces if len(piece))
        self.size = sum(map(len, self.pieces))

    def __len__(self) -> int:
        return self.size

    def __bytes__(self) -> bytes:
        return b"".join(self.views())

    def views(self, most: int = 1 << 62) -> Iterator[memoryview]:
        """The bytes in order, at most ``most`` at once, without a copy."""
        for piece in self.pieces:
            view = memoryview(piece) if isinstance(piece, bytes) else piece.view()
            for start in range(0, len(view), most):
                yield view[start : start + most]

    def stretches(self, length: int) -> Iterator[bytes]:
        """The bytes in order, each time exactly ``length`` of them, the last time what is left."""
        rest = bytearray()
        for view in self.views(length):
            rest += view
            while len(rest) >= length:
                yield bytes(rest[:length])
                del rest[:length]
        if rest:
            yield bytes(rest)

    @property
    def place(self) -> int:
        """The one place where the store keeps all slices; 0 when there is none."""
        places = {piece.bulk.place for piece in self.pieces if isinstance(piece, Slice)}
        return places.pop() if len(places) == 1 else 0

    @property
    def at_hand(self) -> bool:
        """Whether its bytes are in memory, and not only in the store."""
        return all(isinstance(piece, bytes) or len(piece.bulk) >= piece.stop for piece in self.pieces)

    @property
    def written(self) -> int:
        """How many bytes are no slices."""
        return sum(len(piece) for piece in self.pieces if isinstance(piece, bytes))

    def __repr__(self) -> str:
        return f"<Pieces: {len(self.pieces)}, {self.size} bytes>"
