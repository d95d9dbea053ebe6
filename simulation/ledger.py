"""What was said and taken, written down outside of the engine: by its senders, its partners, and at its doors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Message:
    """One message of a sender."""

    control_id: str
    channel: str
    sender: str
    #: PID-3: what is kept in order.
    key: str
    #: MSH-9.2: ``S12`` is routed, ``S99`` filtered, ``S66`` fails in a step.
    event: str
    body: bytes = field(repr=False)
    #: Seconds since the beginning, at the earliest.
    due: float


@dataclass(frozen=True)
class Taken:
    """A message that reached a partner."""

    at: float
    partner: str
    control_id: str
    #: Whether the partner acted on it; one that answers AE or AR does not.
    took: bool
    #: What it answered: a code, or ``""`` when nothing valid came from it in time.
    answer: str
    #: The engine's life in which it came.
    life: int


@dataclass(frozen=True)
class Departed:
    """A message that left the engine."""

    at: float
    control_id: str
    life: int


def frames(data: bytes) -> list[bytes]:
    """The bodies in what was written in whole frames."""
    return [piece.removeprefix(b"\x0b") for piece in data.split(b"\x1c\r") if piece]


def member(body: bytes, segment: bytes, number: int) -> str:
    """A field of the first segment of that name, as text."""
    for line in body.split(b"\r"):
        if line.startswith(segment):
            fields = line.split(b"|")
            at = number - 1 if segment == b"MSH" else number
            return fields[at].decode("latin-1") if at < len(fields) else ""
    return ""


class Ledger:
    """Everything that can be known without asking the engine."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = lambda: 0.0
        self.life: Callable[[], int] = lambda: 0
        #: Called with a control id when a positive acknowledgement leaves the engine.
        self.on_positive: Callable[[str], None] = lambda _control_id: None
        self.messages: dict[str, Message] = {}
        #: Control id → times it was handed to the network.
        self.attempts: dict[str, list[float]] = defaultdict(list)
        #: Control id → codes its sender heard, in order.
        self.heard: dict[str, list[str]] = defaultdict(list)
        #: Control id → codes that left the engine, in order.
        self.acknowledged: dict[str, list[str]] = defaultdict(list)
        self.given_up: set[str] = set()
        self.taken: list[Taken] = []
        #: Port of a partner → what left for it, in order.
        self.departed: dict[int, list[Departed]] = defaultdict(list)

    def left(self, port: int, data: bytes) -> None:
        """The engine wrote to a partner."""
        for body in frames(data):
            if control_id := member(body, b"MSH", 10):
                self.departed[port].append(Departed(self.now(), control_id, self.life()))

    def answered(self, port: int, data: bytes) -> None:
        """The engine wrote to a sender."""
        for body in frames(data):
            code, control_id = member(body, b"MSA", 1), member(body, b"MSA", 2)
            self.acknowledged[control_id].append(code)
            if code in ("AA", "CA"):
                self.on_positive(control_id)

    def positive(self, control_id: str) -> bool:
        """Whether its sender was told yes."""
        return any(code in ("AA", "CA") for code in self.heard[control_id])
