"""Starts engines that die at a named point: one process that has imported everything, and a fork of it for each run.

Reads one JSON object a line from stdin (``arguments`` of ``hl7engine``, ``log``, ``counters``, ``witness``, ``point``,
``nth``) and prints ``{"pid": …}`` when the engine begins and ``{"ended": wait status}`` when it is gone. The child runs
the command line's own ``main``; what is saved is the second of imports before each of a thousand runs.
"""

import ctypes
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import engine.admin.server
import engine.cli.partners
import engine.cli.prepare
import engine.cli.serve
import engine.sources.mllp  # noqa: F401 - everything a run needs is here before the fork
from engine.cli import main
from engine.config import registry

from .counters import ORDER, Counters, Killer
from .points import POINTS, install


def die_with_parent() -> None:
    """Leave no engine behind when the harness is killed (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def run(order: dict[str, Any]) -> NoReturn:
    """Be the engine."""
    die_with_parent()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ[ORDER] = json.dumps({**order, "points": POINTS})
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    code = 1
    try:
        install(
            Killer(Counters(Path(order["counters"]), POINTS), order["point"], order["nth"]),
            Path(order["witness"]),
            apart=order["apart"],
        )
        sys.argv = ["hl7engine", *order["arguments"]]
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:  # noqa: BLE001 - the harness reads it in the log
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Start one engine after the other until stdin ends."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for kind, word in (("sources", "rest"), ("destinations", "rest"), ("destinations", "channel"), ("steps", "build")):
        registry.component(kind, word)  # type: ignore[arg-type]
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            run(order)
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"ended": status}), flush=True)


if __name__ == "__main__":
    serve()
