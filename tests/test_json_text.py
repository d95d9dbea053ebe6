"""JSON is written as the standard library writes it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.json_text import Written, encoder, reader, writer
from engine.sources.serving.rendering import json_body


def values(**floats: bool) -> st.SearchStrategy[Any]:
    leaf = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, **floats) | st.text(max_size=5)
    return st.recursive(
        leaf | st.just("\udce9"),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    )


VALUE, FINITE = values(), values(allow_infinity=False)


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


@given(
    st.dictionaries(
        st.text(max_size=3) | st.integers(),
        FINITE | st.lists(st.dictionaries(st.text(max_size=3), FINITE).map(Written) | FINITE, max_size=4),
        max_size=3,
    )
)
def test_what_is_written_stands_in_an_answer_as_if_it_were_written_there(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        expected = text.encode()
    except UnicodeEncodeError:
        expected = json.dumps(value, separators=(",", ":")).encode()
    assert json_body(value) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.update(b=2),
        lambda one: one.setdefault("b", 2),
        lambda one: one.pop("a"),
        lambda one: one.popitem(),
        lambda one: one.clear(),
        lambda one: one.__setitem__("a", 2),
        lambda one: one.__delitem__("a"),
        lambda one: one.__ior__({"a": 2}),
    ],
)
def test_what_is_written_is_not_changed_and_its_copy_is(change: Any) -> None:
    one = Written({"a": 1})
    with pytest.raises(TypeError):
        change(one)
    copy = dict(one)
    change(copy)
    assert (one, one.text) == ({"a": 1}, '{"a":1}')
    assert type(one.copy()) is dict


def test_what_is_no_json_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Written({"a": float("nan")})
