"""Names that were missed: variables that nothing sets, paths that quietly would be members of a JSON body."""

from pathlib import Path

import pytest

from engine.config.site import load_site
from engine.errors import Problem

CHANNEL = """\
name: x
source: {{mllp: {{port: 0}}}}
transform:
{steps}destinations:
  - name: a
    to: {{discard: {{}}}}
    transform:
      - set: {{$of_a: b}}
"""


def problems(folder: Path, *steps: str) -> list[Problem]:
    """What is told of a channel with these steps; a shared file and a table are there."""
    for name in ("channels", "transforms", "tables"):
        (folder / name).mkdir()
    (folder / "site.yaml").write_text("epic: {version: '2.3'}\n")
    (folder / "tables" / "emr.csv").write_text("facility,emr\nDTI,athena\n")
    (folder / "transforms" / "shared.yaml").write_text("- keep: {$of_some_channels: a}\n")
    text = CHANNEL.format(steps="".join(f"  - {step}\n" for step in steps))
    (folder / "channels" / "x.yaml").write_text(text)
    return list(load_site(folder, None, {}).problems)


@pytest.mark.parametrize(
    ("steps", "key", "name", "near"),
    [
        (["lookup: {table: emr, key: $boddy.x, into: emr}"], "transform[0].lookup.key", "boddy", "$body"),
        (["set: {PID-3: '{{ boddy.x or 1 }}'}"], "transform[0].set.PID-3", "boddy", "$body"),
        (["set: {$facility: DTI}", "keep: {$facilty: DTI}"], "transform[1].keep.$facilty", "facilty", "$facility"),
        (["copy: {PID-3: $mnr}", "set: {$mrn: a}"], "transform[0].copy.PID-3", "mnr", "$mrn"),
    ],
)
def test_a_variable_that_nothing_sets_is_told_with_the_nearest(
    tmp_path: Path, steps: list[str], key: str, name: str, near: str
) -> None:
    [problem] = problems(tmp_path, *steps)
    assert (problem.key, problem.message, problem.nearest) == (key, f"no step sets `${name}`", near)
    assert problem.line == 3 + len(steps) if "keep" in key else problem.line == 4


@pytest.mark.parametrize(
    "step",
    [
        "keep: {$x: a}",
        "keep: {$of_a: b}",  # of another destination, but of this file
        "set: {PID-3: {from: [$query.a, $received_at, $site.epic.version]}}",
        "set: {PID-3: \"{{ message['PID-5'] or site.epic.version or now or x }}\"}",
        "include: shared",
        "build: {json: {a: {from: $anything, default: b}}}",
    ],
)
def test_what_is_set_somewhere_or_may_be_is_nothing_to_tell(tmp_path: Path, step: str) -> None:
    assert problems(tmp_path, "copy: {$x: PID-3}", step) == []


@pytest.mark.parametrize(
    ("step", "meant"),
    [
        ("keep: {MSH9.1: SIU}", "MSH-9.1"),
        ("keep: {PID.3: M1}", "PID-3"),
        ("keep: {pid-3.1: M1}", "PID-3.1"),
        ("drop: {PID3-1: M1}", "PID-3.1"),
        ("set: {MSH5: LAB}", "MSH-5"),
        ("copy: {PID-3: PID2}", "PID-2"),
        ("lookup: {table: emr, key: [PV1-3.4, MSH4], into: emr}", "MSH-4"),
        ("keep: {PID-0: x}", ""),
    ],
)
def test_a_path_that_was_slightly_missed_is_no_member(tmp_path: Path, step: str, meant: str) -> None:
    [problem] = problems(tmp_path, step)
    assert ("is no path" in problem.message, problem.nearest) == (True, meant)


@pytest.mark.parametrize("member", ["patient.mrn", "line1", "obx.1", "ABC1", "icd-x", "a-3", "ICD10"])
def test_members_of_a_json_body_stay_members(tmp_path: Path, member: str) -> None:
    assert problems(tmp_path, f"keep: {{{member}: a}}") == []


def test_a_destination_with_a_fault_brings_no_word_about_what_it_would_have_taken(tmp_path: Path) -> None:
    steps = ["lookup: {table: emr, key: MSH-4, into: emr}"]
    assert problems(tmp_path, *steps) == []
    file = tmp_path / "channels" / "x.yaml"
    text = file.read_text() + "  - name: b\n    where: {$emr: epic}\n    to: {discard: {}}\n"
    file.write_text(text)
    [note] = load_site(tmp_path, None, {}).problems
    assert "leads `DTI` to `athena`, and no destination takes that" in note.message
    file.write_text(text + "  - name: c\n    where: {$emr: athena}\n    to: {discrad: {}}\n")
    [fault] = load_site(tmp_path, None, {}).problems
    assert fault.nearest == "discard"
