"""Values as admins write them: every form, what is data and what HL7 text, what is refused when a channel loads."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from engine.envelope import Envelope
from engine.errors import Refused, SpecError, StepFailed
from engine.transforms.values.text import HL7Text, as_data, as_hl7, as_json
from engine.transforms.values.times import Moment
from engine.transforms.values.value import Compiler, compile_value

Make = Callable[..., Envelope]

ORDER = 'MSH|^~\\&|A|B|C|D|20250115||ORM^O01|1|P|2.3\rPID|1||M1~M2||Doe^John\rOBX|1||a\\T\\b\rOBX|2||""\r'


@pytest.fixture
def read(kit: SimpleNamespace, envelope: Make) -> Callable[..., Any]:
    def go(spec: Any, body: Any = ORDER, **more: Any) -> Any:
        return compile_value(spec, kit.Loading())(envelope(body, **more), kit.Context())

    return go


@pytest.fixture
def text(kit: SimpleNamespace, envelope: Make) -> Callable[..., str]:
    def go(spec: Any, body: Any = ORDER, **more: Any) -> str:
        return compile_value(spec, kit.Loading()).text(envelope(body, **more), kit.Context())

    return go


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("100^RD", "100^RD"),
        (12, 12),
        (True, True),
        ({"from": "PID-5"}, "Doe^John"),
        ({"from": "PID-5.2"}, "John"),
        ({"from": "PID-3"}, "M1~M2"),
        ({"from": "PID-3[2]"}, "M2"),
        ({"from": "OBX[1]-3"}, "a\\T\\b"),
        ({"from": "PID-30"}, None),
        ({"from": "ZZZ-1"}, None),
        ({"from": ["PID-2", "PID-4", "PID-3.1"]}, "M1"),
        ([{"from": "PID-2"}, "else"], "else"),
        ({"from": "PID-2", "default": "x"}, "x"),
        ({"from": "OBX[2]-3", "default": "x"}, '""'),
        ({"from": ["OBX[2]-3", "PID-1"]}, "1"),
        ({"value": "$5.50x", "default": 1}, "1"),
        ({"parts": {1: {"from": "PID-3.1"}, 4: "AUTH"}}, "M1^^^AUTH"),
        ({"parts": {1: {"from": "PID-2"}, 4: "AUTH"}}, ""),
        ("$site.ris.version", "2.3"),
        ("$correlation_id", "corr-1"),
        ("$channel", "test"),
        ("$control_id", "1"),
        ("$nothing", None),
        ("$nothing.at.all", None),
    ],
)
def test_every_form_of_a_value(spec: Any, expected: Any, read: Callable[..., Any]) -> None:
    if spec == {"value": "$5.50x", "default": 1}:
        with pytest.raises(SpecError, match="no variable"):
            read(spec)
        return
    assert read(spec) == expected


def test_variables_of_a_request(read: Callable[..., Any]) -> None:
    more = {
        "request": {"patient": {"mrn": "M1"}, "tags": ["a", "b"]},
        "query": {"date": "2025-01-16"},
        "headers": {"x-correlation-id": "c"},
        "variables": {"row": {"id": "7"}, "filler": HL7Text("APT1^SYN")},
    }
    assert read("$body.patient.mrn", None, **more) == "M1"
    assert read("$body.tags.1", None, **more) == "b"
    assert read("$query.date", None, **more) == "2025-01-16"
    assert read("$header.X-Correlation-ID", None, **more) == "c"
    assert read("$row.id", None, **more) == "7"
    assert read("$filler.1", None, **more) == "APT1"
    assert read("$filler.3", None, **more) == ""
    assert read({"from": "patient.mrn"}, None, **more) == "M1"


def test_the_time_is_one_for_the_whole_message(read: Callable[..., Any], kit: SimpleNamespace) -> None:
    assert read("$now").at == kit.NOW
    assert read({"from": "$received_at", "format": "iso"}) == "2025-01-15T08:32:04-05:00"


def test_a_query_id_has_ten_characters_and_is_made_once(kit: SimpleNamespace, envelope: Make) -> None:
    value, made, context = compile_value("$query_id", kit.Loading()), envelope(ORDER), kit.Context()
    first = value(made, context)
    assert len(first) == 10
    assert value(made, context) == first
    assert len(context.ids) == 1


def test_what_is_static_is_known_when_the_channel_loads(kit: SimpleNamespace) -> None:
    assert compile_value("2.3", kit.Loading()).static
    assert compile_value("$site.ris.version", kit.Loading()).constant == "2.3"
    assert compile_value({"from": "$site.none.here", "default": "2.7"}, kit.Loading()).constant == "2.7"
    assert not compile_value({"from": "PID-3"}, kit.Loading()).static


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"from": "PID-3.1", "map": {"M1": "one^two"}}, "one^two"),
        ({"from": "PID-3.1", "map": {"M2": "x"}, "missing": "keep"}, "M1"),
        ({"from": "PID-3.1", "map": {"M2": "x"}, "missing": None}, None),
        ({"from": "PID-3.1", "map": {"M2": "x"}, "default": "y"}, "y"),
        ({"from": "PID-3.1", "map": {"M1": "$channel"}}, "test"),
        ({"value": "DTI", "map": "epic_department"}, "10501^DTI RADIOLOGY"),
        ({"value": "DTI", "map": "locations", "column": "timezone"}, "America/Chicago"),
    ],
)
def test_a_value_is_looked_up(spec: Any, expected: Any, read: Callable[..., Any]) -> None:
    assert read(spec) == expected


@pytest.mark.parametrize(("word", "outcome"), [("error", None), ("park", "park"), ("hold", "hold")])
def test_a_table_miss_fails_without_a_word_of_the_message(
    word: str, outcome: str | None, read: Callable[..., Any]
) -> None:
    with pytest.raises(StepFailed) as failed:
        read({"from": "PID-5.1", "map": "epic_status", "missing": word})
    assert (failed.value.cause, failed.value.where, failed.value.outcome) == ("lookup_missing", "epic_status", outcome)
    assert "Doe" not in str(failed.value)


def test_a_table_miss_is_an_error_unless_the_file_says_otherwise(read: Callable[..., Any]) -> None:
    with pytest.raises(StepFailed):
        read({"from": "PID-2", "map": "epic_status"})


def test_a_value_that_must_be_there(read: Callable[..., Any]) -> None:
    assert read({"from": "PID-3.1", "missing": "error"}) == "M1"
    with pytest.raises(StepFailed, match="missing at PID-2"):
        read({"from": "PID-2", "missing": "error"})
    with pytest.raises(Refused, match="unknown_order"):
        read({"from": "PID-2", "missing": {"error": "unknown_order"}})


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"value": "2025-01-16", "format": "date"}, "2025-01-16"),
        ({"value": "20250116010000Z"[:14], "format": "iso", "zone": "America/Chicago"}, "2025-01-16T01:00:00-06:00"),
        ({"value": "2025-01-16T01:00:00Z", "format": "date", "zone": "America/Chicago"}, "2025-01-15"),
        ({"value": "(217)555-0111", "format": "e164"}, "+12175550111"),
        ({"value": "a1b2", "format": "digits"}, "12"),
        ({"value": "X-ray – Müller", "format": "ascii"}, "X-ray ? M?ller"),
        ({"value": " x ", "format": "trim"}, "x"),
        ({"value": "aB", "format": "upper"}, "AB"),
        ({"value": "aB", "format": "lower"}, "ab"),
        ({"from": "OBX[1]-3", "format": "raw"}, "a\\T\\b"),
        ({"from": "PID-2", "format": "iso"}, ""),
    ],
)
def test_formats(spec: Any, expected: Any, read: Callable[..., Any]) -> None:
    found = read(spec)
    assert found == expected
    assert not found or not isinstance(found, HL7Text)


def test_a_day_in_a_zone(read: Callable[..., Any]) -> None:
    day = {"value": "2025-01-16", "zone": "America/Chicago"}
    assert read(day | {"format": "day_start"}).iso() == "2025-01-16T00:00:00-06:00"
    assert read(day | {"format": "day_end"}).iso() == "2025-01-16T23:59:59-06:00"
    assert read(day | {"format": "day"}).iso() == "2025-01-16"


def test_a_text_without_offset_is_a_time_of_the_site(kit: SimpleNamespace, envelope: Make) -> None:
    spec = {"value": "20250116090000", "format": "iso"}
    for site, expected in (({"timezone": "America/Denver"}, "-07:00"), ({"timezone": None}, "-05:00"), ({}, "-05:00")):
        value = compile_value(spec, kit.Loading(site=site))
        assert value(envelope(ORDER), kit.Context()) == f"2025-01-16T09:00:00{expected}"


def test_what_should_be_a_time_and_is_none_fails(read: Callable[..., Any]) -> None:
    with pytest.raises(StepFailed, match="not_a_time at PID-5"):
        read({"from": "PID-5", "format": "timestamp"})
    with pytest.raises(StepFailed, match="unknown_zone"):
        read({"value": "2025-01-16", "format": "day_start", "zone": "Nowhere"})


def test_data_and_hl7_text_are_told_apart(read: Callable[..., Any], text: Callable[..., str]) -> None:
    assert as_hl7(read("$body.x", None, request={"x": "a^b|c"})) == "a\\S\\b\\F\\c"
    assert as_hl7(read("a^b")) == "a^b"
    assert as_hl7(HL7Text("a|b\rc\n")) == "a\\F\\b\\X0D\\c\\.br\\"
    assert text({"from": "OBX[1]-3"}) == "a&b"
    assert text({"from": "OBX[2]-3"}) == ""


@pytest.mark.parametrize(
    ("value", "hl7", "data", "json"),
    [
        (None, "", "", None),
        (True, "Y", "true", True),
        (30, "30", "30", 30),
        (["a", "b^c"], "a~b\\S\\c", "a", ["a", "b^c"]),
        (HL7Text(""), "", "", None),
        (HL7Text("a\\T\\b"), "a\\T\\b", "a&b", "a&b"),
    ],
)
def test_kinds_of_values(value: Any, hl7: str, data: str, json: Any) -> None:
    assert (as_hl7(value), as_data(value), as_json(value)) == (hl7, data, json)


def test_an_object_is_no_text() -> None:
    for convert in (as_hl7, as_data):
        with pytest.raises(StepFailed, match="not_text at dict"):
            convert({"name": "Doe"})


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{{ body.orderId }}|{{ body.slotId }}", "O1|S^1"),
        ("{{ body.n + 1 }}", 4),
        ("{{ body.start[:10] }}", "2025-01-16"),
        ("{{ body.missing.deeper }}", None),
        ("{{ body.missing or 'x' }}", "x"),
        ("{{ body.items }}", 7),
        ("{{ row.name | upper }}", "ANN"),
        ("{{ filler }}", "a&b"),
        ("{{ site.ris.version }}", "2.3"),
        ("{{ query.date }} {{ header['x-a'] }}", "2025-01-16 h"),
        ("{{ now.year }}", 2025),
        ("{{ 'yes' if body.n > 2 else 'no' }}", "yes"),
        ("x{{ body.nothing }}y", "xy"),
    ],
)
def test_templates(spec: str, expected: Any, read: Callable[..., Any]) -> None:
    request = {"orderId": "O1", "slotId": "S^1", "n": 3, "start": "2025-01-16T09:00:00Z", "items": 7}
    more = {"query": {"date": "2025-01-16"}, "headers": {"x-a": "h"}}
    variables = {"row": {"name": "Ann"}, "filler": HL7Text("a\\T\\b")}
    assert read(spec, None, request=request, variables=variables, **more) == expected


def test_a_template_reads_the_message(read: Callable[..., Any]) -> None:
    assert read("{{ message['PID-5.2'] }} {{ message['PID-5.1'] }}") == "John Doe"
    assert read("{{ message['OBX-3'] }}") == "a&b"


@pytest.mark.parametrize(
    "spec",
    [
        "{% for x in body %}{{ x }}{% endfor %}",
        "{% set x = 1 %}{{ x }}",
        "{{ body.update() }}",
        "{{ range(9) }}",
        "{{ 2 ** 99 }}",
        "{{ 'a' | center(99999) }}",
        "{{ body | attr('x') }}",
        "{{ {'a': 1} }}",
        "{{ message[body.path] }}",
        "{{ message['nonsense'] }}",
        "{{ body.x ",
        "{% import 'x' as y %}",
        "{{ body.x is callable }}",
    ],
)
def test_a_template_that_could_do_more_than_expressions_is_refused_when_it_loads(
    spec: str, kit: SimpleNamespace
) -> None:
    with pytest.raises(SpecError):
        compile_value(spec, kit.Loading())


@pytest.mark.parametrize(
    "spec",
    [
        "{{ 'Doe' * 1000000 }}",
        "{{ '%999999s' % body.x }}",
        "{{ body.x / 0 }}",
        "{{ [1] * 99999999 }}",
        "{{ body.x + 'Doe' }}",
    ],
)
def test_a_template_that_fails_tells_the_type_alone(spec: str, read: Callable[..., Any]) -> None:
    with pytest.raises(StepFailed) as failed:
        read(spec, None, request={"x": 5})
    assert failed.value.cause == "template_failed"
    assert "Doe" not in str(failed.value)
    assert failed.value.__context__ is None


def test_a_template_is_only_so_deep(kit: SimpleNamespace, read: Callable[..., Any]) -> None:
    assert read("{{ " + "body.x + " * 90 + "0 }}", None, request={"x": 1}) == 90
    for deep in ("-" * 200 + "1", "(" * 200 + "1 + 1" + " + 1)" * 200, "body.x + " * 200 + "0"):
        with pytest.raises(SpecError, match=r"nested too deep|cannot be read"):
            compile_value(f"{{{{ {deep} }}}}", kit.Loading())


def test_a_template_cannot_make_very_much(read: Callable[..., Any]) -> None:
    with pytest.raises(StepFailed, match="template_too_long"):
        read("{{ body.x }}{{ body.x }}", None, request={"x": "y" * 40_000})


@pytest.mark.parametrize(
    "attack", ["{{ body.__class__ }}", "{{ ''.__class__.__mro__ }}", "{{ now.__class__.__mro__ }}"]
)
def test_a_template_reaches_nothing_behind_its_values(attack: str, read: Callable[..., Any]) -> None:
    assert not read(attack, None, request={"x": 1})


@pytest.mark.parametrize(
    ("spec", "at", "nearest"),
    [
        ({"from": "PID-3", "formt": "date"}, ("formt",), "format"),
        ({"from": "PID-3", "format": "dat"}, ("format",), "date"),
        ({"from": "PID-3", "value": "x"}, (), ""),
        ({"map": {"a": "b"}}, (), ""),
        ({"from": "PID-3", "map": "nowhere"}, ("map",), ""),
        ({"from": "PID-3", "map": "locations"}, ("map",), ""),
        ({"from": "PID-3", "map": "locations", "column": "timezon"}, ("column",), "timezone"),
        ({"from": "PID-3", "column": "x"}, ("column",), ""),
        ({"from": "PID-3", "zone": "UTC"}, ("zone",), ""),
        ({"from": "PID-3", "missing": "prk"}, ("missing",), "park"),
        ({"from": "PID-3", "missing": {"eror": "x"}}, ("missing",), ""),
        ({"from": "PID-3", "since": "2.5"}, ("since",), ""),
        ({"from": "PID-x"}, ("from",), ""),
        ({"from": []}, ("from",), ""),
        ({"parts": {}}, ("parts",), ""),
        ({"parts": {"a": "b"}}, ("parts", "a"), ""),
        ("$", (), ""),
        ("$a b", (), ""),
        ("$site.riss.version", (), "ris"),
        ("$site.ris.versio", (), "version"),
        ({"from": ["PID-3", "$site.x"]}, ("from", 1), ""),
    ],
)
def test_what_cannot_be_read_is_refused_where_it_stands(
    spec: Any, at: tuple[str | int, ...], nearest: str, kit: SimpleNamespace
) -> None:
    with pytest.raises(SpecError) as refused:
        compile_value(spec, kit.Loading(), ("key",))
    assert refused.value.at == ("key", *at)
    assert refused.value.nearest == nearest


def test_a_value_may_depend_on_the_version_that_is_built(kit: SimpleNamespace) -> None:
    spec = [{"value": "min^minute^UCUM", "since": "2.5"}, "min"]
    for version, expected in (("2.3", "min"), ("2.5", "min^minute^UCUM"), ("2.7", "min^minute^UCUM")):
        assert Compiler(kit.Loading(), "build", version=version).value(spec).constant == expected
    bounded = {"value": "x", "since": "2.3.1", "before": "2.5"}
    found = [Compiler(kit.Loading(), "build", version=each).value(bounded).constant for each in ("2.3", "2.4", "2.5")]
    assert found == [None, "x", None]


def test_a_time_of_a_variable_stays_a_time(read: Callable[..., Any]) -> None:
    moment = read({"value": "20250116090000", "format": "timestamp", "zone": "America/Chicago"})
    assert isinstance(moment, Moment)
    assert as_json(moment) == "2025-01-16T09:00:00-06:00"
