"""``check``: every problem of every file, and its exit code."""

import json
from pathlib import Path
from typing import Any

from engine.cli.check import summary
from engine.cli.exits import Exit
from engine.tls import ensure_certificates
from tests.certificates import issue

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


def test_certificates_that_end_are_told(hl7engine: Command, site: Path) -> None:
    ensure_certificates(site / "own")
    for name, ended in (("soon", False), ("past", True), ("long", False)):
        issue(site / "own", name, days=400 if name == "long" else 10, ended=ended)
    lines = ["name: tls", "source: {channel: {}}", "destinations:"]
    for name in ("soon", "long"):
        tls = f"{{ca: own/ca.pem, cert: own/{name}.pem, key: own/{name}.key}}"
        lines.append(f"  - {{name: {name}, to: {{mllp: {{host: localhost, port: 2, tls: {tls}}}}}}}")
    (site / "channels" / "tls.yaml").write_text("\n".join(lines))
    result = hl7engine("check")
    assert result.returncode == Exit.OK
    assert "soon.tls.cert soon.pem ends on" in result.stdout
    assert "in 9 days" in result.stdout or "in 10 days" in result.stdout
    assert "long" not in result.stdout
    text = (site / "channels" / "tls.yaml").read_text()
    (site / "channels" / "tls.yaml").write_text(text.replace("own/soon.", "own/past."))
    result = hl7engine("check")
    assert (result.returncode, "soon.tls.cert past.pem has ended on" in result.stdout) == (Exit.NEGATIVE, True)
    assert "2 channels can run: 1 problem." in result.stdout, "what has ended stops no channel"


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
