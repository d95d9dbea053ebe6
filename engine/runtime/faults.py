"""Where a fault of ours, or of a site's Python, lies: told without its text, which may carry message content."""

from __future__ import annotations

import traceback
from pathlib import PurePath


def where(error: BaseException) -> str:
    """``route.py:171``: file name and line of the innermost frame; empty when there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
