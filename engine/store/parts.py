"""Bodies above a megabyte: written part by part before the unit that refers to them, read part by part.

A run is what one large body was cut into. A message refers to the whole of its run, a delivery to the stretches of it
that it holds unchanged; what was written anew stands in the body's own row. A run that nothing refers to is dropped:
at once where it was given up, at the next start where a crash left it, with the last row that refers to it else
(migrations, triggers). Parts of dropped runs are removed a few at a time (``pruning.py``).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from engine.errors import DoesNotOpen, StoreError
from engine.hl7.bulk import Bulk, Pieces, Slice
from engine.promise import Promise
from engine.store import keeping, queries
from engine.store.crypto import Crypto, row_place

#: Bytes of a part: what one unit costs the others.
PART = 512 * 1024
PARTS = 65536
#: Parts after which SQLite gives back the memory in which it keeps what was written.
_SHRINK = 16


@dataclass(frozen=True, slots=True)
class KeepPart:
    """One part of a run."""

    heavy: ClassVar[bool] = True
    pages: ClassVar[int] = 128
    run: int
    number: int
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DropRun:
    """The run was given up: nothing will refer to it."""

    run: int


async def keep_parts(body: Pieces, run: int, submit: Callable[[object], Promise[None]]) -> Pieces:
    """Write the bytes of a large body as this run; what a message or delivery refers to it by. Raises StoreError."""
    try:
        for number, part in enumerate(body.stretches(PART)):
            await submit(KeepPart(run, number, part))
    except BaseException:  # also a cancellation: parts that nothing will refer to do not stay
        submit(DropRun(run))
        raise
    return Pieces([Slice(Bulk(b"", run), 0, len(body))])


class PartWriter:
    """Executes these, and what a body refers to, on the connection that writes."""

    def __init__(self, cursor: sqlite3.Cursor, crypto: Crypto) -> None:
        self._execute, self._crypto = cursor.execute, crypto
        self.handlers: dict[type[Any], Callable[[Any], None]] = {KeepPart: self._keep, DropRun: self._drop}

    def refer(self, row_id: int, body: Pieces) -> bytes:
        """Note which parts a message or delivery is made of; what is left to be written in the body's own row."""
        run, layout, written = body.place, [], []
        if not run:
            raise StoreError(f"the large body of {row_id} was not kept before")
        for piece in body.pieces:
            if isinstance(piece, Slice):
                layout.append([piece.start, len(piece)])
            else:
                layout.append([len(piece)])
                written.append(piece)
        self._execute(queries.PUT_LARGE_BODY, (row_id, run, json.dumps(layout)))
        self._execute(queries.CLOSE_RUN, (run,))
        self._execute("PRAGMA shrink_memory")
        return b"".join(written)

    def forget(self, row_id: int) -> None:
        """The body is written anew, and small."""
        self._execute(queries.FORGET_LARGE_BODY, (row_id,))

    def _keep(self, part: KeepPart) -> None:
        if part.number == 0:
            self._execute(queries.OPEN_RUN, (part.run,))
        row_id, number = part.run * PARTS + part.number, 0
        value: bytes | bytearray = part.value
        if self._crypto.encrypt:
            number, value = self._crypto.seal(part.value, row_place("body_part", row_id))
        self._execute(queries.PUT_PART, (row_id, number, value))
        if part.number % _SHRINK == _SHRINK - 1:
            self._execute("PRAGMA shrink_memory")  # nobody reads these pages again

    def _drop(self, drop: DropRun) -> None:
        self._execute(keeping.DROP_RUN, (drop.run,))
        self._execute(queries.CLOSE_RUN, (drop.run,))


def drop_open_runs(connection: sqlite3.Connection) -> None:
    """Drop what a crash left that nothing refers to."""
    for (run,) in connection.execute(queries.OPEN_RUNS).fetchall():
        connection.execute(keeping.DROP_RUN, (run,))
        connection.execute(queries.CLOSE_RUN, (run,))


def read_large(part: Callable[[int], bytes], run: int, layout: str, written: bytes) -> Iterator[bytes]:
    """The bytes of a large body in order, a part at a time; ``part`` reads one by its id."""
    at = 0
    for stretch in json.loads(layout):
        if len(stretch) == 1:
            yield written[at : at + stretch[0]]
            at += stretch[0]
            continue
        start, length = stretch
        while length:
            number, offset = divmod(start, PART)
            value = part(run * PARTS + number)
            if offset or length < len(value):
                value = value[offset : offset + length]
            if not value:
                raise DoesNotOpen(f"a part of run {run} is too short")
            yield value
            start, length = start + len(value), length - len(value)
