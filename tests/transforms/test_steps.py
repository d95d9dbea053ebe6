"""The small steps: what each does, at its edges, and what it says when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from engine.envelope import Envelope
from engine.errors import Refused, SpecError, StepFailed
from engine.transforms.base import Context, Verdict
from engine.transforms.values.text import HL7Text
from engine.transforms.values.times import Moment

Run = Callable[..., Verdict]
Make = Callable[..., Envelope]

MESSAGE = (
    "MSH|^~\\&|A|B|C|D|20250115||SIU^S12|1|P|2.3\rPID|1||M1~M2||Doe^John\rNTE|1||one\rNTE|2||two\rAIL|1||DTI^XR1^^DTI\r"
)
ODD = "MSH$*@!%$A$B$C$D$20250115$$SIU*S12$1$P$2.3\rPID$1$$M1$$Doe*John%Q|^\r"


def test_keep_lets_what_holds_pass_and_drops_the_rest(run: Run, envelope: Make) -> None:
    assert run({"keep": {"MSH-9.1": "SIU"}}, envelope(MESSAGE)) is Verdict.CONTINUE
    assert run({"keep": {"MSH-9.1": "ORM"}}, envelope(MESSAGE)) is Verdict.DROP


def test_drop_is_the_other_way_round(run: Run, envelope: Make) -> None:
    assert run({"drop": {"MSH-9.1": "SIU"}}, envelope(MESSAGE)) is Verdict.DROP
    assert run({"drop": {"MSH-9.1": "ORM"}}, envelope(MESSAGE)) is Verdict.CONTINUE


def test_steps_after_a_drop_do_not_run(run: Run, envelope: Make) -> None:
    made = envelope(MESSAGE)
    assert run([{"keep": {"MSH-9.1": "ORM"}}, {"set": {"$seen": "yes"}}], made) is Verdict.DROP
    assert "seen" not in made.variables


def test_set_writes_fields_variables_and_later_ones_see_earlier_ones(run: Run, envelope: Make) -> None:
    made = envelope(MESSAGE, request={"name": "A^B"})
    run(
        {
            "set": {
                "PID-3.4": "AUTH",
                "$mrn": {"from": "PID-3"},
                "PID-18": "$mrn.1",
                "PID-5.1": "$body.name",
                "PID-6": "$body.name",
                "PID-20[2].1": "x",
            }
        },
        made,
    )
    assert made.body.read("PID-3") == "M1^^^AUTH~M2"
    assert made.variables["mrn"] == "M1^^^AUTH~M2"
    assert made.body.read("PID-18") == "M1"
    assert made.body.value("PID-5.1") == "A^B"
    assert made.body.read("PID-6") == "A\\S\\B"
    assert made.body.read("PID-20") == "~x"


def test_set_writes_the_first_component_of_a_coded_text_into_a_component(run: Run, envelope: Make) -> None:
    made = envelope(MESSAGE)
    run(
        {"set": {"PV1-3.1": "10501^DTI RADIOLOGY", "PV1-8": "10501^DTI RADIOLOGY", "PID-5[2]": {"from": "PID-3"}}}, made
    )
    assert made.body.read("PV1-3") == "10501"
    assert made.body.read("PV1-8") == "10501^DTI RADIOLOGY"
    assert made.body.read("PID-5") == "Doe^John~M1"


def test_set_writes_in_the_delimiters_of_the_message(run: Run, envelope: Make) -> None:
    made = envelope(ODD)
    run({"set": {"PV1-3": "a^b", "PID-9": "$body.x", "PID-10": {"from": "PID-5"}}}, envelope := made)
    assert envelope.body.read("PV1-3") == "a*b"
    assert envelope.body.read("PID-10") == "Doe*John%Q|^"


def test_values_of_another_message_form_are_read_in_the_usual_delimiters(run: Run, envelope: Make) -> None:
    made = envelope(ODD)
    run({"set": {"$name": {"from": "PID-5"}}}, made)
    assert made.variables["name"] == "Doe^John&Q\\F\\\\S\\"
    assert made.variables["name"].component(1) == "Doe"


def test_set_changes_members_of_a_json_body_and_leaves_the_shared_one_alone(run: Run, envelope: Make) -> None:
    body = {"status": "new", "patient": {"mrn": "M1"}}
    made = envelope(body)
    run({"set": {"status": "old", "patient.name": "Doe", "place.id": 7, "gone": None}}, made)
    assert made.body == {"status": "old", "patient": {"mrn": "M1", "name": "Doe"}, "place": {"id": 7}, "gone": None}
    assert body == {"status": "new", "patient": {"mrn": "M1"}}


def test_a_body_of_the_other_kind_fails(run: Run, envelope: Make) -> None:
    with pytest.raises(StepFailed, match="step set failed: wrong_body at PID-3"):
        run({"set": {"PID-3": "x"}}, envelope({"a": 1}))
    with pytest.raises(StepFailed, match="wrong_body at status"):
        run({"set": {"status": "x"}}, envelope(MESSAGE))
    with pytest.raises(StepFailed, match="wrong_body"):
        run({"delete": ["PID-3"]}, envelope({"a": 1}))


@pytest.mark.parametrize(
    "name", ["PID", "MSH-1", "MSH-2", "PID-0", "$now", "$body", "$site", "$a.b", "$", "-x", "ORC[2]"]
)
def test_a_place_that_cannot_be_written_is_refused_when_it_loads(name: str, kit: SimpleNamespace) -> None:
    with pytest.raises(SpecError) as refused:
        kit.Loading().chain([{"set": {name: "x"}}], ())
    assert refused.value.at == (name,)


def test_copy_takes_text_as_it_stands(run: Run, envelope: Make) -> None:
    made = envelope(MESSAGE)
    run({"copy": {"PID-2": "PID-3", "AIL-4": "AIL-3", "PID-19": "PID-30"}}, made)
    assert made.body.read("PID-2") == "M1~M2"
    assert made.body.read("AIL-4") == "DTI^XR1^^DTI"
    assert made.body.read("PID-19") == ""


def test_delete_takes_out_fields_segments_variables_and_members(run: Run, envelope: Make) -> None:
    made = envelope(MESSAGE, variables={"a": 1})
    run({"delete": ["PID-5.2", "NTE", "$a", "$never", "ZZZ", "AIL-99"]}, made)
    assert made.body.names() == ["MSH", "PID", "AIL"]
    assert made.body.read("PID-5") == "Doe"
    assert made.variables == {}
    other = envelope({"a": 1, "b": {"c": 2}})
    run({"delete": "b.c"}, other)
    assert other.body == {"a": 1, "b": {}}


def test_include_runs_the_steps_of_a_file(run: Run, envelope: Make, kit: SimpleNamespace) -> None:
    loading = kit.Loading(files={"ris/two": [{"set": {"$x": "1"}}, {"drop": {"$x": "1"}}, {"set": {"$y": "2"}}]})
    loading.site["ris"]["slots"] = "two"
    made = envelope(MESSAGE)
    assert run({"include": "ris/$site.ris.slots"}, made, loading) is Verdict.DROP
    assert made.variables == {"x": "1"}


def test_an_include_is_as_pure_as_what_it_includes(kit: SimpleNamespace) -> None:
    loading = kit.Loading(
        files={"a": [{"set": {"$x": "1"}}], "b": [{"recall": {"cache": "c", "key": "$x", "into": "y"}}]}
    )
    assert loading.chain([{"include": "a"}], ()).pure
    assert not loading.chain([{"include": "b"}], ()).pure
    assert loading.include("ris/read_siu").pure


def test_lookup_of_two_columns_gives_the_values_of_all_rows(run: Run, envelope: Make, kit: SimpleNamespace) -> None:
    step = {"lookup": {"table": "facility_emr", "key": ["AIL-3.4", "PV1-3.4"], "into": "emr"}}
    made = envelope(MESSAGE)
    run(step, made)
    assert made.variables["emr"] == ["athena"]
    made = envelope(MESSAGE.replace("^^DTI", "^^WSI"))
    run(step, made)
    assert made.variables["emr"] == ["epic", "cerner"]


def test_lookup_says_which_variable_it_filled(run: Run, envelope: Make, context: Context) -> None:
    """So that a value which no destination takes is noticed."""
    run({"lookup": {"table": "facility_emr", "key": "AIL-3.4", "into": "$emr"}}, envelope(MESSAGE))
    assert context.looked_up == {"emr"}


def test_lookup_of_more_columns_gives_the_row(run: Run, envelope: Make) -> None:
    made = envelope(MESSAGE)
    run({"lookup": {"table": "locations", "key": "AIL-3.1", "into": "$location"}}, made)
    assert made.variables["location"]["name"] == "Downtown Imaging"


def test_lookup_of_what_is_not_there(run: Run, envelope: Make) -> None:
    def go(**more: Any) -> Any:
        made = envelope(MESSAGE)
        run({"lookup": {"table": "locations", "key": "PID-5.1", "into": "location", **more}}, made)
        return made.variables["location"]

    with pytest.raises(StepFailed) as failed:
        go()
    assert (failed.value.step, failed.value.cause, failed.value.where) == ("lookup", "lookup_missing", "locations")
    assert "Doe" not in str(failed.value)
    with pytest.raises(Refused, match="unknown_location"):
        go(missing={"error": "unknown_location"})
    assert go(missing="keep") == "Doe"
    assert go(missing=None) is None
    assert go(default="none") == "none"


@pytest.mark.parametrize(
    ("config", "at"),
    [
        ({"table": "nowhere", "key": "PID-3", "into": "x"}, ("table",)),
        ({"table": "locations", "key": "PID-", "into": "x"}, ("key",)),
        ({"table": "locations", "key": "PID-3", "into": "body"}, ("into",)),
        ({"table": "locations", "key": "PID-3", "into": "x", "missing": "krep"}, ("missing",)),
    ],
)
def test_a_lookup_that_cannot_be_is_refused_when_it_loads(
    config: dict[str, Any], at: tuple[str, ...], kit: SimpleNamespace
) -> None:
    with pytest.raises(SpecError) as refused:
        kit.Loading().chain([{"lookup": config}], ())
    assert refused.value.at == at


def test_unknown_words_of_a_step_are_refused(kit: SimpleNamespace) -> None:
    with pytest.raises(ValidationError, match="tabel"):
        kit.Loading().chain([{"lookup": {"tabel": "locations", "key": "PID-3", "into": "x"}}], ())


def test_require_tells_the_caller_no(run: Run, envelope: Make) -> None:
    step = {"that": {"$order.mrn": "$body.mrn"}, "otherwise": {"error": "order_patient_mismatch"}}
    variables = {"order": {"mrn": "M1"}}
    assert run({"require": step}, envelope(None, request={"mrn": "M1"}, variables=variables)) is Verdict.CONTINUE
    with pytest.raises(Refused, match="order_patient_mismatch"):
        run({"require": step}, envelope(None, request={"mrn": "M2"}, variables=variables))


def test_require_without_a_caller_fails_the_step(run: Run, envelope: Make) -> None:
    with pytest.raises(StepFailed) as failed:
        run({"require": {"that": {"empty": "PID-3"}, "otherwise": "park"}}, envelope(MESSAGE))
    assert (failed.value.cause, failed.value.outcome) == ("requirement", "park")


def test_a_requirement_cannot_be_passed_over(kit: SimpleNamespace) -> None:
    with pytest.raises(SpecError):
        kit.Loading().chain([{"require": {"that": {"empty": "PID-3"}, "otherwise": "keep"}}], ())


def test_template_makes_text_for_a_field_a_variable_or_the_body(run: Run, envelope: Make) -> None:
    made = envelope(MESSAGE)
    run({"template": {"text": "{{ message['PID-5.2'] }} & co", "into": "PID-6"}}, made)
    assert made.body.read("PID-6") == "John \\T\\ co"
    run({"template": {"text": "{{ channel }}", "into": "$x"}}, made)
    assert made.variables["x"] == "test"
    run({"template": "Dear {{ message['PID-5.2'] }},\n"}, made)
    assert made.body == "Dear John,\n"


def test_times_are_written_as_the_version_of_the_message_has_them(run: Run, envelope: Make) -> None:
    step = {"set": {"PID-29": {"value": "2025-01-16T09:00:00Z", "format": "timestamp", "zone": "America/Chicago"}}}
    made = envelope(MESSAGE)
    run(step, made)
    assert made.body.read("PID-29") == "20250116030000"
    made = envelope(MESSAGE.replace("|2.3\r", "|2.5.1\r"))
    run(step, made)
    assert made.body.read("PID-29") == "20250116030000-0600"


def test_variables_keep_their_kind(run: Run, envelope: Make) -> None:
    made = envelope(MESSAGE)
    run({"set": {"$text": {"from": "PID-5"}, "$time": "$now", "$number": 5}}, made)
    assert [type(made.variables[name]) for name in ("text", "time", "number")] == [HL7Text, Moment, int]
