"""A process that writes ends with its engine, also where it is stopped (SIGSTOP) and so reads from no closed socket.

On Linux the kernel sees to it. Elsewhere a stopped one is left, and holds the data folder until somebody ends it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from struct import Struct

#: ``prctl``: which signal comes when the thread that started this process ends; in an engine that is its loop's.
_PR_SET_PDEATHSIG = 1
#: What SO_PEERCRED gives: process, user and group of whoever made the other end.
_CREDENTIALS = Struct("iII")


def end_with(engine: socket.socket) -> None:
    """Have this process killed when the one ends that made the other end of ``engine``. Raises EOFError when it has."""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):  # an interpreter that was built without it
        return
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # One that ended before is announced by nothing; an engine in a container may be process 1, as whoever adopts is.
    if (
        os.getppid()
        != _CREDENTIALS.unpack(engine.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
    ):
        raise EOFError
