"""Messages made from hl7apy's own tables, for holding the engine's tables and matcher against them.

Nothing here reads the engine's tables: what is right is what hl7apy publishes, but for what it is known to have wrong
(``tools/standard/corrections.py``).
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from engine.hl7.structure import structure_of
from tools.standard import corrections
from tools.standard.make import SHARED, fields_of, is_choice, parts_of

#: Plain type → a value of it.
PLAIN = {"NM": "1", "SI": "1", "DT": "20260115", "TM": "0832", "DTM": "20260115083204", "TN": "(555)555-0100"}


@lru_cache
def tables(version: str, name: str) -> Any:
    return importlib.import_module(f"hl7apy.v{version.replace('.', '_')}.{name}")


@lru_cache
def structures(version: str) -> tuple[str, ...]:
    """The structures that hl7apy has right, and that an event is mapped to."""
    corrected = {name for versions, name, _, _ in corrections.STRUCTURES if version in versions}
    return tuple(
        name
        for name, entry in sorted(tables(version, "messages").MESSAGES.items())
        if name not in corrected and SHARED.get(name[:3], name) == name and not _has_any(entry)
        if structure_of(*event_of(name), version) == name and not name.endswith("nn")
    )


def event_of(structure: str) -> tuple[str, str]:
    """Message type and event."""
    kind, _, event = structure.partition("_")
    return kind, event


def _has_any(entry: Any) -> bool:
    return any(name == "ANYHL7SEGMENT" or (kind == "GRP" and _has_any(inner)) for name, inner, _, kind in entry[1])


def pattern(entry: Any) -> str:
    """The members of a message or group as a regular expression over ``NAME,``."""
    return "".join(map(_member, entry[1]))


def _member(member: Any) -> str:
    name, entry, (least, most), kind = member
    text = f"{name},"
    if kind == "GRP":
        text = "|".join(map(_member, entry[1])) if is_choice(entry) else pattern(entry)
    return f"(?:{text}){({(0, 1): '?', (0, -1): '*', (1, -1): '+', (1, 1): ''})[least, most]}"


def segments(entry: Any, chance: random.Random) -> Iterator[str]:
    """The segments of a message that keeps to the structure."""
    members = [chance.choice(entry[1])] if is_choice(entry) else entry[1]
    for name, inner, (least, most), kind in members:
        times = max(least, chance.choice((0, 0, 1, 1, 1, 2)) if most == -1 else chance.randint(least, 1))
        for _ in range(times):
            if kind == "GRP":
                yield from segments(inner, chance)
            else:
                yield name


def line(version: str, segment: str, chance: random.Random) -> str:
    """A segment with every required field filled, and some of the others."""
    made: dict[int, str] = {}
    for name, entry, (least, most), *_ in fields_of(tables(version, "segments").SEGMENTS[segment]):
        number = int(name.rpartition("_")[2])
        there = most != 0 and entry[2] not in ("WD", None) and not _withdrawn(version, segment, number)
        if there and (least or chance.random() < 0.2):
            made[number] = value(version, entry, chance)
    return "|".join([segment, *(made.get(number, "") for number in range(1, max(made, default=0) + 1))])


def _withdrawn(version: str, segment: str, number: int) -> bool:
    return any(
        version in versions and segment == name and number in numbers
        for versions, name, numbers in corrections.WITHDRAWN
    )


def value(version: str, entry: Any, chance: random.Random, depth: int = 0) -> str:
    """A field, component or subcomponent of its type, with a code of its table."""
    kind, table = entry[2], entry[4]
    if kind == "TS":
        return "20260115083204"
    parts = tables(version, "datatypes").DATATYPES_STRUCTS.get(kind)
    if parts and depth < 2:
        required = parts_of(version, "types", kind)
        used = [part[1][2] not in ("WD", None) for part in parts]
        made = [
            value(version, part[1], chance, depth + 1)
            if used[at] and (part[2][0] or at == used.index(True) or required.get(at + 1, ("",))[0].endswith("*"))
            else ""
            for at, part in enumerate(parts)
        ]
        return "^&"[depth].join(made).rstrip("^&"[depth])
    if kind in PLAIN:
        return PLAIN[kind]
    return _code(version, table) or "X"


def _code(version: str, table: str | None) -> str:
    try:
        known = tables(corrections.TABLES.get(version, version), "tables").TABLES.get(table, ("", ()))[1]
    except ImportError:
        return ""
    return next((code for code in known if not set(code) & set("|^~&\\ .…")), "")


def message(version: str, structure: str, chance: random.Random) -> str:
    """A whole message that keeps to its version."""
    kind, event = event_of(structure)
    names = list(segments(tables(version, "messages").MESSAGES[structure], chance))
    named = version not in ("2.1", "2.2", "2.3")
    type_field = f"{kind}^{event or 'A01'}^{structure}" if named else f"{kind}^{event}".rstrip("^")
    head = f"MSH|^~\\&|||||20260115083204||{type_field}|1|P|{version}"
    return "\r".join([head, *(line(version, name, chance) for name in names[1:]), ""])
