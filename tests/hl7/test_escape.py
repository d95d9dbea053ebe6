"""Escape sequences: nothing is lost in either direction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.hl7.escape import escape, translate, unescape
from engine.hl7.separators import Separators

DEFAULT = Separators.default
HASH = Separators("|", "^", "~", "\\", "&", "#")
ODD = Separators("!", "@", "*", "?", "$")

KNOWN = [
    ("a\\F\\b", "a|b"),
    ("a\\S\\b", "a^b"),
    ("a\\T\\b", "a&b"),
    ("a\\R\\b", "a~b"),
    ("a\\E\\b", "a\\b"),
    ("a\\.br\\b", "a\nb"),
    ("a\\.BR\\b", "a\nb"),
    ("a\\X0D\\b", "a\rb"),
    ("a\\X0D0A\\b", "a\r\nb"),
    ("a\\X41\\b", "aAb"),
    ("\\F\\\\F\\", "||"),
    ("\\E\\F\\E\\", "\\F\\"),
]


@pytest.mark.parametrize(("text", "data"), KNOWN)
def test_known_sequences_are_read(text: str, data: str) -> None:
    assert unescape(text) == data


KEPT = [
    "\\", "end\\", "\\\\", "C:\\dir\\file", "\\Zabc\\", "\\.xyz\\", "\\XZZ\\", "\\X4\\", "\\X\\", "\\.sp\\", "\\.inx\\",
    "\\H\\bold\\N\\", "\\C2842\\", "\\f\\", "\\P\\", "a\\F", "\\x41\\",
]  # fmt: skip


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_known_sequence_is_kept_as_it_stands(text: str) -> None:
    assert unescape(text) == text


def test_a_sequence_behind_a_broken_one_is_still_read() -> None:
    assert unescape("C:\\dir\\F\\x") == "C:\\dir|x"
    assert unescape("\\Qabc\\F\\") == "\\Qabc|"


def test_the_end_of_a_kept_sequence_begins_no_other() -> None:
    assert unescape("\\H\\F\\N\\") == "\\H\\F\\N\\"
    assert unescape("\\Zabc\\E\\F\\") == "\\Zabc\\E|"


@pytest.mark.parametrize(
    ("codec", "text", "data"),
    [
        ("utf-8", "\\XC3A9\\", "é"),
        ("iso8859-1", "\\XE9\\", "é"),
        ("shift_jis", "\\X835C\\", "ソ"),
        ("ascii", "\\XC3A9\\", "\\XC3A9\\"),
        ("utf-8", "\\XE9\\", "\\XE9\\"),
        ("utf-16", "\\X0D\\", "\r"),
    ],
)
def test_hexadecimal_bytes_are_of_the_messages_charset_or_kept(codec: str, text: str, data: str) -> None:
    assert unescape(text, DEFAULT, codec) == data


def test_the_truncation_character_is_escaped_only_where_there_is_one() -> None:
    assert escape("a#b", HASH) == "a\\P\\b"
    assert unescape("a\\P\\b", HASH) == "a#b"
    assert escape("a#b") == "a#b"


def test_other_delimiters_are_escaped_with_their_own_escape_character() -> None:
    assert escape("a!b@c*d?e$f|g", ODD) == "a?F?b?S?c?R?d?E?e?T?f|g"
    assert unescape("a?F?b\\F\\c", ODD) == "a!b\\F\\c"


def test_characters_that_end_a_frame_or_a_segment_never_stand_bare() -> None:
    assert escape("\x0b\x1c\r\x00") == "\\X0B\\\\X1C\\\\X0D\\\\X00\\"
    assert escape("one\ntwo\tthree") == "one\\.br\\two\tthree"


def test_two_quotes_as_data_are_not_the_null_that_deletes() -> None:
    assert escape('""') != '""'
    assert unescape(escape('""')) == '""'
    assert escape('say ""') == 'say ""'


anything = st.text() | st.text(alphabet='\\|^~&#.brXFE0D\r\n"C:?!@*$é日😀') | st.text(st.characters(codec="utf-8"))


@given(anything, st.sampled_from([DEFAULT, HASH, ODD]))
def test_unescaping_what_was_escaped_gives_the_same(value: str, separators: Separators) -> None:
    assert unescape(escape(value, separators), separators) == value


@given(anything, st.sampled_from([DEFAULT, HASH, ODD]))
def test_escaped_data_holds_no_delimiter_and_no_line_end(value: str, separators: Separators) -> None:
    text = escape(value, separators)
    assert not set(text) & {separators.field, separators.component, separators.repetition, separators.subcomponent}
    assert not set(text) & {"\r", "\n", "\x0b", "\x1c"}


@given(st.lists(anything, min_size=1, max_size=4))
def test_text_is_translated_between_delimiters_without_changing_what_it_says(values: list[str]) -> None:
    text = DEFAULT.component.join(escape(value) for value in values)
    moved = translate(text, DEFAULT, ODD)
    assert [unescape(part, ODD) for part in moved.split(ODD.component)] == values
    assert translate(text, DEFAULT, Separators()) == text


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("a|b^c~d&e", "a!b@c*d$e"),
        ("\\H\\x\\N\\", "?H?x?N?"),
        ("a\\.br\\b\\X0D\\", "a?.br?b?X0D?"),
        ("C:\\dir\\file", "C:\\dir\\file"),
        ("what?", "what?E?"),
        ("a\\F\\b\\E\\", "a|b\\"),
        ("open\\", "open\\"),
    ],
)
def test_delimiters_and_sequences_change_together(text: str, moved: str) -> None:
    assert translate(text, DEFAULT, ODD) == moved
