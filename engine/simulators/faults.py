"""Faults on demand: which exist, what they take, and which one the next message meets.

A fault lives on a board until it was met `times` times (1 unless told otherwise, `null` for until it is cleared) and
can be limited to one kind of message, or to messages that contain a text. The board only decides; `server.py` and
`webhook.py` carry faults out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: fault → its own parameters with the values they have when left out.
MLLP_FAULTS: Mapping[str, Mapping[str, Any]] = {
    # The listener is closed until the faults are cleared; no message meets it.
    "refuse": {},
    # The message is read and never answered; `act` says whether the partner does what it asks.
    "silence": {"act": True},
    # Waits, then acts and answers.
    "delay": {"ms": 1000},
    # Acts at once and answers after `ms`: longer than the sender waits.
    "late": {"ms": 30_000},
    # Sends the first `bytes` of the framed answer, then closes the connection.
    "drop": {"bytes": 0, "act": True},
    # Answers in the name of another message.
    "wrong_control_id": {"control_id": "FOREIGN0000000001", "act": True},
    # Refuses: `condition` null gives text only; `text` null names the patient.
    "error": {"ack": "AE", "condition": 207, "location": "", "application_error": "", "text": None},
    # A frame that holds no HL7.
    "garbage": {"act": True},
    # The answer arrives byte by byte.
    "split": {},
    # One packet: an acknowledgement of a foreign message, then the right answer.
    "two_in_one": {},
    # All connections and the listener close on the message, and come back after `ms`.
    "restart": {"ms": 200, "act": False},
    # Umlauts in the answer, in 8859/1; `declared` says whether MSH-18 names it.
    "latin1": {"declared": True},
}
WEBHOOK_FAULTS: Mapping[str, Mapping[str, Any]] = {
    # Answers with this status and keeps nothing.
    "status": {"status": 500},
    # Waits, then keeps the body and answers.
    "delay": {"ms": 1000},
    # Keeps the body and closes the connection without an answer.
    "drop": {},
}


class FaultError(ValueError):
    """A fault that nobody knows, or one with a parameter it does not take. The text names what is known."""


@dataclass(slots=True)
class Fault:
    """One fault that waits for its message. `times` None: until cleared."""

    name: str
    times: int | None
    only: str | None
    settings: dict[str, Any]
    met: int = 0
    containing: str | None = None

    def matches(self, kind: str, data: bytes = b"") -> bool:
        """`ORM` matches every order, `ORM^O01` this one only; `containing` is looked for in the message's bytes."""
        if self.name == "refuse" or (self.containing is not None and self.containing.encode() not in data):
            return False
        return self.only is None or kind == self.only or kind.split("^")[0] == self.only

    def describe(self) -> dict[str, Any]:
        limits = {"only": self.only, "containing": self.containing}
        return {"fault": self.name, "times": self.times, **limits, "met": self.met, **self.settings}


@dataclass(slots=True)
class FaultBoard:
    """The faults of one partner, in the order in which they were asked for."""

    known: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MLLP_FAULTS)
    waiting: list[Fault] = field(default_factory=list)

    def add(self, spec: Mapping[str, Any]) -> Fault:
        """Put up `{"fault": NAME, "times": 1, "only": KIND, "containing": TEXT, …parameters}`. Raises FaultError."""
        name = spec.get("fault")
        if not isinstance(name, str) or name not in self.known:
            raise FaultError(f"unknown fault; known are {', '.join(sorted(self.known))}")
        defaults = self.known[name]
        given = {key: value for key, value in spec.items() if key not in ("fault", "times", "only", "containing")}
        for key, value in given.items():
            self.check(name, key, value)
        times, only = spec.get("times", 1), spec.get("only")
        if times is not None and (not isinstance(times, int) or isinstance(times, bool) or times < 1):
            raise FaultError("times is a number from 1, or null for until it is cleared")
        if only is not None and not isinstance(only, str):
            raise FaultError("only is a message type such as ORM or ORM^O01")
        containing = spec.get("containing")
        if containing is not None and (not isinstance(containing, str) or not containing):
            raise FaultError("containing is text of the message, such as an order's id")
        fault = Fault(name, times, only, {**defaults, **given}, containing=containing)
        self.waiting.append(fault)
        return fault

    def check(self, name: str, key: str, value: Any) -> None:
        defaults = self.known[name]
        if key not in defaults:
            raise FaultError(f"{name} takes {', '.join(sorted(defaults)) or 'no parameters'}; not {key}")
        default = defaults[key]
        kinds: tuple[type, ...] = (str, type(None)) if default is None else (type(default),)
        if key == "condition":
            kinds = (int, type(None))
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise FaultError(f"{key} of {name} is of another type than {default!r}")

    def take(self, kind: str, data: bytes = b"") -> Fault | None:
        """The fault that this message meets, counted; a fault that has been met often enough leaves the board."""
        fault = next((item for item in self.waiting if item.matches(kind, data)), None)
        if fault is None:
            return None
        fault.met += 1
        if fault.times is not None and fault.met >= fault.times:
            self.waiting.remove(fault)
        return fault

    def clear(self) -> None:
        self.waiting.clear()

    def describe(self) -> list[dict[str, Any]]:
        return [fault.describe() for fault in self.waiting]
