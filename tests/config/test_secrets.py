import base64
import stat
import threading
from pathlib import Path

import pytest

from engine.config.secrets import ADMIN_KEY, STORE_KEY, ensure_env, read_env
from engine.errors import ConfigError


def test_first_run_generates_everything_into_a_private_file(tmp_path: Path) -> None:
    env = ensure_env(tmp_path, ["RADSCHEDULER_API_KEY"], {})
    path = tmp_path / ".env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(base64.b64decode(env[STORE_KEY], validate=True)) == 32
    assert len(env[ADMIN_KEY]) >= 32
    assert len(env["RADSCHEDULER_API_KEY"]) >= 32
    assert len(set(env.values())) == 3
    assert read_env(path.read_text()) == env
    assert [entry.name for entry in tmp_path.iterdir()] == [".env"]


def test_the_next_run_finds_the_same(tmp_path: Path) -> None:
    first = ensure_env(tmp_path, ["A"], {})
    before = (tmp_path / ".env").read_bytes()
    assert ensure_env(tmp_path, ["A"], {}) == first
    assert (tmp_path / ".env").read_bytes() == before


def test_only_what_is_missing_is_added_and_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# ours\nexport A='keep me'\nB=")
    env = ensure_env(tmp_path, ["A", "B", "C"], {})
    text = (tmp_path / ".env").read_text()
    assert text.startswith("# ours\nexport A='keep me'\nB=\n")
    assert env["A"] == "keep me"
    assert len(env["B"]) >= 32, "an empty secret is none"
    assert len(env["C"]) >= 32


def test_the_real_environment_wins_and_is_not_written_down(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=from the file\n")
    env = ensure_env(tmp_path, ["A", "B"], {"A": "from outside", "B": "given", "PATH": "/bin"})
    assert (env["A"], env["B"], env["PATH"]) == ("from outside", "given", "/bin")
    assert "given" not in (tmp_path / ".env").read_text()
    assert "from the file" in (tmp_path / ".env").read_text()


def test_an_empty_variable_does_not_hide_the_generated_secret(tmp_path: Path) -> None:
    assert len(ensure_env(tmp_path, ["A"], {"A": ""})["A"]) >= 32


def test_a_file_that_others_may_read_is_closed(tmp_path: Path) -> None:
    ensure_env(tmp_path, [], {})
    (tmp_path / ".env").chmod(0o644)
    ensure_env(tmp_path, [], {})
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_programs_that_start_together_agree(tmp_path: Path) -> None:
    found: list[dict[str, str]] = []
    together = threading.Barrier(8)

    def start() -> None:
        together.wait()
        found.append(ensure_env(tmp_path, ["A", "B"], {}))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(env == found[0] for env in found)


def test_a_file_that_cannot_be_read_is_a_problem_without_content(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe")
    with pytest.raises(ConfigError) as caught:
        ensure_env(tmp_path, [], {})
    assert [problem.file for problem in caught.value.problems] == [".env"]


def test_a_folder_that_does_not_exist_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        ensure_env(tmp_path / "nowhere", [], {})


def test_lines_are_read_as_people_write_them() -> None:
    text = "# comment\n\nA=1\n export B = two words \nC='x=y'\nD=\"q\"\nnonsense\nA=2\nE='\n"
    assert read_env(text) == {"A": "2", "B": "two words", "C": "x=y", "D": "q", "E": "'"}
