"""What a value is while it travels through steps: data, HL7 text, a time, a row.

Data is what people mean and is escaped when it is written into a message. ``HL7Text`` stands as it is, because it was
copied from a message or written by an admin; inside the engine it always has the usual delimiters ``|^~\\&``.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from engine.errors import StepFailed
from engine.hl7.escape import escape, unescape
from engine.hl7.segment import NULL
from engine.hl7.separators import Separators
from engine.transforms.values.times import Moment

_DEFAULT = Separators.default
_BEYOND = frozenset("|\r\n")
_ESCAPED = {ord(character): _DEFAULT.escapes[ord(character)] for character in _BEYOND}


#: Types whose values JSON has as they are.
_AS_JSON = frozenset({str, int, float, bool, type(None)})
_NAMES = frozenset({str})


class HL7Text(str):
    """Text that is HL7 already: written as it stands, unescaped when data is wanted."""

    __slots__ = ()

    def component(self, number: int) -> HL7Text:
        """Component ``number`` of the first repetition; empty when it has none."""
        parts = self.partition("~")[0].split("^")
        return HL7Text(parts[number - 1]) if 0 < number <= len(parts) else HL7Text()


def is_empty(value: Any) -> bool:
    """Whether there is nothing here: absent, empty, HL7 null, an empty list."""
    return value is None or value == "" or value == NULL or value == []


def as_hl7(value: Any) -> str:
    """HL7 text of any value but a time (which needs to know how times are written); a list becomes repetitions.

    No text can leave its field: what an admin wrote or kept may have components, but ``|`` and line ends are escaped.
    """
    if type(value) is str:
        return value if value.isalnum() else escape(value, _DEFAULT)
    if isinstance(value, HL7Text):
        return value if _BEYOND.isdisjoint(value) else value.translate(_ESCAPED)
    if isinstance(value, str):
        return escape(value, _DEFAULT)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "Y" if value else "N"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list):
        return "~".join(as_hl7(item) for item in value)
    raise StepFailed("value", "not_text", type(value).__name__)


def as_data(value: Any) -> str:
    """A value as text that code compares and looks up; of a list the first that is not empty."""
    if type(value) is str:
        return value
    if isinstance(value, HL7Text):
        return "" if value == NULL else unescape(value, _DEFAULT) if "\\" in value else str(value)
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, Moment):
        return value.iso()
    if isinstance(value, list):
        return next((text for text in map(as_data, value) if text), "")
    raise StepFailed("value", "not_text", type(value).__name__)


def as_json(value: Any) -> Any:
    """A value as JSON has it: HL7 text unescaped, a time in ISO 8601, nothing as null."""
    if type(value) in _AS_JSON:
        return value
    if isinstance(value, dict):
        if _AS_JSON.issuperset(map(type, value.values())) and _NAMES.issuperset(map(type, value)):
            return dict(value)
        return {
            name if type(name) is str else str(name): member if type(member) in _AS_JSON else as_json(member)
            for name, member in value.items()
        }
    if isinstance(value, HL7Text):
        return as_data(value) or None
    if isinstance(value, Moment):
        return value.iso()
    if isinstance(value, (list, tuple)):
        return [item if type(item) in _AS_JSON else as_json(item) for item in value]
    return value


def near(word: str, words: Any) -> str:
    """The nearest valid word, or ""."""
    found = get_close_matches(str(word), [str(known) for known in words], 1, 0.5)
    return found[0] if found else ""
