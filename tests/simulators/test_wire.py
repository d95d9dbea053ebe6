"""Reading and writing HL7 as the simulators do."""

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from engine.simulators.wire import (
    FrameReader,
    Unreadable,
    at_least,
    encode,
    escape,
    frame,
    line,
    parse,
    read_time,
    replace_field,
    stamp,
    unescape,
)

ALL = ["B1_ORM_O01_v23", "L4_ACK_AE_v251", "N1_SIU_S12_RIS_v251", "S4_SQM_S25_v23", "P_epic_S12", "L6_MFR_M05_v251"]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_frames_are_found_in_any_chunking(size: int) -> None:
    stream = b"junk" + frame(b"one\r") + b"\r\n" + frame(b"two\r") + frame(b"three\r")
    reader, found = FrameReader(), []
    for start in range(0, len(stream), size):
        found += reader.feed(stream[start : start + size])
    assert found == [b"one\r", b"two\r", b"three\r"]
    assert reader.junk == len(b"junk\r\n")


def test_an_endless_frame_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.simulators.wire.MAX_FRAME", 100)
    with pytest.raises(Unreadable):
        FrameReader().feed(b"\x0b" + b"x" * 200)


@pytest.mark.parametrize("name", ALL)
def test_a_message_is_written_back_as_it_was_read(name: str, sample: Callable[..., bytes]) -> None:
    data = sample(name)
    message = parse(data)
    assert encode([line(item.name, dict(enumerate(item.fields))) for item in message.segments]) == data


@pytest.mark.parametrize(
    "data", [b"", b"PID|1\r", b"MSH|^~\\&|A", b"MSH|^~\\&|A\r\nPID|1\r", b"MSH#^~\\&#A\r", b"MSH|^~\\&|A\r\rPID|1\r"]
)
def test_what_is_no_message_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        parse(data)


def test_paths_count_as_the_standard_does() -> None:
    message = parse(b"MSH|^~\\&|APP|||||||ID1|P|2.3\rPID|1||M1^^^A&x&ISO^MR~M2||D\\T\\E^J\r")
    assert (message.raw("MSH-1"), message.raw("MSH-2"), message.control_id) == ("|", "^~\\&", "ID1")
    assert [
        message.text(path) for path in ("PID-3", "PID-3.4", "PID-3.4.2", "PID-5", "PID-5.2", "PID-40", "ZZZ-1")
    ] == [
        "M1",
        "A",
        "x",
        "D&E",
        "J",
        "",
        "",
    ]


@pytest.mark.parametrize("text", ["a|b^c&d~e\\f", "line\nline", "", "plain", "\\X0D\\"])
def test_escapes_go_both_ways(text: str) -> None:
    assert unescape(escape(text)) == text
    assert not set(escape(text)) & set("|^&~\n\r")


def test_unknown_escapes_stay_and_hex_is_read() -> None:
    assert unescape("\\H\\bold\\N\\ \\X41\\ lone\\") == "\\H\\bold\\N\\ A lone\\"


@pytest.mark.parametrize(
    ("charset", "name", "undecodable"),
    [
        ("8859/1", "Müller".encode("latin-1"), False),
        ("UNICODE UTF-8", "Müller".encode(), False),
        ("UNICODE UTF-8", "Müller".encode("latin-1"), True),
        ("", "Müller".encode("latin-1"), True),
        ("8859/99", b"Mueller", True),
    ],
)
def test_msh_18_names_the_charset_or_the_message_is_marked(charset: str, name: bytes, undecodable: bool) -> None:
    header = f"MSH|^~\\&|A||||||||P|2.3||||||{charset}\rPID|1||1||".encode()
    message = parse(header + name + b"\r")
    assert message.undecodable is undecodable
    if not undecodable:
        assert message.text("PID-5") == "Müller"


def test_a_field_is_replaced_and_the_charset_kept() -> None:
    data = "MSH|^~\\&|A||||||||P|2.3||||||8859/1\rMSA|AA|1\r".encode("latin-1")
    assert parse(replace_field(data, "MSA", 3, "Grüße")).text("MSA-3") == "Grüße"
    with pytest.raises(Unreadable):
        replace_field(data, "ERR", 1, "x")


def test_versions_compare_by_number() -> None:
    assert at_least("2.5.1", "2.5")
    assert at_least("2.10", "2.9")
    assert not at_least("2.3", "2.3.1")
    assert not at_least("rubbish", "2.1")


def test_times_carry_the_offset_from_25() -> None:
    when = datetime(2025, 1, 16, 9, 0, tzinfo=ZoneInfo("America/Chicago"))
    assert (stamp(when, "2.3"), stamp(when, "2.5.1")) == ("20250116090000", "20250116090000-0600")
    assert read_time("20250116100000-0500", ZoneInfo("America/Chicago")) == when
    assert read_time("202501160900", ZoneInfo("America/Chicago")) == when
    for text in ("2025-01-16", "20251345", "202501161", ""):
        with pytest.raises(ValueError):
            read_time(text, UTC)
