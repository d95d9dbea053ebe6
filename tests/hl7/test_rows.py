"""A message as rows of fields: short or long, by the short way of a path or the long one, it is the same message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import PathError
from engine.hl7 import header as headers
from engine.hl7 import rows
from engine.hl7.header import Kind, header_of
from engine.hl7.message import Message, Segment
from engine.hl7.path import Path

TEXT = st.text(alphabet='AZaz09 |^~\\&"#\r\n.-é', max_size=8)
FIELD = st.one_of(st.text(alphabet='Aa0^~\\&"é', max_size=6), st.sampled_from(["", "A^B&C~D^E", '""', "a\\F\\b", "M1"]))
LINE = st.builds(
    lambda name, fields: "|".join([name, *fields]),
    st.sampled_from(["PID", "OBX", "NTE", "ZZ1", "MSH", "FHS", "OBXX", "no segment"]),
    st.lists(FIELD, max_size=5),
)
HEADER = st.lists(FIELD, max_size=18)
PATH = st.builds(
    lambda name, index, field, repetition, below: f"{name}{index}-{field}{repetition}{below}",
    st.sampled_from(["PID", "OBX", "NTE", "ZZ1", "MSH", "FHS", "PV1"]),
    st.sampled_from(["", "", "", "[1]", "[2]", "[3]"]),
    st.integers(1, 9),
    st.sampled_from(["", "", "[1]", "[2]"]),
    st.sampled_from(["", "", ".1", ".2", ".1.1", ".2.2"]),
)
SEPARATORS = st.sampled_from(["|^~\\&", "|^~\\&", "|^~\\&", "|^~\\&#", "#!*%@"])
LARGE_FROM = st.sampled_from([1 << 20, 10])
FEW = st.sampled_from([0, 3, 32])


def message(separators: str, header: list[str], lines: list[str]) -> bytes:
    text = "\r".join(["|".join(["MSH" + "|" + separators[1:], *header]), *lines, ""])
    return text.replace("|", separators[0]).encode()


def result(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except PathError as error:
        return str(error)


@settings(deadline=None)
@given(SEPARATORS, HEADER, st.lists(LINE, max_size=8), PATH, FEW, LARGE_FROM)
def test_a_path_reads_what_the_segment_says(
    separators: str, header: list[str], lines: list[str], path: str, few: int, large: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "FEW", few)
        patch.setattr("engine.hl7.message.LARGE", large)
        patch.setattr("engine.hl7.large.LONG", large)
        read = Message.parse(message(separators, header, lines))
        place = Path.parse(path)
        short = place.read(read), place.value(read)
        found = [segment for segment in read.segments() if segment.name == place.segment]
        at = (place.segment_index or 1) - 1
        long = (found[at].at(place), found[at].value(place)) if at < len(found) else (None, "")
        assert short == long == (read.read(path), read.value(path))
        assert (place.read(read), place.value(read)) == long, "also when everything is split"


@settings(deadline=None)
@given(SEPARATORS, HEADER, st.lists(LINE, max_size=8), st.lists(st.tuples(PATH, TEXT), max_size=4), FEW)
def test_a_path_writes_what_the_segment_writes(
    separators: str, header: list[str], lines: list[str], changes: list[tuple[str, str]], few: int
) -> None:
    raw = message(separators, header, lines)
    with pytest.MonkeyPatch.context() as patch:
        short, long = Message.parse(raw), Message.parse(raw)
        for path, text in changes:
            place = Path.parse(path)
            patch.setattr(rows, "FEW", few)
            told = result(lambda place=place, text=text: place.write(short, text))
            patch.setattr(rows, "FEW", 32)
            assert told == result(lambda place=place, text=text: long.write_any(place, text))
        assert (short.text, short.names(), short.charset) == (long.text, long.names(), long.charset)
        assert (short.control_id, short.type) == (long.header.control_id, long.header.type)


@settings(deadline=None)
@given(HEADER, st.lists(LINE, max_size=8))
def test_a_message_of_lines_is_that_of_their_text(header: list[str], lines: list[str]) -> None:
    text = message("|^~\\&", header, lines).decode()
    made, long = Message.of_lines(text.split("\r")[:-1]), Message.from_text(text)
    assert (made.text, made.names(), made.control_id) == (long.text, long.names(), long.control_id)
    assert made.charset == long.charset
    assert [made.count(name) for name in ("PID", "OBX", "PV1")] == [long.count(name) for name in ("PID", "OBX", "PV1")]


@pytest.mark.parametrize("number", [2, rows.FEW + 2])
def test_fields_and_segments_are_the_message(number: int) -> None:
    read = Message.parse(b"MSH|^~\\&|A||||||ADT^A01|M1\rPID|1||P1\r" + b"OBX|1||a\r" * number)
    fields = read.fields("PID")
    assert fields == ["PID", "1", "", "P1"]
    fields.append("x")
    first, second, *_ = read.segments("OBX")
    first.set("OBX-3", "b")
    second.delete("OBX-3")
    read.delete("OBX", first)
    assert read.lines()[1:3] == ["PID|1||P1|x", "OBX|1"]
    assert read.fields("OBX") is not None
    assert read.fields("OBX") == read.rows()[2] == ["OBX", "1"]
    assert read.rows("OBX") == [row for row in read.rows() if row[0] == "OBX"]
    assert read.rows("ZZZ") == []
    assert read.fields("PV1") is None
    assert (read.count("OBX"), read.count("PV1")) == (number - 1, 0)


@pytest.mark.parametrize("number", [2, rows.FEW + 2])
def test_a_copy_shares_nothing_that_can_be_changed(number: int) -> None:
    read = Message.parse(b"MSH|^~\\&|A||||||ADT^A01|M1\r" + b"OBX|1||a\r" * number)
    before = read.copy()
    read.set("OBX-3", "b")
    twin = read.copy()
    twin.set("OBX-3", "c")
    twin.set("MSH-10", "M2")
    twin.add("NTE")
    assert [one.value("OBX-3") for one in (before, read, twin)] == ["a", "b", "c"]
    assert [one.control_id for one in (before, read, twin)] == ["M1", "M1", "M2"]
    assert [one.header.control_id for one in (before, read, twin)] == ["M1", "M1", "M2"]
    assert [one.count("NTE") for one in (before, read, twin)] == [0, 0, 1]


def test_a_short_message_may_grow_long_and_shrink() -> None:
    read = Message.parse(b"MSH|^~\\&|A\rPID|1||P1\r")
    for number in range(2 * rows.FEW):
        read.insert(2, Segment(f"NTE|{number}"))
    assert (read.value("NTE[2]-1"), read.value("NTE-1"), read.value("PID-3")) == ("62", "63", "P1")
    read.delete("NTE")
    assert (read.lines(), read.value("PID-3"), read.count("NTE")) == (["MSH|^~\\&|A", "PID|1||P1"], "P1", 0)


def test_the_charset_follows_msh_18_and_nothing_else() -> None:
    raw = "MSH|^~\\&|A||||||ADT^A01|M1|P|2.5.1||||||\tUNICODE UTF-8 \rPID|1||é\r".encode()
    read = Message.parse(raw)
    read.set("MSH-3", "B")
    assert (read.charset, read.to_bytes()) == ("utf-8", raw.replace(b"|A|", b"|B|"))
    read.set("MSH-18", "8859/1")
    assert (read.charset, read.copy().charset) == ("iso8859-1", "iso8859-1")
    read.delete("MSH-18")
    assert read.charset == "utf-8", "what names no charset keeps the one it was read with"


@settings(deadline=None)
@given(SEPARATORS, st.lists(FIELD, max_size=20))
def test_a_kind_says_what_the_header_says(separators: str, fields: list[str]) -> None:
    header = header_of(message(separators, fields, []))
    assert header is not None
    for one in (header.kind, Kind(header)):
        assert (one.type, one.event) == (header.value(9, 1), header.value(9, 2)) == (header.type, header.event)
        assert one.message_type == header.message_type
        assert one.version == header.value(12, 1) == header.version
        assert one.sender == (header.read(3), header.read(4)) == header.sender


def kind_of(*fields: str) -> Kind:
    header = header_of(message("|^~\\&", list(fields), []))
    assert header is not None
    return header.kind


def test_messages_of_a_sender_and_type_are_of_one_kind() -> None:
    fields = ["A", "F", "B", "G", "20260101", "", "ADT^A01", "M1", "P", "2.5.1"]
    kind = kind_of(*fields)
    for at, text in ((4, "20260102"), (5, "secret"), (7, "M2")):
        assert kind_of(*fields[:at], text, *fields[at + 1 :]) is kind
    for at, text in ((0, "C"), (3, "H"), (6, "ADT^A02"), (9, "2.3")):
        assert kind_of(*fields[:at], text, *fields[at + 1 :]) is not kind


def test_what_partners_write_into_headers_does_not_fill_the_memory() -> None:
    for number in range(headers.MOST_KINDS + 10):
        kind_of(f"A{number}")
    assert len(headers._KINDS) <= headers.MOST_KINDS
    before = len(headers._KINDS)
    assert kind_of("x" * 10_000).sender == ("x" * 10_000, "")
    assert len(headers._KINDS) == before
