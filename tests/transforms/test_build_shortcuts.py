"""Builds and templates are compiled to shorter ways: they must come to what the long ways come to."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.envelope import Envelope, Origin
from engine.errors import Refused, StepFailed
from engine.hl7.message import Message
from engine.transforms import build as build_step
from engine.transforms.building import segments
from engine.transforms.building.blanks import Blanks
from engine.transforms.values.formats import Formatted
from engine.transforms.values.readers import Literal
from engine.transforms.values.sandbox import Template
from engine.transforms.values.scope import Scope, Times
from engine.transforms.values.text import HL7Text
from engine.transforms.values.times import Moment

from .conftest import FakeContext, FakeLoading

MOMENT = Moment(datetime(2026, 1, 5, 10, 15, tzinfo=UTC))
PLAIN = st.one_of(st.text(alphabet='AZ09 -."é', max_size=6), st.none())
TEXT = st.one_of(PLAIN, st.sampled_from(["A|B", "a^b", "x\ny", '""', "~", "%s", "\udce9"]))
#: What is no JSON: steps put it there.
OTHER = st.sampled_from([HL7Text("A^B~C"), HL7Text("^B"), HL7Text(""), 7, 1.5, True, MOMENT, ["a", "b"], [], {"d": 1}])
OBJECTS = st.dictionaries(st.sampled_from("abcdef"), st.one_of(TEXT, OTHER))
ONLY_PLAIN = st.dictionaries(st.sampled_from("abcdef"), PLAIN)
#: Most are plain, as they are in life: one that is not takes all others the long way.
HELD = st.one_of(ONLY_PLAIN, ONLY_PLAIN, OBJECTS, ONLY_PLAIN.map(MappingProxyType), TEXT, OTHER)

FIELDS = {
    "MSH": {"3": "A", "4": "$it.a", "5": "C", "6": "$other.a"},
    "PID": {"1": "1", "3.1": "$it.a", "3.4": "$it.b", "3.5": "M{}R%{", "5": "$it.c", "7": "$it.d.d"}
    | {"18.1": "$it.d", "18.2": "$it.e", "18.4": "$other.b"},
    "PV1": {"1": "1", "2": "O", "3.1": "$body.a", "3.2": {"from": "$it.a", "default": "B^C"}, "3.4": "$it.b"},
    "ORC": {"1": "NW", "2": "$it.f", "7.1": "1", "7.3": "M{{ it.a }}", "7.4": "$moment", "7.6": "R"},
    "OBR": {"1": "1", "4.1": "$body.b", "27.3": "M{{ it.a }}", "27.4": {"from": "$moment"}},
    "NTE": {"1": "1", "2": {"from": "$it.f", "map": {"A": "B"}, "missing": "keep"}, "3": "$body.c"},
}
#: What must be there: the first of it that is not is told of.
NEEDED = {
    "PV1-10": {"from": "$it.a", "missing": {"error": "missing_parameter"}},
    "OBR-4.1": {"from": "$body.b", "missing": "park"},
    "OBR-4.3": {"from": "$query.none", "default": "L"},
    "OBR-19": {"from": "$other.a", "default": "A^B"},
    "OBR-20": {"from": "$it.f", "format": "timestamp"},
    "OBR-27.4": {"from": "$it.c", "format": "timestamp"},
}
SCHEDULE = {
    "message": "SIU^S12",
    "version": "2.3",
    "fields": {"MSH-3": "A", "MSH-4": "B", "MSH-5": "C", "MSH-6": "D", "SCH-1.1": "$it.a", "SCH-6": "$it.b"}
    | {"SCH-7": "$body.a", "SCH-11.4": "$moment", "PID-3": "$it.c", "PID-5": "$query.q", "RGS-1": "1"}
    | {"AIS-1": "1", "AIS-3": "$it.d", "AIS-4": "$moment", "SCH-25": "$other.f"}
    | {"SCH-2": "$it.f", "SCH-16": "$it.e", "SCH-20": "X"},
}
FIELDS_OF_ALL = {f"{name}-{number}": value for name, fields in FIELDS.items() for number, value in fields.items()}
CONFIG = {"message": "ORM^O01", "version": "2.5.1", "fields": FIELDS_OF_ALL, "segments": {"NTE": {"after": "OBR"}}}


def moving(body: Any, it: Any, other: Any) -> tuple[Envelope, FakeContext]:
    variables = {"it": it, "other": other, "moment": MOMENT}
    envelope = Envelope(body, Origin("rest", query={"q": "x"}), "c", "test", 1, 0.0, variables, request=body)
    return envelope, FakeContext()


def built(config: dict[str, Any], *held: Any) -> str:
    envelope, context = moving(*held)
    try:
        FakeLoading().chain([{"build": config}], ()).run(envelope, context)
    except (StepFailed, Refused) as error:
        return repr(error)
    assert isinstance(envelope.body, Message)
    return envelope.body.text


def part_by_part(number: int, parts: Any, constant: bool, _blanks: Any) -> segments.FieldPlan:
    return segments.FieldPlan(number, segments._assembled(parts, constant), constant)


FULL = st.fixed_dictionaries({name: st.sampled_from(["A", "b c", "é"]) for name in "abcdef"})


@settings(deadline=None)  # each is compiled
@given(
    st.sampled_from([CONFIG, CONFIG | {"fields": FIELDS_OF_ALL | NEEDED}, SCHEDULE]),
    FULL | ONLY_PLAIN | st.just({"a": "routine"}),
    FULL | HELD,
    FULL | HELD,
)
def test_a_message_is_built_of_what_is_read_together(config: dict[str, Any], body: Any, it: Any, other: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Blanks, "number", lambda *_: None)
        patch.setattr(segments, "_of_components", part_by_part)
        patch.setattr(build_step, "Once", lambda value: value)
        expected = built(config, body, it, other)
    assert built(config, body, it, other) == expected


def test_of_two_that_are_wrong_the_first_is_told_of() -> None:
    """In the order of their fields, also where a later one is a field as a whole and the first a part of one."""
    fields = {name: value for name, value in FIELDS_OF_ALL.items() if not name.startswith("OBR")}
    fields |= {"OBR-4.1": {"from": "$body.b", "missing": {"error": "missing_parameter"}}, "OBR-4.2": "x"}
    fields |= {"OBR-7": {"from": "$it.f", "format": "timestamp"}}
    it = dict.fromkeys("abc", "A") | {"f": "no time"}
    assert "missing_parameter" in built(CONFIG | {"fields": fields}, {"a": "A"}, it, {"a": "A"})
    assert "not_a_time" in built(CONFIG | {"fields": fields}, {"a": "A", "b": "B"}, it, {"a": "A"})


def test_one_blank_or_none_will_do() -> None:
    needed: dict[str, Any] = {
        "MSH-3": "A",
        "MSH-4": "B",
        "MSH-5": "C",
        "MSH-6": "F",
        "ORC-1": "NW",
        "ORC-7": "1",
        "PID-3": "M",
        "PID-5": "D",
    }
    for fields in (needed, needed | {"MSH-6": "$it.a"}, needed | {"MSH-6": "$other"}):
        text = built(CONFIG | {"version": "2.3", "fields": fields}, {}, {"a": "F&"}, "G")
        assert text.startswith("MSH|^~\\&|A|B|C|")


MEMBERS = st.sampled_from(["it", "it.a", "it.b.d", "other", "other.c.d.e", "body", "body.a", "query.q", "header.x"])
MEMBERS |= st.sampled_from(["site.ris", "channel", "control_id", "self", "moment", "missing", "missing.too"])
EITHER = st.lists(MEMBERS, min_size=1, max_size=3).map(" or ".join)
COMPARED = st.tuples(MEMBERS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), MEMBERS).map(" ".join)
EXPRESSION = st.one_of(EITHER, COMPARED)
SOURCE = st.one_of(
    EXPRESSION.map("{{{{ {} }}}}".format),
    st.lists(st.one_of(st.sampled_from(["M", "|", " ", "\n"]), EXPRESSION.map("{{{{ {} }}}}".format)), min_size=1).map(
        "".join
    ),
)


@settings(deadline=None)
@given(SOURCE, ONLY_PLAIN, HELD, HELD)
def test_a_template_of_members_is_read_without_jinja(source: str, body: Any, it: Any, other: Any) -> None:
    short, long = (Template(source, {"ris": {"version": "2.3"}}, (), "test") for _ in range(2))
    long._plain = None
    assert short._plain is not None or "self" in source

    def read(template: Template) -> Any:
        try:
            value = template.read(Scope(*moving(body, it, other)))
        except StepFailed as error:
            return str(error)
        return type(value), value

    assert read(short) == read(long)


DAYS = st.sampled_from(
    ["2027-01-31", "20270131", "202701310930", "2027-03-28T01:30:00Z", "2027-02-30", "20270131^x", " "]
)
WORDS = st.sampled_from(["timestamp", "day_start", "day_end", "day", "date", "iso"])


@given(DAYS | st.text("0123456789-T:+Z^ ", max_size=16), WORDS, st.sampled_from(["Europe/Berlin", ""]), st.booleans())
def test_a_time_that_is_text_is_written_as_one_that_is_read(text: str, word: str, zone: str, offset: bool) -> None:
    def written(said: str) -> str:
        scope = Scope(*moving({}, None, None), Times(minutes_only=offset, offset=offset))
        try:
            return Formatted(Literal(said), word, zone=Literal(zone)).hl7(scope)
        except StepFailed as error:
            return repr(error)

    # Text that is HL7 already goes the long way.
    assert written(text) == written(HL7Text(text))
