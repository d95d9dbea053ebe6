"""What steps may ask of the engine while they run, and what their effects become when they are committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from engine.cache import CacheForget, CachePut
from engine.envelope import Envelope, Reply
from engine.store import base as store_base
from engine.transforms.base import Context, Effect, ForgetKeys, ResolveExchange

if TYPE_CHECKING:
    from engine.runtime.parts import Parts

log = structlog.get_logger("engine.step")

Ask = Callable[[str, Mapping[str, Any], str], Awaitable[Reply]]
Settled = Callable[[ResolveExchange | ForgetKeys], list[store_base.Operation]]


class StepContext(Context):
    """The engine's side of one message while its steps run."""

    _now: datetime | None = None
    _response: Callable[[], Envelope | None] | Envelope | None = None

    def __init__(self, parts: Parts, channel: str, message_id: int) -> None:
        self.effects: list[Effect] = []
        self.looked_up: set[str] = set()
        self._parts, self._channel, self._message_id = parts, channel, message_id

    @property
    def response(self) -> Envelope | None:  # type: ignore[override]  # nobody sets it, as below
        """Made when a step first asks for it: most change the answer itself, which is the body of what they work on."""
        if callable(self._response):
            self._response = self._response()
        return self._response

    def answered_with(self, response: Callable[[], Envelope | None]) -> None:
        """``response`` makes the envelope of the partner's answer as it came."""
        self._response = response

    @property
    def now(self) -> datetime:  # type: ignore[override]  # an attribute to who reads it
        """Read when a step first asks for it, which most steps do not."""
        now = self._now
        if now is None:
            now = self._now = self._parts.clock.now()
        return now

    def make_control_id(self) -> str:
        """A new MSH-10."""
        return self._parts.make_control_id()

    def cache_get(self, cache: str, key: str) -> bytes | None:
        """A committed cache entry; entries this very message is about to write come first."""
        for effect in reversed(self.effects):
            if isinstance(effect, CachePut | CacheForget) and (effect.cache, effect.key) == (cache, key):
                return effect.value if isinstance(effect, CachePut) else None
        return self._parts.store.cache_get(cache, key, self._parts.clock.time())

    async def ask(self, channel: str, request: Mapping[str, Any], correlation_id: str) -> Reply:
        """Send a request through another channel of the site."""
        return await self._parts.ask(channel, request, correlation_id)

    def warn(self, event: str, **ids: Any) -> None:
        """One log line."""
        log.warning(event, channel=self._channel, message_id=self._message_id, **ids)


def operations_of(effects: list[Effect], settled: Settled) -> list[store_base.Operation]:
    """The store operations that ``effects`` stand for; ``settled`` answers for those that concern exchanges."""
    operations: list[store_base.Operation] = []
    for effect in effects:
        if isinstance(effect, CachePut | CacheForget):
            operations.append(effect)
        else:
            operations.extend(settled(effect))
    return operations
