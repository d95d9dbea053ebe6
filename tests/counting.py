"""What a piece of work costs, in lines of the engine that were run: the same on every machine, busy or not.

A loop on one line counts once for each turn. What a library written in C does inside of one call is not seen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import engine

HERE = str(Path(engine.__file__).parent)
#: How much more twice as much may cost.
LINEAR = 2.2


def lines(work: Callable[[], Any]) -> int:
    """The lines of the engine that ``work`` runs."""
    count = 0

    def inside(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return inside

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        return inside if frame.f_code.co_filename.startswith(HERE) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def ratio(make: Callable[[int], Callable[[], Any]], size: int) -> float:
    """How much more twice ``size`` costs than ``size``; ``make`` prepares the work, which is not counted."""
    make(8)()  # what is read and compiled once belongs to nobody
    return lines(make(2 * size)) / lines(make(size))
