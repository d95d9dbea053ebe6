"""Reading: what is absent, empty and null; custom delimiters; the same answers as python-hl7."""

from __future__ import annotations

import hl7
import pytest

from engine.errors import MalformedMessage, PathError
from engine.hl7.message import Message
from engine.hl7.separators import Separators

TEXT = (
    "MSH|^~\\&|APP^1.2^ISO|FAC|REC|RF|20250115||ADT^A01^ADT_A01|ID1|P|2.5.1\r"
    'PID|1||111^^^A&1.2&ISO^MR~222^^^B^PI||Doe^John^^^||""|M|||100 Main\\T\\Elm^""^Town\r'
    "OBX|1|TX|A||first\r"
    "OBX|2|TX|B||second~again\r"
    "ZZZ\r"
)


@pytest.fixture
def message() -> Message:
    return Message.parse(TEXT.encode())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("PID-3", "111^^^A&1.2&ISO^MR~222^^^B^PI"),
        ("PID-3.1", "111"),
        ("PID-3[1]", "111^^^A&1.2&ISO^MR"),
        ("PID-3[2]", "222^^^B^PI"),
        ("PID-3[2].1", "222"),
        ("PID-3[3]", None),
        ("PID-3[3].1", None),
        ("PID-3.4", "A&1.2&ISO"),
        ("PID-3.4.2", "1.2"),
        ("PID-3.4.4", None),
        ("PID-3.1.1", "111"),
        ("PID-3.1.2", None),
        ("PID-3.6", None),
        ("PID-1", "1"),
        ("PID-1.1", "1"),
        ("PID-1[1].1.1", "1"),
        ("PID-1.2", None),
        ("PID-2", ""),
        ("PID-2.1", ""),
        ("PID-2.2", None),
        ("PID-5.5", ""),
        ("PID-5.6", None),
        ("PID-7", '""'),
        ("PID-11.1", "100 Main\\T\\Elm"),
        ("PID-99", None),
        ("OBX-5", "first"),
        ("OBX[2]-5", "second~again"),
        ("OBX[2]-5[2].1", "again"),
        ("OBX[3]-5", None),
        ("OBX[2]", "OBX|2|TX|B||second~again"),
        ("ZZZ", "ZZZ"),
        ("ZZZ-1", None),
        ("NTE-3", None),
        ("NTE", None),
        ("MSH-1", "|"),
        ("MSH-2", "^~\\&"),
        ("MSH-2.1", "^~\\&"),
        ("MSH-2.2", None),
        ("MSH-2[2]", None),
        ("MSH-3", "APP^1.2^ISO"),
        ("MSH-3.3", "ISO"),
        ("MSH-9.3", "ADT_A01"),
        ("MSH-12", "2.5.1"),
        ("MSH-13", None),
    ],
)
def test_text_stands_where_the_path_says(message: Message, path: str, text: str | None) -> None:
    assert message.read(path) == text


def test_absent_empty_and_null_are_three_things(message: Message) -> None:
    assert (message.read("PID-99"), message.read("PID-2"), message.read("PID-7")) == (None, "", '""')
    assert [message.value(path) for path in ("PID-99", "PID-2", "PID-7", "PID-11.2")] == ["", "", "", ""]
    assert message.null("PID-7")
    assert message.null("PID-11.2")
    assert not message.null("PID-2")
    assert not message.null("PID-99")


def test_values_are_data(message: Message) -> None:
    assert message.value("PID-11.1") == "100 Main&Elm"
    assert message.value("PID-5") == "Doe^John^^^"


def test_a_segment_reads_from_itself(message: Message) -> None:
    first, second = message.segments("OBX")
    assert message.read("OBX-5", segment=second) == "second~again"
    assert message.value("OBX-3", segment=second) == "B"
    assert message.read("OBX[1]-5", segment=second) == "first"
    assert message.read("PID-1", segment=second) == "1"
    assert second.read("OBX-1") == "2"
    assert first.value("OBX-5.1") == "first"


def test_a_segment_refuses_a_path_of_another(message: Message) -> None:
    with pytest.raises(PathError, match="PID-3 names no place in a segment OBX"):
        message.segments("OBX")[0].read("PID-3")


def test_header_fields_have_names(message: Message) -> None:
    assert (message.type, message.event, message.control_id) == ("ADT", "A01", "ID1")
    assert (message.version, message.charset) == ("2.5.1", "ascii")
    assert message.names() == ["MSH", "PID", "OBX", "OBX", "ZZZ"]
    assert (message.count("OBX"), message.count("NTE")) == (2, 0)
    assert [segment.name for segment in message.segments()] == message.names()


