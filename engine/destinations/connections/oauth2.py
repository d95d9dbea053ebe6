"""Access tokens by OAuth 2.0 client credentials (RFC 6749, 4.4), for the `rest` destination.

One token serves all connections. It is fetched when the first message needs it, again before it ends, and when the
partner says 401; one fetch at a time, whoever needs it meanwhile waits for that one. No token and no secret is ever
told: of a refusal only the status, and the standard's own error word (RFC 6749, 5.2).
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import quote_plus, urlencode

import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from yarl import URL

log = structlog.get_logger("engine.rest")

#: Error words of RFC 6749, 5.2; any other stays untold.
WORDS = frozenset(
    (
        *("invalid_request", "invalid_client", "invalid_grant"),
        *("unauthorized_client", "unsupported_grant_type", "invalid_scope"),
    )
)
#: Seconds that a token serves where the partner does not say how long it lives.
LIFE = 300.0
#: A token is fetched anew so many seconds before its end, or a tenth of its life, whichever is less.
EARLY = 60.0

FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}

#: Asks the token's address: headers and body → status and body of the answer.
Ask = Callable[[URL, Mapping[str, str], bytes], Awaitable[tuple[int, bytes]]]


class OAuth2(BaseModel):
    """Client credentials."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_url: str = Field(description="Where tokens are fetched: https (http on this machine only).")
    client_id: str = Field(min_length=1, description="Client id.")
    client_secret: SecretStr = Field(min_length=1, description="Client secret, from the environment.")
    scope: str = Field("", description="Scopes, apart by blanks.")
    credentials: Literal["header", "body"] = Field("header", description="Where id and secret stand: header is Basic.")

    @field_validator("token_url")
    @classmethod
    def _is_private(cls, text: str) -> str:
        try:
            url = URL(text)
            known = bool(url.host and url.port) and not (url.user or url.password or url.fragment)
        except ValueError:
            known = False
        if not known or url.scheme not in ("http", "https"):
            raise ValueError("expected an https address")
        if url.scheme == "http" and not _is_here(url.host or ""):
            raise ValueError("a secret is not sent in clear: expected an https address")  # RFC 6749, 3.2
        return text


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class NoToken(Exception):
    """No token is to be had now; nothing of the message has left."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token and until when it serves, on the clock of ``Tokens``."""

    value: str = field(repr=False)
    until: float


class Tokens:
    """The token of one destination."""

    def __init__(
        self, config: OAuth2, ask: Ask, ids: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._config, self._ask, self._ids, self._clock = config, ask, ids, clock
        self._url = URL(config.token_url)
        self._token: Token | None = None
        self._fetching = asyncio.Lock()

    async def get(self, refused: Token | None = None) -> Token:
        """A token that serves; another one than ``refused``, which the partner no longer takes. Raises NoToken."""
        found = self._usable(refused)
        if found is not None:
            return found
        async with self._fetching:
            # Whoever waited here finds what was fetched meanwhile.
            found = self._usable(refused)
            if found is None:
                self._token = found = await self._fetch()
        return found

    def _usable(self, refused: Token | None) -> Token | None:
        token = self._token
        return token if token is not None and token is not refused and self._clock() < token.until else None

    async def _fetch(self) -> Token:
        headers, fields = dict(FORM), {"grant_type": "client_credentials"}
        if self._config.scope:
            fields["scope"] = self._config.scope
        secret = self._config.client_secret.get_secret_value()
        if self._config.credentials == "header":
            # Both are form-encoded before they are put together (RFC 6749, 2.3.1).
            pair = f"{quote_plus(self._config.client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            fields |= {"client_id": self._config.client_id, "client_secret": secret}
        asked = self._clock()
        status, body = await self._ask(self._url, headers, urlencode(fields).encode())
        answer = _object(body)
        token = _token(answer)
        if not 200 <= status < 300 or not token:
            word = answer.get("error")
            log.warning("rest.token_refused", **self._ids, status=status, error=word if word in WORDS else "other")
            raise NoToken
        life = _seconds(answer.get("expires_in"))
        log.info("rest.token_fetched", **self._ids, seconds=int(life))
        return Token(token, asked + life - min(EARLY, life / 10))


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _token(answer: Mapping[str, Any]) -> str:
    """The bearer token; empty where there is none that a header can carry (RFC 6750, 2.1)."""
    token, kind = answer.get("access_token"), answer.get("token_type", "bearer")
    if not isinstance(token, str) or not isinstance(kind, str) or kind.lower() != "bearer":
        return ""
    return token if token.isascii() and token.isprintable() and " " not in token else ""


def _seconds(value: Any) -> float:
    """How long a token lives; some partners say it as text."""
    try:
        life = float(value)
    except (TypeError, ValueError):
        return LIFE
    return min(life, 86400.0) if life > 0 else LIFE
