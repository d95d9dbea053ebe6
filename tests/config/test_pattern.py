"""Patterns find what Python's own matcher finds, in bounded time."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.config.pattern import LONGEST_TEXT, Pattern

ATOMS = st.sampled_from(
    [*"abA1. \n^$", "[ab]", "[^a]", "[a-c]", r"\d", r"\w", r"\s", r"\D", r"\b", r"\B", r"\A", r"\Z"],
)
YEARS = ["(a+)+b", "(a|aa)+b", "(a*)*b", "(.*)(.*)(.*)(.*)(.*)b", "(?i)(A|a)+b", "a*a*a*a*a*a*a*b"]


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    repeats = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{,2}", "{2,}", "*?", "+?"])
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        inner.map(lambda one: f"({one})"),
        st.tuples(inner, repeats).map(lambda two: f"(?:{two[0]}){two[1]}"),
        inner.map(lambda one: f"(?i:{one})"),
        inner.map(lambda one: f"(?s-i:{one})"),
    )


@settings(max_examples=600, deadline=None)
@given(
    st.recursive(ATOMS, larger, max_leaves=8),
    st.text("abcAB1 \n_-", max_size=12),
    st.sampled_from(["", "(?i)", "(?m)"]),
)
def test_it_finds_what_python_finds(pattern: str, text: str, flags: str) -> None:
    try:
        compiled = Pattern(flags + pattern)
    except ValueError as error:
        assert "too large" in str(error)  # noqa: PT017 - only this may be wrong with them
        return
    assume(text or r"\B" not in pattern)  # where there is nothing at all, Python finds no place between two letters
    assert compiled.search(text) == (re.search(flags + pattern, text) is not None)


@pytest.mark.parametrize("pattern", YEARS)
def test_a_pattern_that_takes_others_years_is_done_at_once(pattern: str) -> None:
    steps = len(Pattern(pattern)._steps)
    assert steps < 40, "each character is looked at once per step at most"
    assert not Pattern(pattern).search("a" * 5000)


def test_of_a_long_text_the_beginning_counts() -> None:
    assert Pattern("x").search("a" * (LONGEST_TEXT - 1) + "x")
    assert not Pattern("x").search("a" * LONGEST_TEXT + "x")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "no regular expression"),
        ("a{1000}", "too large"),
        ("((a{20}){20}){20}", "too large"),
        (r"(a)\1", "look"),
        ("a(?=b)", "look"),
        ("(?<!a)b", "look"),
        ("(?>a+)b", "look"),
        ("a++b", "look"),
    ],
)
def test_what_cannot_be_matched_in_bounded_time_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Pattern(pattern)


def test_two_of_the_same_text_are_equal() -> None:
    assert Pattern("a") == Pattern("a")
    assert len({Pattern("a"), Pattern("a"), Pattern("b")}) == 2
