"""Which idempotency keys are in no row of the store: known without asking the database.

Nearly every key comes for the first time, and a look into the index of all keys costs as much as reading the request.
What is kept of a key are four bits among eight million (a Bloom filter), found by its hash: of a key without them it is
certain that it was not opened; one that has them is looked up. Of half a million keys one new one in 500 is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from struct import Struct

from engine.store import queries

#: Of more keys than this that a store begins with none is known: reading them all would hold up its start.
_MOST = 200_000
#: Bytes that hold the bits; a power of two.
_BYTES = 1 << 20
#: A hash gives four numbers of 32 bits: the upper 20 say which byte, the lower 3 which bit of it.
_PLACES = Struct(">4I").unpack_from
_BYTE = 12


class KnownKeys:
    """The hashes of keys that are in a store, and of many that are not. Belongs to the loop."""

    @classmethod
    def of(cls, reader: sqlite3.Connection) -> KnownKeys:
        """Those of a store that is about to be written to. Raises sqlite3.Error."""
        found = reader.execute(queries.KEY_HASHES, (_MOST + 1,)).fetchall()
        return cls((hashed for (hashed,) in found) if len(found) <= _MOST else None)

    def __init__(self, hashes: Iterable[bytes] | None) -> None:
        """``hashes`` of all that are stored; None where they are too many, and every key is looked up."""
        self._bits = bytearray(_BYTES) if hashes is not None else bytearray(b"\xff") * _BYTES
        for hashed in hashes or ():
            self.opened(hashed)

    def __contains__(self, hashed: bytes) -> bool:
        """Whether a key with this hash may be in the store."""
        bits, (a, b, c, d) = self._bits, _PLACES(hashed)
        at_a, at_b, at_c, at_d = bits[a >> _BYTE], bits[b >> _BYTE], bits[c >> _BYTE], bits[d >> _BYTE]
        return bool(at_a >> (a & 7) & at_b >> (b & 7) & at_c >> (c & 7) & at_d >> (d & 7) & 1)

    def opened(self, hashed: bytes) -> None:
        """A key with this hash is about to be written; whoever reads before that is committed finds none."""
        for place in _PLACES(hashed):
            self._bits[place >> _BYTE] |= 1 << (place & 7)
