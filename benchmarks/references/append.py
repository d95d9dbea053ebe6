"""What the disk allows: messages appended to a file, then one fdatasync for the batch; nothing received or sent."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from typing import Any

#: Bytes of a message of the load generator.
MESSAGE = b"x" * 600


def append(folder: Path, batch: int, seconds: float) -> dict[str, Any]:
    """Messages per second, and milliseconds of a batch."""
    file = os.open(folder / "appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    chunk, times, began = MESSAGE * batch, [], perf_counter()
    try:
        while (at := perf_counter()) - began < seconds:
            os.write(file, chunk)
            os.fdatasync(file)
            times.append((perf_counter() - at) * 1000)
        took = perf_counter() - began
    finally:
        os.close(file)
        (folder / "appended").unlink()
    times.sort()
    return {
        "per_s": len(times) * batch / took,
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[int(len(times) * 0.99)],
        "batch": batch,
    }
