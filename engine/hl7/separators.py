"""The delimiters of one message: MSH-1 and MSH-2.

Read from the first bytes of a message and never assumed. What is escaped and how is derived from them here once, so
that ``escape.py`` has nothing to work out per value. HL7 v2.5.1 §2.5.4, and v2.7 §2.5.5 for the truncation character.
"""

from __future__ import annotations

import dataclasses
import re
from typing import ClassVar

from engine.errors import MalformedMessage

# Tab is plain text to every receiver; the other control characters may end a segment or a frame.
_CONTROLS = "".join(chr(number) for number in range(32) if number != 9)


@dataclasses.dataclass(frozen=True, slots=True)
class Separators:
    """The delimiters of one message. ``Separators.default`` is ``|^~\\&``, without a truncation character."""

    default: ClassVar[Separators]

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"
    #: From HL7 2.7 (usually ``#``); None before.
    truncation: str | None = None
    #: Character → what stands for it in HL7 text; for ``str.translate``.
    escapes: dict[int, str] = dataclasses.field(init=False, repr=False, compare=False)
    #: Letter of an escape sequence → what it stands for.
    meanings: dict[str, str] = dataclasses.field(init=False, repr=False, compare=False)
    #: Finds the first character that must be escaped.
    special: re.Pattern[str] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        meanings = {
            "F": self.field,
            "S": self.component,
            "T": self.subcomponent,
            "R": self.repetition,
            "E": self.escape,
        }
        if self.truncation:
            meanings["P"] = self.truncation
        escapes = {ord(character): f"{self.escape}X{ord(character):02X}{self.escape}" for character in _CONTROLS}
        if "." not in (*meanings.values(), self.truncation):
            escapes[ord("\n")] = f"{self.escape}.br{self.escape}"
        escapes |= {ord(character): f"{self.escape}{letter}{self.escape}" for letter, character in meanings.items()}
        special = re.compile("[" + re.escape("".join(map(chr, escapes))) + "]")
        for name, made in (("meanings", meanings), ("escapes", escapes), ("special", special)):
            object.__setattr__(self, name, made)

    @property
    def encoding_characters(self) -> str:
        """MSH-2."""
        return f"{self.component}{self.repetition}{self.escape}{self.subcomponent}{self.truncation or ''}"

    @property
    def characters(self) -> str:
        """MSH-1 and MSH-2: every delimiter."""
        return self.field + self.encoding_characters

    @classmethod
    def of(cls, text: str) -> Separators:
        """The delimiters of a message whose text begins with ``MSH``; MalformedMessage when they cannot be used."""
        end = text.find(text[3:4] or "|", 4, 10)
        # One character more than can be right is kept, so that too many are seen as such.
        declaration = text[3:end] if end > 0 else text[3:10]
        known = _KNOWN.get(declaration)
        if known is None:
            # The header may end right here; what stands in the next line declares nothing.
            known = _read(declaration.partition("\r")[0].partition("\n")[0])
            if len(_KNOWN) < 64:  # a peer chooses these characters, so the table must not grow with its fancies
                _KNOWN[declaration] = known
        return known


def _read(declaration: str) -> Separators:
    """``|^~\\&`` as written. Characters that MSH-2 leaves out (it may, at its end) are the usual ones."""
    if len(declaration) < 2:
        raise MalformedMessage("MSH-2 names no encoding characters", 4)
    if len(declaration) > 6:
        raise MalformedMessage("MSH-2 has more than five encoding characters", 4)
    if any(character.isalnum() or character <= " " or not character.isascii() for character in declaration):
        raise MalformedMessage("a letter, digit, blank or control character is used as a delimiter", 3)
    used = declaration + "|^~\\&"[len(declaration) :]
    if len(set(used)) != len(used):
        raise MalformedMessage("two delimiters are the same character", 3)
    return Separators(*used)


Separators.default = Separators()
# The usual delimiters are one object everywhere, so that `is` tells whether text needs translating.
_KNOWN: dict[str, Separators] = {"|^~\\&": Separators.default}
