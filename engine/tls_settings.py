"""The `tls:` keys of listeners and senders: which files, and contexts that follow a file when it is replaced.

A relative path that begins with `data/` lies in the data folder of this run, every other one in the site's folder.
Files of the data folder may be made by the first run, so their absence is no fault while a site is only checked.
The contexts themselves come from `engine/tls.py`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from engine.errors import SpecError
from engine.tls import certificate_end, client_context, ensure_certificates, server_context

#: A certificate that ends in less time is warned of.
ENDS_SOON = timedelta(days=30)

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
        self._looked_on: date | None = None

    def ends(self) -> str:
        """The day on which the own certificate ends, ``2027-03-01``; "" without one."""
        end = self._end()
        return "" if end is None else end.date().isoformat()

    def _end(self) -> datetime | None:
        try:
            return certificate_end(self._files["cert"])
        except (KeyError, OSError, ValueError):
            return None

    def _warn_of_end(self) -> None:
        """Once a day, while connections are made, and whenever a file was replaced."""
        now = datetime.now(UTC)
        self._looked_on = now.date()
        end = self._end()
        if end is not None and end - now < ENDS_SOON:
            name, days = self._files["cert"].name, (end - now).days
            log.warning("tls.certificate_ends", file=name, ends=end.date().isoformat(), days=days)

    def check(self) -> None:
        """Find faults before anything runs. Raises SpecError below the key ``tls``."""
        missing = [(key, path) for key, path in self._files.items() if not path.is_file()]
        for key, path in missing:
            if not path.is_relative_to(self._data):
                raise SpecError(f"there is no file {path.name}", at=("tls", key), expected="a PEM file")
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
            self._warn_of_end()
        elif self._looked_on != datetime.now(UTC).date():
            self._warn_of_end()
        return self._context


class ServerTls(BaseModel):
    """TLS of a listener."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cert: Path = Field(Path("data/tls/server.pem"), description="Certificate, with its chain (PEM).")
    key: Path = Field(Path("data/tls/server.key"), description="Private key (PEM).")
    client_ca: Path | None = Field(None, description="Clients must show a certificate of this authority.")

    def contexts(self, site: Path, data: Path) -> Contexts:
        """The listener's context; the default certificate is made when it is missing."""
        files = {"cert": located(self.cert, site, data), "key": located(self.key, site, data)}
        client_ca = located(self.client_ca, site, data) if self.client_ca is not None else None
        if client_ca is not None:
            files["client_ca"] = client_ca
        own = data / "tls" / "server.pem"

        def make() -> ssl.SSLContext:
            if files["cert"] == own and not own.exists():
                ensure_certificates(own.parent)
            return server_context(files["cert"], files["key"], client_ca)

        return Contexts(files, make, data)


class ClientTls(BaseModel):
    """TLS of a sender."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Path | None = Field(None, description="Authority to trust; without it those of the system.")
    cert: Path | None = Field(None, description="The engine's own certificate, for partners that ask for one.")
    key: Path | None = Field(None, description="Private key of `cert`.")
    verify: bool = Field(True, description="Check chain and name; false trusts anybody.")
    server_name: str | None = Field(None, description="Name in the partner's certificate, when it is not `host`.")

    def contexts(self, site: Path, data: Path) -> Contexts:
        """The sender's context."""
        given = {"ca": self.ca, "cert": self.cert, "key": self.key}
        files = {name: located(path, site, data) for name, path in given.items() if path is not None}
        return Contexts(
            files, lambda: client_context(files.get("ca"), files.get("cert"), files.get("key"), self.verify), data
        )


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
