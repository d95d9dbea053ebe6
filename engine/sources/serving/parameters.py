"""The declared query parameters of a `rest:` source: what each must look like, checked before anything is recorded.

Only declared names pass; unknown ones are ignored. A refusal names the parameter and never its value. Whether a value
exists (a location, an order) is for the channel's steps.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from engine.errors import Refused, SpecError
from engine.pattern import Pattern

_DAYS = re.compile(r"([+-]?\d{1,5})\s*d")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_ABSENT = ("",)

#: Days that are remembered to be valid.
_DAYS_KNOWN = 1024

#: No place on earth is further from UTC than these.
WEST, EAST = timedelta(hours=12), timedelta(hours=14)


def _bound(value: Any) -> int | date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if value == "today":
        return 0
    if isinstance(value, str):
        if match := _DAYS.fullmatch(value.strip()):
            return int(match.group(1))
        if _DATE.fullmatch(value):
            return date.fromisoformat(value)
    raise ValueError("expected today, days such as 180d or -7d, or a date such as 2027-01-31")


def _pattern(value: Any) -> Any:
    return Pattern(value) if isinstance(value, str) else value


#: Days from today, or a day.
Bound = Annotated[int | date, BeforeValidator(_bound, json_schema_input_type=str)]
#: Matched by RE2: a caller's value must not keep the engine busy.
PatternText = Annotated[Pattern, BeforeValidator(_pattern, json_schema_input_type=str)]


class Parameter(BaseModel):
    """One query parameter."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    required: bool = Field(False, description="A request without it, or with a blank one, is refused.")
    one_of: tuple[str, ...] = Field((), description="The values it may have.")
    format: Literal["date"] | None = Field(None, description="date: a calendar day, YYYY-MM-DD.")
    first: Bound | None = Field(None, alias="from", description="Earliest day: today, 7d, -30d or a date.")
    last: Bound | None = Field(None, alias="to", description="Latest day, written in the same way.")
    zone: str | None = Field(None, description="Time zone of today; without it every zone on earth is given its day.")
    pattern: PatternText | None = Field(None, description="Regular expression for the whole value.")
    max_length: int = Field(200, gt=0, description="Characters at most.")
    default: str | None = Field(None, description="Value when it is missing or blank.")
    error: str | None = Field(None, description="Code of the error table for a value that is not valid.")

    @property
    def code(self) -> str:
        """What a value that is not valid is answered with."""
        return self.error or ("invalid_date" if self.format == "date" else "invalid_parameter")


class Parameters:
    """The parameters of one route."""

    def __init__(self, declared: Mapping[str, Parameter], now: Callable[[], float] = time.time) -> None:
        """``now``: seconds since the epoch."""
        self.declared = declared
        self._checks = tuple((name, parameter, _check_of(parameter, now)) for name, parameter in declared.items())
        #: The same, with whether one may be left out.
        self._most = tuple(
            (name, not parameter.required and parameter.default is None, is_valid)
            for name, parameter, is_valid in self._checks
        )

    def compile(self) -> None:
        """Find what the model cannot see. Raises SpecError below the key ``query``."""
        for name, parameter, is_valid in self._checks:
            if parameter.format is None and (parameter.first is not None or parameter.last is not None):
                raise SpecError("from and to need format: date", at=("query", name, "format"), expected="date")
            if parameter.zone is not None:
                try:
                    ZoneInfo(parameter.zone)
                except (OSError, ValueError, KeyError):
                    raise SpecError(
                        f"there is no time zone {parameter.zone!r}",
                        at=("query", name, "zone"),
                        expected="a name such as America/Chicago",
                    ) from None
            if parameter.default is not None and not is_valid(parameter.default):
                raise SpecError("the default is not valid itself", at=("query", name, "default"))

    def check(self, query: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """The declared parameters of a request. Raises Refused."""
        found: dict[str, str] = {}
        given = query.get
        try:
            for name, is_left_out, is_valid in self._most:
                if (values := given(name)) is not None:
                    (value,) = values
                    if not value or value.isspace() or not is_valid(value):
                        break
                    found[name] = value
                elif not is_left_out:
                    break
            else:
                return found
        except ValueError:
            pass  # there are several of one name
        return self._one_by_one(query)

    def _one_by_one(self, query: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """The same with defaults, and with what is wrong."""
        found: dict[str, str] = {}
        for name, parameter, is_valid in self._checks:
            values = query.get(name, _ABSENT)
            if len(values) > 1:
                raise Refused("invalid_parameter", field=name)
            value = values[0]
            if value.strip():
                if not is_valid(value):
                    raise Refused(parameter.code, field=name)
                found[name] = value
            elif parameter.default is not None:
                found[name] = parameter.default
            elif parameter.required:
                raise Refused("missing_parameter", field=name)
        return found


def _check_of(parameter: Parameter, now: Callable[[], float]) -> Callable[[str], bool]:
    """Whether a value may stand for a parameter."""
    longest, pattern = parameter.max_length, parameter.pattern

    def is_text(value: str) -> bool:
        return len(value) <= longest and (value.isalnum() or _CONTROL.search(value) is None)

    def is_matched(value: str) -> bool:
        return is_text(value) and (pattern is None or bool(pattern.fullmatch(value)))

    check: Callable[[str], bool] = is_text if pattern is None else is_matched
    if parameter.one_of:
        check = frozenset(filter(check, parameter.one_of)).__contains__
    if parameter.format == "date":
        return _Days(parameter, now, check).__contains__
    return check


class _Days:
    """The days that a parameter may name.

    The first and the last of them are worked out each quarter of an hour: nowhere does a day begin within one.
    """

    def __init__(self, parameter: Parameter, now: Callable[[], float], check: Callable[[str], bool]) -> None:
        """``check``: what else a value must be."""
        self._parameter, self._now, self._check = parameter, now, check
        self._quarter, self._first, self._last = -1.0, "", ""
        #: Days of which it is known.
        self._known: set[str] = set()

    def __contains__(self, value: str) -> bool:
        quarter = self._now() // 900
        if quarter != self._quarter:
            self._quarter, (self._first, self._last) = quarter, self._range(datetime.fromtimestamp(900 * quarter, UTC))
            self._known.clear()
        return value in self._known or self._is_day(value)

    def _is_day(self, value: str) -> bool:
        if not self._first <= value <= self._last or not _DATE.fullmatch(value) or not self._check(value):
            return False
        try:
            date.fromisoformat(value)
        except ValueError:
            return False
        if len(self._known) < _DAYS_KNOWN:
            self._known.add(value)
        return True

    def _range(self, now: datetime) -> tuple[str, str]:
        parameter = self._parameter
        if parameter.zone is not None:
            earliest = latest = now.astimezone(ZoneInfo(parameter.zone)).date()
        else:
            # The zone of what is asked for is known only later: no day is refused that is valid somewhere.
            utc = now.astimezone(UTC)
            earliest, latest = (utc - WEST).date(), (utc + EAST).date()
        first, last = _resolve(parameter.first, earliest, date.min), _resolve(parameter.last, latest, date.max)
        return first.isoformat(), last.isoformat()


def _resolve(bound: int | date | None, today: date, absent: date) -> date:
    if bound is None:
        return absent
    return bound if isinstance(bound, date) else today + timedelta(days=bound)
