"""``validate``: files against the standard, each finding with its line, and the exit code."""

import json
from pathlib import Path
from typing import Any

from engine.cli.exits import Exit

Command = Any
SAMPLES = Path(__file__).parents[2] / "samples" / "hl7"


def test_messages_that_are_right_pass(hl7engine: Command) -> None:
    files = [str(SAMPLES / f"{name}.hl7") for name in ("N1_SIU_S12_RIS_v251", "P_cerner_S12_from_v251")]
    result = hl7engine("validate", "--set", "datatypes=warn", *files)  # samples say @NOW in MSH-7
    assert result.returncode == Exit.OK
    assert result.stdout.endswith("2 messages, none with errors: 0 errors, 1 warning.\n")


def test_findings_have_the_line_of_the_file_and_nothing_of_the_content(hl7engine: Command, site: Path) -> None:
    good = (SAMPLES / "L1_QRY_Q01_v23.hl7").read_text().replace("@NOW", "20260101")
    bad = (SAMPLES / "N3_SIU_seed_v23.hl7").read_text().replace("PID|", "\nPID|")
    (site / "two.hl7").write_text(f"BHS|^~\\&\n{good}\n{bad}")
    result = hl7engine("validate", "two.hl7")
    assert result.returncode == Exit.NEGATIVE
    line = next(
        number for number, text in enumerate((site / "two.hl7").read_text().split("\n"), 1) if text[:3] == "SCH"
    )
    assert f"two.hl7:{line} SCH-6 is required and empty (event reason)" in result.stdout
    assert result.stdout.endswith("2 messages, 1 with errors: 4 errors, 0 warnings.\n")
    assert "Doe" not in result.stdout


def test_levels_are_set_and_wrong_ones_are_told(hl7engine: Command) -> None:
    file = str(SAMPLES / "N3_SIU_seed_v23.hl7")
    assert hl7engine("validate", "--levels", "lenient", file).returncode == Exit.OK
    assert hl7engine("validate", "--set", "required=ignore", file).returncode == Exit.OK
    for words in (("--levels", "tough"), ("--set", "required"), ("--set", "reqired=warn"), ("--set", "required=none")):
        result = hl7engine("validate", *words, file)
        assert result.returncode == Exit.USAGE
        assert "strict" in result.stderr or "structure" in result.stderr


def test_a_profile_is_used_and_its_faults_have_a_line(hl7engine: Command, site: Path) -> None:
    file = str(SAMPLES / "N3_SIU_seed_v23.hl7")
    (site / "emr.yaml").write_text("messages: [SIU]\nfields:\n  SCH-6: O\n  SCH-23: R\n")
    result = hl7engine("validate", "--json", "--profile", "emr.yaml", file)
    found = json.loads(result.stdout)
    assert (result.returncode, found["ok"], found["messages"], found["invalid"]) == (Exit.NEGATIVE, False, 1, 1)
    assert [item["path"] for item in found["findings"]] == ["SCH-11", "SCH-16", "SCH-20", "SCH-23"]
    assert found["findings"][-1]["source"] == "profile emr"
    (site / "emr.yaml").write_text("messages: [SIU]\nfields:\n  SCH-6: Q\n")
    result = hl7engine("validate", "--profile", "emr.yaml", file)
    assert result.returncode == Exit.NEGATIVE
    assert "emr.yaml:3" in result.stderr


def test_what_is_no_message_is_an_error(hl7engine: Command, site: Path) -> None:
    (site / "none.txt").write_text("hello\n")
    result = hl7engine("validate", "none.txt", "-", stdin="MSH|\rPID|1\r")
    assert result.returncode == Exit.NEGATIVE
    assert "no HL7 message is in it" in result.stdout
    assert "2 messages, 2 with errors" in result.stdout
    assert hl7engine("validate", "nowhere.hl7").returncode == Exit.USAGE


def test_the_example_of_the_documentation_is_what_the_command_prints(hl7engine: Command) -> None:
    root = SAMPLES.parents[1]
    section = (root / "docs" / "operating.md").read_text(encoding="utf-8").split("### `hl7engine validate`")[1]
    command, _, shown = section.split("```text\n$ hl7engine ")[1].split("```")[0].partition("\n")
    assert hl7engine(*command.split(), cwd=root).stdout == shown
