"""Signals of the processes that stay. SIGTERM and SIGINT: the first asks for an end in order, the second is the end.
SIGHUP asks the engine to read its files again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import structlog

log = structlog.get_logger("engine.process")

#: The files of the site are to be read again.
HANGUP = signal.SIGHUP
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_on_signal() -> asyncio.Event:
    """An event that the first signal sets; the second ends the process at once with 128 + its number."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def received(number: int) -> None:
        name = signal.Signals(number).name
        if stop.is_set():
            log.warning("process.forced", signal=name)
            os._exit(128 + number)
        log.info("process.signal", signal=name)
        stop.set()

    for number in SIGNALS:
        loop.add_signal_handler(number, received, number)
    return stop


def end_with_parent() -> None:
    """SIGTERM to this process as soon as its stdin ends: the parent holds its other end and has gone."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def wake_on_hangup() -> asyncio.Event:
    """An event that every SIGHUP sets."""
    hangup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(HANGUP, hangup.set)
    return hangup
