"""The HTTP listener of simulated partners and of the control port, and what partners over HTTP have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from engine.simulators.faults import WEBHOOK_FAULTS, Fault, FaultBoard


class HttpServer(ABC):
    """One port; 0 is a free one, and it stays the same from then on."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.known_port = host, port
        self.runner: web.AppRunner | None = None

    @abstractmethod
    def app(self) -> web.Application:
        """The routes; asked for whenever the listener opens."""

    @property
    def port(self) -> int:
        """The port in use; known from the first start on, also while down."""
        return self.known_port

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.known_port}"

    @property
    def is_up(self) -> bool:
        return self.runner is not None

    async def start(self) -> None:
        """Open the port, unless it is open. Raises OSError when somebody else has it."""
        if self.runner is not None:
            return
        self.runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, self.host, self.known_port).start()
        self.known_port = self.runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the listener and all connections; the next start opens the same port."""
        if self.runner is not None:
            runner, self.runner = self.runner, None
            await runner.cleanup()


class HttpPartner(HttpServer):
    """A partner that fails on demand and keeps what it was told."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.faults = FaultBoard(WEBHOOK_FAULTS)
        self.forget()

    @abstractmethod
    def forget(self) -> None:
        """Nothing has come in."""

    @abstractmethod
    def describe(self, *, bodies: bool = False) -> dict[str, Any]:
        """What has come in; contents only when they are asked for."""

    async def up(self) -> None:
        """The end of an outage of the partner's own."""
        await self.start()

    async def down(self) -> None:
        """An outage of the partner's own."""
        await self.stop()

    async def add_fault(self, spec: Mapping[str, Any]) -> Fault:
        return self.faults.add(spec)

    async def clear_faults(self) -> None:
        self.faults.clear()

    async def reset(self) -> None:
        """Back to the start: nothing received, no faults, up."""
        self.faults.clear()
        self.forget()
        await self.up()
