"""The standard's tables: types, components, required and withdrawn fields, segment order, per version.

A read-only view of the reference tables of hl7apy, loaded version by version when first asked (0.1 s and some 30 MB
each), with the corrections they need. Nothing of hl7apy's parser is used: it loses segments. Versions that have no
tables are read as the nearest older one (``versions.py``).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from engine.hl7.versions import SUPPORTED_VERSIONS, at_least, nearest_version

__all__ = [
    "SUPPORTED_VERSIONS",
    "component_count",
    "field_name",
    "field_type",
    "nearest_version",
    "required_fields",
    "structures",
    "withdrawn",
]

# Withdrawn with 2.7, though the tables still give some of them a type (HL7 v2.7 chapters 2, 3, 4 and 10).
_WITHDRAWN_2_7: Mapping[str, frozenset[int]] = {
    "ERR": frozenset({1}),
    "MSA": frozenset({3, 5, 6}),
    "OBR": frozenset({5, 6, 14, 15, 27}),
    "ORC": frozenset({7}),
    "PID": frozenset({2, 4, 9, 12, 19, 20}),
    "PV1": frozenset({52}),
    "SCH": frozenset({9, 10, 11}),
}
# Free text: a delimiter in it is a sender's slip and not a component too many, so nothing may be counted.
_TEXT = frozenset({"FT", "TX", "varies", "var", "CM"})
# 2.3 describes the master file query, but its tables lack it.
_BORROWED = {"2.3": ("2.3.1", ("MFQ_M01", "MFR_M01"))}


@dataclass(frozen=True, slots=True)
class _Field:
    type: str
    name: str
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class _Tables:
    segments: Mapping[str, Mapping[int, _Field]]
    components: Mapping[str, int]
    leaves: frozenset[str]
    structures: Mapping[str, tuple[str, ...]]


def field_type(version: str, segment: str, field: int) -> str | None:
    """The data type of a field, such as ``CX``; None when the version has no such field (any more)."""
    found = _tables(nearest_version(version)).segments.get(segment, {}).get(field)
    return None if found is None or found.type.upper() == "WD" else found.type


def field_name(version: str, segment: str, field: int) -> str | None:
    """What the standard calls a field, in lower case: ``patient name``."""
    found = _tables(nearest_version(version)).segments.get(segment, {}).get(field)
    return None if found is None else found.name.replace("_", " ").lower()


def component_count(version: str, datatype: str) -> int | None:
    """How many components a data type has: 1 for a plain one; None for free text and for what is not known."""
    tables = _tables(nearest_version(version))
    if datatype in _TEXT:
        return None
    return tables.components.get(datatype, 1 if datatype in tables.leaves else None)


@lru_cache(maxsize=1024)
def required_fields(version: str, segment: str) -> tuple[int, ...]:
    """The numbers of the fields that must be filled; empty for a segment that is not known."""
    fields = _tables(nearest_version(version)).segments.get(segment, {})
    return tuple(
        number for number, field in fields.items() if field.least > 0 and not withdrawn(version, segment, number)
    )


def withdrawn(version: str, segment: str, field: int) -> bool:
    """Whether an earlier version had this field and this one has given it up."""
    if at_least(version, "2.7") and field in _WITHDRAWN_2_7.get(segment, ()):
        return True
    fields = _tables(nearest_version(version)).segments.get(segment)
    if not fields:
        return False
    found = fields.get(field)
    if found is None:
        # Withdrawn fields leave a gap in the numbers from 2.6 on.
        return 0 < field < max(fields)
    return found.type.upper() == "WD" or found.most == 0


def structures(version: str) -> Mapping[str, tuple[str, ...]]:
    """Structure → its segment names, each once, in the order of their first place."""
    return _tables(nearest_version(version)).structures


@lru_cache(maxsize=len(SUPPORTED_VERSIONS))
def _tables(version: str) -> _Tables:
    package = f"hl7apy.v{version.replace('.', '_')}"
    raw_segments = importlib.import_module(f"{package}.segments").SEGMENTS
    raw_messages = importlib.import_module(f"{package}.messages").MESSAGES
    types = importlib.import_module(f"{package}.datatypes").DATATYPES_STRUCTS
    segments = {name: _fields(definition) for name, definition in raw_segments.items()}
    orders = {name: tuple(dict.fromkeys(_names(definition))) for name, definition in raw_messages.items()}
    if version in _BORROWED:
        later, names = _BORROWED[version]
        orders |= {name: _tables(later).structures[name] for name in names}
    used = {field.type for fields in segments.values() for field in fields.values()}
    return _Tables(segments, {name: len(parts) for name, parts in types.items()}, frozenset(used - set(types)), orders)


def _fields(definition: Sequence[Any]) -> dict[int, _Field]:
    """Fields by the number in their name; their place in the list is wrong where some were withdrawn."""
    fields = {}
    for entry in definition[1] if len(definition) > 1 and definition[0] == "sequence" else ():
        name, reference, (least, most), *_ = entry
        fields[int(name.rpartition("_")[2])] = _Field(reference[2] or "varies", reference[3] or "", least, most)
    return fields


def _names(definition: Sequence[Any]) -> list[str]:
    names: list[str] = []
    for name, reference, _, kind in definition[1]:
        names += _names(reference) if kind == "GRP" else [name]
    return names
