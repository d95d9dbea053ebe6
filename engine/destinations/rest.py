"""`rest:` as a destination: one HTTP request per message; the status line decides.

2xx is a response, every other status a definite no with that status as its code (the runtime retries 5xx and parks
4xx). Redirects are not followed: a message must not go where the file does not say. Credentials stand under `auth:`,
never in the address; what a partner answers is bounded and never logged. Tokens are `connections/oauth2.py`, addresses
with members of the body in them and forms `connections/request_body.py`.
"""

from __future__ import annotations

import asyncio
import io
import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import aiohttp
import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from yarl import URL

from engine.destinations.base import Building, Destination, DestinationContext, Outgoing, Response
from engine.destinations.connections.http import Connector
from engine.destinations.connections.oauth2 import NoToken, OAuth2, Tokens
from engine.destinations.connections.request_body import Address, Unaddressed, form, read_object
from engine.errors import Evidence, Rejected, SpecError, Unanswered, Unavailable
from engine.hl7.bulk import LARGE
from engine.tls_settings import ClientTlsKey, reason
from engine.units import Size, Timeout

log = structlog.get_logger("engine.rest")

#: Headers the engine sets; a file may replace the first two.
CONTENT_TYPE, ACCEPT = "Content-Type", "Accept"


class Basic(BaseModel):
    """Name and password (RFC 7617)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    username: str = Field(description="User name.")
    password: SecretStr = Field(description="Password, from the environment.")


class ApiKey(BaseModel):
    """A key in a header of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    header: str = Field("X-API-Key", description="Name of the header.")
    key: SecretStr = Field(description="The key, from the environment.")


class Auth(BaseModel):
    """Credentials; exactly one kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bearer: SecretStr | None = Field(None, description="A bearer token, from the environment.")
    basic: Basic | None = Field(None, description="User name and password.")
    api_key: ApiKey | None = Field(None, description="A key in a header.")
    oauth2: OAuth2 | None = Field(None, description="A token by OAuth 2.0 client credentials.")

    @model_validator(mode="after")
    def _is_one(self) -> Auth:
        if sum(kind is not None for kind in (self.bearer, self.basic, self.api_key, self.oauth2)) != 1:
            raise ValueError("expected exactly one of bearer, basic, api_key, oauth2")
        return self

    def header(self) -> tuple[str, str] | None:
        """Name and value of the header that carries the credentials; None where they are fetched first."""
        if self.bearer is not None:
            return "Authorization", f"Bearer {self.bearer.get_secret_value()}"
        if self.basic is not None:
            pair = f"{self.basic.username}:{self.basic.password.get_secret_value()}"
            return "Authorization", f"Basic {b64encode(pair.encode()).decode()}"
        if self.api_key is not None:
            return self.api_key.header, self.api_key.key.get_secret_value()
        return None


class RestDestinationConfig(BaseModel):
    """One address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["POST", "PUT", "PATCH", "GET", "DELETE"] = Field("POST", description="HTTP method.")
    url: str = Field(description="Address, http or https, without credentials; {id} is a member of the JSON body.")
    format: Literal["message", "form"] = Field("message", description="form: the JSON body goes as a form.")
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="Further headers; values are not shown.")
    auth: Auth | None = Field(None, description="Credentials: bearer, basic, api_key or oauth2.")
    tls: ClientTlsKey = Field(None, description="TLS for https; without it the system's authorities are trusted.")
    connect_timeout: Timeout = Field(3.0, description="Time to connect, TLS included.")
    timeout: Timeout = Field(30.0, description="Time for the whole request.")
    max_size: Size = Field(1024 * 1024, description="Bytes of an answer that are kept; the rest is not read.")

    @field_validator("url")
    @classmethod
    def _is_address(cls, text: str) -> str:
        fixed = Address(text).fixed
        try:
            url = URL(fixed)
            named = url.host and url.port
        except ValueError:
            named = None
        if not named or url.scheme not in ("http", "https"):
            raise ValueError("expected an http or https address")
        if url.user or url.password:
            raise ValueError("credentials belong under auth, not into the address")
        return text


