"""What a channel file may say: every key outside connectors and steps, with its type and its default.

Connectors (``source:``, ``to:``) and steps are single words with their own models; here they are Any, and
``compile.py`` has them checked by their owners. The defaults are the safe ones of the design.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from engine.config.settings import Retention
from engine.hl7.charset import codec
from engine.units import Duration, Rate, Timeout, parse_duration

#: A channel, a destination: it appears in addresses, folders and commands.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"

#: HL7 table 0357: every code but 0, accepted.
CONDITIONS = ("100", "101", "102", "103", "104", "198", "199", *(str(code) for code in range(200, 209)))

_Name = Annotated[str, Field(pattern=NAME)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _give_up(value: object) -> float | None:
    if value is None or value == "never":
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or never") from None


class RetryPart(_Part):
    """``retry:`` of a destination."""

    backoff: list[Duration] = Field(default=[1.0, 5.0, 15.0, 60.0], min_length=1)
    #: ``never``, or how long after commit 2 a delivery is parked as expired.
    give_up: Annotated[float | None, BeforeValidator(_give_up)] = None
    attempts: int | None = Field(default=None, ge=1)
    on: list[Literal["unavailable", "unanswered"]] = ["unavailable"]


class KeyPart(_Part):
    """``order: {key: PATH}``; of a list the first that is not empty.

    ``merge`` says where a message with MRG segments names its other keys; without it that follows from ``key``.
    """

    key: str | Annotated[list[str], Field(min_length=1)]
    merge: str | Annotated[list[str], Field(min_length=1)] | None = None


OrderPart = Literal["received", "none"] | KeyPart


class BreakerPart(_Part):
    """``breaker:`` of a channel with a reply."""

    failures: int = Field(default=5, ge=1)
    probe: Timeout = 10.0


#: A code, or a list of codes of which any may hold.
Codes = str | int | Annotated[list[str | int], Field(min_length=1)]


class AnswerPart(_Part):
    """One item of ``on_answer:``."""

    ack: Codes | None = None
    condition: Codes | None = None
    location: Codes | None = None
    application_error: Codes | None = None
    text: str | None = None
    then: Literal["delivered", "retry", "park", "hold", "discard"]


class JoinPart(_Part):
    """``batch:`` of a destination: deliveries that go out together."""

    count: int = Field(default=100, ge=1, le=1000)
    seconds: Timeout = 5.0
    file: bool = False
    answer: Literal["all", "errors"] = "all"


class DestinationPart(_Part):
    """One item of ``destinations:``."""

    #: A table of which each row is one such destination: written out before anything else looks (``rows.py``).
    for_each: str | None = None
    name: _Name
    description: str = ""
    where: Any = None
    transform: list[Any] = []
    to: Any
    connections: int = Field(default=1, ge=1, le=256)
    #: Sends of a lane whose outcomes are not committed, at most.
    sends_ahead: int = Field(default=1, ge=1, le=64)
    #: Sends at most, by all connections together, evenly spread.
    rate: Rate | None = None
    #: Silence between the end of one send and the beginning of the next.
    delay: Duration = 0.0
    retry: RetryPart = RetryPart()
    on_unanswered: Literal["repeat", "hold", "unknown"] = "repeat"
    on_answer: list[AnswerPart] = []
    order: OrderPart | None = None
    secret: list[Annotated[str, Field(min_length=1)]] = []
    batch: JoinPart | None = None


class ReplyPart(_Part):
    """``reply:`` of a channel."""

    from_: str = Field(alias="from")
    status: int = Field(default=200, ge=200, le=299)
    transform: list[Any] = []
    errors: str | None = None
    on: dict[str, list[Any]] = {}
    accept: dict[str, Any] = {}


class KeepPart(_Part):
    """``idempotency.keep``."""

    at_least: Timeout = 86400.0
    until: Any = None


class IdempotencyPart(_Part):
    """``idempotency:`` of a channel with a reply."""

    key: Any
    keep: KeepPart = KeepPart()


class AckPart(_Part):
    """The long form of ``ack:``."""

    when: Literal["received", "routed", "delivered"] = "received"
    #: A destination: its own answer is the sender's.
    from_: str | None = Field(default=None, alias="from")
    #: Connector of the connection that application acks of enhanced mode go out on.
    to: Any = None
    retry: RetryPart = RetryPart()
    accept: Literal["AL", "NE"] = "AL"


class DuplicatesPart(_Part):
    """``duplicates:`` of a channel."""

    window: Timeout = 86400.0
    changed: Literal["deliver", "refuse", "park"] = "deliver"


class BatchPart(_Part):
    """``batch:`` of a channel: batches that come in."""

    answer: Literal["all", "errors", "one"] = "all"
    on_count: Literal["refuse", "report"] = "refuse"
    max_messages: int = Field(default=100_000, ge=1)


def _charset(name: str) -> str:
    if codec(name) is None:
        raise ValueError("no charset of that name; expected one of HL7 table 0211 such as 8859/1 or UNICODE UTF-8")
    return name


class ChannelPart(_Part):
    """A channel file; ``destinations`` and ``reply`` are validated one by one, so that every fault of each is told."""

    name: _Name | None = None
    description: str = ""
    source: Any
    ack: Literal["received", "routed", "delivered"] | AckPart = "received"
    ack_deadline: Timeout = 30.0
    duplicates: Literal["none"] | DuplicatesPart | None = None
    batch: Literal["none"] | BatchPart | None = None
    order: OrderPart = "received"
    #: None is the site's.
    patients: list[str] | None = None
    on_error: Literal["park", "hold"] = "park"
    charset: Annotated[str, AfterValidator(_charset)] | None = None
    transform: list[Any] = []
    destinations: list[Any] = Field(min_length=1)
    reply: Any = None
    idempotency: Any = None
    breaker: BreakerPart = BreakerPart()
    retention: Retention = Retention()


class RulePart(_Part):
    """One item of the file that ``reply.errors`` names."""

    when: Any = None
    otherwise: Literal[True] | None = None
    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    status: int | None = Field(default=None, ge=400, le=599)
    message: str | None = None
    retryable: bool | None = None
    retry_after: Duration | None = None
