"""On the wire: what nobody changed leaves as it came, in every charset, however the sender ends its lines."""

from __future__ import annotations

import codecs
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Unmappable
from engine.hl7.charset import TABLE_0211
from engine.hl7.message import Message

HEAD = "MSH|^~\\&|A|B|C|D|20250115||ADT^A01|ID1|P|2.3"


def _with_charset(name: str) -> str:
    return f"{HEAD}||||||{name}"


def test_samples_leave_as_they_came(each_sample: bytes) -> None:
    message = Message.parse(each_sample)
    assert message.to_bytes() == each_sample
    for segment in message.segments():
        segment.read(f"{segment.name}-3.1")
    assert message.to_bytes() == each_sample
    assert message.copy().to_bytes() == each_sample
    assert Message.from_text(message.text).to_bytes() == each_sample


field = st.text(alphabet='abcÄ\\^~&" 日é#', max_size=8)
segment_lines = st.lists(
    st.tuples(st.from_regex(r"[A-Z][A-Z0-9]{2}", fullmatch=True), st.lists(field, max_size=6)), max_size=5
)


@given(segment_lines)
def test_generated_messages_leave_as_they_came(lines: list[tuple[str, list[str]]]) -> None:
    text = "".join(f"{line}\r" for line in [HEAD, *("|".join([name, *fields]) for name, fields in lines)])
    message = Message.parse(text.encode(), charset="utf-8")
    for segment in message.segments():
        segment.read(f"{segment.name}-2.2")
    assert message.to_bytes() == text.encode()


@given(st.binary(max_size=60).map(lambda tail: re.sub(rb"[\r\n]", b"", tail)), st.sampled_from(sorted(TABLE_0211)))
def test_any_bytes_leave_as_they_came_also_beside_a_change(tail: bytes, name: str) -> None:
    raw = _with_charset(name).encode() + b"\rPID|1\rNTE|1||" + tail + b"\r"
    message = Message.parse(raw)
    assert message.to_bytes() == raw
    message.write("PID-1", "2")
    assert message.to_bytes() == raw.replace(b"PID|1", b"PID|2", 1)


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n", "\r\r", "\n\n", "\r\n\r\n"])
def test_line_ends_of_every_kind_are_taken(ending: str) -> None:
    raw = ending.join([HEAD, "PID|1||X", "ZZZ", ""]).encode()
    message = Message.parse(raw)
    assert message.names() == ["MSH", "PID", "ZZZ"]
    assert message.to_bytes() == raw.replace(ending.encode(), b"\r")


def test_mixed_line_ends_and_a_missing_last_one() -> None:
    message = Message.parse(f"{HEAD}\nPID|1\r\nOBX|1\rZZZ|end".encode())
    assert message.names() == ["MSH", "PID", "OBX", "ZZZ"]
    assert message.to_bytes().endswith(b"ZZZ|end\r")


@pytest.mark.parametrize("before", [b"\r\n", b"  \t", b"\xef\xbb\xbf", b"\x0b", b"\x00\r"])
def test_blanks_before_the_header_are_passed_over(before: bytes) -> None:
    assert Message.parse(before + HEAD.encode()).to_bytes() == HEAD.encode() + b"\r"


def test_a_line_feed_inside_of_text_is_text() -> None:
    raw = f"{HEAD}\rNTE|1||line one\nline two\rPID|1\r".encode()
    message = Message.parse(raw)
    assert message.names() == ["MSH", "NTE", "PID"]
    assert message.value("NTE-3") == "line one\nline two"
    assert message.to_bytes() == raw


def test_a_line_that_is_no_segment_is_kept_and_has_no_name() -> None:
    raw = f"{HEAD}\rNTE|1||one\rsome text that broke off\rPID|1\r".encode()
    message = Message.parse(raw)
    assert message.names() == ["MSH", "NTE", "", "PID"]
    message.write("PID-1", "2")
    assert message.to_bytes() == raw.replace(b"PID|1", b"PID|2")


