"""``site.yaml``: listeners, API keys, folders, and whatever else differs between two sites that run the same channels.

Members that the engine does not know are the site's own: every channel reads them as ``$site.name``. They are plain
values in any nesting. Loading and its problems are in ``site.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from engine.tls_settings import ServerTlsKey
from engine.units import Duration, Size, parse_duration, parse_size

#: Members that never reach ``$site``: they hold secrets, or names of secrets.
PRIVATE = frozenset({"api_keys", "secrets"})

_ENVIRONMENT_NAME = r"^[A-Z_][A-Z0-9_]*$"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RestSettings(_Settings):
    """The listener that the ``rest`` sources of a site share."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    tls: ServerTlsKey = None
    max_connections: int = Field(default=1024, gt=0)
    max_connections_per_address: int = Field(default=256, gt=0)
    #: Bytes of the bodies of all requests that have not been answered.
    max_memory: Size = 256 * 1024 * 1024


class AdminSettings(_Settings):
    """The admin API and the dashboard."""

    host: str = "127.0.0.1"
    port: int = Field(default=8090, ge=0, le=65535)
    tls: ServerTlsKey = None


class CertificateSettings(_Settings):
    """How long before its end a certificate is told."""

    warn: Duration = 30 * 86400.0


class ApiKey(_Settings):
    """One caller of REST channels."""

    key: SecretStr = Field(min_length=1)
    #: The channels that it may call.
    channels: list[str] = Field(default_factory=list)


class StoreSettings(_Settings):
    """Where the store lies, and under which keys."""

    #: Relative to the site; ``--data`` overrides it.
    path: Path = Path("data")
    #: Bodies, answers and origins are encrypted at rest.
    encrypt: bool = True
    #: Whether a process of its own writes while there is much to write; None: where the machine has two cores or more.
    writing_process: bool | None = None
    #: The ring of store keys, relative to the site; None is the variable ``HL7ENGINE_STORE_KEY``.
    key_file: Path | None = None


class DiskSettings(_Settings):
    """How much of the disk must be free before people are warned; the larger of the two counts, 0 is never."""

    warn_below: Annotated[int, BeforeValidator(parse_size), Field(ge=0)] = 1024**3
    #: Of the whole file system.
    warn_below_percent: float = Field(default=10, ge=0, le=100)


class AuditSettings(_Settings):
    """The audit trail."""

    #: How long an entry is kept.
    keep: Annotated[Duration, Field(ge=86400)] = 2555 * 86400.0


def _kept(value: object) -> float | None:
    if value is None or value == "never":
        return None
    try:
        return parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or never") from None


Kept = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_kept)]


class _Finished(_Settings):
    """Words for what is finished → seconds. Never removed: None."""

    delivered: Kept = None
    filtered: Kept = None
    failed: Kept = None
    refused: Kept = None


class Bodies(_Finished):
    """``retention.bodies``: how long contents are kept, where they go earlier than their messages."""


def _for_each(value: object) -> object:
    """One time stands for all words."""
    return value if isinstance(value, dict | Bodies) else dict.fromkeys(Bodies.model_fields, _kept(value))


class Retention(_Finished):
    """``retention:`` of a channel, or of the site for all: how long finished messages are kept."""

    bodies: Annotated[Bodies, BeforeValidator(_for_each)] = Bodies()

    @property
    def words(self) -> dict[str, float | None]:
        """What is said here about messages: word → seconds, None for never."""
        return self.model_dump(exclude={"bodies"}, exclude_unset=True)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError("no time zone of that name; expected a name such as America/Chicago or UTC") from None
    return name


class SiteSettings(BaseModel):
    """``site.yaml``, ``${VAR}`` filled in."""

    model_config = ConfigDict(extra="allow", frozen=True)

    rest: RestSettings = RestSettings()
    admin: AdminSettings = AdminSettings()
    #: Name of the caller → its key and what it may call. Empty lets nobody in.
    api_keys: dict[str, ApiKey] = Field(default_factory=dict)
    store: StoreSettings = StoreSettings()
    audit: AuditSettings = AuditSettings()
    certificates: CertificateSettings = CertificateSettings()
    disk: DiskSettings = DiskSettings()
    #: What channels say themselves wins, word by word.
    retention: Retention = Retention()
    #: Where messages name their patients, for channels that do not say it.
    patients: list[str] = Field(default=["PID-3.1", "MRG-1.1"])
    #: Zone of times that carry none; None is the host's.
    timezone: Annotated[str, AfterValidator(_zone)] | None = None
    #: A file of ``transforms/`` that says which values the site's own members may have (``words.py``).
    words: str | None = None
    #: Environment names that are generated into ``.env`` at first run.
    secrets: list[Annotated[str, Field(pattern=_ENVIRONMENT_NAME)]] = Field(default_factory=list)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """The engine's own members: what a site adds may come from the environment and be secret."""
        return [(name, getattr(self, name)) for name in type(self).model_fields]
