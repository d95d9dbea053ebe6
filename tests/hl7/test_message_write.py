"""Writing: what is missing is made, what is beside it stays, nothing breaks out of its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import PathError
from engine.hl7.message import Message, Segment
from engine.hl7.separators import Separators

RAW = b"MSH|^~\\&|A|B||||||ID|P|2.3\rPID|1||MRN^^^DTI^MR||Doe\rOBX|1|TX\rOBX|2|TX\r"


@pytest.fixture
def message() -> Message:
    return Message.parse(RAW)


@pytest.mark.parametrize(
    ("path", "text", "line"),
    [
        ("PID-5", "Roe^Jane", "PID|1||MRN^^^DTI^MR||Roe^Jane"),
        ("PID-3.1", "X", "PID|1||X^^^DTI^MR||Doe"),
        ("PID-3.7", "X", "PID|1||MRN^^^DTI^MR^^X||Doe"),
        ("PID-3.4.2", "1.2", "PID|1||MRN^^^DTI&1.2^MR||Doe"),
        ("PID-3[2]", "E1^^^X", "PID|1||MRN^^^DTI^MR~E1^^^X||Doe"),
        ("PID-3[3].1", "E1", "PID|1||MRN^^^DTI^MR~~E1||Doe"),
        ("PID-3[2].4.2", "1.2", "PID|1||MRN^^^DTI^MR~^^^&1.2||Doe"),
        ("PID-5.2", "John", "PID|1||MRN^^^DTI^MR||Doe^John"),
        ("PID-5.1.2", "van", "PID|1||MRN^^^DTI^MR||Doe&van"),
        ("PID-8", "M", "PID|1||MRN^^^DTI^MR||Doe|||M"),
        ("PID-2.2", "X", "PID|1|^X|MRN^^^DTI^MR||Doe"),
        ("PID-5", '""', 'PID|1||MRN^^^DTI^MR||""'),
        ("PID-5", "", "PID|1||MRN^^^DTI^MR||"),
        ("PID-5", "two\r\nlines", "PID|1||MRN^^^DTI^MR||two\\X0D\\\\.br\\lines"),
    ],
)
def test_text_is_put_where_the_path_says(message: Message, path: str, text: str, line: str) -> None:
    message.write(path, text)
    assert message.read("PID") == line
    assert message.to_bytes() == RAW.replace(b"PID|1||MRN^^^DTI^MR||Doe", line.encode())


def test_a_missing_segment_is_appended(message: Message) -> None:
    message.write("ZPI-2.1", "X")
    assert message.to_bytes() == RAW + b"ZPI||X\r"


def test_a_missing_occurrence_is_appended(message: Message) -> None:
    message.write("OBX[4]-1", "4")
    assert message.to_bytes() == RAW + b"OBX\rOBX|4\r"


def test_add_appends_another_of_the_same_name(message: Message) -> None:
    added = message.add("OBX")
    added.write("OBX-1", "3")
    message.set("OBX-5", "a|b", segment=added)
    assert message.read("OBX-1") == "1"
    assert message.to_bytes() == RAW + b"OBX|3||||a\\F\\b\r"


def test_insert_puts_a_copy_in_its_place(message: Message) -> None:
    mine = Segment("NTE|1||note")
    inserted = message.insert(2, mine)
    inserted.write("NTE-1", "2")
    assert message.names() == ["MSH", "PID", "NTE", "OBX", "OBX"]
    assert message.read("NTE-1") == "2"
    assert mine.read("NTE-1") == "1"


def test_an_inserted_segment_takes_the_delimiters_of_the_message(message: Message) -> None:
    message.insert(1, Segment("NTE!a@b!c^d", Separators("!", "@", "*", "?", "$")))
    assert message.read("NTE-1") == "a^b"
    assert message.value("NTE-2") == "c^d"


def test_data_is_escaped(message: Message) -> None:
    message.set("PID-5.1", "A&B|C^D~E\\F\rG\nH")
    assert message.value("PID-5.1") == "A&B|C^D~E\\F\rG\nH"
    assert message.count("PID") == 1
    assert message.read("PID-6") is None


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("PID-5", "a|b"), ("PID-5.1", "a^b"), ("PID-5.1", "a~b"), ("PID-5[1]", "a~b"), ("PID-5.1.1", "a&b"),
        ("PID-5[2].1", "a|b"),
    ],
)  # fmt: skip
def test_text_that_would_reach_beyond_its_place_is_refused(message: Message, path: str, text: str) -> None:
    with pytest.raises(PathError, match="delimiter that reaches beyond") as caught:
        message.write(path, text)
    assert text not in str(caught.value)
    assert message.to_bytes() == RAW


@pytest.mark.parametrize("path", ["MSH-1", "MSH-2", "MSH-2.1", "PID"])
def test_delimiters_and_whole_segments_cannot_be_written(message: Message, path: str) -> None:
    with pytest.raises(PathError):
        message.write(path, "x")
    assert message.to_bytes() == RAW


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("PID-5", "PID|1||MRN^^^DTI^MR"),
        ("PID-3", "PID|1||||Doe"),
        ("PID-3.5", "PID|1||MRN^^^DTI||Doe"),
        ("PID-3.4", "PID|1||MRN^^^^MR||Doe"),
        ("PID-3.1", "PID|1||^^^DTI^MR||Doe"),
        ("PID-5.1", "PID|1||MRN^^^DTI^MR"),
        ("PID-3[1]", "PID|1||||Doe"),
        ("PID-3[2]", "PID|1||MRN^^^DTI^MR||Doe"),
        ("PID-9", "PID|1||MRN^^^DTI^MR||Doe"),
        ("PID-3.9", "PID|1||MRN^^^DTI^MR||Doe"),
    ],
)
def test_deleting_empties_the_place_and_cuts_what_trails(message: Message, path: str, line: str) -> None:
    message.delete(path)
    assert message.read("PID") == line


def test_deleting_in_the_middle_leaves_what_trails_elsewhere() -> None:
    message = Message.parse(b"MSH|^~\\&|A\rPID|1|x|y|||\rPV1|1|x|||\r")
    message.delete("PID-2")
    message.delete("PV1-2")
    assert message.to_bytes() == b"MSH|^~\\&|A\rPID|1||y|||\rPV1|1\r"


def test_deleting_a_repetition_takes_it_out(message: Message) -> None:
    message.write("PID-3", "A~B~C")
    message.delete("PID-3[2]")
    assert message.read("PID-3") == "A~C"


def test_deleting_a_segment(message: Message) -> None:
    twin = message.copy()
    message.delete("OBX[1]")
    assert message.read("OBX-1") == "2"
    twin.delete("OBX")
    assert twin.names() == ["MSH", "PID"]
    twin.delete("OBX")
    twin.delete("NTE[2]-3")
    assert twin.names() == ["MSH", "PID"]


def test_deleting_one_given_segment_leaves_its_neighbours(message: Message) -> None:
    message.delete("OBX", segment=message.segments("OBX")[1])
    assert message.names() == ["MSH", "PID", "OBX"]
    assert message.read("OBX-1") == "1"


def test_the_header_stays(message: Message) -> None:
    for path in ("MSH", "MSH-1", "MSH-2"):
        with pytest.raises(PathError):
            message.delete(path)
    with pytest.raises(PathError):
        message.add("MSH")
    with pytest.raises(PathError):
        message.insert(0, Segment("NTE|1"))
    with pytest.raises(PathError):
        message.add("PID-3")
    assert message.to_bytes() == RAW


def test_trim_cuts_empty_ends_everywhere() -> None:
    message = Message.parse(b"MSH|^~\\&|A^^|||\rPID|1^&^|x&&^y^~^^|z~~|^~&|a^^b||\rtext that is no segment^^\r")
    message.trim()
    assert message.to_bytes() == b"MSH|^~\\&|A\rPID|1|x^y|z||a^^b\rtext that is no segment^^\r"


def test_trim_of_what_has_no_empty_ends_changes_nothing(each_sample: bytes) -> None:
    message = Message.parse(each_sample)
    message.trim()
    assert message.to_bytes() == each_sample


def test_a_copy_and_its_original_do_not_see_each_other(message: Message) -> None:
    message.write("PID-5", "Before")
    twin = message.copy()
    message.write("PID-5", "One")
    twin.write("PID-5", "Two")
    twin.delete("OBX")
    assert message.read("PID-5") == "One"
    assert message.count("OBX") == 2
    assert twin.read("PID-5") == "Two"


def test_a_new_message_has_only_its_delimiters() -> None:
    assert Message.new().to_bytes() == b"MSH|^~\\&\r"
    assert Message.new(Separators("!", "@", "*", "?", "$", "#")).to_bytes() == b"MSH!@*?$#\r"


def test_a_message_is_built_field_by_field(sample: Callable[[str], bytes]) -> None:
    source = Message.parse(sample("B1_ORM_O01_v23"))
    built = Message.new()
    for segment in source.segments():
        mine = built if segment.name == "MSH" else built.add(segment.name)
        for number in range(3 if segment.name == "MSH" else 1, 40):
            text = segment.read(f"{segment.name}-{number}")
            if text is not None:
                mine.write(f"{segment.name}-{number}", text)
    assert built.to_bytes() == source.to_bytes()


names = st.sampled_from(["PID", "OBX", "OBX[2]", "OBX[3]", "ZZ1", "MSH"])
small = st.integers(1, 4)
texts = st.text(alphabet='abc \\é日"', max_size=6)
values = st.text(max_size=12)


@st.composite
def places(draw: st.DrawFn) -> str:
    name = draw(names)
    text = f"{name}-{draw(small) + (2 if name == 'MSH' else 0)}"
    if draw(st.booleans()):
        text += f"[{draw(small)}]"
    if draw(st.booleans()):
        text += f".{draw(small)}"
        if draw(st.booleans()):
            text += f".{draw(small)}"
    return text


@given(st.lists(st.tuples(places(), texts), max_size=6), places(), texts)
def test_what_was_written_is_read_again(before: list[tuple[str, str]], path: str, text: str) -> None:
    message = Message.parse(RAW)
    for earlier, what in before:
        message.write(earlier, what)
    message.write(path, text)
    assert message.read(path) == text
    again = Message.from_text(message.text)
    assert again.read(path) == text
    assert again.text == message.text


@given(places(), values)
def test_data_that_was_set_is_the_value_again(path: str, value: str) -> None:
    message = Message.parse(RAW)
    message.set(path, value)
    assert message.value(path) == value
    assert Message.from_text(message.text).value(path) == value


@given(places(), places(), texts)
def test_writing_one_segment_leaves_the_lines_of_the_others(path: str, other: str, text: str) -> None:
    message = Message.parse(RAW)
    before = message.text.split("\r")
    message.write(path, text)
    index = {"MSH": 0, "PID": 1, "OBX": 2, "OBX[2]": 3}.get(path.partition("-")[0])
    for at, line in enumerate(before[:-1]):
        if at != index:
            assert message.text.split("\r")[at] == line
