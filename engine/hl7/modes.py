"""Original and enhanced mode: which acknowledgements MSH-15 and MSH-16 ask for. HL7 v2.5.1 §2.9.2, §2.9.3.

What they look like is in ``ack.py``.
"""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from engine.remembered import remembered
from engine.values import dataclass


class AcceptMode(StrEnum):
    """HL7 table 0155: when an acknowledgement is wanted."""

    AL = "AL"
    NE = "NE"
    ER = "ER"
    SU = "SU"

    def asks(self, positive: bool) -> bool:
        """Whether an acknowledgement of that outcome is wanted."""
        return self is AcceptMode.AL or self is (AcceptMode.SU if positive else AcceptMode.ER)


#: Modes of MSH-15 and MSH-16 under which silence is no answer: something comes, at least when all is well.
WAITED_FOR = (AcceptMode.AL, AcceptMode.SU)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which acknowledgements a message asks for, in MSH-15 and MSH-16."""

    accept: AcceptMode | None
    application: AcceptMode | None
    #: Whether the sender speaks enhanced mode: MSH-15 or MSH-16 is filled.
    enhanced: bool = field(init=False, compare=False, repr=False)
    #: Whether an application ack may come of it at all.
    answered: bool = field(init=False, compare=False, repr=False)
    #: Code of the last ack of a message that all goes well with: ``AA``, else ``CA``; empty where none is asked for.
    well: str = field(init=False, compare=False, repr=False)
    #: Whether the first answer decides, and one comes at least when all is well.
    answered_once: bool = field(init=False, compare=False, repr=False)
    #: Whether CA is to be sent, by whether the outcome is positive (else CE, CR). Never in original mode.
    accept_acks: tuple[bool, bool] = field(init=False, compare=False, repr=False)
    #: Whether AA is to be sent, by whether the outcome is positive (else AE, AR). Always in original mode.
    application_acks: tuple[bool, bool] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        enhanced = self.accept is not None or self.application is not None
        later = _asked(self.application) if enhanced else (True, True)
        object.__setattr__(self, "enhanced", enhanced)
        object.__setattr__(self, "answered", True in later)
        waited_for = self.accept in WAITED_FOR or self.application in WAITED_FOR
        once = not enhanced or (waited_for and self.application is not AcceptMode.AL)
        object.__setattr__(self, "answered_once", once)
        object.__setattr__(self, "accept_acks", _asked(self.accept))
        object.__setattr__(self, "application_acks", later)
        object.__setattr__(self, "well", "AA" if later[True] else "CA" if _asked(self.accept)[True] else "")

    def accept_ack(self, positive: bool) -> bool:
        """See ``accept_acks``."""
        return self.accept_acks[positive]

    def application_ack(self, positive: bool) -> bool:
        """See ``application_acks``."""
        return self.application_acks[positive]


def _asked(mode: AcceptMode | None) -> tuple[bool, bool]:
    """Whether one of a negative outcome is asked for, and one of a positive outcome."""
    return (False, False) if mode is None else (mode.asks(False), mode.asks(True))


#: Original mode: neither MSH-15 nor MSH-16 is filled.
ORIGINAL = Wanted(None, None)


@remembered(64)
def wanted_with(accept: str, application: str) -> Wanted:
    """What MSH-15 and MSH-16 ask for; a word that table 0155 does not have counts as nothing."""
    return Wanted(_mode(accept), _mode(application))


def _mode(word: str) -> AcceptMode | None:
    word = word.strip().upper()
    return AcceptMode(word) if word in AcceptMode.__members__ else None
