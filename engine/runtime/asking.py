"""What an exchange waits for on its way: steps, one send, a commit; none of them needs a task as a rule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from engine.destinations.base import Destination, Outgoing, Response, UnderWay
from engine.envelope import Envelope
from engine.runtime.running import Tell, Wait, in_task, outcome
from engine.store.base import Operation, Store
from engine.transforms.base import Chain, Context, Verdict


async def run_steps(chain: Chain, envelope: Envelope, context: Context) -> Verdict:
    """Run a chain; in a task where a step is awaited."""
    if chain.asynchronous:
        return await in_task(chain.run_async(envelope, context))
    return chain.run(envelope, context)


class Sending(Wait[Response]):
    """To be awaited: one send, in a task where the connector cannot at once. Raises what ``Destination.send`` does."""

    __slots__ = ("_body", "_control_id", "_make", "_to", "_under_way")

    def __init__(self, to: Destination, body: bytes, control_id: str, make: Callable[[], Outgoing]) -> None:
        """``make`` makes what goes out for a connector that is awaited; for most the body and its MSH-10 are enough."""
        self.running = None
        self._to, self._body, self._control_id, self._make = to, body, control_id, make
        self._under_way: UnderWay | asyncio.Task[Response] | None = None

    def begin(self, tell: Tell) -> None:
        """Send; ``tell`` what comes of it."""
        self._under_way = self._to.begin(self._body, self._control_id, tell)
        if self._under_way is None:
            self._under_way = task = asyncio.get_running_loop().create_task(self._to.send(self._make()))
            task.add_done_callback(lambda task: tell(outcome(task)))

    def give_up(self) -> None:
        """Give up waiting for the answer."""
        if self._under_way is not None:
            self._under_way.cancel()


class Committing(Wait[None]):
    """To be awaited: the commit of a unit. Raises StoreError."""

    __slots__ = ("_operations", "_store")

    def __init__(self, store: Store, operations: Sequence[Operation]) -> None:
        self.running = None
        self._store, self._operations = store, operations

    def begin(self, tell: Tell) -> None:
        """Hand it to the store, which goes on with it whoever waits."""
        self._store.commit(self._operations, tell)
