"""Log lines: JSON with ids, and never the text of an exception that is not the engine's own."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import structlog

from engine.cli import logs
from engine.errors import StepFailed

SAMPLE = Path(__file__).parents[2] / "samples" / "hl7" / "N1_SIU_S12_RIS_v23.hl7"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Everything that was logged."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logs.configure("info", pretty=False)
    monkeypatch.setattr(logs, "log", structlog.get_logger("engine.log"))
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def fail_quoting_content() -> None:
    raise KeyError("Doe^Planted")


def test_a_line_is_one_json_object_with_event_and_time(lines: Lines) -> None:
    structlog.get_logger("engine.test").info("message.received", message_id=7)
    [line] = lines()
    assert (line["event"], line["message_id"], line["level"]) == ("message.received", 7, "info")
    assert line["time"].endswith("Z")


def test_lines_below_the_level_are_left_out(lines: Lines) -> None:
    structlog.get_logger("engine.test").debug("message.received")
    assert lines() == []


async def test_the_lines_of_one_turn_are_written_at_its_end_and_a_warning_at_once(lines: Lines) -> None:
    log = structlog.get_logger("engine.test")
    log.info("one")
    log.info("two")
    assert lines() == []
    await asyncio.sleep(0)
    assert [line["event"] for line in lines()] == ["one", "two"]
    log.info("three")
    log.warning("four")
    assert [line["event"] for line in lines()] == ["one", "two", "three", "four"]


async def test_a_line_is_what_was_told_whatever_made_it(lines: Lines) -> None:
    log = structlog.get_logger("engine.test").bind(channel="a")
    log.info("one", message_id=7, what="b")
    log.warning("one", message_id=7, what="b")
    log.info("%s", "one", message_id=7)
    log.info("one", exc_info=StepFailed("lookup", "lookup_missing"))
    await asyncio.sleep(0)
    first, second, third, fourth = lines()
    assert (first.pop("level"), second.pop("level")) == ("info", "warning")
    assert first.pop("time") <= second.pop("time") <= third["time"] <= fourth["time"]
    assert list(first) == list(second)
    assert first == second == {"channel": "a", "message_id": 7, "what": "b", "event": "one"}
    assert (third["event"], fourth["error"]) == ("one", "StepFailed")


async def test_a_line_like_those_before_costs_four_calls(lines: Lines) -> None:
    logger, calls, many = structlog.get_logger("engine.x").bind(channel="a"), Counter[str](), 50

    def note(seen: FrameType, event: str, argument: Any) -> None:
        calls[seen.f_code.co_name] += event == "call" and seen.f_code.co_filename == logs.__file__

    for started in (False, True):
        sys.setprofile(note if started else None)
        for number in range(many):
            logger.info("delivery.delivered", message_id=number, control_id="M1", attempt=1)
        await asyncio.sleep(0)
    sys.setprofile(None)
    assert len(lines()) == 2 * many
    assert calls.total() <= 4 * many + 2, calls.most_common()


def test_what_a_loop_that_ended_left_is_written(lines: Lines) -> None:
    async def tell(event: str) -> None:
        structlog.get_logger("engine.test").info(event)

    for event in ("one", "two"):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(tell(event))
        loop.close()
    structlog.get_logger("engine.test").info("three")
    assert [line["event"] for line in lines()] == ["one", "two", "three"]


@pytest.mark.parametrize(
    "value", ['é\n"', 1, None, True, 1.5, [1, {"a": (2, "x")}], {1: 2}, float("inf"), b"x", "\u2028"]
)
def test_a_line_is_what_the_standard_library_makes_of_it(lines: Lines, value: Any) -> None:
    assert "".join(logs._pieces({"value": value}, 0)) == json.dumps({"value": value}, ensure_ascii=False, default=repr)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"number": 7, "text": 'é\n"%s %d\0'},
        {"none": None, "yes": True, "share": 1.5, "names": ["a"]},
        {"channel": "b", "level": "?", "time": 3},
    ],
)
def test_a_line_of_info_is_what_the_standard_library_makes_of_it(
    monkeypatch: pytest.MonkeyPatch, lines: Lines, facts: dict[str, Any]
) -> None:
    monkeypatch.setattr(logs.time, "time", lambda: 1_767_608_100.25)
    log = structlog.get_logger("engine.test").bind(channel='100 % of "a"')
    told = {"channel": '100 % of "a"', **facts, "event": "one", "level": "info", "time": "2026-01-05T10:15:00.250000Z"}
    for _ in range(2):
        log.info("one", **facts)
    assert [list(line.items()) for line in lines()] == [list(told.items())] * 2


def test_a_line_of_a_context_that_looks_like_a_form_is_written(lines: Lines) -> None:
    log = structlog.get_logger("engine.test").bind(channel="\0")
    log.info("one", number=1, text="\0")
    (line,) = lines()
    assert (line["channel"], line["number"], line["text"], line["event"]) == ("\0", 1, "\0", "one")


class NotTold:
    """Nothing can be said of it."""

    def __repr__(self) -> str:
        raise ValueError("Doe^Planted")


async def test_a_line_that_cannot_be_made_stops_nothing_and_no_other_line(lines: Lines) -> None:
    log = structlog.get_logger("engine.test")
    log.info("one")
    log.info("two", what=NotTold())
    log.info("three")
    log.info("four", number=10**5000)  # more digits than Python writes
    log.bind(what=NotTold()).info("five")
    log.warning("six", what={(1, 2): 3})
    failed, *others, failed_too = [line for line in lines() if line["event"] == "log.failed"]
    assert [line["event"] for line in lines()] == ["one", "log.failed", "three", *["log.failed"] * 3]
    assert len(others) == 2
    assert (failed["error"], failed["level"]) == ("ValueError", "info")
    assert (failed_too["error"], failed_too["level"]) == ("TypeError", "warning")
    assert "Planted" not in json.dumps(lines())


async def test_an_event_that_is_no_text_is_written_and_so_are_the_lines_beside_it(lines: Lines) -> None:
    log = structlog.get_logger("engine.test")
    for event in ("one", ["two"], {"three": 3}, "four"):
        log.info(event, number=1)
    await asyncio.sleep(0)
    assert [line["event"] for line in lines()] == ["one", ["two"], {"three": 3}, "four"]


def test_an_exception_is_logged_by_type_and_place_only(lines: Lines) -> None:
    try:
        fail_quoting_content()
    except KeyError:
        structlog.get_logger("engine.test").exception("step.fault")
    [line] = lines()
    assert line["error"] == "KeyError"
    assert line["where"][-1].endswith(" fail_quoting_content")
    assert "Planted" not in json.dumps(line)


def test_the_reason_of_the_engines_own_errors_is_kept(lines: Lines) -> None:
    structlog.get_logger("engine.test").error("step.failed", exc_info=StepFailed("lookup", "lookup_missing", "PID-3"))
    assert lines()[0]["reason"] == "step lookup failed: lookup_missing at PID-3"


def test_libraries_speak_by_their_first_line_and_without_arguments(lines: Lines) -> None:
    library = logging.getLogger("some.library")
    library.warning("cannot read %s\nDoe^Planted", "Doe^Planted")
    library.info("chatter")
    try:
        fail_quoting_content()
    except KeyError:
        library.exception("failed")
    first, second = lines()
    assert (first["library"], first["text"], first["level"]) == ("some.library", "cannot read %s", "warning")
    assert second["error"] == "KeyError"
    assert "Planted" not in json.dumps([first, second])


async def test_a_task_nobody_waited_for_is_logged_without_its_text(lines: Lines) -> None:
    logs.watch_loop()
    asyncio.get_running_loop().call_soon(fail_quoting_content)
    await asyncio.sleep(0)
    [line] = lines()
    assert (line["event"], line["error"]) == ("loop.fault", "KeyError")
    assert "Planted" not in json.dumps(line)


def test_a_terminal_gets_readable_lines(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure("info", pretty=True)
    structlog.get_logger("engine.test").info("message.received", message_id=7)
    assert "message.received" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(KeyError):
        logs.configure("loud")


def test_a_log_that_nobody_reads_stops_nothing(site: Path) -> None:
    words = [sys.executable, "-m", "engine.cli", "run", str(site), "--log-level", "debug"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as engine:
        assert engine.stderr is not None
        port = ""
        for line in engine.stderr:
            event = json.loads(line)
            port = event["address"].rpartition(":")[2] if event["event"] == "mllp.listening" else port
            if event["event"] == "engine.started":
                break
        engine.stderr.close()
        sent = subprocess.run(
            [sys.executable, "-m", "engine.cli", "send", str(SAMPLE), "--to", f"127.0.0.1:{port}"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert sent.stdout.startswith("AA"), sent.stderr
        engine.terminate()
        engine.wait(30)
    assert engine.returncode == 0
