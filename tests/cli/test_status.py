"""``status`` beside an engine of another version: it may tell less than this command knows, or more."""

from __future__ import annotations

from typing import Any

import pytest

from engine.cli.exits import Exit

STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "pid": 4711,
    "started_at": "2026-11-20T09:30:00.125Z",
    "site": "/srv/site",
    "data": "/srv/site/data",
    "store": "ok",
    "writing_process": {"state": "running", "pid": 4712},
    "disk": {"state": "ok", "free_bytes": 1 << 30, "total_bytes": 1 << 31},
    "pruning": {"last": None, "next_at": None},
}


@pytest.mark.parametrize("missing", STATUS)
def test_what_an_older_engine_does_not_tell_is_said_and_the_rest_is_shown(invoke: Any, api: Any, missing: str) -> None:
    api.answer("GET", "/api/status", {name: value for name, value in STATUS.items() if name != missing})
    result = invoke("status")
    assert result.exit_code == Exit.OK
    assert result.stdout.count("not told: the running engine is of another version") == 1 + (missing == "pruning")
    assert ("1.2.3" in result.stdout) is (missing != "version")


def test_what_a_newer_engine_tells_besides_is_passed_by(invoke: Any, api: Any) -> None:
    process = {"state": "dreaming", "pid": 4712, "depth": 3}
    api.answer("GET", "/api/status", {**STATUS, "writing_process": process, "dreams": []})
    result = invoke("status")
    assert result.exit_code == Exit.OK
    assert "dreaming" in result.stdout


def test_other_commands_say_what_they_miss(invoke: Any, api: Any) -> None:
    api.answer("GET", "/api/channels", {"channels": []})
    assert invoke("channels").exit_code == Exit.OK
    api.answer("GET", "/api/store/keys", {"keys": []})
    assert str(invoke("keys").exception) == (
        "the running engine does not tell `sealing_again`: it is of another version than this command"
    )
