"""The standard's tables: types, components, fields, code tables and structures, per version.

Read from ``standard/VERSION.json`` when that version is first asked for (some milliseconds); a segment's row is taken
apart when that segment is. Where the data comes from, and what was corrected in it, says ``standard/SOURCES.md``.
Versions that have no tables are read as the nearest older one (``versions.py``).
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from engine.hl7.versions import SUPPORTED_VERSIONS, nearest_version

__all__ = [
    "SUPPORTED_VERSIONS",
    "Part",
    "codes",
    "component_count",
    "components",
    "field_name",
    "field_type",
    "fields",
    "grammar",
    "known_type",
    "nearest_version",
    "required_components",
    "required_fields",
    "segments",
    "structures",
    "withdrawn",
]

# Free text: a delimiter in it is a sender's slip and not a component too many, so nothing may be counted.
_TEXT = frozenset({"FT", "TX", "varies", "var", "CM"})


@dataclass(frozen=True, slots=True)
class Part:
    """A field of a segment, or a component of a data type, as the standard defines it."""

    #: Data type, such as ``CX``; "" for a withdrawn one.
    type: str
    required: bool
    #: The version no longer has it.
    withdrawn: bool
    #: How often it may stand there; None is without limit.
    most: int | None
    #: In characters; 0 when none is published.
    length: int
    #: Of the code table, such as ``0276``; "" when it has none.
    table: str
    #: What the standard calls it, in lower case: ``patient name``.
    name: str


def field_type(version: str, segment: str, field: int) -> str | None:
    """The data type of a field, such as ``CX``; None when the version has no such field (any more)."""
    found = _field(version, segment, field)
    return None if found is None or found.withdrawn else found.type


def field_name(version: str, segment: str, field: int) -> str | None:
    """What the standard calls a field, in lower case: ``patient name``."""
    found = _field(version, segment, field)
    return None if found is None or found.name == "-" else found.name


def component_count(version: str, datatype: str) -> int | None:
    """How many components a data type has: 1 for a plain one; None for free text and for what is not known."""
    version = nearest_version(version)
    if datatype in _TEXT:
        return None
    if datatype in _load(version)["types"]:
        return len(components(version, datatype))
    return 1 if datatype in _plain_types(version) else None


@lru_cache(maxsize=1024)
def required_fields(version: str, segment: str) -> tuple[int, ...]:
    """The numbers of the fields that must be filled; empty for a segment that is not known."""
    return tuple(number for number, field in enumerate(fields(version, segment), 1) if field.required)


@lru_cache(maxsize=1024)
def required_components(version: str, datatype: str) -> tuple[int, ...]:
    """The numbers of the components that must be filled; empty for a type that is plain or not known."""
    return tuple(number for number, part in enumerate(components(version, datatype), 1) if part.required)


def withdrawn(version: str, segment: str, field: int) -> bool:
    """Whether an earlier version had this field and this one has given it up."""
    found = _field(version, segment, field)
    return found is not None and found.withdrawn


def structures(version: str) -> Mapping[str, str]:
    """Structure → as the standard writes it (``grammar.py``)."""
    found: Mapping[str, str] = _load(nearest_version(version))["structures"]
    return found


def grammar(version: str, structure: str) -> str | None:
    """A structure as the standard writes it; None when the version has none of that name."""
    return structures(version).get(structure)


def segments(version: str) -> tuple[str, ...]:
    """The names of all segments of a version."""
    return tuple(_load(nearest_version(version))["segments"])


def fields(version: str, segment: str) -> tuple[Part, ...]:
    """The fields of a segment by number, the first is number 1; empty for a segment that is not known."""
    return _parts(nearest_version(version), "segments", segment)


def components(version: str, datatype: str) -> tuple[Part, ...]:
    """The components of a composite data type; empty for a plain one and for one that is not known."""
    return _parts(nearest_version(version), "types", datatype)


def known_type(version: str, datatype: str) -> bool:
    """Whether the version has a data type of that name."""
    version = nearest_version(version)
    return datatype in _load(version)["types"] or datatype in _plain_types(version)


def codes(version: str, table: str) -> frozenset[str]:
    """The codes that the standard publishes for a table, such as ``0276``; empty when it does not list them all."""
    return _codes(nearest_version(version), table)


def _field(version: str, segment: str, field: int) -> Part | None:
    found = fields(version, segment)
    return found[field - 1] if 0 < field <= len(found) else None


@lru_cache(maxsize=len(SUPPORTED_VERSIONS))
def _load(version: str) -> dict[str, Any]:
    data = pkgutil.get_data("engine.hl7", f"standard/{version}.json")
    loaded: dict[str, Any] = json.loads(data or b"")
    return loaded


@lru_cache(maxsize=8192)
def _parts(version: str, section: str, name: str) -> tuple[Part, ...]:
    return tuple(_part(row) for row in _load(version)[section].get(name, ()))


def _part(row: str) -> Part:
    kind, usage, most, length, table, name = row.split(" ", 5)
    return Part(
        type="" if kind == "-" else kind,
        required=usage == "R",
        withdrawn=usage == "W",
        most=None if most == "*" else int(most),
        length=int(length),
        table="" if table == "-" else table,
        name=name,
    )


@lru_cache(maxsize=4096)
def _codes(version: str, table: str) -> frozenset[str]:
    listed = frozenset(_load(version)["tables"].get(table, ()))
    return frozenset() if any("..." in code or "…" in code for code in listed) else listed


@lru_cache(maxsize=len(SUPPORTED_VERSIONS))
def _plain_types(version: str) -> frozenset[str]:
    used = {row.partition(" ")[0] for rows in _load(version)["segments"].values() for row in rows}
    return frozenset(used - {"-", *_load(version)["types"]})
