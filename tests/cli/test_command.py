"""The command as a whole: help, version, exit codes, and that it starts fast."""

import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.cli import COMMANDS, app, main
from engine.cli.exits import Exit
from engine.errors import DataFolderInUse, NotRunning, StoreError

Command = Any
NAMES = [command.__name__.replace("_", "-") for commands in COMMANDS.values() for command in commands]


def test_every_command_of_the_issue_is_there() -> None:
    wanted = "init pilot run check validate send messages message resend ask channels start stop simulate trace discard"
    wanted += " status reload rename-destination pause resume audit prune backup restore verify keys rotate-key"
    assert sorted(NAMES) == sorted(wanted.split())


@pytest.mark.parametrize("name", NAMES)
def test_every_help_has_an_example_and_the_exit_codes(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"hl7engine {name}" in result.stdout
    assert "3 no engine is running" in result.stdout


def test_the_version_is_the_packages(hl7engine: Command) -> None:
    from importlib.metadata import version

    assert hl7engine("--version").stdout == f"hl7engine {version('hl7engine')}\n"


def test_no_command_is_wrong_usage(hl7engine: Command) -> None:
    result = hl7engine()
    assert result.returncode == Exit.USAGE
    assert "Usage: hl7engine" in result.stdout + result.stderr


def test_help_imports_nothing_heavy() -> None:
    heavy = ("aiohttp", "fastapi", "jinja2", "hl7apy", "pydantic", "rich.table", "structlog", "uvicorn", "yaml")
    code = f"import sys, engine.cli; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotRunning("no engine"), Exit.NOT_RUNNING),
        (DataFolderInUse("in use"), Exit.IN_USE),
        (StoreError("disk full"), Exit.NEGATIVE),
    ],
)
def test_errors_of_the_engine_are_one_line_and_an_exit_code(
    error: Exception, code: Exit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("engine.cli.app", fail)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert capsys.readouterr().err == f"hl7engine: {error}\n"


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = (
        "import asyncio, os, signal\n"
        "from engine.cli.signals import stop_on_signal\n"
        "async def live():\n"
        "    stop = stop_on_signal()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    await stop.wait()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(live())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert ended.returncode == 128 + 15
