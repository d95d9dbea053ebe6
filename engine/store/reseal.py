"""Sealing again, in the background, what another key sealed (after a rotation), and what was stored plain.

The pass goes through every table of ``SEALED`` once, in order of id and in small units. Where it is stands in ``meta``
and is committed with each unit, so it goes on after a crash; rows that are written meanwhile are sealed with the key in
use already. At its end no row needs another key, and those are retired.
"""
# ruff: noqa: S608  # put together from this file's own words only

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from engine.errors import DoesNotOpen
from engine.store import keeping
from engine.store.crypto import Crypto, joined, row_place
from engine.store.stored import read_text, tells_more

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A column whose values are sealed, with the number of the key in ``sealed`` beside it."""

    table: str
    row_id: str
    column: str
    #: What the value's place is made of beside the table, and how; the row's id where it says nothing.
    columns: tuple[str, ...] = ()
    #: Sealed even where bodies are not.
    always: bool = False

    @property
    def selected(self) -> str:
        """Number of the key, value, and what ``place`` is made of."""
        return ", ".join(("sealed", self.column, *self.columns))

    def place(self, row_id: int, words: Sequence[Any]) -> bytes:
        """The place that a value of this column is sealed for; ``words`` are its ``columns``."""
        return joined(self.table, words[0], words[1].hex()) if words else row_place(self.table, row_id)


#: Every column that holds sealed values, but for ``message.origin`` and ``delivery.answer``, which go together with the
#: ``key`` of their rows.
SEALED = (
    Sealed("message_body", "message_id", "body"),
    Sealed("delivery_body", "delivery_id", "body"),
    Sealed("body_part", "id", "value"),
    Sealed("delivery_answer", "delivery_id", "answer"),
    Sealed("cache", "id", "value", ("cache", "key"), always=True),
    Sealed("exchange_key", "id", "answer", ("scope", "key"), always=True),
    Sealed("message_ack", "message_id", "answer"),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the pass has come."""

    #: The key that everything is sealed with at its end.
    key: int
    #: Which part of ``PARTS`` it is in …
    part: int
    #: … behind which id …
    after: int
    #: … and up to which; -1 before the part has begun.
    until: int

    def written(self) -> str:
        """As it stands in ``meta``."""
        return json.dumps([self.key, self.part, self.after, self.until])

    @property
    def table(self) -> str:
        """The table it is in."""
        return PARTS[self.part].table


