"""The forms of HL7's plain data types: what a number, a date and a time look like on the wire.

HL7 v2.5.1 chapter 2.A; earlier versions write them the same way. Only forms are checked, and that a date exists.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable

__all__ = ["FORMS", "is_well_formed"]

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_SEQUENCE = re.compile(r"[0-9]+")
_DATE = re.compile(r"([0-9]{4})(?:([0-9]{2})([0-9]{2})?)?")
_CLOCK = r"([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:\.[0-9]{1,4})?)?)?"
_ZONE = r"(?:[+-]([0-9]{2})([0-9]{2}))?"
_TIME = re.compile(_CLOCK + _ZONE)
_MOMENT = re.compile(rf"([0-9]{{4}})(?:([0-9]{{2}})(?:([0-9]{{2}})(?:{_CLOCK})?)?)?{_ZONE}")


def _is_date(year: str, month: str | None, day: str | None) -> bool:
    if month is None:
        return True
    number = int(month)
    if not 1 <= number <= 12:
        return False
    # Year 0 is none that a calendar knows; it has the days of a leap year.
    return day is None or 1 <= int(day) <= calendar.monthrange(int(year) or 2000, number)[1]


def _is_clock(hour: str | None, minute: str | None, second: str | None, *zone: str | None) -> bool:
    east, minutes = zone
    return (
        int(hour or 0) < 24
        and int(minute or 0) < 60
        and int(second or 0) < 60
        and int(minutes or 0) < 60
        and (int(east or 0) < 24)
    )


def _date(text: str) -> bool:
    found = _DATE.fullmatch(text)
    return found is not None and _is_date(*found.groups())


def _time(text: str) -> bool:
    found = _TIME.fullmatch(text)
    return found is not None and _is_clock(*found.groups())


def _moment(text: str) -> bool:
    found = _MOMENT.fullmatch(text)
    return found is not None and _is_date(*found.groups()[:3]) and _is_clock(*found.groups()[3:])


#: Data type → whether a text has its form, and how the form is written.
FORMS: dict[str, tuple[Callable[[str], object], str]] = {
    "NM": (_NUMBER.fullmatch, "a number"),
    "SI": (_SEQUENCE.fullmatch, "digits"),
    "DT": (_date, "a date, YYYY[MM[DD]]"),
    "TM": (_time, "a time, HH[MM[SS[.S[S[S[S]]]]]][+/-ZZZZ]"),
    "DTM": (_moment, "a date and time, YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]"),
}


def is_well_formed(datatype: str, text: str) -> bool:
    """Whether ``text`` has the form of a plain data type; always for types that take any text."""
    form = FORMS.get(datatype)
    return form is None or bool(form[0](text))
