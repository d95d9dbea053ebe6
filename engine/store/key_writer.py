"""Idempotency keys, on the connection that writes: they stand in tables of their own.

Closing or dropping a key that is gone already is no fault.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from engine.store import queries, statements
from engine.store.crypto import SHORT_HASH, Crypto, hash_place
from engine.store.operations import CloseKey, DropKey, OpenKey
from engine.store.stored import key_hash, member_hashes, written_members


class KeyWriter:
    """Executes what is to be done with keys."""

    def __init__(self, cursor: sqlite3.Cursor, crypto: Crypto, opened: Callable[[bytes], object]) -> None:
        """``opened`` is told the hashes of keys that are opened."""
        self._opened = opened
        self._cursor, self._execute, self._crypto = cursor, cursor.execute, crypto
        self.handlers: dict[type[Any], Callable[[Any], None]] = {
            OpenKey: self._open_key,
            CloseKey: self._close_key,
            DropKey: self._drop_key,
        }

    def _open_key(self, open_key: OpenKey) -> None:
        crypto, channel, members = self._crypto, open_key.channel, open_key.members
        hashed = key_hash(crypto, open_key.scope, open_key.key)
        self._opened(hashed)
        hashes = [member_hashes(crypto, channel, member, value)[0] for member, value in members.items() if value]
        row = (
            open_key.scope,
            hashed,
            open_key.body_hash,
            channel,
            open_key.message_id,
            open_key.delivery_id,
            open_key.expires_at,
            written_members(members),
            b"".join(hashes),
        )
        self._execute(statements.OPEN_KEY, (open_key.message_id, *row))
        if self._cursor.rowcount != 1:  # an older one is there, or a key with this id
            self._forget_key(open_key.scope, hashed)
            self._execute(statements.OPEN_KEY, (None, *row))
        key_id = self._cursor.lastrowid
        for member_hash in hashes:
            self._execute(statements.INSERT_MEMBER, (member_hash, key_id))

    def _close_key(self, close: CloseKey) -> None:
        hashed = key_hash(self._crypto, close.scope, close.key)
        sealed, answer = self._crypto.seal(close.answer, hash_place("exchange_key", close.scope, hashed=hashed))
        self._execute(statements.CLOSE_KEY, (close.status, close.code, sealed, answer, close.scope, hashed))

    def _drop_key(self, drop: DropKey) -> None:
        self._forget_key(drop.scope, key_hash(self._crypto, drop.scope, drop.key))

    def _forget_key(self, scope: str, hashed: bytes) -> None:
        found = self._execute(queries.EXCHANGE_KEY_ID, (scope, hashed)).fetchone()
        if found is not None:
            forget_key(self._execute, *found)


def forget_key(execute: Callable[..., object], key_id: int, hashes: bytes | None) -> None:
    """Remove a key and the members it is found by; ``hashes`` as its row has them."""
    if hashes is None:
        execute(queries.FORGET_WHOLE_MEMBERS, (key_id,))
        hashes = b""
    for at in range(0, len(hashes), SHORT_HASH):
        execute(queries.FORGET_MEMBER, (hashes[at : at + SHORT_HASH], key_id))
    execute(queries.DELETE_KEY, (key_id,))
