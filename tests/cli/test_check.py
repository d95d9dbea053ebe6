"""``check``: every problem of every file, and its exit code."""

import json
from pathlib import Path
from typing import Any

from engine.cli.check import summary
from engine.cli.exits import Exit

Command = Any


def test_a_valid_site_passes(hl7engine: Command) -> None:
    result = hl7engine("check")
    assert (result.returncode, result.stdout) == (Exit.OK, "1 channel can run: no problems.\n")


def test_all_problems_of_all_files_are_told_with_file_and_line(hl7engine: Command, site: Path) -> None:
    (site / "channels" / "bad.yaml").write_text("name: bad\nsource:\n  mlpp: {port: 0}\ndestinatons: []\n")
    (site / "channels" / "worse.yaml").write_text("name: worse\nsource: {mllp: {port: none}}\n")
    result = hl7engine("check")
    assert result.returncode == Exit.NEGATIVE
    for place in ("channels/bad.yaml:3", "channels/bad.yaml:4", "channels/worse.yaml:2"):
        assert place in result.stdout
    assert "did you mean mllp" in result.stdout
    assert "1 channel can run, 2 cannot (bad, worse)" in result.stdout


def test_machines_get_json(hl7engine: Command, site: Path) -> None:
    (site / "channels" / "bad.yaml").write_text("name: bad\nsource:\n  mlpp: {port: 0}\n")
    result = hl7engine("check", "--json")
    found = json.loads(result.stdout)
    assert (result.returncode, found["ok"]) == (Exit.NEGATIVE, False)
    assert found["channels"] == {"inbox": "valid", "bad": "broken"}
    assert {"channels/bad.yaml"} == {problem["file"] for problem in found["problems"]}
    assert {3} <= {problem["line"] for problem in found["problems"]}


def test_a_note_alone_is_no_failure(hl7engine: Command, site: Path) -> None:
    (site / "channels" / "lost.yml").write_text("name: lost\n")
    result = hl7engine("check")
    assert (result.returncode, "lost.yml" in result.stdout) == (Exit.OK, True)


def test_an_unusable_site_file_is_a_problem_like_any_other(hl7engine: Command, site: Path) -> None:
    (site / "site.yaml").write_text("rest: [\n")
    result = hl7engine("check")
    assert (result.returncode, "site.yaml" in result.stdout) == (Exit.NEGATIVE, True)
    assert "The site cannot run: 1 problem." in result.stdout
    assert json.loads(hl7engine("check", "--json").stdout)["channels"] == {}


def test_a_folder_without_a_site_is_wrong_usage(hl7engine: Command, tmp_path: Path) -> None:
    assert hl7engine("check", str(tmp_path)).returncode == Exit.USAGE


def test_a_site_that_cannot_be_loaded_has_no_channels_to_count() -> None:
    assert summary(None, ()) == "The site cannot run: no problems."
