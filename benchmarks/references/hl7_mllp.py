"""The reference of the main path: ``hl7.mllp`` reads, parses and acknowledges; nothing is stored or forwarded."""

from __future__ import annotations

import asyncio
import sys
import warnings

import hl7.mllp
import uvloop

# python-hl7 0.4.5 calls datetime.utcnow in create_ack.
warnings.simplefilter("ignore", DeprecationWarning)


async def serve(reader: hl7.mllp.HL7StreamReader, writer: hl7.mllp.HL7StreamWriter) -> None:
    """Acknowledge until the peer closes."""
    try:
        while not writer.is_closing():
            message = await reader.readmessage()
            writer.writemessage(message.create_ack())
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


async def main(port: int) -> None:
    """Serve until killed."""
    server = await hl7.mllp.start_hl7_server(serve, "127.0.0.1", port)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
