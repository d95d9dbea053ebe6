"""The audit trail's entries: who did what, and nothing of any patient.

An ``Audit`` is an operation of the store: it commits in the unit of the act that it records. Every member is an id, a
number, a digest or a name that a site's files define; texts that fit none of these patterns are refused, so that no
content can get in by accident. How entries are chained and checked is ``chain.py``'s.
"""

from __future__ import annotations

import ipaddress
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: Channels and destinations are called like this (``engine/config/models.py``).
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
#: A file of the site, or of a backup, relative to its folder.
FILE = re.compile(r"[^\x00-\x1f\x7f]{1,240}")
DIGEST = re.compile(r"[0-9a-f]{64}")
#: What a number counts: ``deliveries``, ``attempts``.
COUNTED = re.compile(r"[a-z][a-z0-9_]{0,31}")
WHO = re.compile(
    r"the engine|API key [\w .@?-]{1,64}|unknown|(?:local socket|command line), uid \d+(?: \([\w.@-]{1,64}\))?"
)


class Act(StrEnum):
    """What was done."""

    CONFIG_LOADED = "config.loaded"  # an engine runs the same files as before
    CONFIG_CHANGED = "config.changed"  # an engine runs other files than before, or its first: all are listed
    CHANNEL_STARTED = "channel.started"
    CHANNEL_STOPPED = "channel.stopped"
    CHANNEL_ASKED = "channel.asked"
    DESTINATION_PAUSED = "destination.paused"
    DESTINATION_RESUMED = "destination.resumed"
    MESSAGE_RESENT = "message.resent"
    DELIVERY_RESENT = "delivery.resent"
    DELIVERY_DISCARDED = "delivery.discarded"
    WAITING_DISCARDED = "waiting.discarded"  # all that waited for a destination, or in a channel without a file
    DESTINATION_RENAMED = "destination.renamed"  # `destination` is the one that what waited was given to
    BODIES_VIEWED = "bodies.viewed"
    PATIENT_SEARCHED = "patient.searched"  # that somebody searched and how much was found, never for whom
    LOGIN = "login"
    LOGIN_REFUSED = "login.refused"
    KEY_ROTATED = "key.rotated"
    BACKUP_BEGUN = "backup.begun"  # before the first byte is copied; how it ended is an entry of its own
    BACKUP_MADE = "backup.made"
    BACKUP_FAILED = "backup.failed"  # refused, or broken off: there is none
    BACKUP_RESTORED = "backup.restored"
    PRUNED = "pruned"
    AUDIT_PURGED = "audit.purged"


@dataclass(frozen=True, slots=True)
class Who:
    """Who acted. Made by the functions below; other texts are refused."""

    text: str

    def __post_init__(self) -> None:
        _must(WHO, self.text, "who")

    @classmethod
    def engine(cls) -> Who:
        """Nobody: the engine by itself, as its files say."""
        return cls("the engine")

    @classmethod
    def unknown(cls) -> Who:
        """Somebody without a valid key."""
        return cls("unknown")

    @classmethod
    def api_key(cls, name: str) -> Who:
        """The holder of an API key, by the name that the site gives it."""
        return cls("API key " + (re.sub(r"[^\w .@-]", "?", name)[:64].strip() or "?"))

    @classmethod
    def local(cls, uid: int) -> Who:
        """A user of this machine on the local socket."""
        return cls(f"local socket, uid {uid}{_user(uid)}")

    @classmethod
    def command(cls, uid: int) -> Who:
        """A user of this machine whose command works on the files themselves."""
        return cls(f"command line, uid {uid}{_user(uid)}")


@dataclass(frozen=True, slots=True)
class Audit:
    """One entry to be appended. ValueError for a member that is no id, number, digest or name."""

    act: Act
    who: Who
    #: Seconds since the epoch.
    at: float
    channel: str = ""
    destination: str = ""
    message_id: int | None = None
    delivery_id: int | None = None
    #: Address (without port) that a login came from.
    peer: str = ""
    #: The channels that the files make.
    channels: tuple[str, ...] = ()
    #: File → SHA-256 in hex; ``*`` is all of them together.
    files: Mapping[str, str] = field(default_factory=dict)
    #: Files that differ from the entry of this act before: changed, added, gone.
    changed: tuple[str, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in filter(None, (self.channel, self.destination, *self.channels)):
            _must(NAME, name, "channel or destination")
        for file in (*self.files, *self.changed):
            _must(FILE, file, "file")
        for digest in self.files.values():
            _must(DIGEST, digest, "digest")
        for counted, number in self.numbers.items():
            _must(COUNTED, counted, "number")
            if type(number) is not int:
                raise ValueError("a number of an audit entry is a whole one")
        if self.peer:
            ipaddress.ip_address(self.peer)

    def facts(self) -> dict[str, Any]:
        """The members that are stored as JSON; empty ones are left out."""
        facts: dict[str, Any] = {
            "changed": list(self.changed),
            "channels": list(self.channels),
            "destination": self.destination,
            "files": dict(self.files),
            "numbers": dict(self.numbers),
            "peer": self.peer,
        }
        return {name: fact for name, fact in facts.items() if fact}


@dataclass(frozen=True, slots=True)
class PurgeAudit:
    """Remove the oldest entries: those before ``before``, ``limit`` at most. The removal is an entry itself."""

    #: Seconds since the epoch.
    before: float
    at: float
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One entry of the trail."""

    entry_id: int
    at: float
    act: str
    who: str
    channel: str
    message_id: int | None
    delivery_id: int | None
    facts: Mapping[str, Any]
    #: SHA-256 over the entry before and this one.
    hash: str


@dataclass(frozen=True, slots=True)
class FindAudit:
    """A search over entries, newest first."""

    act: str | None = None
    who: str | None = None
    channel: str | None = None
    message_id: int | None = None
    since: float | None = None
    until: float | None = None
    before_id: int | None = None
    limit: int = 50


def _user(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
    return f" ({name})" if re.fullmatch(r"[\w.@-]{1,64}", name) else ""


def _must(pattern: re.Pattern[str], text: str, what: str) -> None:
    if not pattern.fullmatch(text):
        raise ValueError(f"an audit entry holds no such {what}")  # the text itself may be what must not get out
