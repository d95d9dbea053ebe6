"""Build: what it makes of a mapping, how mappings extend each other, and what is refused when the channel loads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.envelope import Envelope
from engine.errors import SpecError, StepFailed, Unmappable
from engine.hl7.message import Message

Make = Callable[..., Envelope]
Build = Callable[..., Message]

HEADER = {"MSH-3": "A", "MSH-4": "B", "MSH-5": "C", "MSH-6": "D"}


@pytest.fixture
def build(kit: SimpleNamespace, envelope: Make) -> Build:
    """Run one build on a body (or a request) and return the message."""

    def go(config: dict[str, Any], body: Any = None, *, files: dict[str, Any] | None = None, **more: Any) -> Message:
        made = envelope(body, **({"request": {}} if body is None else {}) | more)
        kit.Loading(files=files or {}).chain([{"build": config}], ()).run(made, kit.Context())
        assert isinstance(made.body, Message)
        return made.body

    return go


def _query(**fields: Any) -> dict[str, Any]:
    needed = {"QRD-1": "2025", "QRD-2": "D", "QRD-3": "I", "QRD-4": "Q1", "QRD-7": "1^RD", "QRD-8": "ALL"}
    rest = {"QRD-9": "OTH", "QRD-10": "LOC"}
    return {"message": "QRY^Q01", "version": "2.3", "fields": HEADER | needed | rest | fields}


def test_the_engine_fills_its_own_header_fields(build: Build) -> None:
    message = build(_query() | {"charset": "8859/1"})
    assert message.text.split("\r")[0] == ("MSH|^~\\&|A|B|C|D|20250115083204||QRY^Q01|EN0000000101|P|2.3||||||8859/1")
    assert build(_query(**{"MSH-11": "T", "MSH-8": "s"})).read("MSH-11") == "T"


@pytest.mark.parametrize(
    ("version", "kind", "time"),
    [
        ("2.3", "QRY^Q01", "20250115083204"),
        ("2.3.1", "QRY^Q01^QRY_Q01", "20250115083204"),
        ("2.5", "QRY^Q01^QRY_Q01", "20250115083204-0500"),
    ],
)
def test_type_and_times_follow_the_version(version: str, kind: str, time: str, build: Build) -> None:
    message = build(_query() | {"version": version})
    assert (message.read("MSH-9"), message.read("MSH-7"), message.version) == (kind, time, version)


def test_times_are_written_as_the_definition_says(build: Build) -> None:
    times = {"precision": "minute", "offset": "always", "zone": "America/New_York"}
    message = build(
        _query(**{"QRD-1": "$body.at", "QRD-6": {"from": "$body.at", "format": "timestamp"}}) | {"times": times},
        request={"at": "2025-01-16T15:00:00Z"},
    )
    assert message.read("QRD-1") == "2025-01-16T15:00:00Z"
    assert message.read("QRD-6") == "202501161000-0500"
    assert message.read("MSH-7") == "202501150832-0500"


def test_constants_alone_make_no_segment_and_no_field(build: Build) -> None:
    order = {
        "message": "ORM^O01",
        "version": "2.3",
        "fields": HEADER
        | {"PID-1": "1", "PID-3.1": "$body.mrn", "PID-3.5": "MR", "PID-5": "Doe^John", "PID-18.1": "$body.account"}
        | {"PID-18.4": "AUTH", "ORC-1": "CA", "ORC-2": "X", "ORC-7": "1^^^^^R", "NTE-1": "1", "NTE-3": "$body.notes"},
    }
    message = build(order, request={"mrn": "M1"})
    assert message.names() == ["MSH", "PID", "ORC"]
    assert message.text.split("\r")[1] == "PID|1||M1^^^^MR||Doe^John"
    assert build(order, request={"mrn": "M1", "notes": "x"}).names() == ["MSH", "NTE", "PID", "ORC"]
    placed = order | {"segments": {"NTE": {"after": "ORC"}}}
    assert build(placed, request={"mrn": "M1", "notes": "x"}).names() == ["MSH", "PID", "ORC", "NTE"]


def test_a_condition_decides_about_a_segment(build: Build) -> None:
    query = _query(**{"QRF-1": "X", "QRF-5": "$body.modality"})
    assert "QRF" not in build(query).names()
    assert build(query | {"segments": {"QRF": {"when": True}}}).read("QRF-1") == "X"
    assert (
        "QRF" not in build(query | {"segments": {"QRF": {"when": {"$body.x": 1}}}}, request={"modality": "CR"}).names()
    )


def test_a_field_of_several_parts(build: Build) -> None:
    message = build(
        _query(
            **{
                "QRD-8": "whole^a^b^c^d",
                "QRD-8.2": "$body.b",
                "QRD-9[2].1": "PRO",
                "QRD-9[2].4": "x",
                "QRD-10.1.2": "sub",
                "QRD-10.3": "y^z",
            }
        ),
        request={"b": "B&"},
    )
    assert message.read("QRD-8") == "whole^B\\T\\^b^c^d"
    assert message.read("QRD-9") == "OTH~PRO^^^x"
    assert message.read("QRD-10") == "LOC&sub^^y"


SIU = (
    "MSH|^~\\&|RIS|DTI|C|D|20250115||SIU^S12|1|P|2.3\r"
    "SCH|P1|F1||||R^r^L||||||||||S||||E\r"
    "NTE|1||of the appointment\r"
    "PID|1||M1||Doe^John\r"
    "RGS|1|A\r"
    "AIS|1|A|X1\r"
    "NTE|1||of the first\r"
    "AIS|2|A|X2\r"
    "AIL|1|A|L1^R1^^F1\r"
    "RGS|2|A\r"
    "AIS|1|A|X3\r"
    "NTE|1||of the third\r"
    "AIL|1|A|L2^R2^^F2\r"
    "NTE|1||of the place\r"
)
COPY = {
    "message": {"from": "MSH-9"},
    "structure": "SIU_S12",
    "version": "2.3",
    "copy": [
        *("SCH-1", "SCH-2", "SCH-6", "SCH-16", "SCH-20", "NTE-1", "NTE-3", "PID-1", "PID-3", "PID-5", "RGS-1"),
        *("RGS-2", "AIS-1", "AIS-2", "AIS-3", "AIL-1", "AIL-2", "AIL-3"),
    ],
    "fields": HEADER | {"SCH-11": "^^^2025", "RGS-3": {"from": "AIL-3.1"}},
}


def _lines(message: Message) -> list[str]:
    return message.text.split("\r")[1:-1]


def test_a_repeating_segment_is_mapped_once_per_repetition_and_stays_in_its_group(build: Build) -> None:
    assert _lines(build(COPY, SIU))[1:] == [
        "NTE|1||of the appointment",
        "PID|1||M1||Doe^John",
        "RGS|1|A|L1",
        "AIS|1|A|X1",
        "NTE|1||of the first",
        "AIS|2|A|X2",
        "AIL|1|A|L1^R1^^F1",
        "RGS|2|A|L2",
        "AIS|1|A|X3",
        "NTE|1||of the third",
        "AIL|1|A|L2^R2^^F2",
        "NTE|1||of the place",
    ]


def test_notes_of_what_is_not_sent_follow_the_appointment(build: Build) -> None:
    short = build({"extends": "copy", "without": ["AIS"]}, SIU, files={"copy": COPY})
    assert _lines(short)[1:4] == ["NTE|1||of the appointment", "NTE|1||of the first", "NTE|1||of the third"]


def test_a_group_whose_head_did_not_come_gets_one(build: Build) -> None:
    text = "\r".join(line for line in SIU.split("\r") if not line.startswith(("RGS|2", "RGS|1")))
    message = build(COPY | {"defaults": {"RGS-1": "1"}}, text)
    assert [name for name in message.names() if name in ("RGS", "AIS", "AIL")] == [
        "RGS",
        "AIS",
        "AIS",
        "AIS",
        "AIL",
        "AIL",
    ]
    assert message.read("RGS-1") == "1"


def test_a_segment_can_be_made_from_another(build: Build) -> None:
    config = (
        COPY
        | {"without": ["AIL"]}
        | {
            "fields": COPY["fields"] | {"AIG-1": {"from": "AIS-1"}, "AIG-3": {"from": "AIS-3"}, "AIG-4": "X"},
            "segments": {"AIG": {"each": "AIS"}},
        }
    )
    message = build(config, SIU)
    assert [segment.read("AIG-3") for segment in message.segments("AIG")] == ["X1", "X2", "X3"]


def test_a_message_in_other_delimiters_is_mapped_the_same(build: Build, sample: Callable[[str], bytes]) -> None:
    table = str.maketrans("|^~&", "$*@!")
    other = SIU.translate(table).replace("MSH$*@\\!", "MSH$*@\\!")
    assert build(COPY, other).text == build(COPY, SIU).text


def test_what_is_not_named_is_not_sent(build: Build) -> None:
    message = build(COPY, SIU.replace("|Doe^John", "|Doe^John||1980|M").replace("RGS|1|A", "OBX|1||secret\rRGS|1|A"))
    assert message.read("PID-7") is None
    assert "OBX" not in message.names()


def test_a_required_field_that_stays_empty_fails_by_its_name(build: Build) -> None:
    with pytest.raises(StepFailed) as failed:
        build(COPY, SIU.replace("|Doe^John", ""))
    assert (failed.value.step, failed.value.cause, failed.value.where) == ("build", "required_missing", "PID-5")


def test_defaults_fill_only_what_is_empty(build: Build) -> None:
    config = COPY | {"defaults": {"PID-5": "Unknown^Person", "SCH-6": "X", "MSH-8": "s"}}
    message = build(config, SIU.replace("|Doe^John", ""))
    assert message.read("PID-5") == "Unknown^Person"
    assert message.read("SCH-6") == "R^r^L"
    assert message.read("MSH-8") == "s"


def test_hl7_null_is_sent_on(build: Build) -> None:
    assert build(COPY, SIU.replace("|Doe^John", '|""')).read("PID-5") == '""'


# -- definitions ---------------------------------------------------------------------------------------------------


def test_an_overlay_replaces_whole_fields_however_they_were_said(build: Build) -> None:
    base = _query(**{"QRD-8.1": "a", "QRD-8.2": "b", "QRD-9": "whole"})
    over = {"extends": "base", "fields": {"QRD-8.3": "c", "QRD-9.2": "part", "QRD-12": "T", "MSH-3": None}}
    message = build(over, files={"base": base})
    assert message.read("QRD-8") == "^^c"
    assert message.read("QRD-9") == "^part"
    assert message.read("QRD-12") == "T"
    assert message.read("MSH-3") == ""


def test_working_values_are_laid_over_too(build: Build) -> None:
    base = _query(**{"QRD-8": "$who", "QRD-9": "$what.2"}) | {"values": {"who": "base", "what": "a^$who"}}
    over = {"extends": "base", "values": {"who": {"from": "$body.who"}, "what": "OTH^PRO"}}
    message = build(over, files={"base": base}, request={"who": "me^you"})
    assert message.read("QRD-8") == "me\\S\\you"
    assert message.read("QRD-9") == "PRO"


def test_a_working_value_whose_name_was_slightly_missed_is_told(kit: SimpleNamespace) -> None:
    base = _query(**{"QRD-8": "$subject_name"}) | {"values": {"subject_name": "base", "for_those_above": "x"}}
    over = {"extends": "base", "values": {"subjct_name": "over"}}
    with pytest.raises(SpecError) as refused:
        kit.Loading(files={"base": base}).chain([{"build": over}], ())
    assert (refused.value.message, refused.value.at) == ("nothing reads $subjct_name", ("values", "subjct_name"))
    assert refused.value.nearest == "subject_name"
    kit.Loading(files={"base": base}).chain([{"build": {"extends": "base"}}], ())


def test_using_fills_the_sites_switch_in(build: Build, kit: SimpleNamespace) -> None:
    assert build({"using": "queries/$site.ris.slots"}, files={"queries/qry": _query()}).type == "QRY"


def test_a_file_of_steps_can_be_extended(build: Build) -> None:
    files = {"a": [{"set": {"$x": "1"}}, {"build": _query()}], "b": {"extends": "a", "fields": {"QRD-8": "b"}}}
    assert build({"extends": "b"}, files=files).read("QRD-8") == "b"


def test_json_bodies(kit: SimpleNamespace, envelope: Make) -> None:
    made = envelope(SIU, request={"n": 3})
    config = {
        "values": {"kind": {"from": "MSH-9.2", "map": {"S12": "new"}}},
        "json": {
            "name": {"from": "PID-5.1"},
            "none": {"from": "PID-30"},
            "fixed": "x^y",
            "number": 5,
            "kind": "$kind",
            "at": "$now",
            "nested": {"count": "$body.n", "list": {"list": ["$body.n", {"from": "PID-3"}, {"a": "b"}]}},
        },
    }
    kit.Loading().chain([{"build": config}], ()).run(made, kit.Context())
    assert made.body == {
        "name": "Doe",
        "none": None,
        "fixed": "x^y",
        "number": 5,
        "kind": "new",
        "at": "2025-01-15T08:32:04-05:00",
        "nested": {"count": 3, "list": [3, "M1", {"a": "b"}]},
    }


def test_the_received_control_id_is_still_known_afterwards(kit: SimpleNamespace, envelope: Make) -> None:
    made = envelope(SIU)
    kit.Loading().chain([{"build": COPY}, {"set": {"$was": "$control_id"}}], ()).run(made, kit.Context())
    assert made.variables["was"] == "1"
    assert made.body.control_id == "EN0000000101"


# -- character sets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("charset", "codec"), [("8859/1", "latin-1"), ("UNICODE UTF-8", "utf-8")])
def test_names_leave_in_the_charset_of_the_destination(
    charset: str, codec: str, kit: SimpleNamespace, envelope: Make
) -> None:
    received = SIU.replace("Doe", "Müller").replace("|2.3\r", "|2.3||||||8859/1\r", 1).encode("latin-1")
    made = envelope(received)
    kit.Loading().chain([{"build": COPY | {"charset": charset}}], ()).run(made, kit.Context())
    raw = made.body.to_bytes(made.charset, made.unmappable)
    assert "Müller".encode(codec) in raw
    assert made.body.read("MSH-18") == charset


@pytest.mark.parametrize(("charset", "written"), [("8859/1", "8859/1"), ("", None), (None, None)])
def test_a_charset_may_be_read_from_each_message(
    charset: str | None, written: str | None, kit: SimpleNamespace, envelope: Make
) -> None:
    made = envelope(SIU)
    made.variables["order"] = {} if charset is None else {"charset": charset}
    kit.Loading().chain([{"build": COPY | {"charset": "$order.charset"}}], ()).run(made, kit.Context())
    assert made.body.read("MSH-18") == written
    assert made.charset == (charset or "ASCII")


def test_a_message_with_a_charset_nobody_knows_fails(kit: SimpleNamespace, envelope: Make) -> None:
    made = envelope(SIU)
    made.variables["order"] = {"charset": "ROT13"}
    with pytest.raises(StepFailed) as failed:
        kit.Loading().chain([{"build": COPY | {"charset": "$order.charset"}}], ()).run(made, kit.Context())
    assert failed.value.cause == "unknown_charset"


def test_a_name_that_the_charset_lacks_is_an_error_or_replaced(kit: SimpleNamespace, envelope: Make) -> None:
    received = SIU.replace("Doe", "Müller").replace("|2.3\r", "|2.3||||||8859/1\r", 1).encode("latin-1")
    made = envelope(received)
    kit.Loading().chain([{"build": COPY}], ()).run(made, kit.Context())
    assert not made.body.read("MSH-18")
    with pytest.raises(Unmappable) as failed:
        made.body.to_bytes(made.charset, made.unmappable)
    assert "ller" not in str(failed.value)
    made = envelope(received)
    kit.Loading().chain([{"build": COPY | {"unmappable": "replace"}}], ()).run(made, kit.Context())
    assert b"M?ller" in made.body.to_bytes(made.charset, made.unmappable)


# -- what is refused when it loads ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"version": "2.9.9"}, ("version",)),
        ({"version": {"from": "MSH-12"}}, ("version",)),
        ({"message": "QRY^Q99"}, ("message",)),
        ({"message": {"from": "MSH-9"}}, ("message",)),
        ({"version": "2.7"}, ("message",)),
        ({"charset": "ROT13"}, ("charset",)),
        ({"unmappable": "ignore"}, ("unmappable",)),
        ({"times": {"precision": "hour"}}, ("times", "precision")),
        ({"times": {"offset": "maybe"}}, ("times", "offset")),
        ({"fields": {"QRD": "x"}}, ("fields", "QRD")),
        ({"fields": {"QRD-1x": "x"}}, ("fields", "QRD-1x")),
        ({"fields": {"$x": "x"}}, ("fields", "$x")),
        ({"fields": {"MSH-10": "x"}}, ("fields", "MSH-10")),
        ({"fields": {"PV1-1": "x"}}, ("fields", "PV1-1")),
        ({"fields": {"QRD-1": {"from": "X", "formt": 1}}}, ("fields", "QRD-1", "formt")),
        ({"values": {"x": {"from": "X", "formt": 1}}}, ("values", "x", "formt")),
        ({"defaults": {"QRD-1": "$site.nothing"}}, ("defaults", "QRD-1")),
        ({"copy": ["QRD"]}, ("copy", 0)),
        ({"without": ["?"]}, ("without", 0)),
        ({"segments": {"QRD": {"filled": "PID-3"}}}, ("segments", "QRD", "filled")),
        ({"segments": {"QRD": {"when": {}}}}, ("segments", "QRD", "when")),
        ({"using": "nowhere"}, ("using",)),
        ({"extends": "$site.x"}, ("extends",)),
    ],
)
def test_what_cannot_be_built_is_refused_where_it_stands(
    change: dict[str, Any], at: tuple[Any, ...], kit: SimpleNamespace
) -> None:
    with pytest.raises(SpecError) as refused:
        kit.Loading().chain([{"build": _query() | change}], ())
    assert refused.value.at == at
    assert refused.value.file == ""


def test_a_fault_in_an_extended_file_names_that_file(kit: SimpleNamespace) -> None:
    files = {"base": [{"build": _query(**{"QRD-8": {"from": "X", "formt": 1}})}]}
    with pytest.raises(SpecError) as refused:
        kit.Loading(files=files).chain([{"build": {"extends": "base"}}], ())
    assert refused.value.file == "transforms/base.yaml"
    assert refused.value.at == (0, "build", "fields", "QRD-8", "formt")


def test_an_unknown_word_in_an_extended_file_is_told_with_the_nearest(kit: SimpleNamespace) -> None:
    files = {"base": _query() | {"feilds": {}}}
    with pytest.raises(SpecError) as refused:
        kit.Loading(files=files).chain([{"build": {"extends": "base"}}], ())
    assert (refused.value.file, refused.value.at, refused.value.nearest) == (
        "transforms/base.yaml",
        ("feilds",),
        "fields",
    )


def test_definitions_that_extend_each_other_in_a_circle_are_refused(kit: SimpleNamespace) -> None:
    files = {"a": {"extends": "b"}, "b": {"extends": "a"}}
    with pytest.raises(SpecError, match="extends itself"):
        kit.Loading(files=files).chain([{"build": {"extends": "a"}}], ())


@pytest.mark.parametrize("config", [{}, {"version": "2.3"}, {"json": {}, "message": "QRY^Q01"}])
def test_a_build_makes_exactly_one_message(config: dict[str, Any], kit: SimpleNamespace) -> None:
    with pytest.raises(SpecError, match="one message"):
        kit.Loading().chain([{"build": config}], ())


def test_a_build_without_a_version_is_refused(kit: SimpleNamespace) -> None:
    with pytest.raises(SpecError, match="version"):
        kit.Loading().chain([{"build": {"message": "QRY^Q01"}}], ())


def test_an_unknown_word_is_refused(kit: SimpleNamespace) -> None:
    with pytest.raises(ValidationError, match="feilds"):
        kit.Loading().chain([{"build": {"feilds": {}}}], ())


# -- properties ----------------------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(who=_TEXT, part=_TEXT, whole=_TEXT)
def test_data_arrives_as_it_was_and_where_it_was_put(who: str, part: str, whole: str, build: Build) -> None:
    config = _query(**{"QRD-10": "$body.whole"}) | {"charset": "UNICODE UTF-8"}
    del config["fields"]["QRD-8"]
    config["fields"] |= {"QRD-8.1": "$body.who", "QRD-8.3": "$body.part"}
    request = {"who": who, "part": part, "whole": whole}
    if not whole or not (who or part):
        with pytest.raises(StepFailed, match="required_missing"):
            build(config, request=request)
        return
    message = build(config, request=request)
    again = Message.parse(message.to_bytes("UNICODE UTF-8"))
    assert again.names() == ["MSH", "QRD"]
    assert again.value("QRD-8.1") == who
    assert again.value("QRD-8.3") == part
    assert again.value("QRD-10") == whole
    assert again.read("QRD-12") is None


@pytest.mark.parametrize("zone", ["America/Chicago", "Asia/Kolkata"])
def test_the_header_time_is_the_hosts_whatever_the_location(zone: str, kit: SimpleNamespace, envelope: Make) -> None:
    made, context = envelope(SIU), kit.Context(datetime.fromisoformat("2025-07-15T08:32:04+02:00"))
    kit.Loading().chain([{"build": COPY | {"version": "2.5.1", "times": {"zone": zone}}}], ()).run(made, context)
    assert made.body.read("MSH-7") == "20250715083204+0200"
