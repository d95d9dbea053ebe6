"""What most messages are is read and written in a shorter way: it must come to what the long way comes to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import FrameTooLarge, MalformedMessage
from engine.hl7 import ack as acks
from engine.hl7 import answer as answers
from engine.hl7.ack import AckCode, make_ack, wanted_by
from engine.hl7.answer import AckRead, plain_yes, read_ack
from engine.hl7.header import header_of
from engine.hl7.message import Message
from engine.hl7.mllp import Framer
from engine.hl7.modes import ORIGINAL
from engine.transforms.building.version_rules import segment_rules

NOW = datetime(2026, 1, 5, 10, 15, tzinfo=UTC)
#: Texts with every delimiter, bytes of no charset, line ends, nulls.
TEXT = st.text(alphabet='AZaz09 |^~\\&"#\r\n\x0b\x1c._-é', max_size=8)
FIELD = st.one_of(TEXT, st.sampled_from(["", "2.5.1", "2.3", "AL", "NE", "SIU^S12^SIU_S12", "ACK", '""', "M1"]))


#: What may stand behind an MSA.
MORE = st.lists(
    st.one_of(
        TEXT,
        st.sampled_from(
            ["QAK|1|OK", "DSP|1||ID=1", "ERR||QRD^1^10|204|E", "\nERR|x", "MSA|AE|M2", "PID|1||M1||Müller", ""]
        ),
    ),
    max_size=3,
)


def message(fields: list[str], *rest: str) -> bytes:
    return "\r".join(["|".join(["MSH", "^~\\&", *fields]), *rest, ""]).encode("utf-8", "surrogateescape")


def result(ask: Any) -> Any:
    try:
        return ask()
    except MalformedMessage as error:
        return type(error)


def everything(parsed: Message) -> tuple[Any, ...]:
    return parsed.text, parsed.charset, parsed.names(), parsed.separators, parsed.to_bytes()


@given(st.lists(FIELD, max_size=20), TEXT)
def test_a_plain_message(fields: list[str], rest: str) -> None:
    raw = message(fields, f"PID|1||{rest}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Message, "usual", lambda _raw: None)
        long = result(lambda: everything(Message.parse(raw)))
    assert result(lambda: everything(Message.parse(raw))) == long
    unsplit = Message.usual(raw, split=False)
    if unsplit is not None:
        assert (unsplit.text, *everything(unsplit)) == (long[0], *long)
        assert unsplit.control_id == Message.parse(raw).control_id
        for name in ("MSH", "PID", "PI", "OBX"):
            assert [Message.usual(raw, split=split).count(name) for split in (True, False)] == [long[2].count(name)] * 2


@given(
    st.lists(st.one_of(FIELD, st.just("")), min_size=8, max_size=18),
    st.sampled_from(["AA", "CA", "AE", "XX", "A"]),
    st.one_of(FIELD, st.just("M1")),
    st.one_of(TEXT, st.just("")),
    MORE,
)
def test_a_plain_answer(fields: list[str], code: str, control_id: str, more: str, rest: list[str]) -> None:
    raw = message([*fields[:6], "DSR^Q01", *fields[7:]], f"MSA|{code}|{control_id}{more}", *rest)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "_PLAIN_ANSWER", answers.re.compile(rb"(?!)"))
        long = result(lambda: read_ack(raw))
    assert result(lambda: read_ack(raw)) == long


@given(
    st.lists(st.one_of(FIELD, st.just("")), min_size=8, max_size=18),
    st.sampled_from(["AA", "CA", "AE", "XX", "A"]),
    st.sampled_from(["M1", "M-1.2", "M 1", "", "é", '"', "M\x0b1", "M\x1c1"]),
    st.sampled_from(["", "|", "|text", "\r\x1c", "\x0bMSH"]),
    st.sampled_from([b"\x1c\r", b"\r\x1c\r", b"\x1c\n", b"", b"\x1c\r\x1c\r"]),
    MORE,
)
def test_a_plain_yes(fields: list[str], code: str, control_id: str, more: str, end: bytes, rest: list[str]) -> None:
    fields = [*fields[:6], "DSR^Q01", *fields[7:]]
    stream = b"\x0b" + message(fields, f"MSA|{code}|{control_id}{more}", *rest)[:-1] + end
    plain = plain_yes(stream)
    if plain is not None:
        [body] = Framer().feed(stream)
        ack = read_ack(bytes(body))
        assert (body, plain) == (stream[1:-2], (ack.code.value, ack.control_id))
        assert ack == AckRead(ack.code, ack.control_id, ack.message_type, raw=ack.raw)
        assert ack.code.positive


@pytest.mark.parametrize("end", [b"\x1c\r", b"\r\x1c\r", b"|\x1c\r"])
def test_a_usual_answer_is_plain(end: bytes) -> None:
    head = b"\x0bMSH|^~\\&|EMR|SITEB|||20260105101500||ACK^S12|1|P|2.3.1\r"
    assert plain_yes(head + b"MSA|AA|M1" + end) == ("AA", "M1")
    assert plain_yes(head + b"MSA|AE|M1" + end) is None
    assert plain_yes(head + b"MSA|AA|M1\rQAK|1|OK\rDSP|1||ID=\xc3\xa9" + end) == ("AA", "M1")
    assert plain_yes(head + b"MSA|AA|M1\rQAK|1|OK\rERR||QRD^1^10|204|W" + end) is None


@given(st.lists(FIELD, max_size=18))
def test_what_a_message_asks_for(fields: list[str]) -> None:
    raw = message(fields)
    header = header_of(raw)
    assert wanted_by(raw) == (header.wanted if header is not None else ORIGINAL)


@pytest.mark.parametrize("last", [b"AL\xe9", b"AL\n", b"\xe9"])
def test_what_a_message_asks_for_whose_only_line_has_no_end(last: bytes) -> None:
    raw = b"MSH|^~\\&|A|B|C|D|20260105101500||SIU^S12|M1|P|2.5.1|||" + last
    header = header_of(raw)
    assert header is not None
    assert wanted_by(raw) == header.wanted


@given(
    st.lists(FIELD, max_size=20),
    st.sampled_from([AckCode.AA, AckCode.CA]),
    st.sampled_from(["X1", "X-1", "é"]),
    st.sampled_from(["ascii", "utf-16-le"]),
)
def test_a_positive_ack(fields: list[str], code: AckCode, control_id: str, codec: str) -> None:
    header = header_of(message(fields).decode("latin-1").encode(codec, "replace"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acks, "positive_ack", lambda *_args, **_more: None)
        moments = (NOW, NOW + timedelta(seconds=1), NOW)  # what all acks of one second share is made once
        long = [make_ack(header, code, control_id, moment) for moment in moments]
    assert [make_ack(header, code, control_id, moment) for moment in moments] == long


def fed(stream: bytes, cuts: list[int]) -> tuple[Any, ...]:
    framer, bodies = Framer(64), list[Any]()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        data = stream[start:end]
        if data and (single := framer.single(data)) is not None:
            bodies.append(single)
            continue
        try:
            bodies += map(bytes, framer.feed(data))
        except FrameTooLarge:
            bodies.append("too large")
    return bodies, framer.pending, framer.junk_bytes, framer.abandoned, framer.hint, framer.incomplete


@given(
    st.lists(st.sampled_from([b"\x0b", b"\x1c\r", b"\x1c", b"\r", b"MSH|", b"x" * 30, b"\x0bA\x1c\r"]), max_size=12),
    st.lists(st.integers(0, 60), max_size=4),
)
def test_whole_frames(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    cuts = sorted(min(cut, len(stream)) for cut in cuts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Framer, "single", lambda _framer, _data: None)
        patch.setattr(Framer, "_several", lambda _framer, _data: None)
        long = fed(stream, cuts)
    assert fed(stream, cuts) == long


@given(
    st.sampled_from(["PID", "SCH", "PV1", "AIL", "RGS", "ARQ", "ZXX", "MSH"]),
    st.sampled_from(["2.3", "2.3.1", "2.5.1", "2.7"]),
    st.lists(
        st.one_of(
            st.text(alphabet="aA^~&|R", max_size=6), st.sampled_from(["Routine", "ROUTINE", "routine^a", "routines"])
        ),
        max_size=30,
    ),
)
def test_a_segment_that_is_left_is_one_that_the_rules_would_not_change(
    name: str, version: str, fields: list[str]
) -> None:
    line = "|".join([name, *fields])
    rules = segment_rules(version, name)
    if rules.leave(line):
        split = line.split("|")
        rules.apply(split)
        assert "|".join(split).rstrip("|") == line


def test_most_segments_are_left() -> None:
    kept = {"PID|1||MRN1^^^HOSPITAL^MR||Doe^Jane||19800101|F", "AIS|1|A|71020^Chest^LN|20260110090000", "RGS|1|A"}
    assert all(segment_rules("2.3.1", line[:3]).leave(line) for line in kept)
