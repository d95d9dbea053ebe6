"""Exit codes of every command, and the sentence about them in each ``--help``."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    #: A negative answer, or problems in a site's files.
    NEGATIVE = 1
    #: Wrong usage, or nobody answered.
    USAGE = 2
    NOT_RUNNING = 3
    IN_USE = 4


EPILOG = (
    "Exit codes: 0 done · 1 a negative answer, or problems found · 2 wrong usage, or no answer · "
    "3 no engine is running on this data folder · 4 another engine is using it."
)
