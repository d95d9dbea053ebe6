"""`rest:` as a source: one method and path of the site's HTTP listener, with declared parameters and a checked body.

It turns a request into (body, origin), hands that over and renders what comes back. Keys, rates and sizes are the
listener's (`serving/listener.py`), parameters and JSON checked beside it. A caller who hangs up cancels
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from engine.envelope import Ack, Origin, Receipt, Reply
from engine.errors import ERROR_TABLE, ErrorRow, Refused, SpecError
from engine.promise import Promise
from engine.sources.base import Building, HttpRequest, HttpRoute, Source, SourceContext
from engine.sources.serving.answers import ack_reply, error_reply, row_of
from engine.sources.serving.form_body import form_object, is_form
from engine.sources.serving.json_body import Schema, parse_json, read_json
from engine.sources.serving.parameters import Parameter, Parameters
from engine.sources.serving.signatures import Signed, Verifier
from engine.units import Rate, Size, Timeout

#: Tells a caller.
Answer = Callable[[Reply], object]

#: Headers that carry credentials: never stored, never seen by a step.
CREDENTIALS = frozenset({"x-api-key", "authorization", "proxy-authorization", "cookie"})


class BodyConfig(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["json", "form"] = Field(
        "json", description="form: application/x-www-form-urlencoded, taken as a JSON object of its fields."
    )
    schema_name: str | None = Field(None, alias="schema", description="JSON Schema: transforms/NAME.json.")
    required: bool = Field(True, description="A request without a body is refused.")
    max_size: Size = Field(1024 * 1024, description="Bytes at most, such as 1MiB.")


class RestSourceConfig(BaseModel):
    """One route."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field("GET", description="HTTP method.")
    path: str = Field(description="Path, such as /api/ris/locations.")
    query: dict[str, Parameter] = Field(default_factory=dict, description="Query parameters; others are ignored.")
    body: BodyConfig | None = Field(None, description="What the body must be; without it any JSON, or none.")
    auth: Literal["required", "none"] | Signed = Field(
        "required", description="An API key; none lets callers in without one; or the signature that callers make."
    )
    rate: Rate | None = Field(None, description="Requests of one key: 10/s, 300/m; without it there is no limit.")
    burst: int = Field(20, gt=0, description="Requests of one key that may come at once before `rate` counts.")
    timeout: Timeout = Field(25.0, description="Time until the caller is answered, whatever goes on behind.")

    @field_validator("path")
    @classmethod
    def _is_path(cls, path: str) -> str:
        if not path.startswith("/") or any(character in path for character in "?#{} \t\r\n%") or "//" in path:
            raise ValueError("expected a fixed path such as /api/ris/locations")
        return path


