"""The keys a data folder was sealed with: table ``store_key``.

The site gives a ring of numbered keys, kept outside of the data folder. Each that has sealed anything has a row here,
and in it the key of all hashes, sealed: any one of them opens it, so a rotation changes no hash, and a wrong key is
told before anything is read or written. A row whose ``retired_at`` is set is no longer needed by any row of the store.
"""

from __future__ import annotations

import hmac
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress

from engine.errors import DoesNotOpen, StoreError
from engine.store.crypto import KEY_BYTES, Crypto, joined, row_place
from engine.store.schema import version_of
from engine.store.stored import read_text

_KEYS = "SELECT number, hash_key, retired_at FROM store_key ORDER BY number"
_ADD = "INSERT INTO store_key (number, hash_key, added_at) VALUES (?, ?, ?)"


def before_migration(connection: sqlite3.Connection, crypto: Crypto) -> None:
    """Check the key of a folder of version 1, and lend the functions that its migration uses."""
    if version_of(connection) > 0:
        check = connection.execute("SELECT value FROM meta WHERE name = 'key_check'").fetchone()
        if check is not None:  # of version 1, not unlocked since
            _need(crypto, {1})
            crypto.use_hash_key(crypto.first_hash_key())
            if not hmac.compare_digest(check[0], crypto.hashed("key check")):
                raise _wrong(1)

    def cache_key(cache: str, key: str | bytes) -> bytes:
        return crypto.hashed("cache", cache, read_text(key))

    def cache_value(cache: str, key: str | bytes, value: bytes) -> bytes:
        opened = crypto.open(1, value, joined("cache", cache, read_text(key)))
        return crypto.seal_under(1, opened, joined("cache", cache, cache_key(cache, key).hex()))

    connection.create_function("cache_key", 2, cache_key)
    connection.create_function("cache_value", 3, cache_value)


def unlock(connection: sqlite3.Connection, crypto: Crypto, now: float) -> None:
    """Find the key of all hashes, and note a key that is new. Raises StoreError for a key that is wrong or missing.

    With another key nothing would open, and an idempotency key would not be found: a booking would go out twice.
    """
    rows = connection.execute(_KEYS).fetchall()
    in_use = {number: sealed for number, sealed, retired_at in rows if retired_at is None}
    _need(crypto, set(in_use))
    hash_key = crypto.hash_key or os.urandom(KEY_BYTES)
    for number, sealed in in_use.items():
        try:
            hash_key = crypto.open(number, sealed, row_place("store_key", number))
        except StoreError:
            raise _wrong(number) from None
    known = [number for number, *_ in rows]
    if not rows and crypto.hash_key:
        add(connection.execute, crypto, 1, hash_key, now)  # what version 1 wrote is sealed with it
        connection.execute("DELETE FROM meta WHERE name = 'key_check'")
        known = [1]
    if crypto.current > max(known, default=0):
        add(connection.execute, crypto, crypto.current, hash_key, now)
    crypto.use_hash_key(hash_key)


def unlock_to_read(connection: sqlite3.Connection, crypto: Crypto) -> None:
    """Find the key of all hashes and write nothing. Raises StoreError for a key that is wrong or missing."""
    rows = connection.execute(_KEYS).fetchall()
    in_use = {number: sealed for number, sealed, retired_at in rows if retired_at is None}
    _need(crypto, set(in_use))
    for number, sealed in in_use.items():
        try:
            crypto.use_hash_key(crypto.open(number, sealed, row_place("store_key", number)))
        except StoreError:
            raise _wrong(number) from None


def fingerprints(connection: sqlite3.Connection, crypto: Crypto) -> dict[int, str]:
    """Fingerprints of the keys that the store's values need, as far as the ring has these very keys."""
    found: dict[int, str] = {}
    for number, sealed, retired_at in connection.execute(_KEYS).fetchall():
        with suppress(DoesNotOpen):
            if retired_at is None:
                crypto.open(number, sealed, row_place("store_key", number))
                found[number] = crypto.fingerprint(number)
    return found


def add(execute: Callable[..., object], crypto: Crypto, number: int, hash_key: bytes, now: float) -> None:
    """Note a key that may seal from here on."""
    execute(_ADD, (number, crypto.seal_under(number, hash_key, row_place("store_key", number)), now))


def _need(crypto: Crypto, numbers: set[int]) -> None:
    if missing := sorted(numbers - crypto.numbers):
        names = ", ".join(map(str, missing))
        raise StoreError(f"the data folder holds values sealed with store key {names}, which is not given")


def _wrong(number: int) -> StoreError:
    return StoreError(f"the store key {number} is not the one this data folder was written with")
