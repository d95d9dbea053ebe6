"""The `tls:` keys of listeners and senders: which files, and contexts that follow a file when it is replaced.

A relative path that begins with `data/` lies in the data folder of this run, every other one in the site's folder.
Files of the data folder may be made by the first run, so their absence is no fault while a site is only checked.
The contexts themselves come from `engine/tls.py`.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from engine.errors import SpecError
from engine.tls import client_context, ensure_certificates, file_end, server_context

log = structlog.get_logger("engine.tls")


def located(path: Path, site: Path, data: Path) -> Path:
    """Where a path of a YAML file lies."""
    if path.is_absolute():
        return path
    if path.parts[:1] == ("data",):
        return data.joinpath(*path.parts[1:])
    return site / path


class Contexts:
    """One TLS context, built again when one of its files has been replaced (a renewed certificate)."""

    def __init__(self, files: dict[str, Path], make: Callable[[], ssl.SSLContext], data: Path) -> None:
        self._files, self._make, self._data = files, make, data
        self._context: ssl.SSLContext | None = None
        self._stamps: tuple[tuple[int, int], ...] = ()

    def ends(self) -> str:
        """The day on which the own certificate ends, ``2027-03-01``; "" without one."""
        return next((ending.at.date().isoformat() for ending in self.endings() if ending.key == "cert"), "")

    def endings(self) -> tuple[Ending, ...]:
        """When each file ends that is there and can be read; a private key never does."""
        found = []
        for key, path in self._files.items():
            with contextlib.suppress(OSError, ValueError):
                if key != "key":
                    found.append(Ending(key, path, file_end(path, key)))
        return tuple(found)

    def check(self) -> None:
        """Find faults before anything runs. Raises SpecError below the key ``tls``."""
        missing = [(key, path) for key, path in self._files.items() if not path.is_file()]
        for key, path in missing:
            if not path.is_relative_to(self._data):
                raise SpecError(f"there is no file {path}", at=("tls", key), expected="a PEM file")
        if not missing:
            try:
                self.get()
            except (OSError, ValueError) as error:
                raise SpecError(f"the files cannot be used ({reason(error)})", at=("tls",)) from None

    def get(self) -> ssl.SSLContext:
        """The context to use for the next connection. Raises OSError (ssl.SSLError among them) or ValueError."""
        stamps = tuple(stamp(path) for path in self._files.values())
        if self._context is None or stamps != self._stamps:
            try:
                self._context = self._make()
            except (OSError, ValueError) as error:
                if self._context is None:
                    raise
                # A certificate is often replaced a moment before its key: what worked goes on until both are there.
                names = ", ".join(path.name for path in self._files.values())
                log.error("tls.not_reloaded", reason=reason(error), files=names)
            self._stamps = stamps
        return self._context


@dataclass(frozen=True, slots=True)
class Ending:
    """When a file of `tls:` ends."""

    #: Its key: ``cert``, ``ca``, ``client_ca`` or ``crl``.
    key: str
    path: Path
    at: datetime


class ServerTls(BaseModel):
    """TLS of a listener."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cert: Path = Field(Path("data/tls/server.pem"), description="Certificate, with its chain (PEM).")
    key: Path = Field(Path("data/tls/server.key"), description="Private key (PEM).")
    client_ca: Path | None = Field(None, description="Clients must show a certificate of this authority.")
    crl: Path | None = Field(None, description="What this authority has revoked (PEM); needs `client_ca`.")

    @model_validator(mode="after")
    def _is_of_an_authority(self) -> ServerTls:
        if self.crl is not None and self.client_ca is None:
            raise ValueError("crl needs client_ca: without it no client shows a certificate")
        return self

    def contexts(self, site: Path, data: Path) -> Contexts:
        """The listener's context; the default certificate is made when it is missing."""
        files = {"cert": located(self.cert, site, data), "key": located(self.key, site, data)}
        given = {"client_ca": self.client_ca, "crl": self.crl}
        files |= {name: located(path, site, data) for name, path in given.items() if path is not None}
        own = data / "tls" / "server.pem"

        def make() -> ssl.SSLContext:
            if files["cert"] == own and not own.exists():
                ensure_certificates(own.parent)
            return server_context(files["cert"], files["key"], files.get("client_ca"), files.get("crl"))

        return Contexts(files, make, data)


class ClientTls(BaseModel):
    """TLS of a sender."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Path | None = Field(None, description="Authority to trust; without it those of the system.")
    crl: Path | None = Field(None, description="What this authority has revoked (PEM); needs `ca`.")
    cert: Path | None = Field(None, description="The engine's own certificate, for partners that ask for one.")
    key: Path | None = Field(None, description="Private key of `cert`.")
    verify: bool = Field(True, description="Check chain and name; false trusts anybody.")
    server_name: str | None = Field(None, description="Name in the partner's certificate, when it is not `host`.")

    @model_validator(mode="after")
    def _is_of_an_authority(self) -> ClientTls:
        if self.crl is not None and (self.ca is None or not self.verify):
            raise ValueError("crl needs ca, and certificates that are checked")
        return self

    def contexts(self, site: Path, data: Path) -> Contexts:
        """The sender's context."""
        given = {"ca": self.ca, "crl": self.crl, "cert": self.cert, "key": self.key}
        files = {name: located(path, site, data) for name, path in given.items() if path is not None}

        def make() -> ssl.SSLContext:
            return client_context(
                files.get("ca"), files.get("cert"), files.get("key"), self.verify, crl=files.get("crl")
            )

        return Contexts(files, make, data)


def _short(value: Any) -> Any:
    # `tls: true` is what everybody tries first.
    return {} if value is True else None if value is False else value


ServerTlsKey = Annotated[ServerTls | None, BeforeValidator(_short)]
ClientTlsKey = Annotated[ClientTls | None, BeforeValidator(_short)]


def reason(error: BaseException) -> str:
    """Why TLS failed, in OpenSSL's words; never a peer's data."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "handshake timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__


def stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is replaced; zeros while it is missing."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_ino)
