"""TCP keep-alive: the system finds out whether a peer that says nothing is still there (power, cable, firewall).

For listeners and senders alike. Nobody reads these bytes: no message is sent, and no partner notices.
"""

from __future__ import annotations

import contextlib
import socket

#: A peer that vanished is found after idle + interval * count seconds of silence.
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 60, 15, 4


def keep_alive(connected: socket.socket) -> None:
    """Ask the system to look; nothing happens for what is no TCP."""
    options = {"TCP_KEEPIDLE": KEEPALIVE_IDLE, "TCP_KEEPINTVL": KEEPALIVE_INTERVAL, "TCP_KEEPCNT": KEEPALIVE_COUNT}
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if hasattr(socket, name):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
