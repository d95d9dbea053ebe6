"""JSON is written as the standard library writes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.json_text import encoder, reader, writer

LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just("\udce9")
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
)


@given(VALUE, st.booleans(), st.booleans())
def test_it_is_what_the_encoder_of_the_standard_library_writes(value: Any, ascii_only: bool, sort_keys: bool) -> None:
    expected = json.dumps(value, ensure_ascii=ascii_only, sort_keys=sort_keys, separators=(",", ":"))
    assert writer(ascii_only=ascii_only, sort_keys=sort_keys)(value) == expected


@given(
    st.builds("{}{}{}".format, st.sampled_from(["", " ", "x"]), VALUE.map(json.dumps), st.sampled_from(["", "\n", "]"]))
)
def test_it_is_read_as_the_standard_library_reads_it(text: str) -> None:
    def read(how: Any) -> Any:
        try:
            return repr(how(text))
        except ValueError as error:
            return repr(error)

    assert read(reader()) == read(json.loads)


@pytest.mark.parametrize("text", ["", "{", "[1", '{"a":}', "[1]]", "[" * 100_000])
def test_what_is_no_json_is_not_read(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        reader()(text)


def test_what_is_no_json_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    itself: list[Any] = []
    itself.append(itself)
    for value, error in ((float("nan"), ValueError), (object(), TypeError), (itself, RecursionError)):
        with pytest.raises(error):
            writer(allow_nan=False)(value)
    assert writer()(float("inf")) == "Infinity"
    monkeypatch.setattr(encoder, "c_make_encoder", None)
    assert writer(sort_keys=True, separators=(", ", ": "))({"b": 1, "a": "\xe9"}) == '{"a": "\\u00e9", "b": 1}'
