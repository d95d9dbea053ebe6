"""Log lines of a running engine: one JSON object per line on stderr, or a readable line on a terminal.

Every line has ``event`` and ids. The text of an exception is not logged, since a library may quote what it choked on:
its type and the places it went through are, and the text only of the engine's own errors, which hold none. What
libraries log by themselves comes through the same door, by its first line and without its arguments, for the same
reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import traceback
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, WrappedLogger

from engine.errors import HL7EngineError

#: Innermost frames of an exception that are logged.
FRAMES = 6
LONGEST_LIBRARY_LINE = 200

log = structlog.get_logger("engine.log")


def configure(level: str = "info", pretty: bool | None = None) -> None:
    """Send structlog and the standard library's logging to stderr; ``pretty`` by itself when that is a terminal."""
    number = logging.getLevelNamesMapping()[level.upper()]
    readable = sys.stderr.isatty() if pretty is None else pretty
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            without_exception_text,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", Unread(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[LibraryHandler()], level=max(number, logging.WARNING), force=True)


class Unread:
    """A stream whose reader may go away, or whose disk may be full: what it does not take is lost, and nothing else.

    A line that cannot be written must not fail what it tells of: no message, and no stop.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError, ValueError):
            return self.stream.write(text)
        return 0

    def flush(self) -> None:
        """Pass on what can be passed on."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()


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
