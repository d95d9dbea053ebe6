"""Reads of the embedded store: named queries on the read-only connection, their rows as values, bodies opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from engine.errors import StoreError
from engine.store.base import DeliveryRow, MessageRow
from engine.store.crypto import Crypto, row_place
from engine.store.rows import Row, delivery_row, message_row


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

    def value(self, query: str, table: str, row_id: int) -> bytes:
        """A body or an answer, opened; empty when there is none. Raises KeyError, StoreError."""
        value, sealed = self.row(query, row_id)
        return self._crypto.open(sealed, value, row_place(table, row_id)) if value else b""

    def messages(self, query: str, *parameters: object) -> list[MessageRow]:
        """Rows with the columns of a message."""
        return [message_row(row, self._crypto) for row in self.rows(query, *parameters)]

    def deliveries(self, query: str, *parameters: object) -> list[DeliveryRow]:
        """Rows with the columns of a delivery."""
        return [delivery_row(row, self._crypto) for row in self.rows(query, *parameters)]
