"""What an exchange does on its way and might have to wait for: steps, and one send; neither needs a task as a rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.destinations.base import Destination, Outgoing, Response
from engine.envelope import Envelope
from engine.runtime.running import Tell, Wait, in_task, nothing, outcome
from engine.transforms.base import Chain, Context, Verdict


async def run_steps(chain: Chain, envelope: Envelope, context: Context) -> Verdict:
    """Run a chain; in a task where a step is awaited."""
    if chain.asynchronous:
        return await in_task(chain.run_async(envelope, context))
    return chain.run(envelope, context)


async def send(to: Destination, outgoing: Outgoing) -> Response:
    """Send once; in a task where the connector cannot at once. Raises what ``Destination.send`` does."""
    sending = _Sending(to, outgoing)
    return await Wait(sending.begin, sending.cancel)


class _Sending:
    """One attempt under way."""

    __slots__ = ("_give_up", "_outgoing", "_to")

    def __init__(self, to: Destination, outgoing: Outgoing) -> None:
        self._to, self._outgoing = to, outgoing
        self._give_up: Callable[[], object] = nothing

    def begin(self, tell: Tell) -> None:
        """Send; ``tell`` what comes of it."""
        under_way = self._to.begin(self._outgoing, tell)
        if under_way is not None:
            self._give_up = under_way.cancel
            return
        task = asyncio.get_running_loop().create_task(self._to.send(self._outgoing))
        task.add_done_callback(lambda task: tell(outcome(task)))
        self._give_up = task.cancel

    def cancel(self) -> None:
        """Give up waiting for the answer."""
        self._give_up()