def test_a_bare_header_has_empty_names() -> None:
    message = Message.parse(b"MSH|^~\\&")
    assert (message.type, message.event, message.control_id, message.version) == ("", "", "", "")


def test_a_message_never_shows_its_content(message: Message) -> None:
    shown = f"{message} {message!r} {message.segments()} {message.segments('PID')[0]!s}"
    assert "ADT^A01 ID1 2.5.1, 5 segments" in shown
    for content in ("Doe", "John", "111", "222", "Town", "second", "APP"):
        assert content not in shown


@pytest.mark.parametrize("separators", ["|^~\\&", "!@*?$", "|$%/;", "#^~\\&", "|^~\\&#"])
def test_delimiters_are_read_from_the_message(separators: str) -> None:
    field, component, repetition, escape, sub = separators[:5]
    text = (
        f"MSH{separators}{field}A{component}B\rPID{field}1{sub}2{component}3{repetition}4{field}x{escape}F{escape}y\r"
    )
    message = Message.parse(text.encode())
    assert (message.read("MSH-1"), message.read("MSH-2"), message.read("MSH-3.2")) == (field, separators[1:], "B")
    assert (message.read("PID-1.1.2"), message.read("PID-1.2"), message.read("PID-1[2]")) == ("2", "3", "4")
    assert message.value("PID-2") == f"x{field}y"
    assert message.to_bytes() == text.encode()


def test_the_truncation_character_of_2_7_is_known() -> None:
    message = Message.parse(b"MSH|^~\\&#|A\rPID|x\\P\\y|long#\r")
    assert message.separators.truncation == "#"
    assert (message.value("PID-1"), message.value("PID-2")) == ("x#y", "long#")


def test_encoding_characters_left_out_are_the_usual_ones() -> None:
    message = Message.parse(b"MSH|^~|A\rPID|1&2^3\r")
    assert message.read("PID-1.1.2") == "2"
    assert message.separators == Separators.default
    assert message.read("MSH-2") == "^~"


@pytest.mark.parametrize(
    ("raw", "reason", "offset"),
    [
        (b"", "no MSH", 0),
        (b"PID|1", "no MSH", 0),
        (b"  \r\nPID|1", "no MSH", 4),
        (b"GET / HTTP/1.1", "no MSH", 0),
        (b"FHS|^~\\&|A\rMSH|^~\\&|", "a batch", 0),
        (b"MSH", "no encoding characters", 4),
        (b"MSH|", "no encoding characters", 4),
        (b"MSH||A|B", "no encoding characters", 4),
        (b"MSH|^^\\&|A", "the same character", 3),
        (b"MSH|^~\\|A", "the same character", 3),
        (b"MSH|^~\\&##|A", "more than five", 4),
        (b"MSH|^~\\&#$%&/()", "more than five", 4),
        (b"MSHA^~\\&A", "used as a delimiter", 3),
        (b"MSH|^~a&|A", "used as a delimiter", 3),
        (b"MSH|^ \\&|A", "used as a delimiter", 3),
        (b"MSH|^~\xff&|A", "used as a delimiter", 3),
    ],
)
def test_what_is_no_message_is_refused_without_being_quoted(raw: bytes, reason: str, offset: int) -> None:
    if reason == "the same character" and raw == b"MSH|^~\\|A":
        assert Message.parse(raw).separators.subcomponent == "&"
        return
    with pytest.raises(MalformedMessage, match=reason) as caught:
        Message.parse(raw)
    assert caught.value.offset == offset


def _oracle(field: object, repetition: int, component: int, sub: int) -> str:
    """What python-hl7 has at this place, by plain indexing of what it split."""
    part = field
    for kind, number in ((hl7.Field, repetition), (hl7.Repetition, component), (hl7.Component, sub)):
        if isinstance(part, kind):
            part = part[number - 1] if number <= len(part) else None
        elif number > 1:
            part = None
        if part is None:
            return "absent"
    return str(part)


def test_reads_equal_those_of_python_hl7_at_every_place_of_every_sample(each_sample: bytes) -> None:
    theirs, ours = hl7.parse(each_sample.decode()), Message.parse(each_sample)
    compared = 0
    for segment, own in zip(theirs, ours.segments(), strict=True):
        for number in range(1, len(segment)):
            text = own.read(f"{own.name}-{number}")
            assert text == str(segment[number])
            if own.name == "MSH" and number < 3:
                continue
            for place in [(r, c, s) for r in (1, 2) for c in range(1, 15) for s in (1, 2, 4)]:
                repetition, component, sub = place
                read = own.read(f"{own.name}-{number}[{repetition}].{component}.{sub}")
                assert ("absent" if read is None else read) == _oracle(segment[number], *place)
                compared += 1
    assert compared > 100
