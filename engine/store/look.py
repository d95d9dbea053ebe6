"""A look into a data folder whose engine does not run, or into a backup. Writes nothing and takes no lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from engine.errors import StoreError
from engine.store import chain, database, queries, ring
from engine.store.crypto import Crypto
from engine.store.numbers import Waiting
from engine.store.schema import version_of


def open_counts(folder: Path) -> Mapping[tuple[str, str, str], int]:
    """As ``Store.open_counts``; empty where nothing was ever stored. Raises StoreError when it cannot be read."""
    if not (folder / database.DATABASE_FILE).is_file():
        return {}
    with looking(folder) as reader:
        return counted(lambda query, *parameters: reader.execute(query, parameters).fetchall())


def verify_audit(place: Path, keys: Mapping[int, bytes], expected: str = "") -> chain.Verified:
    """As ``Store.verify_audit``; without keys the seal is not checked. Raises StoreError when it cannot be read."""
    with looking(place) as reader:
        if version_of(reader) < chain.SINCE_VERSION:
            raise StoreError(f"{place} has no audit trail: an engine before it was introduced wrote it last")
        return chain.verify(reader, crypto_for(reader, keys), expected, pause=lambda seconds: None)


def crypto_for(reader: sqlite3.Connection, keys: Mapping[int, bytes]) -> Crypto | None:
    """What opens this store's values; None without keys. Raises StoreError when they are not its keys."""
    if not keys:
        return None
    crypto = Crypto(keys)
    ring.unlock_to_read(reader, crypto)
    return crypto


@contextmanager
def looking(place: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write, to a data folder or a database file. What SQLite says becomes a StoreError."""
    path = place / database.DATABASE_FILE if place.is_dir() else place
    if not path.is_file():
        raise StoreError(f"{place} holds no store")
    try:
        with closing(database.connect_alone(path)) as reader:
            yield reader
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise StoreError(f"{place} cannot be read: {name}") from None


def counted(rows: Callable[..., Sequence[tuple[Any, ...]]]) -> dict[tuple[str, str, str], int]:
    """``Store.open_counts``; ``rows`` executes a query with its parameters."""
    counts: dict[tuple[str, str, str], int] = {}
    for channel, destination, state, count in rows(queries.OPEN_DELIVERIES):
        counts[channel, destination, state] = count
    for (channel,) in rows(queries.CHANNELS):
        for state, count in rows(queries.OPEN_MESSAGES, channel):
            counts[channel, "", state] = count
    return counts


#: What is to go on by itself, and what keeps others of its key waiting.
_TO_GO_ON = ("queued", "sending", "held")


def waiting(reader: sqlite3.Connection) -> Waiting:
    """``Store.waiting``. Raises sqlite3.Error."""

    def rows(query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return reader.execute(query, parameters).fetchall()

    counts = counted(rows)
    oldest: dict[tuple[str, str], float] = {}
    for channel, destination, state in counts:
        found: list[tuple[Any, ...]] = []
        if destination and state in _TO_GO_ON:
            found = rows(queries.OLDEST_OPEN, channel, destination, state)
        elif state == "received":
            found = rows(queries.OLDEST_UNROUTED, channel)
        for (since,) in found:
            place = channel, destination
            oldest[place] = min(since, oldest.get(place, since))
    return Waiting(counts, oldest)
