"""What a step is, and what it may ask of the engine.

A step changes the envelope, sets a variable, records an effect, or drops the message. One file per step; the file's
name is the word an admin writes. Steps are compiled when the channel loads: whatever can be parsed, looked up or
checked once is, and ``run`` only works on the message.

What a step needs from above is a Protocol here, supplied by the runtime (Context) or by the loader (Loading).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Protocol

from engine.cache import CacheForget, CachePut
from engine.envelope import Envelope, Reply


class Verdict(Enum):
    """How a step (or a chain of steps) ended."""

    CONTINUE = "continue"
    #: The message is filtered: recorded, answered positively.
    DROP = "drop"
    #: The body is the answer to this request: its caller gets the reply that is made from it, and no partner is asked.
    ANSWER = "answer"


#: How nearly every step ends, at hand: of an Enum it would be looked up anew for each.
CONTINUE = Verdict.CONTINUE

# -- effects: what a step wants committed together with its message -----------------------------------------------


@dataclass(frozen=True, slots=True)
class ResolveExchange:
    """Settle the ``unknown`` exchange of ``channel`` whose recorded request has these values, if there is one.

    ``match`` holds request members as dotted names (``body.orderId``) → candidates, any of which matches. ``message``
    (HL7 bytes) is what resolved it: the confirmation number is read from it.
    """

    channel: str
    match: Mapping[str, tuple[str, ...]] = field(repr=False)
    message: bytes = field(repr=False, default=b"")


@dataclass(frozen=True, slots=True)
class ForgetKeys:
    """Forget the idempotency keys of ``channel`` whose recorded request has these values (a cancelled order)."""

    channel: str
    match: Mapping[str, tuple[str, ...]] = field(repr=False)


Effect = CachePut | CacheForget | ResolveExchange | ForgetKeys


class Context(ABC):
    """What a step may ask of the engine while it runs. One per message and chain."""

    #: Fixed for the whole chain, so that a message has one time; aware, in the engine host's zone.
    now: datetime
    #: What steps recorded; committed with the message's next commit.
    effects: list[Effect]
    #: Variables that a table lookup filled: a value of one that no destination takes makes the message unroutable.
    looked_up: set[str]
    #: In a reply's transform: the request as it was received, and the envelope of the partner's answer.
    request: Envelope | None = None
    response: Envelope | None = None

    @abstractmethod
    def make_control_id(self) -> str:
        """A new MSH-10, unique, at most 20 characters."""

    @abstractmethod
    def cache_get(self, cache: str, key: str) -> bytes | None:
        """What `remember` committed, unless it expired."""

    @abstractmethod
    async def ask(self, channel: str, request: Mapping[str, Any], correlation_id: str) -> Reply:
        """Send ``request`` through another request/response channel of this site and wait for its reply."""

    def warn(self, event: str, **ids: Any) -> None:
        """One log line with ids and names only, never content."""
        del event, ids


#: Does one thing to a message.
Run = Callable[[Envelope, Context], Verdict | Awaitable[Verdict]]


class Step(ABC):
    """One thing that is done to a message."""

    #: Model (or any type pydantic can validate) of what stands after the step's word.
    Config: ClassVar[Any]
    #: Reads only the envelope, the site's files and the clock; has no effects and asks nobody.
    pure: ClassVar[bool] = True
    #: May end a request with an answer, which only a channel with ``reply:`` can give.
    answers: ClassVar[bool] = False
    #: May ask an HL7 message for more than its kind (MSH-9): it is split into fields for that.
    opens: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, config: Any, loading: Loading) -> None:
        """Compile. Raises SpecError with the key path of what is wrong."""

    @property
    def asynchronous(self) -> bool:
        """Whether ``run`` returns an awaitable."""
        return False

    @property
    def runs(self) -> tuple[Run, ...]:
        """What is called for each message: ``run``; of a step that consists of others theirs, in their order."""
        return (self.run,)

    @abstractmethod
    def run(self, envelope: Envelope, context: Context) -> Verdict | Awaitable[Verdict]:
        """Do it. Raises StepFailed (this message cannot be transformed) or Refused (the caller is told no)."""


class Chain:
    """Steps in order. ``steps`` have their names for error messages (``step lookup failed``)."""

    __slots__ = ("answers", "asynchronous", "opens", "pure", "runs", "steps")

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        self.runs = tuple(run for step in self.steps for run in step.runs)
        self.pure = all(step.pure for step in self.steps)
        self.asynchronous = any(step.asynchronous for step in self.steps)
        self.answers = any(step.answers for step in self.steps)
        self.opens = any(step.opens for step in self.steps)

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Run a chain that has no asynchronous step."""
        for run in self.runs:
            verdict = run(envelope, context)
            if verdict is not CONTINUE:
                assert isinstance(verdict, Verdict)  # noqa: S101 - no step of this chain is awaited
                return verdict
        return CONTINUE

    async def run_async(self, envelope: Envelope, context: Context) -> Verdict:
        """Run any chain."""
        for run in self.runs:
            verdict = run(envelope, context)
            if not isinstance(verdict, Verdict):
                verdict = await verdict
            if verdict is not CONTINUE:
                return verdict
        return CONTINUE


class Condition(Protocol):
    """A compiled ``where:``, ``when:`` or ``keep:``."""

    #: Variable name → the literals it is compared with: tells which looked-up values no destination takes.
    variables: Mapping[str, frozenset[str]]
    #: See ``Step``.
    opens: bool

    def __call__(self, envelope: Envelope, context: Context) -> bool:
        """Whether it holds."""
        ...


class Table(Protocol):
    """A CSV of ``tables/``: first column is the key."""

    name: str
    columns: tuple[str, ...]

    def rows(self, key: str) -> Sequence[Mapping[str, str]]:
        """All rows of the key, in file order; empty when it has none."""
        ...

    def every(self) -> Iterator[Mapping[str, str]]:
        """All rows; those of one key stand together."""
        ...


@dataclass(frozen=True, slots=True)
class Fragment:
    """A YAML file of ``transforms/``, ``${VAR}`` filled in."""

    #: As it is referred to: ``emr/epic``.
    name: str
    #: Relative to the site, for error messages.
    file: str
    data: Any


class Loading(Protocol):
    """What a step may ask of the loader while it is compiled. Every method raises SpecError for what does not exist."""

    channel: str
    #: Every channel of the site, for references between them.
    channels: frozenset[str]

    @property
    def site(self) -> Mapping[str, Any]:
        """``site.yaml`` as plain values: ``$site.ris.version``."""
        ...

    @property
    def folder(self) -> Path:
        """The site's folder."""
        ...

    def table(self, name: str) -> Table:
        """``tables/NAME.csv``."""
        ...

    def fragment(self, name: str) -> Fragment:
        """``transforms/NAME.yaml``."""
        ...

    def include(self, name: str) -> Chain:
        """The steps of ``transforms/NAME.yaml``, compiled; faults are reported in that file."""
        ...

    def chain(self, steps: Any, at: tuple[str | int, ...]) -> Chain:
        """Compile steps that stand inside this step's own value, at key path ``at``."""
        ...

    def function(self, reference: str) -> Callable[..., Any]:
        """``file:name`` → the function ``name`` of ``transforms/file.py``, loaded by path."""
        ...
