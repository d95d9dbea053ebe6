"""Times in HL7 text, ISO 8601 and back: one ``Moment`` per time, with the precision it was given in.

Rule V6 of the version rules lives here: local time of a zone, seconds or minutes, with or without offset. A digit or
an offset that the input lacked is computed from a zone or left out, never made up. No clock: who needs the present time
takes it from the Context. HL7 v2.5.1 §2.A.77 (TS).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.remembered import remembered
from engine.values import dataclass

_HL7 = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:\.\d{1,6})?([+-]\d{4})?", re.ASCII)
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d(?:(?P<time>[T ]\d\d:\d\d)(?P<seconds>:\d\d)?(?:\.\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII
)
#: Fourteen digits. ``strftime`` takes three times as long: it asks the zone for much that is not written.
_DIGITS = "%04d%02d%02d%02d%02d%02d"
#: Characters of a time. What partners write is remembered up to here: no text of theirs can fill the memory.
LONGEST = 32


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """A time and how much of it is known."""

    #: Aware; in the zone it was read in.
    at: datetime
    #: Digits of HL7 text that are known: 4, 6 or 8 (no time of day), 10, 12 or 14.
    digits: int = 14

    def plus(self, minutes: int) -> Moment:
        """``minutes`` later, known as exactly."""
        return Moment(self.at + timedelta(minutes=minutes), self.digits)

    def minutes_until(self, later: Moment) -> int:
        """Whole minutes from this moment to ``later``."""
        return int((later.at - self.at).total_seconds() // 60)

    def iso(self, zone: tzinfo | None = None) -> str:
        """ISO 8601: with offset, in ``zone``; a date stays a date."""
        if self.digits < 10:
            return self.at.date().isoformat()
        return (self.at.astimezone(zone) if zone else self.at).isoformat(timespec="seconds")

    def day(self, zone: tzinfo | None = None) -> date:
        """The calendar day in ``zone``."""
        return (self.at.astimezone(zone) if zone and self.digits >= 10 else self.at).date()

    def forms(self) -> tuple[str, ...]:
        """The ways a JSON caller may have written this time: with the zone's offset, in UTC, without seconds."""
        utc = self.at.astimezone(UTC).isoformat(timespec="seconds")
        full = (self.iso(), utc, utc.replace("+00:00", "Z"))
        if self.digits < 10 or self.at.second:
            return tuple(dict.fromkeys(full))
        return tuple(dict.fromkeys((*full, *(text[:16] + text[19:] for text in full))))


def read_moment(text: str, zone: tzinfo) -> Moment | None:
    """The moment that HL7 or ISO 8601 text names; ``zone`` where it has no offset. None when it is no time."""
    return _read(text, zone) if len(text) <= LONGEST else None


@lru_cache(maxsize=4096)
def _read(text: str, zone: tzinfo) -> Moment | None:
    try:
        if found := _HL7.fullmatch(text):
            return _from_hl7(found, zone)
        if found := _ISO.fullmatch(text):
            at = datetime.fromisoformat(text)
            digits = 8 if found["time"] is None else 14 if found["seconds"] else 12
            return Moment(at if at.tzinfo else at.replace(tzinfo=zone), digits)
    except ValueError:
        # The 31st of February: it has the form of a time and is none.
        return None
    return None


def _from_hl7(found: re.Match[str], zone: tzinfo) -> Moment:
    year, month, day, hour, minute, second, offset = found.groups()
    used: tzinfo = zone
    at = datetime(int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0))
    if offset and hour:
        # An offset that the text has says which moment it is; the zone says how it is written.
        at = datetime.strptime(at.strftime("%Y%m%d%H%M%S") + offset, "%Y%m%d%H%M%S%z").astimezone(used)
    else:
        at = at.replace(tzinfo=used)
    return Moment(at, 2 + 2 * sum(part is not None for part in (year, month, day, hour, minute, second)))


@lru_cache(maxsize=4096)
def hl7_time(moment: Moment, minutes_only: bool, offset: bool, zone: tzinfo | None) -> str:
    """HL7 text of ``moment`` in ``zone`` (None: the zone it is in). A date has neither zone nor offset."""
    digits = min(moment.digits, 12) if minutes_only else moment.digits
    if digits < 10:
        return moment.at.strftime("%Y%m%d")[:digits]
    return written(moment.at.astimezone(zone) if zone else moment.at, digits, offset=offset)


def written(at: datetime, digits: int, *, offset: bool) -> str:
    """HL7 text of a time, as it is in its zone."""
    text = _DIGITS % (at.year, at.month, at.day, at.hour, at.minute, at.second)
    return text[:digits] + at.strftime("%z")[:5] if offset else text[:digits]


@lru_cache(maxsize=512)
def day_start(day: date, zone: tzinfo) -> Moment:
    """The first second of a calendar day in ``zone``."""
    return Moment(datetime.combine(day, time(0, 0, 0), zone))


@lru_cache(maxsize=512)
def day_end(day: date, zone: tzinfo) -> Moment:
    """The last second of a calendar day in ``zone``."""
    return Moment(datetime.combine(day, time(23, 59, 59), zone))


@remembered(512)
def zone_named(name: str) -> tzinfo | None:
    """The time zone of that name (``America/Chicago``); None when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # OSError: a name that is a folder of the zone database.
        return None
