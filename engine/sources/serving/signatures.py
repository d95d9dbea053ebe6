"""Callers of a `rest:` source who sign what they send, instead of sending a key.

Twilio: ``X-Twilio-Signature`` is the base64 of an HMAC-SHA1, keyed by the account's auth token, over the address that
Twilio called and the fields of the form, sorted by name (twilio.com/docs/usage/webhooks/webhooks-security). Where the
body is JSON, the address has ``bodySHA256``, and that stands for the body. SHA-1 is Twilio's choice; in an HMAC it
holds.

Others sign the body alone by HMAC-SHA256 (RFC 2104), in hexadecimal digits or base64, in a header of their own.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from engine.errors import Refused
from engine.sources.base import HttpRequest
from engine.sources.serving.form_body import form_fields, is_form

TWILIO = "X-Twilio-Signature"
#: A name of a header (RFC 9110, 5.6.2).
_NAME = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$"

#: Whether a request is signed as it must be.
Verifier = Callable[[HttpRequest], bool]


class TwilioConfig(BaseModel):
    """What Twilio signs with, and what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    auth_token: SecretStr = Field(min_length=1, description="Auth token of the Twilio account, from the environment.")
    url: str = Field(description="The address that Twilio calls: the public one, as a proxy before the engine has it.")

    @field_validator("url")
    @classmethod
    def _is_address(cls, text: str) -> str:
        try:
            url = urlsplit(text)
            named = bool(url.hostname) and url.port != 0
        except ValueError:
            named = False
        if not named or url.scheme not in ("http", "https") or not text.isascii() or url.query or url.fragment:
            raise ValueError("expected an http or https address without a query")
        return text


class HmacConfig(BaseModel):
    """A signature over the body alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    secret: SecretStr = Field(min_length=16, description="The shared secret, from the environment; 16 characters.")
    header: str = Field("X-Signature", pattern=_NAME, description="Header that has the signature.")
    prefix: str = Field("", description="What stands before the signature there, such as sha256=.")
    encoding: Literal["hex", "base64"] = Field("hex", description="How the signature is written.")


class Signed(BaseModel):
    """Whose signature a request must have; exactly one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    twilio: TwilioConfig | None = Field(None, description="Twilio's.")
    hmac_sha256: HmacConfig | None = Field(None, description="HMAC-SHA256 of the body.")

    @model_validator(mode="after")
    def _is_one(self) -> Signed:
        if (self.twilio is None) is (self.hmac_sha256 is None):
            raise ValueError("expected exactly one of twilio, hmac_sha256")
        return self

    @property
    def header(self) -> str:
        """The header that has the signature; it is a credential."""
        return self.hmac_sha256.header if self.hmac_sha256 is not None else TWILIO

    def verifier(self) -> Verifier:
        """What checks a request."""
        if self.twilio is not None:
            return TwilioVerifier(self.twilio)
        assert self.hmac_sha256 is not None  # noqa: S101 - one of them is there
        return HmacVerifier(self.hmac_sha256)


class HmacVerifier:
    """Checks an HMAC-SHA256 of the body."""

    def __init__(self, config: HmacConfig) -> None:
        self._config, self._secret = config, config.secret.get_secret_value().encode()

    def __call__(self, request: HttpRequest) -> bool:
        """Whether the body is signed; a request without a body signs nothing."""
        if not request.body:
            return False
        given = request.headers.get(self._config.header.lower(), "")
        if not given.startswith(self._config.prefix):
            return False
        signature = given[len(self._config.prefix) :].strip()
        digest = hmac.digest(self._secret, request.body, "sha256")
        if self._config.encoding == "hex":
            return hmac.compare_digest(signature.lower().encode("latin-1"), digest.hex().encode())
        return hmac.compare_digest(signature.encode("latin-1"), b64encode(digest))


class TwilioVerifier:
    """Checks Twilio's signature of a request."""

    def __init__(self, config: TwilioConfig) -> None:
        self._token = config.auth_token.get_secret_value().encode()
        self._addresses = addresses(config.url)

    def __call__(self, request: HttpRequest) -> bool:
        """Whether the request is signed; what of it cannot be read is not."""
        given = request.headers.get(TWILIO.lower(), "").encode("latin-1")
        try:
            fields = self._fields(request)
        except Refused:
            return False
        query = f"?{request.raw_query}" if request.raw_query else ""
        return any(hmac.compare_digest(given, self.sign(url + query, fields)) for url in self._addresses)

    def _fields(self, request: HttpRequest) -> Iterable[tuple[str, str]]:
        """What is signed beside the address. Raises Refused for a body that the signature does not cover."""
        if not request.body:
            return ()
        if is_form(request.headers.get("content-type", "")):
            return form_fields(request.body)
        said = parse_qs(request.raw_query).get("bodySHA256", [])
        digest = hashlib.sha256(request.body).hexdigest()
        if len(said) != 1 or not hmac.compare_digest(said[0].lower().encode(), digest.encode()):
            raise Refused("invalid_body")
        return ()

    def sign(self, url: str, fields: Iterable[tuple[str, str]]) -> bytes:
        """The signature. Of a name that comes more than once each value counts once, in order."""
        signed = url + "".join(name + value for name, value in sorted(set(fields)))
        return b64encode(hmac.digest(self._token, signed.encode(), "sha1"))


def addresses(url: str) -> tuple[str, ...]:
    """The address with and without its scheme's own port: Twilio signs the one or the other."""
    parts = urlsplit(url)
    usual = 443 if parts.scheme == "https" else 80
    bare = parts.netloc.removesuffix(f":{usual}")
    if parts.port not in (None, usual):
        return (url,)
    return tuple(parts._replace(netloc=netloc).geturl() for netloc in (bare, f"{bare}:{usual}"))