class RestDestination(Destination):
    """Sends requests to one address."""

    Config = RestDestinationConfig
    answers: ClassVar[bool] = True

    def __init__(self, config: RestDestinationConfig, building: Building) -> None:
        self.config = config
        self._ids = {"channel": building.channel, "destination": building.destination}
        self._connections = building.connections
        self._address = Address(config.url)
        self._url = URL(self._address.fixed)
        self._headers = _headers(config)
        if config.tls is not None and self._url.scheme != "https":
            raise SpecError("tls needs an https address", at=("url",), expected="https://…")
        self.contexts = config.tls.contexts(building.site, building.data) if config.tls is not None else None
        if self.contexts is not None:
            self.contexts.check()
        self._session: aiohttp.ClientSession | None = None
        oauth2 = config.auth.oauth2 if config.auth is not None else None
        self._tokens = Tokens(oauth2, self._ask_for_token, self._ids) if oauth2 is not None else None

    @property
    def address(self) -> str:
        """The address without query, which may hold a key."""
        return str(self._url.with_query(None).with_fragment(None))

    async def start(self, context: DestinationContext) -> None:
        """Make the session; nothing is connected."""
        del context
        self._ready()

    async def stop(self) -> None:
        """Close the kept connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def probe(self) -> None:
        """Connect by TCP and close again."""
        try:
            async with asyncio.timeout(self.config.connect_timeout):
                _, writer = await asyncio.open_connection(self._url.host, self._url.port)
        except (OSError, TimeoutError, UnicodeError) as error:
            raise Unavailable(_unavailable(error)) from None
        writer.close()

    async def send(self, outgoing: Outgoing) -> Response:
        """Send one request and wait for its status and body."""
        try:
            url, content_type, body = self._parts(outgoing)
        except Unaddressed:
            raise Rejected(Evidence("unaddressed")) from None
        headers = {
            CONTENT_TYPE: content_type,
            ACCEPT: "application/json, */*;q=0.5",
            **self._headers,
            "X-Correlation-ID": outgoing.correlation_id,
            "Idempotency-Key": outgoing.control_id or str(outgoing.delivery_id),
        }
        try:
            answer = await self._authorized(url, headers, body)
        except NoToken:
            raise Unavailable("token") from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise self._failure(error) from None
        evidence = Evidence(str(answer.status), body=answer.body, retry_after=answer.retry_after)
        if 200 <= answer.status < 300:
            return Response(answer.body, evidence)
        raise Rejected(evidence)

    def _parts(self, outgoing: Outgoing) -> tuple[URL, str, bytes]:
        """Address, content type and body of a message. Raises Unaddressed."""
        as_form = self.config.format == "form"
        if not (as_form or self._address.names):
            return self._url, outgoing.content_type, outgoing.body
        members = read_object(outgoing.body)
        url = URL(self._address.filled(members), encoded=True)
        left = {name: value for name, value in members.items() if name not in self._address.names}
        if as_form:
            return url, "application/x-www-form-urlencoded", form(left)
        return url, outgoing.content_type, json.dumps(left, ensure_ascii=False).encode() if left else b""

    async def _authorized(self, url: URL, headers: Mapping[str, str], body: bytes) -> _Answer:
        """Send with the token of the moment; where the partner no longer takes it, once more with a new one.

        401 says that the request was not carried out (RFC 9110, 15.5.2), so sending it again repeats nothing.
        """
        if self._tokens is None:
            return await self._request(self.config.method, url, headers, body)
        token = await self._tokens.get()
        for final in (False, True):
            bearer = {"Authorization": f"Bearer {token.value}"}
            answer = await self._request(self.config.method, url, {**headers, **bearer}, body)
            if answer.status != 401 or final:
                break
            token = await self._tokens.get(refused=token)
        return answer

    async def _ask_for_token(self, url: URL, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Ask the token's address. Raises NoToken when it cannot be reached."""
        try:
            answer = await self._request("POST", url, headers, body)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            log.warning("rest.token_unavailable", **self._ids, reason=self._failure(error).reason)
            raise NoToken from None
        return answer.status, answer.body

    async def _request(self, method: str, url: URL, headers: Mapping[str, str], body: bytes) -> _Answer:
        context = self._context()
        async with self._ready().request(
            method,
            url,
            data=io.BytesIO(body) if len(body) >= LARGE else body or None,
            headers=headers,
            allow_redirects=False,
            ssl=True if context is None else context,
            server_hostname=self._name(url),
        ) as response:
            wait = response.headers.get("Retry-After", "")
            return _Answer(response.status, await self._read(response), float(wait) if wait.isdecimal() else None)

    def _name(self, url: URL) -> str | None:
        """The name in the partner's certificate, where the file says another than the address; tokens' is their own."""
        return self.config.tls.server_name if self.config.tls is not None and url.host == self._url.host else None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The answer's body, as much of it as is wanted: the status has decided already, so nothing is repeated."""
        body = bytearray()
        try:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) >= self.config.max_size:
                    log.warning("rest.answer_cut", **self._ids, limit=self.config.max_size)
                    response.close()
                    break
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("rest.answer_incomplete", **self._ids, error=type(error).__name__)
        return bytes(body[: self.config.max_size])

    def _failure(self, error: Exception) -> Unavailable | Unanswered:
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | _NoContext):
            why = _unavailable(error)
            ended = isinstance(getattr(error, "os_error", None), ConnectionResetError | ConnectionAbortedError)
            if ended and self._url.scheme == "https":
                why = "tls"  # the partner ended the connection in its handshake
            if why == "tls":
                cause = error.__cause__ or getattr(error, "os_error", None) or error
                log.warning("rest.tls_failed", **self._ids, reason=reason(cause))
            return Unavailable(why)
        if isinstance(error, TimeoutError):
            return Unanswered("timeout")
        if isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError | ValueError):
            return Unanswered("malformed")
        return Unanswered("lost")

    def _context(self) -> ssl.SSLContext | None:
        if self.contexts is None:
            return None
        try:
            return self.contexts.get()
        except (OSError, ValueError) as error:
            raise _NoContext from error

    def _ready(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=Connector(limit=self._connections),
                timeout=aiohttp.ClientTimeout(
                    total=self.config.timeout, connect=None, sock_connect=self.config.connect_timeout
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                raise_for_status=False,
            )
        return self._session


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back."""

    status: int
    body: bytes
    #: Seconds the partner asks to wait; only numbers are read (RFC 9110, 10.2.3 has a date too).
    retry_after: float | None


class _NoContext(OSError):
    """The files of `tls:` cannot be used."""


def _headers(config: RestDestinationConfig) -> Mapping[str, str]:
    headers = {name: value.get_secret_value() for name, value in config.headers.items()}
    credentials = config.auth.header() if config.auth is not None else None
    if credentials is not None:
        headers[credentials[0]] = credentials[1]
    for name, value in headers.items():
        if not name.isascii() or any(character in "\r\n\0: " for character in name) or not name:
            raise SpecError("a header has a name that HTTP does not know", at=("headers",))
        if not value.isascii() or any(character in "\r\n\0" for character in value):
            raise SpecError(f"the value of the header {name} cannot be sent", at=("headers",), expected="ASCII text")
    return headers


def _unavailable(error: Exception) -> str:
    """Why nothing was sent."""
    if isinstance(error, _NoContext | aiohttp.ClientSSLError):
        return "tls"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror | UnicodeError):
        return "dns"
    return "refused"
