"""Log lines of a running engine: one JSON object per line on stderr, or a readable line on a terminal.

What one turn of the event loop logs is written at its end, in one go; a warning, or worse, at once.
Every line has ``event`` and ids. The text of an exception is not logged, since a library may quote what it choked on:
its type and the places it went through are, and the text only of the engine's own errors, which hold none. What
libraries log by themselves comes through the same door, by its first line and without its arguments, for the same
reason.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from json import encoder
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from engine.errors import HL7EngineError

#: Innermost frames of an exception that are logged.
FRAMES = 6
LONGEST_LIBRARY_LINE = 200

log = structlog.get_logger("engine.log")


def configure(level: str = "info", pretty: bool | None = None) -> None:
    """Send structlog and the standard library's logging to stderr; ``pretty`` by itself when that is a terminal."""
    number = logging.getLevelNamesMapping()[level.upper()]
    lines = Lines(sys.stderr)
    processors = _JSON
    if sys.stderr.isatty() if pretty is None else pretty:
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")
        renderer = structlog.dev.ConsoleRenderer()
        processors = [structlog.processors.add_log_level, stamp, without_exception_text, renderer]
    methods: dict[str, Any] = {"_proxy_to_logger": _tell}
    if number <= logging.INFO:
        methods["info"] = _info
    structlog.configure(
        processors=processors,
        wrapper_class=type("Logger", (structlog.make_filtering_bound_logger(number),), methods),
        logger_factory=lambda *_name: lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[LibraryHandler()], level=max(number, logging.WARNING), force=True)


def _tell(self: Any, level: str, event: str | None = None, **facts: Any) -> None:
    """What a bound logger does with what it is told: as structlog's own, for processors that end with a text."""
    line: Any = {**self._context, **facts, "event": event}
    try:
        for process in self._processors:
            line = process(self._logger, level, line)
    except structlog.DropEvent:
        return
    getattr(self._logger, level)(line)


def _info(self: Any, event: str, *args: Any, **facts: Any) -> None:
    """``info`` of a bound logger. Where its line is to be JSON, that is made of it when it is written."""
    if args or "exc_info" in facts or self._processors is not _JSON:
        self._proxy_to_logger("info", event % args if args else event, **facts)
    else:
        self._logger.info((self, event, facts, time.time()))


#: What a line is made of when it is written: the bound logger, the event, what was told of it, and when.
Told = tuple[Any, str, EventDict, float]


