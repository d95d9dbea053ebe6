"""What a destination is: it sends one outgoing message and says how that ended.

``send`` returns a Response, or raises one of three errors (engine/errors.py): Unavailable (nothing was sent),
Unanswered (sent, outcome unknown), Rejected (a definite no with its codes). Retry, order, lanes and back-off are the
engine's. One file per connector; the file's name is the word an admin writes under ``to:``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from engine.envelope import Origin, Receipt
from engine.errors import DeliveryError, Evidence
from engine.hl7.bulk import Pieces
from engine.tls_settings import Contexts
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One delivery as it goes out; the same on every attempt."""

    body: bytes = field(repr=False)
    #: MSH-10 of ``body`` for HL7, else the delivery's own id.
    control_id: str
    correlation_id: str
    channel: str
    destination: str
    message_id: int
    delivery_id: int
    #: ``application/hl7-v2`` | ``application/json`` | ``text/plain`` | ``application/octet-stream``
    content_type: str = "application/hl7-v2"
    #: Seconds since the epoch.
    received_at: float = 0.0
    attempt: int = 1
    #: A large body, for a destination that takes it in pieces (``Destination.takes_pieces``); ``body`` is empty then.
    pieces: Pieces | None = field(default=None, repr=False)
    #: MSH-10 of each message, where ``body`` is a batch of them; ``control_id`` is BHS-11 then.
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """A positive answer."""

    body: bytes = field(default=b"", repr=False)
    #: The codes of the answer (``AA``, ``200``); for reply channels the error rules read them too.
    evidence: Evidence = field(default_factory=lambda: Evidence("AA"))


class UnderWay(Protocol):
    """A message whose answer is awaited."""

    def cancel(self) -> None:
        """Give up waiting: what may still be answered answers for no other message."""
        ...


class HandOver(Protocol):
    """The engine's door to other channels of the site."""

    def __call__(self, channel: str, body: bytes, origin: Origin) -> Receipt:
        """Give ``body`` to ``channel``. Raises Unavailable when that channel is stopped."""
        ...


@dataclass(frozen=True, slots=True)
class DestinationContext:
    """What the engine lends a destination when it starts."""

    hand_over: HandOver


@dataclass(frozen=True, slots=True)
class Building:
    """What a connector may know while it is built, before anything runs."""

    channel: str
    destination: str
    site: Path
    data: Path
    #: How many lanes the engine works on at once: keep so many connections at most.
    connections: int = 1
    #: Every channel of the site, for references between them.
    channels: frozenset[str] = frozenset()


class Destination(ABC):
    """Where messages go."""

    #: The model of what stands under the connector's word.
    Config: ClassVar[type[BaseModel]]
    #: Whether ``send`` takes a large body as ``Outgoing.pieces``; others get it whole.
    takes_pieces: ClassVar[bool] = False
    #: Whether an answer can be the reply of a request/response channel.
    answers: ClassVar[bool] = False

    #: The TLS of this connector; None without.
    contexts: Contexts | None = None

    @abstractmethod
    def __init__(self, config: Any, building: Building) -> None:
        """``config`` is an instance of ``Config``. Raises SpecError for what the model cannot see (missing files)."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it sends to, for people, without credentials: ``mllps://127.0.0.1:2602``."""

    async def start(self, context: DestinationContext) -> None:
        """Get ready; does not connect (a partner that is down must not stop the channel)."""
        del context

    async def stop(self) -> None:  # noqa: B027 - most have nothing to close
        """Close connections. No ``send`` is under way any more."""

    @abstractmethod
    async def send(self, outgoing: Outgoing) -> Response:
        """Send one message and wait for its answer.

        May be called up to ``connections`` times at once. Raises Unavailable, Unanswered or Rejected, nothing else.
        """

    def begin(self, body: bytes, control_id: str, ended: Callable[[Response | DeliveryError], None]) -> UnderWay | None:
        """``send`` without a task of its own, where the bytes can leave at once; None where they cannot: then ``send``.

        ``ended`` is called once, later, with what ``send`` would give or raise; not after ``UnderWay.cancel``.
        """
        del body, control_id, ended
        return None

    async def probe(self) -> None:  # noqa: B027 - what has no partner is always reachable
        """Try to reach the partner without sending a message (circuit breaker). Raises Unavailable."""

    def summary(self) -> Mapping[str, Any]:
        """State for `hl7engine channels`: open connections and the like; no content."""
        return {}
