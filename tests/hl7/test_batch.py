"""Batches: what is joined comes back byte for byte, whatever comes in is accounted for, hostile ones cost no more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import MalformedMessage
from engine.hl7.ack import AckCode, make_ack, wanted_by
from engine.hl7.answer import read_ack
from engine.hl7.batch import BLANK, Split, header_line, is_batch, join, joinable, reading, split
from engine.hl7.batch_answers import answer, read_answer, request_of, wrapped
from engine.hl7.bulk import LARGE
from engine.hl7.header import header_of, is_acknowledgement
from engine.hl7.mllp import Framer, frame
from engine.hl7.separators import Separators
from tests.counting import LINEAR, ratio

NOW = datetime(2026, 11, 27, 8, 30, tzinfo=UTC)
BHS = b"BHS|^~\\&|RIS|DTI|ENGINE|HERE|20261127083000||||B1"
FHS = b"FHS|^~\\&|RIS|DTI|ENGINE|HERE|20261127083000||night||F1"


def oru(control_id: str) -> bytes:
    return f"MSH|^~\\&|RIS|DTI|ENGINE|HERE|20261127||ORU^R01|{control_id}|P|2.5.1\rPID|1||P1\r".encode()


def messages(body: bytes) -> list[bytes]:
    return [body[member.start : member.stop] for member in split(body).members]


def parts(body: bytes) -> list[list[list[bytes]]]:
    """Files, their batches, their messages."""
    return [
        [[body[member.start : member.stop] for member in batch.members] for batch in file.batches]
        for file in split(body).files
    ]


def wrong(body: bytes) -> list[tuple[str, int | None, int]]:
    return [tuple(count) for count in split(body).wrong]


# -- what is joined comes back -------------------------------------------------------------------------------------

#: Bytes of a segment that do not begin another line.
_INSIDE = st.binary(max_size=30).map(lambda raw: bytes(byte for byte in raw if byte not in b"\r\n"))
_SEGMENT = st.tuples(st.sampled_from([b"PID|", b"OBX|", b"ZZZ|", b"NTE|"]), _INSIDE).map(b"".join)
_MARKS = st.sampled_from([b"|^~\\&", b"#!*%@", b"|^~\\&#"])
_MESSAGE = st.builds(
    lambda marks, head, segments: b"\r".join((b"MSH" + marks + b"|" + head, *segments, b"")),
    _MARKS,
    _INSIDE,
    st.lists(_SEGMENT, max_size=4),
).filter(joinable)


@given(st.lists(_MESSAGE, max_size=6), st.booleans())
def test_what_is_joined_comes_back_byte_for_byte(joined: list[bytes], in_a_file: bool) -> None:
    body = join(joined, BHS, FHS if in_a_file else b"")
    assert is_batch(body)
    assert messages(body) == joined
    assert wrong(body) == []


@given(st.lists(st.tuples(st.booleans(), st.lists(_MESSAGE, max_size=4)), min_size=1, max_size=4))
def test_so_do_several_batches_and_files_in_one_body(given_: list[tuple[bool, list[bytes]]]) -> None:
    body = b"".join(join(joined, BHS, FHS if in_a_file else b"") for in_a_file, joined in given_)
    assert messages(body) == [message for _, joined in given_ for message in joined]
    assert wrong(body) == []


_LINE = st.one_of(
    st.sampled_from(
        [BHS, FHS, b"BTS|1", b"BTS", b"FTS|x", b"MSH", b"MSH|^~\\&|A", b"SH|^~\\&|A", b" BHS|^~\\&|", b"\x1a"]
    ),
    st.sampled_from([b"BHS", b"BTSX|1", b"MSHX", b"", b"PID|1", b"OBX|1|TX|MSH|^~\\&|"]),
    st.binary(max_size=20),
)


@given(
    st.sampled_from([b"", b"\r\n", b" \xef\xbb\xbf"]),
    st.sampled_from([BHS, FHS, b"BHS", b"FHS|"]),
    st.lists(st.tuples(_LINE, st.sampled_from([b"\r", b"\n", b"\r\n"])), max_size=12),
)
def test_every_byte_that_means_something_is_in_a_header_a_trailer_or_a_message(
    before: bytes, head: bytes, lines: list[tuple[bytes, bytes]]
) -> None:
    body = before + head + b"\r" + b"".join(line + end for line, end in lines)
    found = split(body)
    left = bytearray(body)
    last = 0
    for member in found.members:
        assert last <= member.start < member.stop
        last = member.stop
        left[member.start : member.stop] = b"\r" * (member.stop - member.start)
    marks = b"".join(
        line.strip(BLANK)
        for file in found.files
        for line in (
            file.header,
            *(line for batch in file.batches for line in (batch.header, batch.trailer)),
            file.trailer,
        )
    )
    assert bytes(left).translate(None, BLANK) == marks.translate(None, BLANK)


# -- hostile ones --------------------------------------------------------------------------------------------------


def test_a_trailer_may_be_missing() -> None:
    body = BHS + b"\r" + oru("M1") + oru("M2")
    assert messages(body) == [oru("M1"), oru("M2")]
    assert list(split(body).counts()) == []


def test_headers_inside_of_each_other_begin_anew() -> None:
    body = FHS + b"\r" + BHS + b"\r" + oru("M1") + BHS + b"\r" + oru("M2") + FHS + b"\r" + oru("M3") + b"BTS|1\rFTS|1\r"
    assert parts(body) == [[[oru("M1")], [oru("M2")]], [[oru("M3")]]]
    assert wrong(body) == []


def test_two_batches_in_a_file_are_counted_each() -> None:
    first, second = join([oru("M1"), oru("M2")], BHS), join([oru("M3")], BHS)
    body = FHS + b"\r" + first + second + b"FTS|2\r"
    assert parts(body) == [[[oru("M1"), oru("M2")], [oru("M3")]]]
    assert wrong(body) == []
    assert wrong(body.replace(b"FTS|2", b"FTS|3").replace(b"BTS|1", b"BTS|01|x")) == [("FTS-1", 3, 2)]


@pytest.mark.parametrize(
    ("trailer", "said"),
    [(b"BTS|1", 1), (b"BTS|3|all", 3), (b"BTS|many", None), (b"BTS|-2", None), ("BTS|\u0662".encode(), None)],
)
def test_a_wrong_count_is_told(trailer: bytes, said: int | None) -> None:
    assert wrong(BHS + b"\r" + oru("M1") + oru("M2") + trailer + b"\r") == [("BTS-1", said, 2)]


@pytest.mark.parametrize("trailer", [b"BTS|2", b"BTS| 2 |", b"BTS|002^x", b"BTS", b"BTS|", b"BTS||text"])
def test_a_right_count_and_none_are_not(trailer: bytes) -> None:
    expected = [("BTS-1", None, 2)] if b"^" in trailer else []
    assert wrong(BHS + b"\r" + oru("M1") + oru("M2") + trailer + b"\r") == expected


@pytest.mark.parametrize(("count", "is_wrong"), [(b"0", False), (b"1", False), (b"2", True)])
def test_messages_without_bhs_count_as_one_batch_or_none(count: bytes, is_wrong: bool) -> None:
    assert bool(wrong(FHS + b"\r" + oru("M1") + oru("M2") + b"FTS|" + count + b"\r")) is is_wrong


def test_an_empty_batch_holds_nothing() -> None:
    assert messages(BHS + b"\rBTS|0\r") == []
    assert wrong(BHS + b"\rBTS|0\r") == []


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_lines_may_end_in_every_way(end: bytes) -> None:
    body = join([oru("M1"), oru("M2")], BHS, FHS).replace(b"\r", end)
    assert messages(body) == [oru("M1").replace(b"\r", end), oru("M2").replace(b"\r", end)]


@pytest.mark.parametrize("garbled", [b"MHS", b"SH", b"\x00\x01MSH", b"", b"MSHX"])
def test_a_garbled_header_is_not_taken_for_a_segment_of_the_message_before(garbled: bytes) -> None:
    """Otherwise the next patient's segments would be read as the one's before."""
    broken = garbled + oru("M2")[3:]
    body = BHS + b"\r" + oru("M1") + broken + oru("M3") + b"BTS|3\r"
    found = messages(body)
    assert [found[0], found[2]] == [oru("M1"), oru("M3")]
    assert found[1].lstrip(BLANK) == broken.lstrip(BLANK)
    assert wrong(body) == []


def test_lines_that_belong_to_no_message_are_one_that_cannot_be_read() -> None:
    assert messages(BHS + b"\rPID|1||P0\r" + oru("M1") + b"BTS|2\rPID|1||P9\r") == [
        b"PID|1||P0\r",
        oru("M1"),
        b"PID|1||P9\r",
    ]


def test_names_of_segments_in_text_begin_nothing() -> None:
    message = oru("M1") + b"OBX|1|TX|||MSH BHS BTS|1\rBTSX|1\rOBX|2|TX|||MSH|^~\\&|\r"
    assert messages(BHS + b"\r" + message + b"BTS|1\r") == [message]


@pytest.mark.parametrize("body", [b"", b"MSH|^~\\&|A\r", b"BTS|1\r", b"x" * 70 + b"BHS|^~\\&\r", b"BH"])
def test_what_begins_with_neither_header_is_no_batch(body: bytes) -> None:
    assert not is_batch(body)
    with pytest.raises(MalformedMessage):
        split(body)


def test_nor_what_would_begin_one_behind_that_header() -> None:
    message = b"MSH#!*%@#RIS#DTI\rPID#1\rxx|^~\\&|\r"
    assert joinable(message, b"#!*%@")
    assert not joinable(message)


@pytest.mark.parametrize(
    "message",
    [b"MSHM|1\r", b"MSH 1\r", b"PID|1\r", oru("M1") + oru("M2"), oru("M1") + b"BTS|1\r", oru("M1")[1:], b"{}"],
)
def test_what_would_be_another_part_cannot_be_a_member(message: bytes) -> None:
    assert not joinable(message)


# -- cost ----------------------------------------------------------------------------------------------------------

MANY: dict[str, Callable[[int], bytes]] = {
    "messages": lambda number: join([oru("M1")] * number, BHS),
    "headers": lambda number: (BHS + b"\r") * number,
    "trailers": lambda number: BHS + b"\r" + b"BTS|1\r" * number,
    "files": lambda number: (FHS + b"\rFTS|0\r") * number,
    "garbled": lambda number: BHS + b"\r" + b"xx|^~\\&\r" * number,
    "near to garbled": lambda number: BHS + b"\r" + b"xxxxxxx|^~\\\r" * number,
    "one line": lambda number: BHS + b"\r" + b"MSH" * number,
}


def read_through(body: bytes) -> Split:
    found = split(body)
    for member in found.members:
        assert len(body[member.start : member.stop]) < len(body)
    assert found.wrong is not None
    return found


@pytest.mark.parametrize("kind", MANY)
def test_twice_as_many_parts_cost_twice_as_much(kind: str) -> None:
    def make(number: int) -> Callable[[], Split]:
        body = MANY[kind](number)
        return lambda: read_through(body)

    assert ratio(make, 500) <= LINEAR


def test_a_hundred_thousand_messages_are_split_and_none_is_copied() -> None:
    body = join([oru(f"M{number}") for number in range(100_000)], BHS)
    found = split(body)
    members = list(found.members)
    assert len(members) == 100_000
    assert found.wrong == ()
    # Each byte belongs to one message: together they are as long as what is between header and trailer.
    assert sum(member.stop - member.start for member in members) == len(body) - len(BHS) - 1 - len(b"BTS|100000\r")
    last = members[-1]
    assert body[last.start : last.stop] == oru("M99999")


# -- headers -------------------------------------------------------------------------------------------------------


def test_a_header_is_written_as_it_is_read() -> None:
    line = header_line("BHS", Separators.default, ("RIS", "A&B", "", "HERE"), NOW, "B|1", "B0")
    assert line == "BHS|^~\\&|RIS|A&B||HERE|20261127083000+0000||||B\\F\\1|B0"
    read = reading(line.encode())
    assert (read.read(3), read.read(6), read.value(11), read.read(12)) == ("RIS", "HERE", "B|1", "B0")


@pytest.mark.parametrize("line", [b"", b"BHS", b"BHS|", b"BHSAAAAA"])
def test_a_header_that_cannot_be_read_has_no_fields(line: bytes) -> None:
    assert reading(line).read(11) == ""


# -- answers -------------------------------------------------------------------------------------------------------


def counter() -> Callable[[], str]:
    numbers = iter(range(1, 1000))
    return lambda: f"A{next(numbers)}"


def acks(body: bytes, code: AckCode = AckCode.AA) -> list[list[bytes]]:
    """One ack for each message, by batches."""
    return [
        [
            make_ack(header, code, "X", NOW)
            for member in batch.members
            if (header := header_of(body[member.start : member.stop])) is not None
        ]
        for _, batch in split(body).batches
    ]


def test_the_answer_mirrors_files_and_batches_and_names_them() -> None:
    body = FHS + b"\r" + join([oru("M1"), oru("M2")], BHS) + join([], BHS.replace(b"B1", b"B2")) + b"FTS|2\r"
    found = split(body)
    raw = answer(found, acks(body), request_of(found, body), counter(), NOW)
    assert raw.count(b"\r") == len(raw.splitlines())
    file = split(raw).files[0]
    assert file.header == b"FHS|^~\\&|ENGINE|HERE|RIS|DTI|20261127083000+0000||||A3|F1"
    assert [batch.header[-5:] for batch in file.batches] == [b"A1|B1", b"A2|B2"]
    assert split(raw).wrong == ()
    read = read_answer(raw)
    assert read is not None
    assert read.references == {"F1", "B1", "B2"}
    assert {name: read_ack(ack).code for name, ack in read.acks.items()} == {"M1": "AA", "M2": "AA"}


def test_one_ack_for_the_whole_names_bhs_11_in_the_version_of_the_messages() -> None:
    body = join([oru("M1")], BHS)
    whole = request_of(split(body), body)
    ack = make_ack(whole, AckCode.AR, "A1", NOW, condition=100, location="BTS^1^1")
    read = read_ack(ack)
    assert (read.code, read.control_id, read.condition, read.location) == ("AR", "B1", "100", "BTS-1")
    assert ack.startswith(b"MSH|^~\\&|ENGINE|HERE|RIS|DTI|")
    assert b"|P|2.5.1" in ack
    answered = read_answer(wrapped(ack, whole, counter(), NOW))
    assert answered is not None
    assert (answered.references, list(answered.acks)) == ({"B1"}, ["B1"])


@pytest.mark.parametrize(
    ("body", "control_id"),
    [
        (FHS + b"\r" + oru("M1"), "F1"),
        (b"BHS|^~\\&\r" + oru("M1"), "M1"),
        (b"BHS\r" + oru("M1"), "M1"),
        (FHS + b"\r" + join([], BHS), "B1"),
        (FHS + b"\r" + join([], BHS) + join([], BHS), "F1"),
        (FHS + b"\r", "F1"),
        (b"BHS\rgarbage\r", ""),
        (b"BHS#!*%@#A\r" + oru("M1"), "M1"),
        (b"BHS#!*%@#A\r" + oru("M#1"), "M#1"),
    ],
)
def test_what_names_the_whole(body: bytes, control_id: str) -> None:
    whole = request_of(split(body), body)
    assert whole.control_id == control_id
    assert read_ack(make_ack(whole, AckCode.AA, "A1", NOW)).control_id == control_id


def test_an_answer_that_is_no_batch_is_none() -> None:
    assert read_answer(oru("M1")) is None
    with pytest.raises(MalformedMessage):
        read_answer(join([oru("M1")], BHS))


@given(_MARKS, st.lists(_INSIDE, min_size=4, max_size=12))
def test_whatever_a_header_says_an_answer_can_be_made_and_read(marks: bytes, fields: list[bytes]) -> None:
    head = marks[:1].join((b"BHS" + marks, *(value.replace(b"\x1c", b"") for value in fields)))
    body = head + b"\r" + oru("M1")
    found = split(body)
    whole = request_of(found, body)
    raw = answer(found, acks(body), whole, counter(), NOW)
    assert len(list(split(raw).members)) == 1
    assert read_ack(make_ack(whole, AckCode.AA, "A1", NOW)).code == "AA"


def test_a_batch_of_acknowledgements_is_never_acknowledged_itself() -> None:
    body = join([oru("M1")], BHS)
    assert is_acknowledgement(join(acks(body)[0], b"BHS|^~\\&"))
    assert is_acknowledgement(join(acks(body)[0], BHS))
    assert not is_acknowledgement(body)
    assert not is_acknowledgement(join([], BHS) + b"\rMSA|AA|1")


def test_a_batch_asks_for_no_mode_of_its_own() -> None:
    enhanced = oru("M1").replace(b"|2.5.1", b"|2.5.1|||AL|AL")
    assert wanted_by(enhanced).enhanced
    assert not wanted_by(b"BHS|^~\\&\r" + enhanced).enhanced


def test_a_batch_begins_a_frame_anew() -> None:
    body = join([oru("M1")], BHS)
    framer = Framer()
    assert framer.feed(b"\x0b" + oru("M0")[:20] + frame(body)) == [body]
    assert framer.abandoned == 1


def test_a_large_message_is_an_acknowledgement_when_its_header_and_a_line_say_so() -> None:
    ack = b"MSH|^~\\&|A|B|C|D|20260101||ACK|1|P|2.5.1\r"
    document = b"OBX|1|ED|||" + b"QUJD" * (LARGE // 4) + b"\r"
    assert is_acknowledgement(ack + document + b"MSA|AA|1\r")
    assert not is_acknowledgement(ack + document)
    assert not is_acknowledgement(ack.replace(b"ACK", b"ORU^R01") + b"MSA|AA|1\r" + document)
