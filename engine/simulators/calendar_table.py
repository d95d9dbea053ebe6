"""The RIS's calendar as a table of a database, for `slots: db`: the same slots that its HL7 side tells of.

`calendar(slot_id, location_id, modality, resource, starts_at, ends_at, state)`, one row for each modality that a slot's
room offers; state is `open`, `booked` or `blocked` (systems.md D.2). In SQLite times are text in UTC
(`2027-01-31T15:00:00Z`), in PostgreSQL `timestamptz`. The table is made anew at every start and follows the calendar.
"""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from engine.simulators.calendar import Calendar, Slot

#: Days from today that the table has: as far ahead as RadScheduler may ask, and one more for zones further east.
DAYS = 182

COLUMNS = "slot_id, location_id, modality, resource, starts_at, ends_at, state"
TABLE = """CREATE TABLE calendar (
  slot_id text, location_id text, modality text, resource text, starts_at {time}, ends_at {time}, state text,
  PRIMARY KEY (slot_id, modality))"""
INDEX = "CREATE INDEX calendar_day ON calendar (location_id, modality, starts_at)"


class Database(Protocol):
    """What a table is kept in."""

    def make(self, rows: Iterator[tuple[str, ...]]) -> None: ...

    def set_state(self, slot_id: str, state: str) -> None: ...

    def close(self) -> None: ...


class CalendarTable:
    """Keeps the table of one calendar up to date. Raises OSError and ValueError for an address that cannot be used."""

    def __init__(self, dsn: str, site: Path) -> None:
        self.database: Database = open_database(dsn, site)

    def fill(self, calendar: Calendar, today: date) -> None:
        """Make the table anew."""
        self.database.make(all_rows(calendar, today))

    def slot_changed(self, slot_id: str, state: str) -> None:
        """What a booking or a cancellation does."""
        self.database.set_state(slot_id, state)

    def close(self) -> None:
        self.database.close()


def all_rows(calendar: Calendar, today: date) -> Iterator[tuple[str, ...]]:
    for location in calendar.locations.values():
        for number in range(-1, DAYS):
            for slot in calendar.slots(location, today + timedelta(days=number)):
                yield from rows_of(slot, calendar.state(slot))


def rows_of(slot: Slot, state: str) -> Iterator[tuple[str, ...]]:
    for modality in slot.modalities:
        yield slot.id, slot.location.id, modality, slot.room, utc(slot.start), utc(slot.end), state


def utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def open_database(dsn: str, site: Path) -> Database:
    scheme, _, rest = dsn.partition(":")
    if scheme == "sqlite":
        return SqliteTable(site / rest.removeprefix("//"))
    if scheme in ("postgresql", "postgres"):
        return PostgresqlTable(dsn)
    raise ValueError("RIS_CALENDAR_DSN is neither sqlite:FILE nor postgresql://…")


class SqliteTable:
    """The table in a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.connection = sqlite3.connect(path, isolation_level=None)
            self.connection.execute("PRAGMA synchronous = OFF")  # made anew at every start
        except sqlite3.Error as error:
            raise OSError(f"calendar table: {error}") from error

    def make(self, rows: Iterator[tuple[str, ...]]) -> None:
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DROP TABLE IF EXISTS calendar")
        connection.execute(TABLE.format(time="text"))
        connection.executemany("INSERT INTO calendar VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute(INDEX)
        connection.execute("COMMIT")

    def set_state(self, slot_id: str, state: str) -> None:
        self.connection.execute("UPDATE calendar SET state = ? WHERE slot_id = ?", (state, slot_id))

    def close(self) -> None:
        self.connection.close()


class PostgresqlTable:
    """The table in a database; its account owns it, and whoever may connect may read it."""

    def __init__(self, dsn: str) -> None:
        import psycopg

        try:
            self.connection: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True, connect_timeout=10)
        except psycopg.Error as error:
            raise OSError(f"calendar table: {type(error).__name__}") from None

    def make(self, rows: Iterator[tuple[str, ...]]) -> None:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS calendar")
            cursor.execute(TABLE.format(time="timestamptz").encode())
            with cursor.copy(f"COPY calendar ({COLUMNS}) FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row(row)
            cursor.execute(INDEX)
            cursor.execute("GRANT SELECT ON calendar TO public")

    def set_state(self, slot_id: str, state: str) -> None:
        self.connection.execute("UPDATE calendar SET state = %s WHERE slot_id = %s", (state, slot_id))

    def close(self) -> None:
        self.connection.close()
