"""When the certificates, authorities and revocation lists of a site end: for `hl7engine check` and for the daily look.

A certificate that has ended stops no channel: partners that do not look at it go on, those that do refuse it by
themselves. So it is told, as loudly as can be, and left to people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine.config.plan import SitePlan
from engine.errors import Problem
from engine.tls_settings import Contexts, Ending

#: A list of what was revoked is made anew every few days; one that has ended lets nobody in.
LIST_ENDS_SOON = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Watched:
    """One file, where it is used."""

    #: The YAML file, and the key in it.
    file: str
    key: str
    #: Channel and destination; "" where there is none.
    channel: str
    destination: str
    ending: Ending

    def days(self, now: datetime) -> int:
        """Whole days until the end; negative once it has ended."""
        return (self.ending.at - now).days


def watched(plan: SitePlan) -> Iterator[Watched]:
    """Every file of `tls:` whose end is known."""
    for name in ("rest", "admin"):
        tls = getattr(plan.settings, name).tls
        contexts = tls.contexts(plan.folder, plan.data) if tls is not None else None
        yield from _of("site.yaml", f"{name}.tls", "", "", contexts)
    for channel in plan.channels.values():
        yield from _of(channel.file, "source.tls", channel.name, "", channel.source.contexts)
        for item in channel.outlets:
            yield from _of(channel.file, f"{item.name}.tls", channel.name, item.name, item.to.contexts)


def _of(file: str, key: str, channel: str, destination: str, contexts: Contexts | None) -> Iterator[Watched]:
    for ending in contexts.endings() if contexts is not None else ():
        yield Watched(file, f"{key}.{ending.key}", channel, destination, ending)


def ending_soon(plan: SitePlan, now: datetime) -> list[Watched]:
    """What ends soon, or has ended."""
    warn = timedelta(seconds=plan.settings.certificates.warn)
    soon = {"crl": LIST_ENDS_SOON}
    return [item for item in watched(plan) if item.ending.at - now < soon.get(item.ending.key, warn)]


def problems(plan: SitePlan, now: datetime) -> tuple[Problem, ...]:
    """The same for `hl7engine check`: a note for what ends soon, an error for what has ended."""
    return tuple(_problem(item, now) for item in ending_soon(plan, now))


def _problem(item: Watched, now: datetime) -> Problem:
    name, day, days = item.ending.path.name, item.ending.at.date().isoformat(), item.days(now)
    if days < 0:
        return Problem(item.file, 0, item.key, f"{name} has ended on {day}", "a file that is valid")
    return Problem(item.file, 0, item.key, f"{name} ends on {day}, in {days} days", level="note")
