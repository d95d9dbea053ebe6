"""What was said, taken and done, written down outside of the engine: by senders, partners, people, and at its doors."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

POSITIVE = ("AA", "CA")


def asks(modes: tuple[str, str], code: str) -> bool:
    """Whether MSH-15 and MSH-16 ask for an ack with this code (HL7 table 0155)."""
    accept, application = modes
    if not accept and not application:
        return code[0] == "A"
    mode = accept if code[0] == "C" else application
    return mode == "AL" or mode == ("SU" if code in POSITIVE else "ER")


@dataclass(frozen=True)
class Message:
    """One message of a sender."""

    control_id: str
    channel: str
    sender: str
    #: PID-3: what is kept in order.
    key: str
    #: ``S12`` and ``A40`` (a merge) are routed, ``S99`` is filtered, ``S66`` fails in a step until that is mended.
    event: str
    body: bytes = field(repr=False)
    #: Seconds since the beginning, at the earliest.
    due: float
    #: MRG-1: the other key of a merge.
    prior: str = ""
    #: MSH-15 and MSH-16; both empty in original mode.
    modes: tuple[str, str] = ("", "")

    @property
    def keys(self) -> set[str]:
        """Everything that it is kept in order with."""
        return {self.key, self.prior} - {""}

    def asks(self, code: str) -> bool:
        """Whether its sender is to hear an ack with this code."""
        return asks(self.modes, code)

    @property
    def may_stay_unanswered(self) -> bool:
        """Whether no word at all may come although the message was taken."""
        return not self.asks("CA") and not self.asks("AA")


@dataclass(frozen=True)
class Taken:
    """A message that reached a partner."""

    at: float
    partner: str
    control_id: str
    #: Whether the partner acted on it; one that answers AE or AR does not.
    took: bool
    #: What it answered in the end: a code, or ``""`` when nothing valid came from it in time, or was not asked for.
    answer: str
    #: The engine's life in which it came.
    life: int
    #: MSA-1 and MSA-2 of an acknowledgement that reached its sender on a connection of its own.
    acknowledges: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Departed:
    """A message that left the engine."""

    at: float
    control_id: str
    life: int
    #: Which start of the channel.
    start: int
    #: When its send began: where it had to be connected for, that is earlier.
    begun: float


@dataclass
class Silence:
    """A time in which nothing new may leave for a partner: it is paused, or its channel is stopped."""

    port: int
    #: Sends that were under way at its begin may still leave.
    under_way: int
    begin: float
    life: int
    #: It holds across restarts; else for one start of the channel.
    lasts: bool
    start: int
    end: float = float("inf")


@dataclass(frozen=True)
class Touched:
    """A person did, or began to do, something with a delivery."""

    delivery_id: int
    what: Literal["resend", "discard"]
    #: The state in which it was then.
    state: str
    control_id: str
    destination: str


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
        #: Control id → codes that left the engine on the connection of the message, in order.
        self.acknowledged: dict[str, list[str]] = defaultdict(list)
        self.given_up: set[str] = set()
        self.taken: list[Taken] = []
        #: Port of a partner → what left for it, in order.
        self.departed: dict[int, list[Departed]] = defaultdict(list)
        #: Ports to which acknowledgements go on a connection of their own.
        self.ack_ports: set[int] = set()
        #: Port of a partner → how often its channel was started.
        self.starts: Counter[int] = Counter()
        self.silences: list[Silence] = []
        self.touched: list[Touched] = []
        #: Delivery → when a person was told that it is given up.
        self.discarded: dict[int, float] = {}
        #: Deliveries that a person wanted to be sent again at some time.
        self.wanted: set[int] = set()
        #: Deliveries that a person acted on as a whole destination: (channel, destination).
        self.cleared: set[tuple[str, str]] = set()
        #: Messages that a person sent again, by number.
        self.reopened: set[int] = set()
        #: Destinations that were missing in the files for a time.
        self.absent: set[tuple[str, str]] = set()
        #: The step that fails S66 was mended.
        self.mended = False
        #: Seconds by which the wall clock was set forwards, in all.
        self.forwards = 0.0

    def left(self, port: int, data: bytes, begun: float) -> None:
        """The engine wrote to a partner."""
        for body in frames(data):
            if member(body, b"MSA", 1) and port not in self.ack_ports:
                continue  # enhanced mode: it confirms an application ack
            if control_id := member(body, b"MSH", 10):
                self.departed[port].append(Departed(self.now(), control_id, self.life(), self.starts[port], begun))

    def answered(self, port: int, data: bytes) -> None:
        """The engine wrote to a sender."""
        for body in frames(data):
            code, control_id = member(body, b"MSA", 1), member(body, b"MSA", 2)
            self.acknowledged[control_id].append(code)
            if code in POSITIVE:
                self.on_positive(control_id)

    def positive(self, control_id: str) -> bool:
        """Whether its sender was told yes."""
        return any(code in POSITIVE for code in self.heard[control_id])
