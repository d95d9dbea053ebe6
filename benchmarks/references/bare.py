"""The ceiling of this interpreter: a bare asyncio Protocol that answers each frame with the same ack, on uvloop."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

END = b"\x1c\r"


class Constant(asyncio.Protocol):
    """Finds frames and MSH-10, and nothing else."""

    def __init__(self) -> None:
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one without being a subclass

    def data_received(self, data: bytes) -> None:
        """Answer every frame that is whole."""
        *frames, self.buffer = (self.buffer + data).split(END)
        for frame in frames:
            control_id = frame.split(b"|", 10)[9]
            self.transport.write(b"\x0bMSH|^~\\&|A|B|C|D|20260101||ACK|1|P|2.5\rMSA|AA|%b\r\x1c\r" % control_id)


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
