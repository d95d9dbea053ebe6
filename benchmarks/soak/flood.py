"""A flood of connections from one address, while senders at another go on at their pace."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.soak.rig import Load, Rig, until

ADDRESS = "127.0.0.9"


def run(folder: Path, turns: int, seconds: float, rate: int, flood: int) -> dict[str, Any]:
    """Turns without and with ``flood`` new connections a second; each stays until the engine closes it, or a second."""
    rig = Rig(folder / "flood", "")
    path = rig.folder / "channels" / "router.yaml"
    path.write_text(path.read_text().replace("per_address: 600", "per_address: 64"))
    try:
        live = rig.sink("live")
        rig.start()
        found: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
        opened, memory = 0, [rig.memory()]
        for _ in range(turns):
            for name, turns_of in found.items():
                load, over = Load(rig, "siu", connections=16, seconds=seconds, rate=rate), threading.Event()
                flooding = Flood(rig.ports["IN_PORT"], flood, over)
                if name == "with":
                    flooding.start()
                turns_of.append(load.result())
                over.set()
                if name == "with":
                    flooding.join()
                    opened += flooding.opened
                    memory.append(rig.memory())
        until(lambda: live.counts()["frames"] == sum(one["sent"] for each in found.values() for one in each))
        middle = {
            f"{name}_{word}": sorted(one[name] for one in each)[len(each) // 2]
            for word, each in found.items()
            for name in ("per_s", "p50_ms", "p99_ms")
        }
        counts = rig.api("GET", "/api/channels/router")["channel"]["connector"]["since_start"]
        return {
            "connections_opened": opened,
            "refused": counts,
            "errors_of_others": sum(one["errors"] + one["dropped"] for one in found["with"]),
            **middle,
            "memory_before": memory[0],
            "memory_after": memory[-1],
            "files_after": rig.files(),
        }
    finally:
        rig.end()


class Flood(threading.Thread):
    """Opens connections and says nothing."""

    def __init__(self, port: int, rate: int, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.port, self.rate, self.over, self.opened = port, rate, over, 0

    def run(self) -> None:
        """Until told to end."""
        held: deque[tuple[float, socket.socket]] = deque()
        began = time.monotonic()
        while not self.over.wait(0.005):
            now = time.monotonic()
            while self.opened < (now - began) * self.rate:
                with suppress(OSError):
                    held.append((now, socket.create_connection(("127.0.0.1", self.port), 2, (ADDRESS, 0))))
                self.opened += 1
            while held and held[0][0] < now - 1:
                held.popleft()[1].close()
        for _, one in held:
            one.close()
