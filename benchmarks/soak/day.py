"""A day of messages that arrives in a minute, over hundreds of connections at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.soak.rig import Load, Rig, until, watching


def run(folder: Path, messages: int, connections: int) -> dict[str, Any]:
    """All at once into an engine at rest; memory and open files before, at the most, and when it rests again."""
    rig = Rig(folder / "day")
    try:
        live = rig.sink("live")
        rig.sink("other")
        rig.start()
        time.sleep(2)
        files, most = rig.files(), 0
        with watching(rig) as samples:
            load = Load(rig, "siu", connections=connections, messages=messages, patients="connection")
            while not load.ended:
                most = max(most, rig.files())
                time.sleep(0.1)
            done = load.result()
            drained = until(lambda: live.counts()["distinct"] == messages)
            until(lambda: rig.waiting() == 0)
        time.sleep(5)
        counts = live.counts()
        if done["codes"] != {"CA": messages} or counts["duplicates"] or counts["out_of_order"]:
            raise RuntimeError(f"{messages} were sent, and of them: {done}, {counts}")
        return {
            "messages": messages,
            "connections": connections,
            **{name: done[name] for name in ("seconds", "per_s", "p50_ms", "p99_ms", "max_ms", "codes")},
            "delivered_after_last_ack_seconds": drained,
            "out_of_order": counts["out_of_order"],
            "memory_before": samples[0][1],
            "memory_peak": max(mib for _, mib in samples),
            "memory_after": rig.memory(),
            "files_before": files,
            "files_most": most,
            "files_after": rig.files(),
        }
    finally:
        rig.end()
