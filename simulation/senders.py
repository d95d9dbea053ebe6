"""A system that sends: in order, so many ahead of their acknowledgements, and again what was not acknowledged."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from simulation.ledger import POSITIVE, Ledger, Message, frames, member
from simulation.network import End, Network
from simulation.world import Event, World

#: Times a message that was answered negatively is sent before its sender gives it up.
PATIENCE = 6


class Sender:
    """One connection's worth of messages."""

    def __init__(
        self,
        world: World,
        network: Network,
        ledger: Ledger,
        name: str,
        port: int,
        messages: Sequence[Message],
        window: int,
        ack_timeout: float,
    ) -> None:
        self.world, self.network, self.ledger = world, network, ledger
        self.name, self.port, self.window = name, port, window
        self.random = world.random(f"sender {name}")
        self.ack_timeout = ack_timeout
        self._queue = deque(messages)
        self._flying: deque[Message] = deque()
        self._refusals: dict[str, int] = {}
        self._end: End | None = None
        self._buffer = b""
        self._timer: Event | None = None
        self._pumping: Event | None = None
        world.at(self.random.random(), self._connect)

    @property
    def done(self) -> bool:
        """Whether every message was acknowledged or given up."""
        return not self._queue and not self._flying

    def _connect(self) -> None:
        if self._end is not None or self.done:
            return
        end = self.network.call(self.port)
        if end is None:
            self.world.at(0.3 + self.random.random(), self._connect)
            return
        self._end, self._buffer = end, b""
        end.on_data, end.on_lost = self._data, self._lost
        self._pump()

    def _pump(self) -> None:
        if self._pumping is not None:
            self._pumping.cancel()
            self._pumping = None
        while self._end is not None and self._queue and len(self._flying) < self.window:
            message = self._queue[0]
            if message.due > self.world.now:
                self._pumping = self.world.at(message.due - self.world.now, self._pump)
                return
            self._queue.popleft()
            self.ledger.attempts[message.control_id].append(self.world.now)
            self._end.send(b"\x0b" + message.body + b"\x1c\r")
            if message.may_stay_unanswered:
                self.ledger.given_up.add(message.control_id)  # nobody would tell whether it came
                continue
            self._flying.append(message)
            self._watch()

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.world.at(self.ack_timeout, self._too_late) if self._flying else None

    def _too_late(self) -> None:
        self._timer = None
        if self._end is not None and self._flying:
            end, self._end = self._end, None
            end.close(reset=self.random.random() < 0.5)
            self._again()

    def _lost(self) -> None:
        self._end = None
        self._again()

    def _again(self) -> None:
        """Everything that was not acknowledged is sent again, in the same order."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._queue.extendleft(reversed(self._flying))
        self._flying.clear()
        self.world.at(0.1 + self.random.random(), self._connect)

    def _data(self, data: bytes) -> None:
        self._buffer += data
        whole, separator, rest = self._buffer.rpartition(b"\x1c\r")
        if not separator:
            return
        self._buffer = rest
        for body in frames(whole + separator):
            self._acknowledged(member(body, b"MSA", 2), member(body, b"MSA", 1))
        self._watch()
        self._pump()

    def told(self, control_id: str, code: str) -> None:
        """An acknowledgement came on a connection of its own."""
        if control_id.partition("-")[0] == self.name:
            self._acknowledged(control_id, code)
            self._watch()
            self._pump()

    def _acknowledged(self, control_id: str, code: str) -> None:
        message = next((message for message in self._flying if message.control_id == control_id), None)
        self.world.note("heard", self.name, control_id, code)
        self.ledger.heard[control_id].append(code)
        if message is None:
            return
        self._flying.remove(message)
        if code in POSITIVE or self._given_up(message):
            return
        if self.window == 1:
            # In order: the next waits until this one is through.
            self._queue.appendleft(_later(message, self.world.now + 0.5 + self.random.random()))
        else:
            self._queue.append(_later(message, self.world.now + 0.5))

    def _given_up(self, message: Message) -> bool:
        """Whether its sender sends it no more, after one more refusal."""
        refusals = self._refusals[message.control_id] = self._refusals.get(message.control_id, 0) + 1
        if refusals < PATIENCE and message.event != "S66":
            return False
        self.ledger.given_up.add(message.control_id)
        return True


def _later(message: Message, due: float) -> Message:
    return replace(message, due=due)
