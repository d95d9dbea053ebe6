"""Paths as HL7 people write them, and what is said to those who write them otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import PathError
from engine.hl7.path import Path

FORMS = {
    "PID": Path("PID"),
    "PID-3": Path("PID", field=3),
    "PID-3.1": Path("PID", field=3, component=1),
    "PID-3.1.2": Path("PID", field=3, component=1, subcomponent=2),
    "PID-3[2]": Path("PID", field=3, repetition=2),
    "PID-3[2].1": Path("PID", field=3, repetition=2, component=1),
    "OBX[2]": Path("OBX", segment_index=2),
    "OBX[2]-5": Path("OBX", segment_index=2, field=5),
    "OBX[2]-5[3].1.2": Path("OBX", 2, 5, 3, 1, 2),
    "ZP1-10": Path("ZP1", field=10),
}


@pytest.mark.parametrize("text", FORMS)
def test_every_form_is_read_and_written_back(text: str) -> None:
    assert Path.parse(text) == FORMS[text]
    assert str(Path.parse(text)) == text
    assert Path.looks_like(text)


WRONG = [
    "", "pid-3", "PID-0", "PID-3.0", "PID-03", "PID-", "PID3", "PIDX-3", "PI-3", "1PI-3", "PID-3.1.2.3", "PID-3[0]",
    "PID[0]-3", "PID-3.1[2]", "PID.3.1", "PID-3-1", " PID-3", "PID-3\n", "PID-12345", "OBX(2)-5", "PID-٣",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_anything_else_is_refused(text: str) -> None:
    assert not Path.looks_like(text)
    with pytest.raises(PathError):
        Path.parse(text)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("pid-3.1", "write PID-3.1"),
        (" PID-3", "write PID-3"),
        ("PID.3.1", "write PID-3.1"),
        ("PID-3-1", "write PID-3.1"),
        ("PID.F3.R1.C1", "write PID-3.1.1"),
        ("OBX(2)-5", r"write OBX\[2\]-5"),
        ("PID-3.1.2.3", r"a path is written PID, PID-3, .* OBX\[2\]-5"),
    ],
)
def test_the_error_says_how_to_write_it(text: str, advice: str) -> None:
    with pytest.raises(PathError, match=advice):
        Path.parse(text)


def test_the_error_is_also_a_value_error() -> None:
    assert issubclass(PathError, ValueError)


def test_the_same_text_gives_the_same_object() -> None:
    assert Path.parse("PID-3.1") is Path.parse("PID-3.1")


numbers = st.integers(1, 9999)


@given(st.from_regex(r"[A-Z][A-Z0-9]{2}", fullmatch=True), numbers, numbers, numbers, numbers, numbers)
def test_reading_what_was_written_gives_the_same_place(
    name: str, index: int, field: int, repetition: int, component: int, subcomponent: int
) -> None:
    path = Path(name, index, field, repetition, component, subcomponent)
    assert Path.parse(str(path)) == path
