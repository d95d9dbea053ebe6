"""Whether an idempotency key is stored is answered from memory where that is certain, and never otherwise."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from engine.errors import StoreError
from engine.store import SqliteStore, known_keys
from engine.store.base import CloseKey, DropKey, OpenKey
from engine.store.known_keys import KnownKeys

from .conftest import KEY

NOW, LATER = 1_000_000.0, 2_000_000.0
SCOPE = "booking|radscheduler"


def key(name: str) -> OpenKey:
    return OpenKey(SCOPE, name, b"hash", "booking", 1, 2, LATER)


async def opened(folder: Path) -> SqliteStore:
    store = SqliteStore(folder, KEY, now=lambda: NOW)
    await store.open()
    return store


def looks(store: SqliteStore, name: str) -> int:
    """Statements that a look for a key takes."""
    assert store._state is not None
    executed: list[str] = []
    store._state.reader.set_trace_callback(executed.append)
    store.find_key(SCOPE, name, NOW)
    store._state.reader.set_trace_callback(None)
    return len(executed)


async def test_a_new_key_is_known_without_a_look_and_an_old_one_is_found(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    assert looks(store, "K1") == 0
    await store.submit(key("K1"))
    assert store.find_key(SCOPE, "K1", NOW) is not None
    assert looks(store, "K2") == 0
    await store.submit(CloseKey(SCOPE, "K1", 201, None, b"booked"), key("K2"))
    await store.submit(DropKey(SCOPE, "K2"), key("K2"))
    await store.close()
    again = await opened(tmp_path)
    assert [again.find_key(SCOPE, name, NOW) is not None for name in ("K1", "K2", "K3")] == [True, True, False]
    assert [looks(again, name) for name in ("K1", "K2", "K3")] == [1, 1, 0]
    await again.close()


async def test_a_unit_that_is_not_kept_leaves_a_key_that_is_looked_up(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    wrong = OpenKey(SCOPE, "K1", None, "booking", 1, 2, LATER)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="CONSTRAINT"):
        await store.submit(wrong)
    assert store.find_key(SCOPE, "K1", NOW) is None
    await store.submit(key("K1"))
    assert store.find_key(SCOPE, "K1", NOW) is not None
    await store.close()


async def test_of_a_store_that_is_not_open_no_key_is_called_new(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, KEY, now=lambda: NOW)
    with pytest.raises(StoreError, match="not open"):
        store.find_key(SCOPE, "K1", NOW)
    await store.open()
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        store.find_key(SCOPE, "K1", NOW)


async def test_of_a_store_with_very_many_keys_each_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(tmp_path)
    await store.submit(key("K1"), key("K2"))
    await store.close()
    monkeypatch.setattr(known_keys, "_MOST", 1)
    again = await opened(tmp_path)
    assert [looks(again, name) for name in ("K1", "K2", "K3")] == [1, 1, 1]
    assert again.find_key(SCOPE, "K2", NOW) is not None
    await again.close()


def test_nothing_is_unknown_that_was_opened_and_little_else_is_known() -> None:
    hashes = [hashlib.sha256(b"%d" % number).digest() for number in range(60_000)]
    known = KnownKeys(hashes[:20_000])
    for hashed in hashes[20_000:40_000]:
        known.opened(hashed)
    assert all(hashed in known for hashed in hashes[:40_000])
    assert sum(hashed in known for hashed in hashes[40_000:]) < 20
