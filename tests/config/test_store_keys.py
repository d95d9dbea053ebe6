"""The ring of store keys: how it is written, where it is kept, how a key comes into it."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from engine.config.secrets import STORE_KEY, ensure_env, read_env
from engine.config.settings import StoreSettings
from engine.config.store_keys import StoreKeys, parse_ring, write_ring
from engine.errors import StoreError

ONE, TWO = bytes(32), bytes(range(32))
TEXT_ONE, TEXT_TWO = (base64.b64encode(key).decode() for key in (ONE, TWO))


def test_one_key_alone_is_number_1_and_several_carry_theirs() -> None:
    assert parse_ring(TEXT_ONE, "x") == {1: ONE}
    for text in (f"1:{TEXT_ONE},2:{TEXT_TWO}", f"2:{TEXT_TWO}\n1:{TEXT_ONE}\n", f"{TEXT_ONE} 2:{TEXT_TWO}"):
        assert parse_ring(text, "x") == {1: ONE, 2: TWO}
    assert parse_ring(write_ring({2: TWO, 1: ONE}), "x") == {1: ONE, 2: TWO}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("c2hvcnQ=", "X is not 32 bytes in base64"),
        (f"{TEXT_ONE[:-2]}!!", "X is not 32 bytes in base64"),
        (f"0:{TEXT_ONE}", "X is not 32 bytes in base64"),
        (f"{TEXT_ONE},1:{TEXT_TWO}", "X has two keys of the number 1"),
        (" ,\n", "X is empty"),
    ],
)
def test_a_ring_that_cannot_be_read_is_told_without_its_keys(text: str, told: str) -> None:
    with pytest.raises(StoreError, match=told) as caught:
        parse_ring(text, "X")
    assert TEXT_ONE[:20] not in str(caught.value)


def test_a_further_key_is_written_into_env_where_the_first_stands(tmp_path: Path) -> None:
    first = ensure_env(tmp_path, ["OTHER"], {})
    keys = StoreKeys(tmp_path, StoreSettings(), {})
    ring = keys.with_next(1)
    assert set(ring) == {1, 2}
    assert ring[1] == base64.b64decode(first[STORE_KEY])
    after = ensure_env(tmp_path, ["OTHER"], {})
    assert {name: value for name, value in after.items() if name != STORE_KEY} == {
        name: value for name, value in first.items() if name != STORE_KEY
    }
    assert keys.read() == ring
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_a_key_that_somebody_added_is_taken_instead_of_a_new_one(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"{STORE_KEY}=1:{TEXT_ONE},5:{TEXT_TWO}\n")
    assert StoreKeys(tmp_path, StoreSettings(), {}).with_next(1) == {1: ONE, 5: TWO}
    assert read_env((tmp_path / ".env").read_text())[STORE_KEY] == f"1:{TEXT_ONE},5:{TEXT_TWO}"


def test_a_key_file_is_used_instead_and_extended(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(TEXT_ONE + "\n")
    keys = StoreKeys(tmp_path, StoreSettings(key_file=Path("keys")), {STORE_KEY: TEXT_TWO})
    assert keys.read() == {1: ONE}
    ring = keys.with_next(1)
    assert keys.read() == ring
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600


def test_a_variable_that_is_set_from_outside_is_not_written_and_told_how(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"set from outside: add 2:KEY there"):
        StoreKeys(tmp_path, StoreSettings(), {STORE_KEY: TEXT_ONE}).with_next(1)


def test_a_ring_that_lost_the_key_in_use_is_refused(tmp_path: Path) -> None:
    keys = StoreKeys(tmp_path, StoreSettings(), {STORE_KEY: f"2:{TEXT_TWO}"})
    with pytest.raises(StoreError, match="has no key 1 any more"):
        keys.with_next(1)


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"gone cannot be read: there is no such file"):
        StoreKeys(tmp_path, StoreSettings(key_file=Path("gone")), {}).read()
