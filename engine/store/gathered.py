"""Rows of one transaction that are written together: each statement is executed once, for all of its rows.

Only rows that depend on no other of them are gathered; whatever else is executed comes behind those that are there.
"""

from __future__ import annotations

import sqlite3

from engine.errors import StoreError
from engine.store import statements

Row = tuple[object, ...]


class Gathered:
    """What the units executed so far have to write: ``write`` it before anything else, and before the commit."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self.forget()

    def forget(self) -> None:
        """The transaction was rolled back."""
        self.messages: list[Row] = []
        self.bodies: list[Row] = []
        self.deliveries: list[Row] = []
        #: Deliveries that are on their way, or at their end.
        self.begun: list[Row] = []
        #: Ends with the delivery's id.
        self.delivered: list[Row] = []
        #: Ends with the message's id.
        self.acks: list[Row] = []

    def write(self) -> None:
        """Raises StoreError when a row is not in a state that it may be changed from, sqlite3.Error otherwise."""
        many = self._cursor.executemany
        if self.messages:
            many(statements.INSERT_MESSAGE, self.messages)
            self.messages = []
        if self.bodies:
            many(statements.INSERT_MESSAGE_BODY, self.bodies)
            self.bodies = []
        if self.deliveries:
            many(statements.INSERT_DELIVERY, self.deliveries)
            self.deliveries = []
        if self.begun:
            many(statements.INSERT_BEGUN, self.begun)
            self.begun = []
        if self.delivered:
            many(statements.DELIVERED, self.delivered)
            if self._cursor.rowcount != len(self.delivered):
                names = " or ".join([str(row[-1]) for row in self.delivered])
                raise StoreError(f"delivery {names} may not become delivered")
            self.delivered = []
        if self.acks:
            many(statements.ACK_SENT, self.acks)
            if self._cursor.rowcount != len(self.acks):
                names = " or ".join([str(row[-1]) for row in self.acks])
                raise StoreError(f"there is no message {names}")
            self.acks = []
