"""``init``: what it writes runs as its README says, and what is there already is never touched."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.cli import app
from engine.cli import init as command
from engine.cli.exits import Exit
from engine.config.secrets import ADMIN_KEY, STORE_KEY
from engine.config.site import secret_names

REPOSITORY = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "hl7engine"

Start = Callable[..., Any]


def init(*words: Any) -> Any:
    return CliRunner().invoke(app, ["init", *map(str, words)])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def secrets(folder: Path) -> dict[str, str]:
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_both_sites_are_valid_as_they_are_written(tmp_path: Path) -> None:
    for number, words in enumerate([[], ["--example", "radscheduler"]]):
        done = init(tmp_path / f"new/{number}", *words)
        assert done.exit_code == Exit.OK, done.output
        checked = CliRunner().invoke(app, ["check", str(tmp_path / f"new/{number}")])
        assert (checked.exit_code, "no problems" in checked.output) == (Exit.OK, True), checked.output


def test_the_example_is_the_site_of_this_repository(tmp_path: Path) -> None:
    assert init(tmp_path / "site", "--example", "radscheduler").exit_code == Exit.OK
    written = contents(tmp_path / "site")
    assert {name for name in written if "/" not in name} == {".env", ".gitignore", "README.md", "site.yaml"}
    for part in ("channels", "transforms", "tables", "samples"):
        below = {name.partition("/")[2]: text for name, text in written.items() if name.startswith(f"{part}/")}
        assert below == contents(REPOSITORY / part)
    assert written["site.yaml"] == (REPOSITORY / "site.yaml").read_bytes()


def test_secrets_are_each_sites_own_and_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADSCHEDULER_API_KEY", "of-another-engine-in-this-shell")
    for name in ("one", "two"):
        init(tmp_path / name, "--example", "radscheduler")
    one, two = secrets(tmp_path / "one"), secrets(tmp_path / "two")
    assert set(one) == {STORE_KEY, ADMIN_KEY, *secret_names(REPOSITORY)}
    assert all(one.values())
    assert not set(one.values()) & {*two.values(), "of-another-engine-in-this-shell"}
    assert (tmp_path / "one" / ".env").stat().st_mode & 0o777 == 0o600
    assert {".env", "data/"} <= set((tmp_path / "one" / ".gitignore").read_text().splitlines())


def test_an_empty_folder_that_is_there_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = init(".")
    assert done.exit_code == Exit.OK
    assert "hl7engine run ." in done.output


@pytest.mark.parametrize("held", ["site.yaml", ".hidden"])
def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path, held: str) -> None:
    (tmp_path / held).write_text("mine")
    done = init(tmp_path)
    assert done.exit_code == Exit.USAGE
    assert f"is not empty (it holds {held}); nothing was written" in done.output
    assert contents(tmp_path) == {held: b"mine"}


def test_what_can_be_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = init(tmp_path / "file")
    assert (done.exit_code, "cannot be a site: Not a directory" in done.output) == (Exit.USAGE, True)


def test_an_unknown_example_is_told_with_the_nearest(tmp_path: Path) -> None:
    done = init(tmp_path / "site", "--example", "radschedular")
    assert done.exit_code == Exit.USAGE
    assert "did you mean radscheduler?" in done.output
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("there", [True, False], ids=["the folder was there", "the folder was not there"])
def test_half_a_site_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    def found(example: str) -> Iterator[tuple[str, bytes]]:
        yield "channels/inbox.yaml", b""
        yield "channels/inbox.yaml/below", b""  # fails, as a full disk would

    monkeypatch.setattr(command, "found", found)
    folder = tmp_path / "a" / "site"
    if there:
        folder.mkdir(parents=True)
    done = init(folder)
    assert done.exit_code == Exit.NEGATIVE
    assert "cannot be written" in done.output
    assert [path.name for path in tmp_path.rglob("*")] == (["a", "site"] if there else [])


def test_a_site_without_locations_has_no_simulators_and_is_told_why(site: Path) -> None:
    words = [PROGRAM, "simulate", str(site)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == Exit.NEGATIVE
    assert f"the simulators cannot start: {site}/tables/locations.csv: No such file or directory" in done.stderr


def pasted(section: str) -> str:
    """The lines of a section of a README that are to be pasted."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The empty site; ``start`` starts it."""
    assert init(tmp_path / "site").exit_code == Exit.OK
    return tmp_path / "site"


def test_the_empty_site_does_what_its_readme_says(site: Path, start: Start) -> None:
    engine = start(env={"REST_PORT": "0", "ADMIN_PORT": "0", "INBOX_PORT": "0"})
    port = engine.until("mllp.listening")["address"].rpartition(":")[2]
    readme = (site / "README.md").read_text()
    script = pasted(readme.partition("In another terminal")[2]).replace(":2575", f":{port}")
    first, rest = script.split("\n", 1)
    assert f"127.0.0.1:{port}" in first
    assert shell(first, site).startswith("AA  FIRST0001")
    engine.until("delivery.delivered")
    assert shell(rest, site).splitlines()[-1] == "1-FIRST0001.hl7"
    sample = (site / "samples/hl7/ADT_A01.hl7").read_bytes()
    assert (site / "data/inbox/1-FIRST0001.hl7").read_bytes() == sample
    assert engine.end() == 0


def shell(script: str, folder: Path) -> str:
    """What the lines print in this folder."""
    words = ["bash", "-euo", "pipefail", "-c", script.replace("hl7engine ", f"{PROGRAM} ")]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
