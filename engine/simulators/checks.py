"""What every strict partner asks of a message before it looks at the content: header, order of segments, required
fields, data types, tables. Each check raises `Refused` with the condition of table 0357 and the place (systems.md D.5).

What a field means to the RIS or to an EMR is checked in `queries.py`, `booking.py` and `emr.py`.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, tzinfo

from engine.simulators.answers import Refused, at, words
from engine.simulators.structure import is_ordered
from engine.simulators.wire import TIME, Message, at_least, read_time

#: Before 2.7 MSH-10 has 20 characters (systems.md C.1).
CONTROL_ID_LENGTH = 20
MODALITIES = ("CR", "DX", "US", "MG", "CT", "MR", "PT", "NM", "RF", "XA")


def refuse(condition: int, path: str, text: str = "", code: str = "", reason: str = "") -> Refused:
    """An AE with this condition at this field."""
    return Refused("AE", condition, at(path), text or f"{words(condition)}: {path}", code, reason)


def require(message: Message, *paths: str) -> None:
    for path in paths:
        if not message.text(path):
            raise refuse(101, path)


def require_one_of(message: Message, path: str, allowed: Collection[str]) -> str:
    """The value, which must be in the table. An empty field is a missing one."""
    require(message, path)
    value = message.text(path)
    if value not in allowed:
        raise refuse(103, path)
    return value


def require_time(message: Message, path: str, zone: tzinfo, *, seconds: bool = True) -> datetime:
    """The time at `path`. Below 2.5 this site writes no offset, from 2.5 it always does; a message must do the same."""
    require(message, path)
    text = message.text(path)
    match = TIME.fullmatch(text)
    has_offset = bool(match and match.group(2))
    if match is None or has_offset != at_least(message.version, "2.5") or (seconds and len(match.group(1)) != 14):
        raise refuse(102, path)
    try:
        return read_time(text, zone)
    except ValueError:
        raise refuse(102, path) from None


def check_date(message: Message, path: str) -> None:
    """A date of eight digits, where there is one."""
    text = message.text(path)
    try:
        if text and (len(text) != 8 or not text.isdigit() or not datetime.strptime(text, "%Y%m%d")):
            raise refuse(102, path)
    except ValueError:
        raise refuse(102, path) from None


def check_envelope(message: Message, versions: Collection[str], kinds: Iterable[str]) -> None:
    """What rejects a message as a whole: version, type, event, processing id. Raises AR."""
    if message.version not in versions:
        raise Refused("AR", 203, "MSH^1^12")
    known = set(kinds)
    if message.kind not in known:
        same_type = any(kind.split("^")[0] == message.text("MSH-9.1") for kind in known)
        condition = 201 if same_type else 200
        raise Refused("AR", condition, "MSH^1^9")
    if message.text("MSH-11") != "P":
        raise Refused("AR", 202, "MSH^1^11")


def check_header(message: Message, structure: str | None) -> None:
    """MSH fields that every message needs, MSH-9.3 (None: must be absent) and the order of the segments."""
    require(message, "MSH-3", "MSH-4", "MSH-5", "MSH-6", "MSH-7", "MSH-10")
    if len(message.control_id) > CONTROL_ID_LENGTH:
        raise refuse(102, "MSH-10")
    if message.undecodable:
        raise refuse(102, "MSH-18")
    for path in ("MSH-15", "MSH-16"):
        if message.text(path) not in ("", "AL", "NE", "ER", "SU"):
            raise refuse(103, path)
    if message.text("MSH-9.3") != (structure or ""):
        raise refuse(102 if structure is None else 103, "MSH-9")
    if not is_ordered(message):
        raise Refused("AE", 100, "MSH^1^9", words(100))