class Resealer:
    """Works through the pass, inside transactions that somebody else begins and commits."""

    def __init__(self, cursor: sqlite3.Cursor, crypto: Crypto) -> None:
        self._execute, self._crypto = cursor.execute, crypto

    def begin(self, key: int, *, anew: bool = True) -> None:
        """Set out to seal everything with ``key``, when anything needs it; ``anew`` also when that is under way."""
        progress = read_progress(self._execute(keeping.RESEAL).fetchone())
        if progress is not None and progress.key == key and not anew:
            return
        others = self._execute(keeping.OTHER_KEYS, (key,)).fetchone()
        plain = self._crypto.encrypt and self._execute(keeping.PLAIN).fetchone()
        if others or plain:
            self._note(Progress(key, 0, 0, -1))

    def step(self, rows: int, size: int, now: float) -> None:
        """One unit: look at ``rows`` rows at most, seal values of ``size`` bytes together and a little more."""
        progress = read_progress(self._execute(keeping.RESEAL).fetchone())
        if progress is None or progress.key != self._crypto.current:
            return
        part = PARTS[progress.part]
        if progress.until < 0:
            (until,) = self._execute(part.last).fetchone()
            progress = Progress(progress.key, progress.part, progress.after, until or 0)
        after = progress.after
        found = self._execute(part.scan, (after, progress.until, rows)).fetchall()
        for row_id, *facts, length in found:
            if part.wanted(self._crypto, facts):
                with suppress(DoesNotOpen):  # it does not open: it stays as it is, and whoever reads it is told
                    part.reseal(self, row_id)
                size -= length
            after = row_id
            if size <= 0:
                break
        if after < progress.until and found:
            self._note(Progress(progress.key, progress.part, after, progress.until))
        elif progress.part + 1 < len(PARTS):
            self._note(Progress(progress.key, progress.part + 1, 0, -1))
        else:
            self._end(now)

    def _note(self, progress: Progress) -> None:
        self._execute(keeping.NOTE_RESEAL, (progress.written(),))

    def _end(self, now: float) -> None:
        self._execute(keeping.RETIRE_KEYS, (now, self._crypto.current))
        self._execute(keeping.END_RESEAL)
        if self._crypto.encrypt:
            self._execute(keeping.END_PLAIN)

    def value(self, sealed: Sealed, row_id: int) -> None:
        """Seal one value of ``SEALED`` again."""
        query = f"SELECT {sealed.selected} FROM {sealed.table} WHERE {sealed.row_id} = ?"
        number, stored, *words = self._execute(query, (row_id,)).fetchone()
        place = sealed.place(row_id, words)
        if stored:  # an answer that is not known yet is empty, and sealed with nothing
            stored = self._crypto.open(number, stored, place)
            number, stored = self._crypto.seal(stored, place)
        else:
            number = self._crypto.current
        change = f"UPDATE {sealed.table} SET sealed = ?, {sealed.column} = ? WHERE {sealed.row_id} = ?"
        self._execute(change, (number, stored, row_id))

    def message(self, message_id: int) -> None:
        """Seal a message's origin, and hash its key."""
        number, origin, key = self._execute(keeping.ORIGIN, (message_id,)).fetchone()
        place = row_place("message", message_id)
        if number:
            number, origin = self._crypto.seal(self._crypto.open(number, origin, place), place)
        elif self._crypto.encrypt and tells_more(json.loads(origin)):
            number, origin = self._crypto.seal(origin.encode(), place)
        self._execute(keeping.PUT_ORIGIN, (number, origin, self._crypto.stored_lane(read_text(key)), message_id))

    def delivery(self, delivery_id: int) -> None:
        """Seal the answer in a delivery's row, and hash its key."""
        number, answer, key = self._execute(keeping.ANSWER, (delivery_id,)).fetchone()
        place = row_place("delivery", delivery_id)
        if answer is not None and (number or self._crypto.encrypt):
            number, answer = self._crypto.seal(self._crypto.open(number, answer, place), place)
        row = (number, answer, self._crypto.stored_lane(read_text(key)), delivery_id)
        self._execute(keeping.PUT_SEALED_ANSWER, row)


@dataclass(frozen=True, slots=True)
class Part:
    """One table of the pass."""

    table: str
    #: Its last id.
    last: str
    #: Rows behind an id and up to another: id, what ``wanted`` decides by, length of the value.
    scan: str
    wanted: Callable[[Crypto, list[Any]], bool]
    reseal: Callable[[Resealer, int], None]


def _parts() -> Iterator[Part]:
    yield Part("message", keeping.LAST_MESSAGE, keeping.SCAN_MESSAGES, _message_wanted, Resealer.message)
    yield Part("delivery", keeping.LAST_DELIVERY, keeping.SCAN_DELIVERIES, _delivery_wanted, Resealer.delivery)
    for sealed in SEALED:
        # length() of a blob reads the row's header, not the value.
        scan = (
            f"SELECT {sealed.row_id}, sealed, length({sealed.column}) FROM {sealed.table}"
            f" WHERE {sealed.row_id} > ? AND {sealed.row_id} <= ? ORDER BY {sealed.row_id} LIMIT ?"
        )
        last = f"SELECT max({sealed.row_id}) FROM {sealed.table}"
        yield Part(sealed.table, last, scan, _wanted(sealed), _reseal(sealed))


def _wanted(sealed: Sealed) -> Callable[[Crypto, list[Any]], bool]:
    def wanted(crypto: Crypto, facts: list[Any]) -> bool:
        (number,) = facts
        return bool(number != crypto.current and (number or crypto.encrypt or sealed.always))

    return wanted


def _reseal(sealed: Sealed) -> Callable[[Resealer, int], None]:
    return lambda resealer, row_id: resealer.value(sealed, row_id)


def _message_wanted(crypto: Crypto, facts: list[Any]) -> bool:
    number, says_more, key = facts
    if crypto.stored_lane(read_text(key)) != key:
        return True
    return bool(number != crypto.current and (number or (crypto.encrypt and says_more)))


def _delivery_wanted(crypto: Crypto, facts: list[Any]) -> bool:
    key, number, has_answer = facts
    if crypto.stored_lane(read_text(key)) != key:
        return True
    return bool(has_answer and number != crypto.current and (number or crypto.encrypt))


def read_progress(row: Row | None) -> Progress | None:
    """The progress that ``meta`` holds; None when nothing is under way."""
    return None if row is None else Progress(*json.loads(row[0]))


PARTS = tuple(_parts())
