"""Writes the audit trail of a running engine: what its people do, which files it runs, who was let in and who was not.

An act of a person is committed here before it is done (or, where it writes to the store itself, in the same unit: then
the act's own code submits the entry). Logins are noted and never waited for: a full disk must not lock out the person
who comes to mend it. They are bounded, too: attempts with wrong keys are counted, not listed.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from collections.abc import Mapping
from typing import Any

import structlog

from engine.errors import DoesNotFit, StoreError
from engine.promise import Promise
from engine.runtime.clock import Clock
from engine.store.audit import Act, Who
from engine.store.base import Audit, FindAudit, Store

log = structlog.get_logger("engine.audit")

#: Seconds before the entry of an engine's start is offered to the store again.
AGAIN = 1.0
#: Seconds in which attempts from one address are one entry, after the first.
WINDOW = 60.0
#: Addresses that are told apart in one window; more are counted together.
ADDRESSES = 32
#: Seconds in which logins of one person from one address are one entry.
SESSION = 3600.0
#: Callers whose last login is remembered.
SESSIONS = 256
#: In place of a file: the digest of all of them together.
ALL_FILES = "*"


class Auditor:
    """One engine's entries."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock
        self._sessions: dict[tuple[str, str], float] = {}
        self._attempts: dict[str, int] = {}
        self._window: asyncio.TimerHandle | None = None

    async def note(self, act: Act, who: Who, **facts: Any) -> None:
        """Commit an entry. Raises StoreError: then the act may not be done."""
        await self.store.submit(self.entry(act, who, **facts))

    def record(self, act: Act, who: Who, **facts: Any) -> None:
        """Append an entry that nothing waits for; one that is lost is told in the log."""
        future = self.store.submit(self.entry(act, who, **facts))
        future.add_done_callback(_lost)

    def entry(self, act: Act, who: Who, **facts: Any) -> Audit:
        """An entry to be submitted in the unit of its act."""
        return Audit(act, who, self.clock.time(), **facts)

    # -- the site's files ------------------------------------------------------------------------------------------

    async def begin(self, who: Who, files: Mapping[str, str], channels: tuple[str, ...]) -> None:
        """As ``config``, for an engine that starts: until the disk has taken it. Raises DoesNotFit."""
        told = False
        while True:
            try:
                await self.config(who, files, channels)
            except DoesNotFit:
                raise
            except StoreError as error:
                if not told:
                    log.error("engine.waits_for_the_disk", error=str(error), again_in=AGAIN)
                told = True
                await asyncio.sleep(AGAIN)
            else:
                return

    async def config(self, who: Who, files: Mapping[str, str], channels: tuple[str, ...]) -> None:
        """The engine runs these files from here on: all of them where they differ from what it ran before."""
        together = hashlib.sha256("".join(f"{file}\0{digest}\n" for file, digest in sorted(files.items())).encode())
        digest = {ALL_FILES: together.hexdigest()}
        last = self.store.audit_rows(FindAudit(act=Act.CONFIG_CHANGED, limit=1))
        before: dict[str, str] = dict(last[0].facts.get("files", {})) if last else {}
        if before.get(ALL_FILES) == digest[ALL_FILES]:
            await self.note(Act.CONFIG_LOADED, who, files=digest, channels=channels)
            return
        before.pop(ALL_FILES, None)
        changed = tuple(name for name in sorted({*files, *before}) if files.get(name) != before.get(name))
        await self.note(Act.CONFIG_CHANGED, who, files={**files, **digest}, changed=changed, channels=channels)

    # -- logins ----------------------------------------------------------------------------------------------------

    def admitted(self, who: Who, peer: str = "") -> None:
        """Somebody came in with a valid key, or over the local socket."""
        now, caller = self.clock.time(), (who.text, peer)
        if abs(now - self._sessions.pop(caller, float("-inf"))) >= SESSION:
            self.record(Act.LOGIN, who, peer=_address(peer))
            self._sessions[caller] = now
        else:
            self._sessions[caller] = now
        while len(self._sessions) > SESSIONS:
            del self._sessions[next(iter(self._sessions))]

    def refused(self, peer: str, who: Who | None = None, channel: str = "") -> None:
        """Somebody came with a wrong key, or with one that may not do this."""
        address = _address(peer)
        known = address if address in self._attempts or len(self._attempts) < ADDRESSES else ""
        first = known not in self._attempts
        self._attempts[known] = self._attempts.get(known, 0) + (0 if first else 1)
        if first:
            self.record(Act.LOGIN_REFUSED, who or Who.unknown(), peer=known, channel=channel)
        if self._window is None:
            self._window = asyncio.get_running_loop().call_later(WINDOW, self.end_window)

    def end_window(self) -> None:
        """Note how often those came again whose first attempt was noted."""
        if self._window is not None:
            self._window.cancel()
            self._window = None
        attempts, self._attempts = self._attempts, {}
        for address, number in attempts.items():
            if number:
                self.record(Act.LOGIN_REFUSED, Who.unknown(), peer=address, numbers={"more_attempts": number})


def _address(peer: str) -> str:
    """The address of ``peer`` without its port; empty for what is none."""
    for text in (peer, peer.rpartition(":")[0].strip("[]")):
        try:
            return str(ipaddress.ip_address(text.partition("%")[0]))
        except ValueError:
            continue
    return ""


def _lost(outcome: Promise[None]) -> None:
    if outcome.exception() is not None:
        log.error("audit.entry_lost")
