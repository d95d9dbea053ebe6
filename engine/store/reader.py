"""Reads of the embedded store: named queries on the read-only connection, their rows as values, bodies opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from engine.errors import DoesNotOpen, StoreError
from engine.store import keeping, queries
from engine.store.base import DeliveryRow, MessageRow
from engine.store.crypto import Crypto, row_place
from engine.store.parts import read_large
from engine.store.rows import Row, delivery_row, message_row
from engine.store.stored import read_text, text


class Reader:
    """Reads on the connection that ``connection`` gives."""

    def __init__(self, connection: Callable[[], sqlite3.Connection], crypto: Crypto) -> None:
        self._connection, self._crypto = connection, crypto

    def rows(self, query: str, *parameters: object) -> list[Row]:
        """All rows of a query. Raises StoreError."""
        connection = self._connection()
        try:
            return connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"cannot read: {getattr(error, 'sqlite_errorname', type(error).__name__)}") from None

    def row(self, query: str, row_id: int) -> Row:
        """The row of an id. Raises KeyError when there is none, StoreError."""
        rows = self.rows(query, row_id)
        if not rows:
            raise KeyError(row_id)
        return rows[0]

    def control_ids(self, least: str) -> list[str | bytes]:
        """The first control ids in the index from ``least`` on, in order; one of several messages several times."""
        return [control_id for (control_id,) in self.rows(queries.CONTROL_ID_FROM, text(least))]

    def indexed_up_to(self) -> int:
        """The last message whose patients and control id are in their indexes."""
        ((up_to,),) = self.rows(keeping.INDEXED_UP_TO)
        return int(up_to)

    def late_control_ids(self) -> list[tuple[str, int]]:
        """The control ids of the messages behind it, with these messages."""
        return [(read_text(control_id), message_id) for control_id, message_id in self.rows(queries.LATE_CONTROL_IDS)]

    def same_control_id(self, channel: str, control_id: str, limit: int, *, late: bool) -> list[MessageRow]:
        """See ``Store``. ``late``: it may not be in the index yet; that is looked for first, since it comes there."""
        wanted = (text(control_id), channel, limit)
        found = self.messages(queries.SAME_LATE_CONTROL_ID, *wanted) if late else []
        if len(found) < limit:
            known = {row.message_id for row in found}
            found += [row for row in self.messages(queries.SAME_CONTROL_ID, *wanted) if row.message_id not in known]
        return found[:limit]

    def value(self, query: str, row_id: int) -> bytes:
        """A body or an answer, opened; empty when there is none. Raises KeyError, StoreError."""
        return b"".join(self.chunks(query, row_id))

    def chunks(self, query: str, row_id: int) -> Iterator[bytes]:
        """The same, a part of a large one with each step. A KeyError comes at once."""
        value, sealed, table, at, start, length, run, layout = self.row(query, row_id)
        written: bytes = self._crypto.open(sealed, value, row_place(table, at)) if value else b""
        if length is not None:
            written = written[start : start + length]
        return read_large(self._part, run, layout, written) if run is not None else iter((written,) if written else ())

    def _part(self, part_id: int) -> bytes:
        rows = self.rows(queries.PART, part_id)
        if not rows:
            raise DoesNotOpen(f"part {part_id} of a large body is missing")
        value, sealed = rows[0]
        return self._crypto.open(sealed, value, row_place("body_part", part_id))

    def messages(self, query: str, *parameters: object) -> list[MessageRow]:
        """Rows with the columns of a message."""
        return [message_row(row, self._crypto) for row in self.rows(query, *parameters)]

    def deliveries(self, query: str, *parameters: object) -> list[DeliveryRow]:
        """Rows with the columns of a delivery."""
        return [delivery_row(row, self._crypto) for row in self.rows(query, *parameters)]
