"""``format:`` of a value: times in HL7 and ISO 8601, days, telephone numbers, plain text.

A time without an offset is read in ``zone:``, else in the zone of the build, else in the site's (``timezone``), else in
that of the engine's host.
What should be a time and is none fails the step with cause ``not_a_time``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any

from engine.errors import StepFailed
from engine.hl7.escape import NULL
from engine.hl7.path import Path
from engine.transforms.values.phones import e164
from engine.transforms.values.readers import ROOTS, Read, Value, Variable
from engine.transforms.values.scope import Scope
from engine.transforms.values.text import HL7Text, as_data, as_hl7, is_empty
from engine.transforms.values.times import LONGEST, Moment, day_end, day_start, hl7_time, read_moment, zone_named

_TIME: dict[str, Callable[[Moment, tzinfo], Any]] = {
    "timestamp": lambda moment, zone: moment,
    "day_start": lambda moment, zone: day_start(moment.day(zone), zone),
    "day_end": lambda moment, zone: day_end(moment.day(zone), zone),
    "day": lambda moment, zone: Moment(day_start(moment.day(zone), zone).at, 8),
    "date": lambda moment, zone: moment.day(zone).isoformat(),
    "iso": lambda moment, zone: moment.iso(zone),
}
_TEXT: dict[str, Callable[[str, str], Any]] = {
    "e164": lambda text, country: e164(text, country),
    "digits": lambda text, _: "".join(character for character in text if character.isdigit()),
    "upper": lambda text, _: text.upper(),
    "lower": lambda text, _: text.lower(),
    "trim": lambda text, _: text.strip(),
    "ascii": lambda text, _: text.encode("ascii", "replace").decode(),
    "hl7": lambda text, _: HL7Text(text),
    "raw": lambda text, _: text,
}

#: timestamp: HL7 time · day_start, day_end: first and last second of the day · day: HL7 date · date, iso: ISO 8601 ·
#: e164: telephone number · digits, upper, lower, trim: text · ascii: what ASCII lacks is replaced by ? · raw: HL7 text
#: kept as it stands, as data · hl7: such data is HL7 text again
FORMATS = (*_TIME, *_TEXT)


#: Texts that are empty.
_NOTHING = frozenset({"", NULL})


@lru_cache(maxsize=4096)
def _written(text: str, word: str, zone: tzinfo, minutes_only: bool, offset: bool) -> str | None:
    """HL7 text of a time of ``zone`` in another form; None for what is no time. The same days come again and again."""
    moment = read_moment(as_data(text).partition("^")[0], zone)
    if moment is None:
        return None
    made = _TIME[word](moment, zone)
    return as_hl7(hl7_time(made, minutes_only, offset, zone) if isinstance(made, Moment) else made)


class Formatted(Value):
    """A value in another form; nothing stays nothing."""

    __slots__ = (
        "_country",
        "_form",
        "_kept",
        "_raw",
        "_read",
        "_site_zone",
        "_step",
        "_text",
        "_time_text",
        "_value",
        "_where",
        "_word",
        "_zone",
        "_zone_of",
        "flat",
    )

    def __init__(
        self,
        value: Value,
        word: str,
        *,
        zone: Value | None = None,
        site_zone: tzinfo | None = None,
        country: str = "1",
        step: str = "value",
        where: str = "",
    ) -> None:
        self._value, self._zone, self._site_zone = value, zone, site_zone
        self._country, self._step, self._where = country, step, where
        self._read = value.reader()
        self._zone_of = _no_zone if zone is None else self._zone_read_by(zone.reader())
        self._word, self._form = word, _TIME.get(word)
        self._text = _TEXT.get(word)
        self._raw = word == "raw"
        #: A time stays the very time that it is.
        self._kept = word == "timestamp"
        #: The present comes only once: its text is not remembered.
        is_present = isinstance(value, Variable) and value.root is ROOTS["now"]
        self._time_text = hl7_time.__wrapped__ if is_present else hl7_time
        self.flat = word != "hl7"

    def read(self, scope: Scope) -> Any:
        return self._formed(self._read(scope), scope)

    def _formed(self, value: Any, scope: Scope) -> Any:
        if type(value) is not Moment and is_empty(value):
            return value
        if self._text is not None:
            return self._text(str(value) if self._raw else as_data(value), self._country)
        return self._time(value, self._zone_of(scope), scope)

    def hl7(self, scope: Scope) -> str:
        value, times = self._read(scope), scope.times
        if type(value) is Moment:
            if self._kept and times is not None:
                return self._time_text(value, times.minutes_only, times.offset, self._zone_of(scope) or scope.zone)
        elif value is None:
            return ""
        elif type(value) is str and value not in _NOTHING:
            if self._text is not None:
                return as_hl7(self._text(value, self._country))
            if times is not None and len(value) <= LONGEST:
                zone = self._zone_of(scope)
                text = None if zone is None else _written(value, self._word, zone, times.minutes_only, times.offset)
                if text:
                    return text
        return self._text_of(value, scope)

    def _text_of(self, value: Any, scope: Scope) -> str:
        """HL7 text of any value, which ``hl7`` has of most."""
        if self._form is None:
            return as_hl7(self._formed(value, scope))
        if self._kept and type(value) is Moment:
            return scope.time(value, self._zone_of(scope))
        if is_empty(value):
            return as_hl7(value)
        zone = self._zone_of(scope)
        made = self._time(value, zone, scope)
        return scope.time(made, zone) if isinstance(made, Moment) else as_hl7(made)

    def paths(self) -> tuple[Path, ...]:
        return self._value.paths() if self._zone is None else self._value.paths() + self._zone.paths()

    def _time(self, value: Any, zone: tzinfo | None, scope: Scope) -> Any:
        assert self._form is not None  # noqa: S101 - a format is one of the two
        used = zone or scope.zone or self._site_zone or scope.host_zone()
        return self._form(self._moment(value, used), zone or self._own(value) or used)

    def _moment(self, value: Any, zone: tzinfo) -> Moment:
        if isinstance(value, Moment):
            return value
        if isinstance(value, datetime):
            return Moment(value if value.tzinfo else value.replace(tzinfo=zone))
        moment = read_moment(as_data(value).partition("^")[0], zone)
        if moment is None:
            raise StepFailed(self._step, "not_a_time", self._where)
        return moment

    def _own(self, value: Any) -> tzinfo | None:
        return value.at.tzinfo if isinstance(value, Moment) else None

    def _zone_read_by(self, read: Read) -> Callable[[Scope], tzinfo | None]:
        """What gives the zone whose name ``read`` reads; None where that is nothing."""

        def zone_of(scope: Scope) -> tzinfo | None:
            name = read(scope)
            zone = zone_named(name) if type(name) is str else None
            if zone is None and (name := as_data(name)):
                zone = zone_named(name)
                if zone is None:
                    raise StepFailed(self._step, "unknown_zone", self._where)
            return zone

        return zone_of


def _no_zone(_scope: Scope) -> None:
    """The zone of a value that names none."""
