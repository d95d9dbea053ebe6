"""One HTTP connection of the REST listener or the admin port: uvicorn's httptools protocol, and what it leaves open.

A request that came whole may be taken at once, without a task (``Take``), and one that came alone and as nearly all do
is read without the parser (``http_request.py``); every other is the ASGI application's.
Every phase of a connection has its time (head, body, idle, a peer that does not read), every part its size (head, what
surrounds a body, requests that wait). An offer to change the protocol is ignored, as RFC 9110 §7.8 allows, and the body
behind it is read. A fault that comes while a request is being answered never takes the place of its answer. What a head
may be is ``http_head.py``; routes, keys and bodies are ``listener.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from engine.envelope import correlation_id_from
from engine.errors import ErrorRow
from engine.sources.base import HttpRequest
from engine.sources.serving.accepting import Place, identity_of, peer_of, uid_of
from engine.sources.serving.answers import error_reply
from engine.sources.serving.http_head import Limits, check_framing, other_protocol, size_of, without_upgrade
from engine.sources.serving.http_request import Plain, PlainRequests, request_of
from engine.sources.serving.rendering import wire
from engine.sources.serving.slow_reader import SlowReader
from engine.sources.serving.telling import Telling

#: Writes an answer: status, headers as they stand on the wire, body.
Respond = Callable[[int, bytes, bytes], None]
#: Has a request answered that was taken.
Begin = Callable[[Respond], None]
#: Takes a request that came whole; None leaves it to the application.
Take = Callable[[HttpRequest], Begin | None]

BAD_REQUEST = ErrorRow("bad_request", 400, "The request cannot be read.")
HEAD_TOO_LARGE = ErrorRow("headers_too_large", 431, "The address or the headers are too large.")

#: Bytes that are parsed at once: as fine as sizes are measured.
PIECE = 8 * 1024
#: Requests that may wait behind the one that is being answered (pipelining).
PIPELINE = 16
#: Bytes around a body (sizes and extensions of chunks, trailers) beyond eight for each byte of it.
MAX_AROUND = 64 * 1024
#: Bytes that are thrown away of a body whose answer has been given.
MAX_IGNORED = 1024 * 1024
#: Seconds in which a peer may still read a last answer while what it goes on sending is thrown away.
LINGER = 2.0
#: Seconds by which the protocol waits longer for a body than the application, which has an answer for that.
AFTER_BODY = 3.0


class HttpConnection(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self, *args: Any, limits: Limits, place: Place, telling: Telling, take: Take | None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._limits, self._place, self._telling, self._take = limits, place, telling, take
        #: Headers of every answer, and how they stand on the wire.
        self._usual: tuple[Any, bytes] = (None, b"")
        #: The request whose head has come and whose answer is begun when the bytes at hand have been read.
        self._to_begin: tuple[RequestResponseCycle, Any] | None = None
        self._first, self._peer, self._plain = b"", "", PlainRequests("", "")
        self._active: RequestResponseCycle | None = None
        #: Where the parser is: heads that began, whether one is open, and whether the last request came whole.
        self._begun, self._in_head, self._whole = 0, True, True
        self._head = self._around = self._ignored = 0
        #: An offer to change the protocol is being passed over.
        self._upgrading = False
        #: Why the parser was stopped, and what that is called in the log.
        self._row, self._what = BAD_REQUEST, ""
        #: Nothing more is taken from this peer; the connection ends when everybody has been answered.
        self._finishing = False
        self._phase, self._since = "head", 0.0
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unread: SlowReader | None = None

    # -- what asyncio calls ----------------------------------------------------------------------------------------

    # uvicorn narrows the type of the transport, and so do these.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head."""
        self._place.begun = True
        super().connection_made(transport)
        self._peer, identity = peer_of(transport), identity_of(transport)
        self._plain = PlainRequests(self._peer, identity)
        who = {"uid": uid_of(transport), "identity": identity}
        self.app_state = {**self.app_state, **{name: value for name, value in who.items() if value not in (None, "")}}
        self._enter("head", self._limits.head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._timer is not None:
            self._timer.cancel()
        if self._unread is not None:
            self._unread.stop()
        self._due = None
        self._place.release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of any number of requests, or of a part of one."""
        self._first = self._first or data[:16]
        if self._phase == "idle" and self._take is not None and self._is_taken_plainly(data, self._take):
            return
        for start in range(0, len(data), PIECE):
            if self._finishing:
                self._ignore(len(data) - start)
                return
            self._parse(data[start : start + PIECE])

    # uvicorn's gives nothing; True keeps the other half of the connection open, as asyncio has it.
    def eof_received(self) -> bool:  # type: ignore[override]
        """The peer sends no more; one whose request came whole may still read its answer."""
        if self._phase != "linger" and (self._head or not self._whole):
            self._telling.tell("request_cut", peer=self._peer)
            return False
        if not self._under_way() or self.scheme == "https":  # TLS has no half-closed connections
            return False
        self._finish()
        return True

    def pause_writing(self) -> None:
        """The peer does not read its answer."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        """The peer reads again."""
        super().resume_writing()
        if self._unread is not None and not self.transport.is_closing():
            self._unread.stop()

    # -- what the parser calls -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._begun += 1
        self._in_head, self._whole, self._head, self._around, self._ignored = True, False, 1, 0, 0
        self._enter("head", self._limits.head_timeout)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what follows a body (trailers) is no part of the head and is not read (RFC 9110 §6.5.1)."""
        if self._in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole. What is raised here, the parser hands to ``_parse`` as its error."""
        if size_of(self.url, self.headers) > self._limits.head:
            self._row = HEAD_TOO_LARGE
            raise ValueError("head too large")
        check_framing(self.parser.get_http_version(), self.headers)
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("no proxy")
        self._in_head, self._head = False, 0
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        if len(self.pipeline) >= PIPELINE:
            self._whole, self._what = True, "too_many_pipelined"  # it is dropped whole
            raise ValueError("too many requests wait")
        self._enter("body", self._limits.body_timeout + AFTER_BODY)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Bytes of a body."""
        self._around -= 9 * len(body)
        if self.cycle.response_complete:
            self._ignore(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._upgrading:
            return
        self._whole, self._around = True, 0
        super().on_message_complete()
        if self.cycle.response_complete:
            self._enter("idle", self._limits.keep_alive)
        else:
            self._enter("serving", None)

    # -- what uvicorn calls ----------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        if self._take is None or cycle.waiting_for_100_continue:
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._to_begin = cycle, app
        else:
            self._begin(cycle, app)

    def _begin(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Have a request answered: at once if it is whole and is taken so, else by a task."""
        begin: Begin | None = None
        if self._take is not None and not (cycle.more_body or cycle.response_started or self.flow.write_paused):
            begin = self._take(request_of(cycle.scope, bytes(cycle.body)))
        if begin is None:
            super()._start_asgi_task(cycle, app)
        else:
            begin(partial(self._respond, cycle))

    def _respond(self, cycle: RequestResponseCycle, status: int, head: bytes, body: bytes) -> None:
        """Write the answer to a request that was taken; ``head``: its headers as they stand on the wire."""
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        if self._usual[0] is not self.server_state.default_headers:  # made anew each second
            headers = self.server_state.default_headers
            self._usual = headers, b"".join(b"%b: %b\r\n" % header for header in headers)
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(b"".join((STATUS_LINE[status], self._usual[1], head, end, body)))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """An answer was given: on to the next request, or the end."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._watch_reading()
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._finishing:
            self._close()
        elif self._whole:
            self._enter("idle", self._limits.keep_alive)

    # -- in --------------------------------------------------------------------------------------------------------

    def _is_taken_plainly(self, data: bytes, take: Take) -> bool:
        """Whether these bytes are one plain request, which is taken."""
        request = None if len(data) > PIECE or self.flow.write_paused else self._plain.read(data)
        begin = None if request is None else take(request)
        if begin is None:
            return False
        self._begun += 1
        self._phase, self._due = "serving", None
        cycle: Any = Plain()
        self.cycle = self._active = cycle
        begin(partial(self._respond, cycle))
        return True

    def _parse(self, piece: bytes) -> None:
        begun, was_in_head, was_whole = self._begun, self._in_head, self._whole
        if not was_in_head:
            self._around += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._pass_over_upgrade(piece[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(self._row)
            return
        finally:
            if self._to_begin is not None:
                to_begin, self._to_begin = self._to_begin, None
                self._begin(*to_begin)
        if self._in_head and self._begun - begun <= was_whole:  # else a part of the piece belongs to other requests
            self._head += len(piece)
        if self._in_head and self._head > self._limits.head:
            self._refuse(HEAD_TOO_LARGE)
        elif not self._in_head and self._around > MAX_AROUND:
            self._refuse(BAD_REQUEST)

    def _pass_over_upgrade(self, rest: bytes) -> None:
        """Read the request as if it had offered no other protocol; the parser itself would skip its body."""
        parser = self.parser
        head = without_upgrade(parser.get_method(), self.url, parser.get_http_version(), self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self._upgrading = False
        self.data_received(head + rest)

    def _under_way(self) -> list[RequestResponseCycle]:
        """Requests that have not been answered, in their order."""
        active = [] if self._active is None or self._active.response_complete else [self._active]
        return active + [cycle for cycle, _ in reversed(self.pipeline)]

    def _finish(self) -> None:
        """Take nothing more; the last of those who are answered is told so."""
        self._finishing = True
        self._enter("serving", None)
        if under_way := self._under_way():
            under_way[-1].keep_alive = False

    def _refuse(self, row: ErrorRow) -> None:
        """Give up what is no HTTP. Who sent whole requests before it is answered these, and nothing else."""
        protocol = other_protocol(self._first) if self._begun <= 1 else ""
        if protocol:
            self._telling.tell("wrong_protocol", peer=self._peer, looks_like=protocol)
        else:
            self._telling.tell(self._what or row.code, peer=self._peer)
        broken = None if self._whole or self._in_head else self.cycle
        if broken is not None and self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
        waiting = [cycle for cycle in self._under_way() if cycle is not broken]
        self._finish()
        if waiting:
            waiting[-1].keep_alive = False
        elif broken is not None and broken.response_started:
            self._close()
        else:
            self._answer(row)

    def _ignore(self, size: int) -> None:
        """Bytes that mean nothing any more: a few may come while the peer reads its answer."""
        self._ignored += size
        if self._ignored > MAX_IGNORED and not self._under_way():
            self.transport.abort()

    # -- out -------------------------------------------------------------------------------------------------------

    def _answer(self, row: ErrorRow) -> None:
        """Answer what is no HTTP in the shape of every other error."""
        correlation_id = correlation_id_from(None)
        head, body = wire(error_reply(row, correlation_id), correlation_id)
        self.transport.write(STATUS_LINE[row.status] + head + b"connection: close\r\n\r\n" + body)
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._active = None
        if not self.transport.can_write_eof():
            self._close()
            return
        # Closing while the peer still sends would reset the connection before it has read the answer.
        self.transport.write_eof()
        self._ignored = 0
        self._enter("linger", LINGER)

    def _close(self) -> None:
        self._finishing = True
        self.transport.close()
        self._watch_reading()

    def _watch_reading(self) -> None:
        if self._unread is None:
            self._unread = SlowReader(self.transport, self._limits.answer_timeout, self._tell_unread)
        self._unread.watch()

    def _tell_unread(self, left: int) -> None:
        self._telling.tell("peer_does_not_read", peer=self._peer, bytes=left)

    # -- time ------------------------------------------------------------------------------------------------------

    def _enter(self, phase: str, seconds: float | None) -> None:
        """What the connection waits for from now on, and for how long at most."""
        self._phase, self._since = phase, self.loop.time()
        self._due = None if seconds is None else self._since + seconds
        if self._due is not None and (self._timer is None or self._timer.when() > self._due):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(self._due, self._look)

    def _look(self) -> None:
        """The timer is not set anew for each request: it looks whether its time has come."""
        self._timer = None
        if self._due is None:
            return
        if self.flow.read_paused and self._phase in ("head", "body"):
            self._due = self.loop.time() + 1.0  # it is this side that does not read
        if self._due > self.loop.time():
            self._timer = self.loop.call_at(self._due, self._look)
        else:
            self._expired()

    def _expired(self) -> None:
        self._due = None
        if self._phase in ("idle", "linger"):
            self._close()
            return
        if self._head or self._phase == "body":
            self._telling.tell(f"{self._phase}_timeout", peer=self._peer)
        self.transport.abort()

    def idle_since(self, quiet_for: float) -> float | None:
        """Since when this connection has nothing to do, if it is for so long; its place may go to another then."""
        if self._under_way() or self._phase == "serving" or self.loop.time() - self._since < quiet_for:
            return None
        return self._since

    def displace(self) -> None:
        """End; another connection takes the place."""
        self._telling.tell("displaced", peer=self._peer)
        self._place.release()
        self.transport.abort()
