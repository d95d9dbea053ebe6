"""The step ``validate``: what it lets pass, what it refuses, and what a profile may say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.envelope import Envelope
from engine.errors import Refused, SpecError, StepFailed
from engine.hl7.profile import Usage
from engine.testing import load_for_tests
from engine.transforms.base import Fragment, Verdict
from engine.transforms.validate import Validate
from engine.transforms.validating.profile_file import FieldPart, ProfileFile, SegmentPart, read_profile

Run = Callable[..., Verdict]
Make = Callable[..., Envelope]
Sample = Callable[[str], bytes]


def faulty(sample: Sample) -> bytes:
    return sample("N3_SIU_seed_v23")


def test_a_message_that_is_right_goes_on_unchanged(run: Run, envelope: Make, sample: Sample) -> None:
    raw = sample("N1_SIU_S12_RIS_v23")
    made = envelope(raw)
    assert run({"validate": {}}, made) is Verdict.CONTINUE
    assert made.body.to_bytes() == raw


def test_an_error_fails_the_step_and_names_places_only(run: Run, envelope: Make, sample: Sample) -> None:
    with pytest.raises(StepFailed) as failed:
        run({"validate": {}}, envelope(faulty(sample)))
    assert (failed.value.cause, failed.value.outcome) == ("invalid", None)
    assert failed.value.where == "SCH-6 required, SCH-11 required, SCH-16 required, SCH-20 required"


def test_otherwise_decides_what_becomes_of_it(run: Run, envelope: Make, sample: Sample) -> None:
    for word in ("park", "hold"):
        with pytest.raises(StepFailed) as failed:
            run({"validate": {"otherwise": word}}, envelope(faulty(sample)))
        assert failed.value.outcome == word
    with pytest.raises(Refused) as refused:
        run({"validate": {"otherwise": {"error": "ris_error"}}}, envelope(faulty(sample)))
    assert refused.value.code == "ris_error"


def test_report_tells_and_goes_on(run: Run, envelope: Make, sample: Sample, context: Any) -> None:
    made = envelope(faulty(sample))
    assert run({"validate": {"otherwise": "report", "into": "$findings"}}, made) is Verdict.CONTINUE
    assert [found["path"] for found in made.variables["findings"]] == ["SCH-6", "SCH-11", "SCH-16", "SCH-20"]
    assert set(made.variables["findings"][0]) == {"level", "check", "path", "line", "problem", "expected", "source"}
    ((event, ids),) = context.warnings
    assert (event, ids["errors"], ids["found"]) == ("message.findings", 4, 4)


def test_levels_are_chosen_one_by_one_or_together(run: Run, envelope: Make, sample: Sample) -> None:
    assert run({"validate": {"required": "warn"}}, envelope(faulty(sample))) is Verdict.CONTINUE
    assert run({"validate": {"levels": "lenient"}}, envelope(faulty(sample))) is Verdict.CONTINUE
    order = sample("B1_ORM_O01_v23")  # its OBR-24 is a DICOM modality, which table 0074 does not have
    assert run({"validate": {}}, envelope(order)) is Verdict.CONTINUE
    with pytest.raises(StepFailed, match="OBR-24 tables"):
        run({"validate": {"levels": "strict"}}, envelope(order))
    assert run({"validate": {"levels": "strict", "tables": "ignore"}}, envelope(order)) is Verdict.CONTINUE


def test_many_findings_are_counted_in_the_failure(run: Run, envelope: Make) -> None:
    with pytest.raises(StepFailed, match=r"and \d+ more$"):
        run({"validate": {}}, envelope("MSH|^~\\&|||||||SIU^S12|1|P|2.3\rSCH|\rRGS|\rAIS|\rAIL|\rAIP|\r"))


def test_a_body_that_is_no_message_is_told(run: Run, envelope: Make) -> None:
    with pytest.raises(StepFailed, match="wrong_body"):
        run({"validate": {}}, envelope(request={"a": 1}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"levels": "tough"}, "tough is no set of levels"),
        ({"otherwise": "keep"}, "cannot be passed over"),
        ({"otherwise": "prak"}, "prak is no way to go on"),
        ({"profile": "nowhere"}, "there is no nowhere"),
    ],
)
def test_what_is_no_configuration_is_told(kit: SimpleNamespace, config: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Validate(Validate.Config(**config), kit.Loading())


PROFILE: dict[str, Any] = {
    "messages": ["SIU^S12"],
    "versions": ["2.3"],
    "segments": {"PV2": "R", "RESOURCES.AIG": "X", "LOCATION_RESOURCE": {"usage": "R", "most": 1}, "ZDS": "R"},
    "fields": {
        "SCH-1": "X",
        "SCH-6": "O",
        "SCH-7.1": {"usage": "R", "values": ["Walkin", 1]},
        "PID-3": {"least": 2, "most": 3},
        "PID-3.4": {"length": 2},
        "PID-5.2.1": {"usage": "X"},
        "AIL-3": {"values": ["elsewhere"]},
        "PV1-50": "R",
    },
}


def found(kit: SimpleNamespace, run: Run, made: Envelope, profile: Any) -> dict[str, str]:
    loading = kit.Loading(files={"profiles/emr": profile})
    run({"validate": {"profile": "profiles/emr", "otherwise": "report", "into": "found"}}, made, loading)
    return {item["path"]: item["problem"] for item in made.variables["found"] if item["check"] == "profile"}


def test_a_profile_is_held_against_the_message(run: Run, envelope: Make, sample: Sample, kit: SimpleNamespace) -> None:
    made = envelope(sample("N1_SIU_S12_RIS_v23"))
    made.body.delete("SCH-6")
    assert found(kit, run, made, PROFILE) == {
        "SCH-1": "is not used",
        "SCH-7.1": "is none of the values that are allowed",
        "PID-3": "stands once",
        "PID-3.4": "has 3 characters",
        "PID-5.2.1": "is not used",
        "PV1-50": "is required and empty",
        "PV2": "PV2 is missing before RGS",
        "AIG": "AIG is not used",
        "AIL-3": "is none of the values that are allowed",
        "ZDS": "stands 0 times",
    }
    # What the profile says of SCH-6 stands instead of what the standard says.
    assert "SCH-6" not in [item["path"] for item in made.variables["found"]]


def test_other_messages_and_versions_are_none_of_the_profile(
    run: Run, envelope: Make, sample: Sample, kit: SimpleNamespace
) -> None:
    assert found(kit, run, envelope(sample("N2_SIU_S15_v23")), PROFILE) == {"MSH-9": "is no message of the profile"}
    assert found(kit, run, envelope(sample("N1_SIU_S12_v251")), PROFILE) == {"MSH-12": "is no version of the profile"}


@pytest.mark.parametrize(
    ("rule", "segments", "expected"),
    [
        ({"NTE": "X"}, ["NTE"], {"NTE": "NTE is not used"}),
        ({"RESOURCES": {"most": 1}}, ["RGS", "AIS", "RGS", "AIS"], {"RGS[2]": "group RESOURCES"}),
        ({"AIS": {"least": 2}}, ["RGS", "AIS"], {"AIS": "AIS is missing at the end"}),
        ({"SERVICE": {"least": 2}}, ["RGS", "AIS", "AIS"], {}),
        ({"SERVICE": {"least": 2}}, ["RGS", "AIS"], {"AIS": "AIS is missing at the end"}),
        ({"SERVICE": {"most": 2}}, ["RGS", "AIS", "AIS", "AIS"], {"AIS[3]": "AIS stands once more"}),
        ({"RESOURCES": "O"}, [], {}),
        ({"ZAB": "X"}, ["RGS", "ZAB"], {"ZAB": "stands once"}),
        ({"ZAB": {"usage": "R", "most": 1}}, ["RGS", "ZAB", "ZAB"], {"ZAB": "stands 2 times"}),
    ],
)
def test_segments_and_groups_are_counted_where_they_stand(
    run: Run,
    envelope: Make,
    kit: SimpleNamespace,
    rule: Any,
    segments: list[str],
    expected: dict[str, str],
) -> None:
    lines = ["MSH|^~\\&|||||20260101||SIU^S12|1|P|2.5.1", "SCH|", *(f"{name}|1" for name in segments)]
    told = found(kit, run, envelope("\r".join([*lines, ""])), {"messages": ["SIU"], "segments": rule})
    assert set(told) == set(expected)
    assert all(told[path].startswith(problem) for path, problem in expected.items())


@pytest.mark.parametrize(
    ("change", "at", "nearest"),
    [
        ({"messges": []}, ("messges",), "messages"),
        ({"messages": ["SIUU^S12"]}, ("messages", 0), "SIU"),
        ({"messages": ["SIU_S12"]}, ("messages", 0), "SIU"),
        ({"versions": ["2.33"]}, ("versions", 0), "2.3"),
        ({"segments": {"AILL": "R"}}, ("segments", "AILL"), "AIL"),
        ({"segments": {"RESOURCE.AIL": "R"}}, ("segments", "RESOURCE.AIL"), "RESOURCES.AIL"),
        ({"segments": {"OBR": "R"}}, ("segments", "OBR"), ""),
        ({"segments": {"AIL": "RR"}}, ("segments", "AIL", "usage"), "R"),
        ({"segments": {"AIL": {"usge": "R"}}}, ("segments", "AIL", "usge"), "usage"),
        ({"segments": {"AIL": {"least": 3, "most": 2}}}, ("segments", "AIL", "least"), ""),
        ({"segments": {"AIL": {"usage": "X", "most": 2}}}, ("segments", "AIL", "usage"), ""),
        ({"segments": {"AIL": {"usage": "R", "least": 0}}}, ("segments", "AIL", "least"), ""),
        ({"segments": {"AIL": {"most": 51}}}, ("segments", "AIL", "most"), ""),
        ({"fields": {"SCH.6": "R"}}, ("fields", "SCH.6"), ""),
        ({"fields": {"SCH": "R"}}, ("fields", "SCH"), ""),
        ({"fields": {"AIL[2]-3": "R"}}, ("fields", "AIL[2]-3"), ""),
        ({"fields": {"SCH-99": "R"}}, ("fields", "SCH-99"), ""),
        ({"fields": {"SHC-1": "R"}}, ("fields", "SHC-1"), ""),
        ({"fields": {"SCH-1": {"length": 0}}}, ("fields", "SCH-1", "length"), ""),
        ({"fields": {"SCH-1": {"values": []}}}, ("fields", "SCH-1", "values"), ""),
        ({"fields": {"SCH-7.1": {"most": 1}}}, ("fields", "SCH-7.1", "most"), ""),
    ],
)
def test_what_is_wrong_in_a_profile_is_told_at_its_place(change: Any, at: tuple[Any, ...], nearest: str) -> None:
    with pytest.raises(SpecError) as wrong:
        read_profile(Fragment("emr", "transforms/emr.yaml", {**PROFILE, **change}))
    assert (wrong.value.at, wrong.value.file) == (at, "transforms/emr.yaml")
    if nearest:
        assert wrong.value.nearest == nearest


def test_a_fault_of_a_profile_is_told_with_its_file_and_line(tmp_path: Path) -> None:
    files = {
        "site.yaml": "rest: {port: 0}\nadmin: {port: 0}\n",
        "channels/in.yaml": (
            "name: in\nsource: {channel: {}}\ntransform:\n  - validate: {profile: profiles/emr}\n"
            "destinations: [{name: out, to: {discard: {}}}]\n"
        ),
        "transforms/profiles/emr.yaml": "messages: [SIU]\nfields:\n  SCH-6: R\n  SCH-77: R\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (problem,) = [problem for problem in load_for_tests(tmp_path).problems if problem.level == "error"]
    assert (problem.file, problem.line, problem.key) == ("transforms/profiles/emr.yaml", 4, "fields.SCH-77")
    assert problem.message == "SCH has 27 fields"


def test_the_keys_of_a_profile_are_all_told(kit: SimpleNamespace) -> None:
    page = (kit.SITE / "docs" / "steps" / "validate.md").read_text(encoding="utf-8")
    for model in (ProfileFile, SegmentPart, FieldPart):
        assert all(f"`{key}`" in page for key in model.model_fields)
    assert all(f"`{usage}`" in page for usage in Usage)
