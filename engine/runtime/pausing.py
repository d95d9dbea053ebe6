"""What a person does to a destination as a whole: pause it, and resume it.

A pause is on disk before it is told, so it holds across restarts until somebody resumes it. What waits stays where it
is, what comes in waits as well, and a send that is under way ends. Raises ValueError, with a sentence, for what cannot
be done.
"""

from __future__ import annotations

import structlog

from engine.runtime.clock import Clock
from engine.runtime.supervised import Supervised
from engine.store.audit import Act, Who
from engine.store.base import Audit, Operation, Pause, Resume, Store

log = structlog.get_logger("engine.pausing")


async def set_paused(store: Store, clock: Clock, channel: Supervised, destination: str, paused: bool, who: Who) -> None:
    """Send nothing to ``destination`` any more, or go on."""
    plan = channel.plan
    if destination not in [item.name for item in plan.destinations]:
        raise ValueError(f"channel {plan.name} has no destination {destination}")
    if plan.reply is not None:
        raise ValueError("a caller waits for what this destination answers: stop the channel instead")
    name = plan.name
    operation: Operation = Pause(name, destination, clock.time()) if paused else Resume(name, destination)
    act = Act.DESTINATION_PAUSED if paused else Act.DESTINATION_RESUMED
    await store.submit(operation, Audit(act, who, clock.time(), name, destination))
    if channel.present is not None and destination in channel.present.lanes:
        channel.present.lanes[destination].pause(paused)
    log.warning("destination.paused" if paused else "destination.resumed", channel=name, destination=destination)
