"""For authors of channels: run a channel's transforms on a message without a partner, a port or a running engine.

    from engine.testing import transform

    result = await transform(Path("."), "ris-siu-router", Path("samples/hl7/N1_SIU_S12_RIS_v23.hl7").read_bytes())
    assert result.sent["athena"].startswith(b"MSH")

The real loader, steps and router are used, on a store of its own in a temporary folder; nothing is sent.
"""

from __future__ import annotations

import base64
import secrets
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from engine.cache import CachePut
from engine.config import STORE_KEY, load_site, secret_names
from engine.config.plan import ChannelPlan, SitePlan
from engine.delivery import DeliveryState
from engine.envelope import Envelope, Origin, Reply
from engine.errors import ConfigError
from engine.runtime import content
from engine.runtime.arrivals import Arrival
from engine.runtime.clock import SystemClock
from engine.runtime.control_ids import ControlIds
from engine.runtime.deliver import Lanes
from engine.runtime.parts import Parts
from engine.runtime.route import Router
from engine.store.base import Operation
from engine.store.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Transformed:
    """What became of one message."""

    #: ``routed`` | ``filtered`` | ``failed``
    state: str
    #: Step, cause and place of what failed; empty when nothing did.
    cause: str
    #: Destination → the bytes it would be sent.
    sent: Mapping[str, bytes] = field(repr=False)
    #: Destination → why its own transform failed.
    failed: Mapping[str, str]
    #: What would be committed with it (cache entries, resolved exchanges).
    effects: tuple[Operation, ...] = field(repr=False)


def load_for_tests(folder: Path, env: Mapping[str, str] | None = None) -> SitePlan:
    """Load a site with made-up secrets. Raises ConfigError when site.yaml cannot be used."""
    made_up = {name: secrets.token_hex(16) for name in secret_names(folder)}
    made_up[STORE_KEY] = base64.b64encode(secrets.token_bytes(32)).decode()
    return load_site(folder, None, {**made_up, **(env or {})})


async def transform(
    site: Path | SitePlan,
    channel: str,
    body: bytes,
    *,
    origin: Origin | None = None,
    env: Mapping[str, str] | None = None,
    cache: Mapping[tuple[str, str], bytes] | None = None,
) -> Transformed:
    """Run ``channel``'s transforms on ``body``; ``cache`` holds (cache, key) → value as `remember` keeps them.

    Raises ConfigError when the channel's files are wrong, MalformedMessage when ``body`` is no message.
    """
    plan = site if isinstance(site, SitePlan) else load_for_tests(site, env)
    if channel not in plan.channels:
        raise ConfigError(plan.broken.get(channel, plan.problems))
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder), secrets.token_bytes(32))
        await store.open()
        try:
            for (name, key), value in (cache or {}).items():
                await store.submit(CachePut(name, key, value, time.time() + 3600))
            return await _transform(plan, plan.channels[channel], store, body, origin or Origin("mllp"))
        finally:
            await store.close()


async def _transform(
    site: SitePlan, channel: ChannelPlan, store: SqliteStore, body: bytes, origin: Origin
) -> Transformed:
    zone = site.settings.timezone
    clock = SystemClock(ZoneInfo(zone) if zone is not None else None)
    parts = Parts(store, clock, ControlIds(), _nobody_answers, lambda effect: [])
    lanes = {item.name: Lanes(channel.name, item, store, clock) for item in channel.destinations}
    parsed = content.parse(body, origin, channel.charset)
    message_id = store.new_id()
    envelope = Envelope(parsed, origin, "test", channel.name, message_id, clock.time())
    envelope.request = parsed if isinstance(parsed, dict | list) else None
    routed = await Router(channel, parts, lanes).routing.route(Arrival(message_id, "test", "", envelope, False))
    deliveries = routed.route.deliveries
    return Transformed(
        str(routed.route.state),
        routed.route.cause,
        {item.destination: bytes(item.body) for item in deliveries if item.state is DeliveryState.QUEUED},
        {item.destination: item.cause for item in deliveries if item.state is not DeliveryState.QUEUED},
        tuple(routed.effects),
    )


async def _nobody_answers(channel: str, request: Mapping[str, Any], correlation_id: str) -> Reply:
    return Reply(503, {"error": {"code": "channel_stopped"}}, code="channel_stopped")