class RestSource(Source):
    """Takes requests in."""

    Config = RestSourceConfig
    can_reply: ClassVar[bool] = True

    def __init__(self, config: RestSourceConfig, building: Building) -> None:
        self.config = config
        self._channel = building.channel
        if config.body is not None and config.method == "GET":
            raise SpecError("a GET has no body", at=("body",))
        self._parameters = Parameters(config.query)
        self._parameters.compile()
        name = config.body.schema_name if config.body else None
        self._schema = Schema.load(building.site, name) if name is not None else None
        self._form = config.body is not None and config.body.format == "form"
        signed = config.auth if isinstance(config.auth, Signed) else None
        self._verifier: Verifier | None = signed.verifier() if signed is not None else None
        self._credentials = CREDENTIALS | ({signed.header.lower()} if signed is not None else frozenset())
        named = {parameter.error for parameter in config.query.values() if parameter.error is not None}
        self.error_codes = frozenset(named) | (self._schema.codes if self._schema else frozenset())
        self._route: HttpRoute | None = None
        self._context: SourceContext | None = None
        #: What is not answered yet, in its order: who is to be told (None who has waited too long), and until when.
        self._open: dict[Receipt, tuple[Answer | None, float]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def claims(self) -> tuple[str, ...]:
        """The method and path, which no two channels may share."""
        return (f"http:{self.config.method} {self.config.path}",)

    @property
    def address(self) -> str:
        """``GET /api/ris/locations``."""
        return f"{self.config.method} {self.config.path}"

    async def start(self, context: SourceContext) -> None:
        """Register the route."""
        self._context, self._loop = context, asyncio.get_running_loop()
        self._route = HttpRoute(
            self.config.method,
            self.config.path,
            self._channel,
            self._handle,
            self._begin,
            auth=self.config.auth == "required",
            verify=self._verifier,
            max_body=self.config.body.max_size if self.config.body else 1024 * 1024,
            rate=self.config.rate,
            burst=self.config.burst,
        )
        context.http.add(self._route)

    async def stop(self) -> None:
        """Answer 503 from now on; requests under way are answered first."""
        if self._context is None or self._route is None:
            return
        self._context.http.remove(self._route)
        for receipt in list(self._open):
            await receipt.answer.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check(self, origin: Origin, body: bytes) -> None:
        """Check a request that came by `ask` as one that came by HTTP. Raises Refused."""
        self._parameters.check({name: (value,) for name, value in origin.query.items()})
        if self.config.method != "GET":
            self._check_body(body, "application/json")

    async def _handle(self, request: HttpRequest) -> Reply:
        told: Promise[Reply] = Promise()
        self._begin(request, told.set_result)
        return await told

    def _begin(self, request: HttpRequest, answer: Answer) -> None:
        """Hand a request over; ``answer`` is called with what comes back, or when that takes too long."""
        context = self._context
        if context is None or self._loop is None:
            answer(error_reply(ERROR_TABLE["channel_stopped"], request.correlation_id))
            return
        try:
            query = self._parameters.check(request.query)
            body, value = self._body(request)
        except Refused as refused:
            context.receive.refuse(self._origin(request, {}, None), refused.code, request.body)
            row = row_of(refused.code, context.errors)
            answer(error_reply(row, request.correlation_id, field=refused.field, extra=refused.extra))
            return
        receipt = context.receive(body, self._origin(request, query, value))
        if receipt.answered is not None:
            answer(self._reply(receipt, receipt.answered))
            return
        until = self._loop.time() + self.config.timeout
        self._open[receipt] = answer, until
        receipt.listener = partial(self._heard, receipt)
        if self._timer is None:  # one for all of them: each may wait as long as the others, and the first is looked at
            self._timer = self._loop.call_at(until, self._look)

    def _heard(self, receipt: Receipt) -> None:
        """A receipt has become known, in part or as a whole."""
        if receipt.answered is None:
            return
        receipt.listener = None
        answer, _ = self._open.pop(receipt)
        if answer is not None:
            answer(self._reply(receipt, receipt.answered))

    def _look(self) -> None:
        """Answer those who have waited too long."""
        assert self._loop is not None  # noqa: S101 - somebody has begun to wait
        self._timer, now = None, self._loop.time()
        late: list[tuple[Answer, Receipt]] = []
        for receipt, (answer, until) in self._open.items():
            if answer is not None and until > now:
                self._timer = self._loop.call_at(until, self._look)
                break
            if answer is not None:
                late.append((answer, receipt))
                self._open[receipt] = None, until
        for answer, receipt in late:  # who is told may have the next one begin
            answer(self._late(receipt))

    def _reply(self, receipt: Receipt, answered: Ack | Reply) -> Reply:
        """What the caller is told."""
        if isinstance(answered, Ack):
            return ack_reply(answered, receipt.correlation_id, self._errors)
        return answered

    def _late(self, receipt: Receipt) -> Reply:
        """What a caller is told who has waited too long; what was handed over goes on."""
        context = self._context
        if context is not None and context.late is not None:
            return context.late(receipt.correlation_id)
        # A query may be repeated; whether anything else was done is not known.
        extra = {} if self.config.method == "GET" else {"outcome": "unknown"}
        return error_reply(row_of("destination_timeout", self._errors), receipt.correlation_id, extra=extra)

    @property
    def _errors(self) -> Mapping[str, ErrorRow]:
        return self._context.errors if self._context is not None else {}

    def _body(self, request: HttpRequest) -> tuple[bytes, Any]:
        """The body to hand over, and what it says: checked JSON as it came, a form as JSON, or nothing."""
        if self.config.method == "GET":
            return b"", None
        body, content_type = request.body, request.headers.get("content-type", "")
        if self._form and body.strip():
            if not is_form(content_type):
                raise Refused("unsupported_media_type")
            body, content_type = form_object(body), "application/json"
        return body, self._check_body(body, content_type)

    def _check_body(self, body: bytes, content_type: str) -> Any:
        if not body.strip():
            if self.config.body is not None and self.config.body.required:
                raise Refused("invalid_body")
            return None
        value = parse_json(body, content_type) if content_type else read_json(body)
        if self._schema is not None:
            self._schema.check(value)
        return value

    def _origin(self, request: HttpRequest, query: Mapping[str, str], value: Any) -> Origin:
        headers = dict(request.headers)
        for name in self._credentials & headers.keys():
            del headers[name]
        return Origin(
            "rest",
            request.peer,
            headers,
            query,
            request.api_key,
            request.correlation_id,
            identity=request.identity,
            json=value,
        )
