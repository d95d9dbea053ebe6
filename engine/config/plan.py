"""What a site's files say, compiled: the frozen plans that the runtime runs.

A plan holds only things that are ready to work: sources, destinations and chains are built, paths and conditions are
parsed, words are checked. Nothing here reads a file; ``load_site`` (``engine/config/__init__.py``) makes plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Literal

from engine.config.settings import SiteSettings
from engine.destinations.base import Destination
from engine.errors import ErrorRow, Problem
from engine.hl7.path import Path
from engine.pattern import Pattern
from engine.sources.base import Source
from engine.transforms.base import Chain, Condition

if TYPE_CHECKING:
    from engine.transforms.values.direct import Data


@dataclass(frozen=True, slots=True)
class Order:
    """Which messages must not overtake each other."""

    kind: Literal["received", "none", "key"] = "received"
    #: ``key:`` of an HL7 body: the first that is not empty, read from the received bytes.
    paths: tuple[Path, ...] = ()
    #: ``key:`` of a JSON body: dotted member names without ``$body.`` (``patient.mrn``), the first that is not empty.
    names: tuple[str, ...] = ()
    #: Where a message with MRG segments names other keys in each of them: the first that is not empty.
    merges: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Patients:
    """Where messages name the patients that they can be searched by."""

    #: A path and that of its whole field; every repetition counts unless the path names one.
    paths: tuple[tuple[Path, Path], ...] = ()
    #: Members of a request: ``body`` or ``query``, then the names that lead to it.
    members: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """When a delivery is tried again."""

    #: Seconds before the second, third, … attempt; the last repeats.
    backoff: tuple[float, ...] = (1.0, 5.0, 15.0, 60.0)
    #: Seconds after commit 2 until a delivery is parked as expired; None never.
    give_up: float | None = None
    #: Total sends; None is without limit. 1 for the destination of a reply unless its file says otherwise.
    attempts: int | None = None
    #: What the destination of a reply is sent again after: ``unavailable``, ``unanswered``.
    on: frozenset[str] = frozenset({"unavailable"})


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """What an answer means. Empty members are not asked; all others must hold; of a list any may."""

    then: Literal["delivered", "retry", "park", "hold", "discard"]
    #: Codes of HL7 table 0008, HTTP statuses (``422``) or their classes (``4xx``); ``other`` is every other code.
    ack: frozenset[str] = frozenset()
    condition: frozenset[str] = frozenset()
    #: ``PID-3``
    location: frozenset[str] = frozenset()
    application_error: frozenset[str] = frozenset()
    #: Searched in MSA-3, ERR-8, ERR-7 and ERR-5.2; the text itself is never passed on.
    text: Pattern | None = None


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """When deliveries of one destination go out as one batch."""

    #: Messages of a batch at most.
    count: int = 100
    #: Seconds that the first of them waits at most.
    seconds: float = 5.0
    #: FHS and FTS stand around BHS and BTS.
    file: bool = False
    #: ``errors``: a batch of acks says by silence that a message was taken.
    answer: Literal["all", "errors"] = "all"


@dataclass(frozen=True, slots=True)
class DestinationPlan:
    """One destination of a channel, built."""

    name: str
    to: Destination
    where: Condition | None = None
    transform: Chain = field(default_factory=lambda: Chain(()))
    #: Lanes worked on at once.
    connections: int = 1
    #: Sends of a lane whose outcomes are not committed, at most: so many may come twice after a crash.
    sends_ahead: int = 1
    #: Sends a second at most; None is without limit.
    rate: float | None = None
    #: Seconds between the end of a send and the beginning of the next one.
    delay: float = 0.0
    retry: Retry = Retry()
    on_unanswered: Literal["repeat", "hold", "unknown"] = "repeat"
    #: What the file says of answers, before the defaults (``engine/runtime/retry.py``); the first that holds wins.
    on_answer: tuple[AnswerRule, ...] = ()
    order: Order = Order()
    #: JSON members of the outgoing body that are sealed until it is delivered, then replaced by salted hashes.
    secret: tuple[str, ...] = ()
    #: None sends every delivery by itself.
    batch: JoinPlan | None = None


@dataclass(frozen=True, slots=True)
class ErrorWhen:
    """Evidence that an error rule asks for. Empty members are not asked; all others must hold; of a list any may."""

    #: Codes of HL7 table 0008, or HTTP statuses.
    ack: frozenset[str] = frozenset()
    #: HL7 table 0357.
    condition: frozenset[str] = frozenset()
    #: ``QRD-10``
    location: frozenset[str] = frozenset()
    application_error: frozenset[str] = frozenset()
    #: Nothing was sent.
    unavailable: bool = False
    #: Sent, and no valid answer came.
    unanswered: bool = False
    #: An answer came that cannot be used.
    bad_response: bool = False
    #: Holds for the partner's answer, positive ones included (``ORC-1: UA``).
    response: Condition | None = None
    #: Searched in MSA-3 and ERR-8; the text itself is never passed on.
    text: Pattern | None = None
    #: Every other failure.
    otherwise: bool = False


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """Evidence → code. The first rule that holds wins."""

    when: ErrorWhen
    code: str
    #: Whether the same request may be sent anew in this case; None leaves it to the row of the code.
    retryable: bool | None = None


@dataclass(frozen=True, slots=True)
class ReplyPlan:
    """How the caller of a request/response channel is answered."""

    #: Name of the destination whose answer the reply is made from; it has no lane.
    destination: str
    #: HTTP status of success.
    status: int
    #: Runs on the partner's answer; what it leaves as the body is the reply.
    transform: Chain
    rules: tuple[ErrorRule, ...]
    #: The engine's error table and the site's rows over it.
    rows: Mapping[str, ErrorRow]
    #: Error code → steps whose variables become members of ``error``.
    on: Mapping[str, Chain] = field(default_factory=dict)
    #: Error code → when it is none after all, asked after the steps of ``on``: the partner did what it was asked to.
    accept: Mapping[str, Condition] = field(default_factory=dict)

    #: Those of the rules that may call a positive answer an error.
    answer_rules: tuple[ErrorRule, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rules = tuple(rule for rule in self.rules if rule.when.response is not None)
        object.__setattr__(self, "answer_rules", rules)


@dataclass(frozen=True, slots=True)
class IdempotencyPlan:
    """How the same request is known again."""

    #: Reads it from a request; "" for none.
    key: Data
    #: Seconds that a key lives at the least.
    at_least: float = 86400.0
    #: Reads a time; the key lives until then when that is later.
    until: Data | None = None


#: Name of the destination that application acks on a connection of their own are owed to.
ACKS = "acks"


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What becomes of a message whose MSH-10 came before."""

    #: Seconds in which the same MSH-10 and the same bytes are the same message.
    window: float = 86400.0
    #: The same MSH-10 with other bytes: ``deliver`` | ``refuse`` | ``park``.
    changed: Literal["deliver", "refuse", "park"] = "deliver"


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What becomes of a batch (FHS, BHS) that comes in."""

    #: An ack of each message in a batch: of ``all``, of those with ``errors``; or ``one`` for the whole.
    answer: Literal["all", "errors", "one"] = "all"
    #: BTS-1 or FTS-1 says another number than there is: nothing is taken, or it is recorded and goes on.
    on_count: Literal["refuse", "report"] = "refuse"
    #: Messages at most; one with more is refused.
    max_messages: int = 100_000


@dataclass(frozen=True, slots=True)
class Breaker:
    """When the partner of a reply counts as down, so that callers hear it at once."""

    #: Consecutive failures to connect or to answer in time that open it.
    failures: int = 5
    #: Seconds between two probes while it is open.
    probe: float = 10.0


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """One valid channel, built."""

    name: str
    #: Relative to the site.
    file: str
    source: Source
    destinations: tuple[DestinationPlan, ...]
    description: str = ""
    ack: Literal["received", "routed", "delivered"] = "received"
    #: Seconds that a sender waits for ``ack: delivered`` at most.
    ack_deadline: float = 30.0
    #: Name of the destination whose answer the sender gets; empty for the engine's own acks. Then ``ack`` is delivered.
    ack_from: str = ""
    #: Where the application acks of enhanced mode go, on a connection of their own; None for the sender's connection.
    ack_to: DestinationPlan | None = None
    #: MSH-15 of those: whether the sender confirms them.
    ack_accept: Literal["AL", "NE"] = "AL"
    #: None takes every message for a new one.
    duplicates: Duplicates | None = None
    #: None takes a batch for what cannot be read.
    batch: BatchPlan | None = None
    order: Order = Order()
    patients: Patients = Patients()
    on_error: Literal["park", "hold"] = "park"
    #: Charset of what comes in, whatever MSH-18 says; None believes MSH-18.
    charset: str | None = None
    transform: Chain = field(default_factory=lambda: Chain(()))
    reply: ReplyPlan | None = None
    idempotency: IdempotencyPlan | None = None
    #: Exchanges that its messages settle or forget: channel, member of the request that they are found by.
    resolves: frozenset[tuple[str, str]] = frozenset()
    breaker: Breaker = Breaker()
    #: Words of ``retention:`` that the file has → seconds, None for never; the site says the others.
    retention: Mapping[str, float | None] = field(default_factory=dict)
    #: The same of ``retention.bodies``.
    bodies: Mapping[str, float | None] = field(default_factory=dict)
    #: Line of the list of destinations in ``file``.
    line: int = 0
    #: Line of ``reply``.
    reply_line: int = 0
    #: The same for the same inputs (``fingerprint.py``).
    fingerprint: str = ""

    @property
    def outlets(self) -> tuple[DestinationPlan, ...]:
        """Everything that has lanes: the destinations, and the connection for application acks."""
        return self.destinations if self.ack_to is None else (*self.destinations, self.ack_to)


@dataclass(frozen=True, slots=True)
class SitePlan:
    """A whole site: what can run, and what is wrong with the rest."""

    folder: FilePath
    data: FilePath
    settings: SiteSettings
    channels: Mapping[str, ChannelPlan]
    #: Channels that cannot run: name (else the file's, without ending) → why.
    broken: Mapping[str, tuple[Problem, ...]]
    #: Everything found, in order of file and line; notes included.
    problems: tuple[Problem, ...]
    #: The environment with ``.env`` under it, for the engine's own keys; never shown.
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: The files of the site, relative to it → SHA-256 in hex.
    files: Mapping[str, str] = field(default_factory=dict)