TEXTS = {
    "8859/1": "Müller",
    "8859/2": "Łukasz",
    "8859/5": "Иванов",
    "8859/15": "Œuvre €",
    "UNICODE UTF-8": "日本 😀 Müller",
    "UNICODE": "日本",
    "ISO IR14": "ﾔﾏﾀﾞ",
    "ISO IR87": "山田太郎",
    "GB 18030-2000": "张伟",
    "KS X 1001": "김철수",
    "BIG-5": "功許蓋",
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_read_in_the_charset_that_the_header_names(name: str) -> None:
    codec = TABLE_0211[name]
    raw = f"{_with_charset(name)}\rPID|1||X||{TEXTS[name]}^John\r".encode(codec)
    message = Message.parse(raw)
    assert message.charset == codec
    assert message.value("PID-5.1") == TEXTS[name]
    message.write("PID-1", "2")
    assert message.to_bytes() == raw.replace(b"PID|1", b"PID|2")


@pytest.mark.parametrize(
    ("codec", "text"), [("shift_jis", "ソ能表|"), ("gbk", "倈億儀"), ("big5", "功許蓋"), ("gb18030", "倈億儀")]
)
def test_characters_whose_second_byte_looks_like_a_delimiter_stay_whole(codec: str, text: str) -> None:
    text = text.replace("|", "")
    raw = f"{HEAD}\rPID|1||X||{text}^{text}~{text}|M\r".encode(codec)
    assert set(text.encode(codec)) & set(b"|^~\\&")
    message = Message.parse(raw, charset=codec)
    assert [message.value(path) for path in ("PID-5.1", "PID-5.2", "PID-5[2]", "PID-6")] == [text, text, text, "M"]
    assert message.to_bytes() == raw


def test_the_charset_the_caller_names_beats_the_header_and_the_default() -> None:
    raw = _with_charset("8859/1").encode() + b"\rPID|1||X||\xc3\xbc\r"
    assert Message.parse(raw).value("PID-5") == "Ã¼"
    assert Message.parse(raw, default_charset="utf-8").value("PID-5") == "Ã¼"
    assert Message.parse(raw, charset="utf-8").value("PID-5") == "ü"
    bare = HEAD.encode() + b"\rPID|1||X||\xc3\xbc\r"
    assert Message.parse(bare, default_charset="UNICODE UTF-8").value("PID-5") == "ü"
    with pytest.raises(ValueError, match="no character set"):
        Message.parse(raw, charset="klingon")


@pytest.mark.parametrize("named", ["NO SUCH SET", "", "UNICODE UTF-16"])
def test_a_header_that_names_no_usable_charset_leaves_the_default(named: str) -> None:
    raw = f"{_with_charset(named)}\rPID|1||X||ü\r".encode()
    assert Message.parse(raw, default_charset="utf-8").value("PID-5") == "ü"


def test_the_first_repetition_of_the_charset_counts() -> None:
    assert Message.parse(_with_charset("8859/1~UNICODE UTF-8").encode()).charset == "iso8859-1"
    assert Message.parse(_with_charset("~ISO IR87").encode()).charset == "iso2022_jp_ext"


def test_undeclared_bytes_are_noticed_and_leave_as_they_came() -> None:
    raw = HEAD.encode() + b"\rPID|1||X||M\xfcller\r"
    message = Message.parse(raw)
    assert message.charset == "ascii"
    assert message.undecodable
    assert not Message.parse(raw, charset="8859/1").undecodable
    assert message.to_bytes() == raw
    assert message.to_bytes("ascii", "replace") == raw


def test_data_is_always_text_that_json_and_databases_take() -> None:
    message = Message.parse(HEAD.encode() + b"\rPID|1||X||M\xfcller\r")
    assert message.value("PID-5") == message.segments("PID")[0].value("PID-5") == "M\ufffdller"
    assert message.read("PID-5") == "M\udcfcller"
    message.write("PID-6", message.read("PID-5") or "")
    assert message.to_bytes() == HEAD.encode() + b"\rPID|1||X||M\xfcller|M\xfcller\r"


def test_bytes_that_could_not_be_read_are_not_passed_on_in_another_charset() -> None:
    message = Message.parse(HEAD.encode() + b"\rPID|1||X||M\xfcller\r")
    with pytest.raises(Unmappable, match="PID-5 does not exist in UNICODE UTF-8"):
        message.to_bytes("UNICODE UTF-8")
    built = Message.new()
    built.write("PID-5", message.read("PID-5") or "")
    with pytest.raises(Unmappable):
        built.to_bytes("ascii")
    assert built.to_bytes("ascii", "replace") == b"MSH|^~\\&\rPID|||||M?ller\r"


def test_the_charset_going_out_may_differ() -> None:
    raw = f"{_with_charset('8859/1')}\rPID|1||X||Müller\r"
    message = Message.parse(raw.encode("latin-1"))
    assert message.to_bytes("UNICODE UTF-8") == raw.encode()
    assert message.to_bytes("ASCII", "replace") == raw.replace("ü", "?").encode()
    with pytest.raises(ValueError, match="no character set"):
        message.to_bytes("klingon")


@pytest.mark.parametrize(("marks", "sign"), [("|^~\\&", "?"), ("|?~\\&", "_"), ("?^~\\&", "_"), ("|?_\\&", "x")])
def test_what_stands_for_a_character_the_charset_lacks_is_never_a_delimiter(marks: str, sign: str) -> None:
    raw = f"MSH{marks}{marks[0]}RIS\rPID{marks[0]}Mü{marks[1]}ß\udcfcx\r"
    message = Message.parse(raw.encode("utf-8", "surrogateescape"), charset="utf-8")
    for charset in ("ASCII", "8859/2"):
        written = message.to_bytes(charset, "replace").decode("latin-1")
        assert written.count(marks[0]) == raw.count(marks[0])
        assert written.count(marks[1]) == raw.count(marks[1])
        assert sign in written
    latin = Message.parse(f"MSH{marks}{marks[0]}RIS\rPID{marks[0]}M\r".encode(), charset="8859/1")
    latin.write("PID-2", "日")
    assert latin.to_bytes(None, "replace").endswith(f"{marks[0]}{sign}\r".encode())


def test_a_character_the_charset_lacks_is_named_by_its_place_only() -> None:
    message = Message.parse(f"{HEAD}\rPID|1||X||ok\rOBX|1\rOBX|2||||日本\r".encode(), charset="utf-8")
    with pytest.raises(Unmappable) as caught:
        message.to_bytes("8859/1")
    assert (caught.value.charset, caught.value.path_hint) == ("8859/1", "OBX[2]-5")
    assert "日" not in str(caught.value)
    # Tracebacks print the chain of errors, and Python's own encoding error quotes the text.
    assert caught.value.__context__ is None
    header = Message.parse(HEAD.replace("|A|", "|é|").encode(), charset="utf-8")
    with pytest.raises(Unmappable, match="of MSH-3"):
        header.to_bytes("ascii")


def test_the_charset_written_into_the_header_is_the_one_it_leaves_in() -> None:
    message = Message.parse(f"{_with_charset('8859/1')}\rPID|1||X||Müller\r".encode("latin-1"))
    message.write("MSH-18", "UNICODE UTF-8")
    assert message.charset == "utf-8"
    assert "Müller".encode() in message.to_bytes()
    assert "Müller".encode() in message.copy().to_bytes()
    built = Message.new()
    built.set("PID-5", "Müller")
    built.write("MSH-18", "8859/1")
    assert b"M\xfcller" in built.to_bytes()


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_wide_characters_are_recognised(codec: str) -> None:
    text = f"{_with_charset('UNICODE UTF-16')}\rPID|1||X||日本\r"
    message = Message.parse(text.encode(codec))
    assert message.value("PID-5") == "日本"
    assert message.to_bytes().decode(codec) == text
    assert message.to_bytes("utf-8") == text.encode()


def test_a_byte_order_mark_is_no_part_of_the_message() -> None:
    assert Message.parse(codecs.BOM_UTF8 + HEAD.encode()).text == HEAD + "\r"
    assert Message.parse(codecs.BOM_UTF16_LE + HEAD.encode("utf-16-le")).text == HEAD + "\r"