class Lines:
    """Where lines go: a stream whose reader may go away, or whose disk may be full.

    What it does not take is lost, and nothing else: a line that cannot be written must not fail what it tells of, no
    message and no stop.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._waiting: deque[str | Told] = deque()
        #: The loop at whose next turn they are written.
        self._due: asyncio.AbstractEventLoop | None = None
        self._writing = threading.RLock()  # whoever handles a signal may log in the middle of it
        atexit.register(self.flush)

    def info(self, line: str | Told) -> None:
        """Write a line at the end of this turn of the loop; at once where no loop runs."""
        self._waiting.append(line)
        if self._due is not None and self._due.is_running():
            return
        self._due = loop = asyncio._get_running_loop()
        if loop is None:
            self.flush()
        else:
            loop.call_soon(self.flush)

    def warning(self, line: str) -> None:
        """Write a line at once, behind those that wait."""
        self._waiting.append(line)
        self.flush()

    debug = info
    error = critical = warning

    def flush(self) -> None:
        """Write what waits, as far as it can be written."""
        with self._writing:
            self._due = None
            text: list[str] = []
            while self._waiting:
                line = self._waiting.popleft()
                text.append(line if type(line) is str else _line(*line))
                text.append("\n")
            with contextlib.suppress(OSError, ValueError):
                self.stream.write("".join(text))
                self.stream.flush()


def _json_encoder() -> Callable[[EventDict, int], Iterable[str]]:
    """What makes the JSON of a line. The standard library makes an encoder in C for each text: one does for all."""
    standard = json.JSONEncoder(ensure_ascii=False, default=repr)
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return lambda event, _level: (standard.encode(event),)
    made: Callable[[EventDict, int], Iterable[str]] = make(
        None, repr, encoder.encode_basestring, None, ": ", ", ", False, False, True
    )
    return made


_pieces = _json_encoder()
#: The JSON of a text.
_quoted: Callable[[str], str] = encoder.encode_basestring
#: The JSON of what some other facts are.
_TOLD: dict[type[Any], Callable[[Any], str]] = {bool: {True: "true", False: "false"}.__getitem__}


def _rendered(line: EventDict) -> str:
    try:
        return "".join(_pieces(line, 0))
    except Exception as error:  # noqa: BLE001 - whatever was told: it stops nobody, and no other line
        told = {"event": "log.failed", "error": type(error).__name__, "level": line["level"], "time": line["time"]}
        return "".join(_pieces(told, 0))


def _line(logger: Any, event: str, facts: EventDict, at: float) -> str:
    """A line of ``info``. What is told in texts and whole numbers fills the form that all such lines have."""
    try:
        form = logger._forms[event, *facts]
    except (AttributeError, KeyError, TypeError):  # TypeError: an event that is no text
        form = _form_of(logger, event, facts)
    if form:
        try:
            values: list[str | int] = []
            for fact in facts.values():
                kind = type(fact)
                values.append(_quoted(fact) if kind is str else fact if kind is int else _TOLD[kind](fact))
            values.append(_moment(at))
            return str(form % tuple(values))
        except Exception:  # noqa: BLE001, S110 - whatever was told: ``_rendered`` says so
            pass
    return _rendered({**logger._context, **facts, "event": event, "level": "info", "time": _moment(at)})


def _form_of(logger: Any, event: str, facts: EventDict) -> str:
    forms: dict[tuple[str, ...], str] = logger.__dict__.setdefault("_forms", {})
    try:
        form = forms[event, *facts] = _form(logger._context, event, facts)
    except Exception:  # noqa: BLE001 - as above
        form = ""
    return form


def _form(context: EventDict, event: str, facts: EventDict) -> str:
    """Such a line with ``%s`` for each fact and the time; empty where a name comes twice."""
    if len({*context, *facts, *_OWN}) < len(context) + len(facts) + len(_OWN):
        return ""
    line = {**context, **dict.fromkeys(facts, _FACT), "event": event, "level": "info", "time": _FACT}
    *around, end = "".join(_pieces(line, 0)).replace("%", "%%").split(_quoted(_FACT))
    if len(around) > len(facts) + 1:  # the context has one
        return ""
    return "%s".join([*around[:-1], around[-1] + '"%s"' + end])


#: Names of what every line has.
_OWN = ("event", "level", "time")
#: Stands for a fact in a form.
_FACT = "\0"

#: The second that was told last, and its text: most lines are of the same one. One value, as threads log as well.
_told_last = 0, ""


def _moment(at: float) -> str:
    """``2026-01-05T10:15:00.250000Z``"""
    global _told_last
    told, second = _told_last, int(at)
    if told[0] != second:
        told = _told_last = second, datetime.fromtimestamp(second, UTC).isoformat()[:19]
    return f"{told[1]}.{str(int((at - second) * 1e6)).zfill(6)}Z"


def as_json(logger: WrappedLogger, name: str, event: EventDict) -> str:
    """A line: what was told, its level and its time."""
    event["level"] = name
    event["time"] = _moment(time.time())
    if "exc_info" in event:
        event = without_exception_text(logger, name, event)
    return _rendered(event)


#: What makes JSON lines.
_JSON: list[Processor] = [as_json]


def watch_loop() -> None:
    """Log what the running loop reports (a task whose exception nobody fetched) without quoting it."""

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        log.error("loop.fault", reason=context.get("message", ""), exc_info=context.get("exception"))

    asyncio.get_running_loop().set_exception_handler(report)


def without_exception_text(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Replace ``exc_info`` by the exception's type and place; its text only when it is the engine's own."""
    del logger, name
    error = exception_of(event.pop("exc_info", None))
    if error is not None:
        event["error"] = type(error).__name__
        event["where"] = frames(error)
        if isinstance(error, HL7EngineError):
            event["reason"] = str(error)
    return event


def exception_of(info: Any) -> BaseException | None:
    if info is True:
        return sys.exc_info()[1]
    error = info[1] if isinstance(info, tuple) else info
    return error if isinstance(error, BaseException) else None


def frames(error: BaseException) -> list[str]:
    """``route.py:120 run``, innermost last."""
    found = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in found]


class LibraryHandler(logging.Handler):
    """What other libraries log, as lines of the engine."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        text = str(record.msg).partition("\n")[0][:LONGEST_LIBRARY_LINE]
        log.log(record.levelno, "library.log", library=record.name, text=text, exc_info=record.exc_info)
