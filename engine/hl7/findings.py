"""What a validation tells: findings, the checks they come from, and how much an admin minds each check.

A finding names a place and what was expected there, never what stands there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

__all__ = ["LENIENT", "PRESETS", "STRICT", "Check", "Finding", "Level", "Levels", "times"]


class Check(StrEnum):
    """What is looked at; each has a level of its own."""

    #: Segments and groups are all there, in order, and of this structure; MSH-9 and MSH-12 name one that is known.
    STRUCTURE = "structure"
    #: Segments, groups and fields stand no more often than they may.
    CARDINALITY = "cardinality"
    #: Required fields and components are filled.
    REQUIRED = "required"
    #: Fields, components and subcomponents that the standard does not have.
    EXTRA = "extra"
    #: Fields and components that the version has given up.
    WITHDRAWN = "withdrawn"
    #: Numbers, dates and times are written as their data type wants.
    DATATYPES = "datatypes"
    #: No more characters than the standard publishes.
    LENGTHS = "lengths"
    #: Codes of HL7-defined tables.
    TABLES = "tables"
    #: Codes of user-defined tables, for which the standard only suggests values.
    USER_TABLES = "user_tables"
    #: What a conformance profile wants beyond the standard.
    PROFILE = "profile"


class Level(StrEnum):
    """How much a finding matters."""

    IGNORE = "ignore"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Levels:
    """The level of each check. The defaults find what breaks receivers and only warn of what most of them take."""

    structure: Level = Level.ERROR
    cardinality: Level = Level.ERROR
    required: Level = Level.ERROR
    extra: Level = Level.WARN
    withdrawn: Level = Level.WARN
    datatypes: Level = Level.ERROR
    lengths: Level = Level.WARN
    tables: Level = Level.WARN
    user_tables: Level = Level.IGNORE
    profile: Level = Level.ERROR

    def of(self, check: Check) -> Level:
        """The level of one check."""
        level: Level = getattr(self, check.value)
        return level

    @classmethod
    def all(cls, level: Level) -> Levels:
        """Every check on the same level."""
        return cls(**{field.name: level for field in fields(cls)})


#: Everything is an error but suggested values and published lengths, which real messages pass over all the time.
STRICT = Levels(extra=Level.ERROR, withdrawn=Level.ERROR, tables=Level.ERROR)
#: Everything is told and nothing is an error.
LENIENT = Levels.all(Level.WARN)
#: What an admin calls them.
PRESETS = {"default": Levels(), "strict": STRICT, "lenient": LENIENT}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    level: Level
    check: Check
    #: Where: ``SCH-6``, ``OBX[2]-5``, ``PID-3[2].5``, or a segment, ``PV1[2]``.
    path: str
    #: Which segment of the message it is or stands before, counted from 1, as an editor counts lines.
    line: int
    #: What is wrong, in words, without anything of the message's content.
    problem: str
    #: What was expected; "" when the problem says it.
    expected: str
    #: Where that is written: ``HL7 2.5.1 SIU_S12``, ``HL7 2.5.1 table 0206``, ``profile epic``.
    source: str

    def __str__(self) -> str:
        expected = f"; expected {self.expected}" if self.expected else ""
        return f"{self.path}: {self.problem}{expected} ({self.source})"


def times(number: int) -> str:
    """How often something stands there, for people."""
    return "once" if number == 1 else f"{number} times"
