"""Patterns are found anywhere in what a partner wrote, in bounded time whatever it wrote."""

from __future__ import annotations

import pytest

from engine.pattern import LONGEST_TEXT, Pattern


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("queued, not stored", "AA queued, not stored yet", True),
        ("^queued", "not queued", False),
        ("(?i)ALREADY taken", "slot already Taken", True),
        ("duplicate|already", "it is there already", True),
        (r"\bRIS-\d{3}\b", "error RIS-204 here", True),
        (r"\bRIS-\d{3}\b", "error RIS-2045 here", False),
        ("(?s)first.*last", "first\nlast", True),
        ("(?m)^last$", "first\nlast", True),
        ("gefüllt", "ist schon gefüllt", True),
        ("日.", "記録 日本", True),
    ],
)
def test_what_is_found(pattern: str, text: str, found: bool) -> None:
    assert Pattern(pattern).search(text) is found


def test_bytes_that_no_charset_explains_are_no_fault() -> None:
    assert Pattern("taken").search("caf\udce9 taken")


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a|aa)+b", "(a*)*b", "(.*)(.*)(.*)(.*)(.*)b", "(?i)(A|a)+b", "a*a*a*a*a*a*a*b"],
)
def test_a_pattern_that_takes_others_years_is_done_at_once(pattern: str) -> None:
    assert not Pattern(pattern).search("a" * LONGEST_TEXT)


@pytest.mark.parametrize(
    ("pattern", "text", "whole"),
    [("[0-9]{6,10}", "123456", True), ("[0-9]{6}", "1234567", False), ("a|ab", "ab", True)],
)
def test_the_whole_of_a_text(pattern: str, text: str, whole: bool) -> None:
    assert Pattern(pattern).fullmatch(text) is whole


def test_of_a_long_text_the_beginning_counts() -> None:
    assert Pattern("x").search("a" * (LONGEST_TEXT - 1) + "x")
    assert not Pattern("x").search("a" * LONGEST_TEXT + "x")


@pytest.mark.parametrize(
    "pattern", ["(", "((a{20}){20}){20}", r"(a)\1", "a(?=b)", "(?<!a)b", "(?>a+)b", "a++b", "(?:a{999}){999}"]
)
def test_what_cannot_be_matched_in_bounded_time_is_refused_without_a_word_on_stderr(
    pattern: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        Pattern(pattern)
    assert capfd.readouterr().err == ""


def test_two_of_the_same_text_are_equal() -> None:
    assert Pattern("a") == Pattern("a")
    assert len({Pattern("a"), Pattern("a"), Pattern("b")}) == 2
