"""What most steps do is compiled to a shorter way: it must come to what the long way comes to."""

from __future__ import annotations

import re
from collections import deque
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.envelope import Envelope, Origin
from engine.errors import StepFailed
from engine.hl7.dictionary import SUPPORTED_VERSIONS, segments
from engine.hl7.message import Message
from engine.hl7.path import Path
from engine.transforms.base import Context, Verdict
from engine.transforms.building import conversion, passage
from engine.transforms.building.conversion import Conversion
from engine.transforms.building.passage import Known, known, never, taken_apart
from engine.transforms.convert import Convert
from engine.transforms.values.conditions import compile_condition
from engine.transforms.values.direct import data_of, hl7_of, read_of
from engine.transforms.values.places import putter, read_place, reader, write_place
from engine.transforms.values.readers import Literal, Value
from engine.transforms.values.scope import Scope
from engine.transforms.values.targets import target
from engine.transforms.values.text import HL7Text, as_data
from engine.transforms.values.times import Moment
from engine.transforms.values.value import Compiler

from .conftest import FakeContext, FakeLoading

#: Fields with every delimiter, escapes, line feeds, nulls, bytes of no charset.
FIELD = st.one_of(
    st.text(alphabet='AZ09^~\\&"# \né\udce9', max_size=7),
    st.sampled_from(
        ["", '""', "A^B^C", "A&B^C~D^E", "\\F\\", "\\X41\\", "HOSPITAL", "2026", "Routine", "1^2^3^4^5^6^7"]
    ),
)
LINE = st.tuples(
    st.sampled_from(["PID", "SCH", "PV1", "AIL", "AIS", "AIP", "RGS", "NTE", "TQ1", "OBR", "OBX", "ZXX", "DG1"]),
    st.one_of(st.lists(st.sampled_from(["", "1", "A"]), max_size=30), st.lists(FIELD, max_size=30)),
)
VERSION = st.sampled_from(["2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8.2", "", "9"])
KIND = st.sampled_from(
    ["SIU^S12^SIU_S12", "SIU^S12", "ADT^A04^ADT_A04", "ORU^R01", "ZZZ^Z01^ZZZ_Z01", "SI\\X55\\^S12", "ACK"]
)
PATHS = "PID-3 PID-3.1 PID-3.4 PID-3[2].1 PID-3.1.2 PID[2]-3 SCH-25 ZXX-1 MSH-3 MSH-9.2 MSH-9.1 MSH-12 MSH-2 NTE-3"
PATH = st.sampled_from([*map(Path.parse, PATHS.split()), Path.parse("OBX[2]-5.1"), Path.parse("DG1")])
TEXTS = [None, "", "RIS", "a|b\n", '""', HL7Text("A^B"), HL7Text("A^B|"), HL7Text("\\F\\"), 7, True]
ROWS = [{"of": "x^y"}, MappingProxyType({"of": "RIS"}), {"of": None}, {"of": ["a", 1]}, {"of": {"deep": 1}}, {"0": "z"}]
LISTS = [[], ["a", "b"], ["", HL7Text("A^B")], [object()]]
VARIABLE = st.sampled_from([*TEXTS, *ROWS, *LISTS, Moment(datetime(2026, 1, 5, 10, 15, tzinfo=UTC)), object()])


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Messages with usual and unusual delimiters, as received or with some of it written."""
    kind, version = draw(KIND), draw(VERSION)
    header = ["MSH", "^~\\&", *draw(st.lists(FIELD, min_size=6, max_size=6)), kind, "M1", "P", version]
    header += draw(st.one_of(st.just([]), st.lists(FIELD, max_size=8), st.just(["", "", "", "", "", "8859/1"])))
    lines = ["|".join(header), *("|".join([name, *fields]) for name, fields in draw(st.lists(LINE, max_size=9)))]
    raw = ("\r".join(lines) + "\r").encode("utf-8", "surrogateescape")
    if draw(st.integers(0, 4)) == 0:
        raw = raw.translate(bytes.maketrans(b"|^~\\&", b"!$*?;"))
    message = Message.parse(raw, draw(st.sampled_from([None, None, "UTF-8"])))
    for path in draw(st.lists(PATH.filter(lambda path: path.field and path != Path.parse("MSH-2")), max_size=2)):
        message.write(path, "W")
    return message


def envelope(body: Any, variable: Any = None) -> Envelope:
    return Envelope(body, Origin("mllp"), "c", "test", 1, 0.0, {"it": variable})


def result(ask: Any) -> Any:
    try:
        return ask()
    except StepFailed as error:
        return str(error)


@given(st.one_of(messages(), st.just({"a": 1}), st.just(b"x")), PATH)
def test_a_place_is_read(body: Any, path: Path) -> None:
    long = read_place(envelope(body.copy() if isinstance(body, Message) else body), path)
    assert reader(path)(envelope(body), FakeContext()) == long


@given(messages(), PATH.filter(lambda path: path.field), st.one_of(FIELD, st.just("a|b")))
def test_a_place_is_written(message: Message, path: Path, text: str) -> None:
    def written(put: Any) -> Any:
        moving = envelope(message.copy())
        return result(lambda: put(moving)), moving.body.text, moving.body.to_bytes("UTF-8", "replace")

    context = FakeContext()
    long = written(lambda moving: write_place(moving.body, path, text, "set"))
    for said in (text, lambda _envelope, _context: text):
        assert written(lambda moving, said=said: putter([(path, said)], "set")(moving, context)) == long  # type: ignore[misc]


def test_a_place_of_what_is_no_message_is_not_written() -> None:
    for path in ("PID-3", "PID-3.1"):
        for value in (Literal("x"), Compiler(FakeLoading(), "set").source("PID-5")):
            with pytest.raises(StepFailed, match="wrong_body"):
                target(path, (), "set").putting(value)(envelope({"a": 1}), FakeContext())


SPECS = ["$it", "$it.of", "$it.of.deep", "$it.0", "$other", "$control_id", "RIS", "A^B", {"from": "PID-3.1"}]
SPECS += ["$body", "$body.b", "$body.b.c", "$body.b.0", "$body.b.of", "$body.b.of.deep", "$body.b.of.0"]
SPECS += ["$header.X-It", ["$body.c", "$it.of", "x"]]
SPECS += [{"from": "PID-5", "default": "$it"}, ["$it", "x"], {"parts": {1: "$it.of", 2: "x"}}, "{{ it }}", 7]


@given(messages(), VARIABLE, st.sampled_from(SPECS), st.booleans(), st.booleans())
def test_a_value_is_read(message: Message, variable: Any, spec: Any, replying: bool, asked: bool) -> None:
    value: Value = Compiler(FakeLoading(), "set").value(spec)
    moving, context = envelope(message, variable), FakeContext()
    moving.request = {"b": variable} if asked else None
    if replying:
        context.request = envelope({"b": 2}, "asked")
        context.request.variables["other"] = {"of": "y"}
    scope = Scope(moving, context)
    assert repr(result(lambda: read_of(value)(moving, context))) == repr(result(lambda: value.read(scope)))
    assert result(lambda: hl7_of(value)(moving, context) or "") == result(lambda: value.hl7(scope))
    assert result(lambda: data_of(value)(moving, context)) == result(lambda: value.data(scope))


@given(messages(), PATH.filter(lambda path: path.field), FIELD)
def test_a_place_is_compared(message: Message, path: Path, text: str) -> None:
    condition = compile_condition({str(path): [text, "SIU"]}, FakeLoading())
    assert condition(envelope(message), FakeContext()) is (message.value(path) in (as_data(HL7Text(text)), "SIU"))


def of(lines: list[str]) -> Message:
    return Message.of_lines(["MSH|^~\\&", *lines])


def converted(convert: Convert, message: Message, context: Context) -> Any:
    moving = envelope(message.copy())
    verdict = result(lambda: convert.run(moving, context))
    if verdict is not Verdict.CONTINUE:
        return verdict
    body = moving.body
    return body.text, body.charset, body.type, body.version, body.control_id, moving.charset, body.names()


USUAL = """SCH|A1^SCHED|P1^RIS|||||ROUTINE^Routine|MRI^MRI head^L|30|min|^^30^2026^2027|D^M^C^^^Dr|||||||||U|||||BOOKED|
PID|1|O^X|1^^^HOSP^MR~2||DUPONT^MARIE^A^^^MD||1970|F|A^B||12 RUE^^LYON^^69003^FRA|C|04^PRN^PH^^33|||||||S|L^X|||||||||
PV1|1|O|RAD^MR1^^HOSP||||D12^Moreau^Claire^^^Dr^MD~D13^B||||||||||V1^^^H^VN|||||||||||||||||||||||||||||||||||A|B
RGS|1|A|X^Y|Z
AIS|1|A|MRI^MRI head^L|2026|||30|min|NO^x|S|1^a|2^b
AIL|1|A|MR1^^^HOSP~MR2^^^HOSP|RAD^Radiology|||2026|||30|min|NO
OBR|1|P|F|A^B|R||2026|2027||||||||D^M||||||||||F|||||1^2|X
OBX|1|TX|A^b^c^d^e^f^g||free ^ text~x||N|||F|||2026|||I|X^Y|E
TQ1|1|1^t|Q1|0800~0900|||2026|2027|R
ARQ|1|2|3|||FOLLOWUP^x|followup|R^x"""


@st.composite
def usual_messages(draw: st.DrawFn) -> Message:
    """Messages of lines that all have the same delimiters and hold one thing and another, or nothing."""
    lines = ["MSH|^~\\&|A|B|C|D|2026||SIU^S12^SIU_S12|M1|P|" + draw(st.sampled_from(["2.3", "2.3.1", "2.5.1", "2.7"]))]
    for line in draw(st.lists(st.sampled_from(USUAL.splitlines()), max_size=7)):
        parts = re.split("([|^~])", line)
        for at in draw(st.lists(st.integers(1, len(parts) - 1), max_size=12)):
            if parts[at] not in "|^~":
                parts[at] = draw(st.sampled_from(["", "", "x", "Routine", "walkin"]))
        lines.append("".join(parts))
    return Message.from_text("\r".join(lines))


@settings(deadline=None)  # the form of a segment is compiled
@given(
    st.lists(st.one_of(messages(), usual_messages()), min_size=1, max_size=4),
    st.sampled_from(["2.3", "2.3.1", "2.5.1", "2.6", "2.7"]),
    st.booleans(),
)
def test_a_message_is_converted(some: list[Message], version: str, filled: bool) -> None:
    config = {"version": version, "defaults": {"AIL-4": "C", "PID-3": "$it"} if filled else {}}
    short, long = (Convert(Convert.Config(**config), FakeLoading()) for _ in range(2))
    context = FakeContext()
    for message in some:
        assert converted(short, message, context) == taken_all_apart(long, message, context)


def taken_all_apart(convert: Convert, message: Message, context: Context) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conversion, "getitem", lambda passage, _: taken_apart if isinstance(passage, Known) else None)
        patch.setattr(Known, "form", staticmethod(never))
        return converted(convert, message, context)


def test_times_move_out_of_segments_as_they_came_in() -> None:
    """Also out of one that was found to become another before it was known that something moves."""
    message = of(["AIS|1||A|^^^2026^2027|", "AIL|1||A|||2028|", "SCH|1|||||R"])
    message.write(Path.parse("MSH-9"), "SIU^S12")
    message.write(Path.parse("MSH-12"), "2.5")
    convert, context = Convert(Convert.Config(version="2.4"), FakeLoading()), FakeContext()
    expected = taken_all_apart(convert, message, context)
    assert "\rSCH|1|||||R|||||^^^^^^2026^2027\r" in expected[0]
    assert converted(convert, message, context) == expected


def test_what_came_in_stays_as_it_came() -> None:
    message = of([*USUAL.splitlines(), "PID|1|O|1~2|" + "|" * 30 + "X"])
    message.write(Path.parse("MSH-9"), "SIU^S12")
    message.write(Path.parse("MSH-12"), "2.7")
    before = message.text
    for version in ("2.3", "2.5.1", "2.7"):
        moving = envelope(message)
        Convert(Convert.Config(version=version), FakeLoading()).run(moving, FakeContext())
        assert moving.body is not message
        assert message.text == before


def test_a_message_that_is_in_the_version_goes_as_a_whole() -> None:
    raw = b"MSH|^~\\&|A|B|||20260105||SIU^S12^SIU_S12|M1|P|2.5.1|||AL\r"
    raw += b"SCH|1^A||||||||||^^30^2026\rPID|1||M1^^^H^MR\rRGS|1\r"
    convert, context = Convert(Convert.Config(version="2.3.1"), FakeLoading()), FakeContext()
    expected = converted(convert, Message.parse(raw), context)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Conversion, "_carried", None)
        assert converted(convert, Message.parse(raw), context) == expected
    assert expected[0].startswith("MSH|^~\\&|A|B|||20260105||SIU^S12^SIU_S12|M1|P|2.3.1|||AL\rSCH|1^A|")


def test_a_segment_that_is_not_in_the_version_leaves_the_others_as_they_stand() -> None:
    made = Conversion("2.3.1", "SIU", "S12", "", "2.5.1")
    lines = ["SCH|1^A||||||ROUTINE^a~b||||^^^2026", "PID|1||M1^^^H^MR~M2||A^B", "ZXX|a^~|", "ZXX|~", "UAC|1"]
    assert made.lines(of(lines), {})[1:] == [
        "SCH|1^A||||||Routine^a~b||||^^^2026",
        *lines[1:2],
        "ZXX|a^~",
        *lines[3:],
    ]


def test_what_becomes_of_delimiters_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Conversion("2.3.1", "SIU", "S12", "", "2.5.1")
    lines = USUAL.splitlines()
    first = made.lines(of(lines), {})
    monkeypatch.setattr(Known, "__missing__", None)
    assert made.lines(of(lines), {}) == first
    assert made.lines(of([line.replace("2026", "2028") for line in lines]), {})


def test_no_more_ways_are_remembered_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: deque[tuple[Known, bytes]] = deque()
    monkeypatch.setattr(passage, "_WAYS", remembered)
    monkeypatch.setattr(passage, "MOST_WAYS", 5)
    some = [Known("2.5.1", "2.3.1", name) for name in ("PID", "PV1")]
    for number in range(12):
        assert some[number % 2][b"|" * number] is None
    assert sorted(len(known) for known in some) == [2, 3]
    assert [key for _, key in remembered] == [b"|" * number for number in range(7, 12)]
    assert some[0][b"|" * (passage.LONGEST + 1)] == some[0]._match
    assert len(remembered) == 5


def test_senders_who_make_names_and_versions_up_have_nothing_made_for_them() -> None:
    made = Conversion("2.3.1", "SIU", "S12", "", "2.5.1")
    made.lines(of([f"{number:03}|1" for number in range(conversion._MOST + 10)]), {})
    assert made.lines(of(["Z" * 10_000 + "|"]), {})[1:] == ["Z" * 10_000]
    assert len(made._passages) == conversion._MOST
    assert max(map(len, made._passages)) == 3
    assert Conversion("2.3.1", "SIU", "S12", "", "2.5.3")._passages["PID"][b"|"] is taken_apart


@pytest.mark.parametrize("old", SUPPORTED_VERSIONS[2:])
def test_a_form_is_made_in_no_time(old: str) -> None:
    """While it is made for a segment that no message had before, all others wait."""
    for name in segments(old):
        for new in ("2.3", "2.7"):
            form = known(old, new, name).form
            assert form is never or len(form.__self__.pattern) < 3_000, name  # type: ignore[attr-defined]
