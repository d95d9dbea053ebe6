"""What a database is to a step: connections that read, each used by one thread at a time.

A database is asked one declared statement with bound values. Nothing of what it says leaves but rows and codes: its
error texts quote values.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal, Protocol

from engine.transforms.databases.statement import Statement

Kind = Literal["unavailable", "unanswered", "failed"]
Row = dict[str, Any]


class QueryError(Exception):
    """A query gave no rows that can be used.

    ``unavailable``: the database was not reached, or has gone; ``unanswered``: it took too long; ``failed``: it said
    no, or its rows cannot be used. ``reason`` is a word or the database's own code, never its text.
    """

    def __init__(self, kind: Kind, reason: str) -> None:
        self.kind, self.reason = kind, reason
        super().__init__(f"{kind} {reason}")


class Connection(Protocol):
    """One connection, open for reading only."""

    def fetch(self, statement: Statement, values: Mapping[str, Any], limit: int) -> list[Row]:
        """At most ``limit`` + 1 rows. Raises QueryError."""
        ...

    def interrupt(self) -> None:
        """End a ``fetch`` that another thread waits for; the connection is not used again."""
        ...

    def close(self) -> None:
        """Close it; raises nothing."""
        ...


class Database(Protocol):
    """Where connections come from."""

    #: For people, without credentials.
    name: str

    def connect(self) -> Connection:
        """A new connection. Raises QueryError ``unavailable``."""
        ...


def rows_of(columns: list[str], found: list[tuple[Any, ...]]) -> list[Row]:
    """Rows as JSON has them. Raises QueryError for columns of one name and for bytes."""
    if len(set(columns)) != len(columns):
        raise QueryError("failed", "duplicate_column")
    return [dict(zip(columns, map(_plain, row), strict=True)) for row in found]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds" if not value.microsecond else "microseconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        # A number that JSON cannot hold exactly is its text.
        whole = value == value.to_integral_value() if value.is_finite() else False
        return int(value) if whole and abs(value) < 1 << 53 else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        raise QueryError("failed", "binary_column")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return str(value)
