"""What a source is: it reads bytes from outside, hands them to the engine and renders what comes back.

One file per connector; the file's name is the word an admin writes under ``source:``. A source knows its protocol and
nothing of transforms, lanes or the store: those stand behind ``receive``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from socket import socket
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from engine.envelope import MakeControlId, Origin, Receive, Reply
from engine.errors import ErrorRow
from engine.hl7.ack import AckCode
from engine.spread import Spread
from engine.tls_settings import Contexts
from engine.values import dataclass


class HttpHandler(Protocol):
    """Answers one HTTP request whose method and path were matched and whose API key was checked."""

    async def __call__(self, request: HttpRequest) -> Reply:
        """Answer; raise Refused for an error row."""
        ...


@dataclass(slots=True)
class HttpRequest:
    """One request, read whole (the listener has enforced the size limit)."""

    method: str
    path: str
    #: The query as it was sent, without ``?``.
    raw_query: str
    #: Lower-case names.
    headers: Mapping[str, str]
    body: bytes
    peer: str
    #: Subject of the caller's certificate, where the listener asks for one.
    identity: str
    #: What the listener finds out: whose key it came with, its correlation id, and every value of a name of its query,
    #: in the order they came.
    api_key: str = ""
    correlation_id: str = ""
    query: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """A route of the site's shared REST listener."""

    method: str
    path: str
    channel: str
    handler: HttpHandler
    #: The same without waiting: hands a request over and calls back with the answer, once. Raises Refused.
    begin: Callable[[HttpRequest, Callable[[Reply], object]], None] | None = None
    #: False lets callers in without an API key (the file must say so).
    auth: bool = True
    #: Whether a whole request comes from who it says (a signature over its body); what is not true is answered 403.
    verify: Callable[[HttpRequest], bool] | None = None
    max_body: int = 1024 * 1024
    #: Requests per second and API key; None is unlimited.
    rate: float | None = None
    burst: int = 20


class HttpListener(Protocol):
    """The site's shared REST listener (``serving/listener.py``)."""

    def add(self, route: HttpRoute) -> None:
        """Serve ``route`` from now on."""
        ...

    def remove(self, route: HttpRoute) -> None:
        """Answer 503 channel_stopped for ``route`` from now on."""
        ...


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What the engine lends a source when it starts."""

    receive: Receive
    http: HttpListener
    make_control_id: MakeControlId
    #: Codes of this channel: the engine's table and the site's own rows.
    errors: Mapping[str, ErrorRow]
    #: The reply for a caller (a correlation id) who cannot wait any longer; None where no partner is asked.
    late: Callable[[str], Reply] | None = None
    #: Application acks of enhanced mode leave on a connection of their own, which is not the source's.
    acks_elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Building:
    """What a connector may know while it is built, before anything runs."""

    channel: str
    #: Folder of the site; names of other files are relative to its sub-folders.
    site: Path
    #: Data folder of this run; the default certificates lie in ``data/tls``.
    data: Path


class Given:
    """The HL7 acknowledgements that the senders of one source were given."""

    def __init__(self) -> None:
        #: How many of each code.
        self.codes = dict.fromkeys(AckCode, 0)
        #: Seconds from the receipt of a message that was taken in to each acknowledgement of it.
        self.took = Spread()


class Source(ABC):
    """Where messages come in."""

    #: The model of what stands under the connector's word.
    Config: ClassVar[type[BaseModel]]
    #: Whether a `reply:` can answer over this connector.
    can_reply: ClassVar[bool] = False
    #: Whether its senders get HL7 acknowledgements, and send again what they got none for.
    acknowledges: ClassVar[bool] = False
    #: What they were given, where they get any.
    given: Given | None = None
    #: Codes of the error table that its part of the file names; each needs a row.
    error_codes: frozenset[str] = frozenset()

    #: The TLS of this connector; None without.
    contexts: Contexts | None = None

    @abstractmethod
    def __init__(self, config: Any, building: Building) -> None:
        """``config`` is an instance of ``Config``. Raises SpecError for what the model cannot see (missing files)."""

    def claims(self) -> tuple[str, ...]:
        """What no two channels may both have: ``tcp:2575``, ``http:GET /api/x``."""
        return ()

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it takes messages in, for people: ``mllp://127.0.0.1:2575``, ``GET /api/x``; a port is the real one."""

    @abstractmethod
    async def start(self, context: SourceContext) -> None:
        """Take messages in from now on. Raises OSError when a port is not to be had."""

    @abstractmethod
    async def stop(self) -> None:
        """Take no more in; what was handed over is answered first (bounded by the caller's deadline)."""

    def lend_port(self) -> socket | None:
        """Its listening socket, once more: it stays open after ``stop``, so that senders wait instead of being refused.

        The caller closes it, or gives it to the source that takes this one's place.
        """
        return None

    def take_port(self, listening: socket, before: Source) -> bool:
        """Use what ``before`` lent at the next start. False, and nothing happens, when another is wanted."""
        del listening, before
        return False

    def summary(self) -> Mapping[str, Any]:
        """State for `hl7engine channels`: connections, what was refused and why; no content."""
        return {}

    def check(self, origin: Origin, body: bytes) -> None:
        """Check a request that reached the channel another way (``ask``). Raises Refused."""
        del origin, body
