"""The data of one version: hl7apy's tables with hl7-dictionary's lengths, corrected.

A field or component is one text: ``TYPE USAGE MOST LENGTH TABLE name``. USAGE is R, O or W (withdrawn), MOST a number
or ``*``, LENGTH 0 when none is published, TABLE ``-`` when there is none. Structures are written as the standard writes
them, ``[ ]`` optional, ``{ }`` repeats, ``(NAME: …)`` a group and ``<NAME: …>`` a choice.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tools.standard import corrections

SOURCE = "hl7apy 1.3.5 (tables) and hl7-dictionary 1.0.1 (lengths), corrected by tools/standard/corrections.py"
LENGTHS = json.loads((Path(__file__).parent / "lengths.json").read_text(encoding="utf-8"))

#: Events that share one structure: the tables of 2.4 and later list them one by one.
SHARED = {"SIU": "SIU_S12", "SRM": "SRM_S01", "SRR": "SRR_S01", "SQM": "SQM_S25", "SQR": "SQR_S25", "ACK": "ACK"}
#: Segments of the tables that stand for any segment.
ANY = "ANYHL7SEGMENT"


def version_data(version: str) -> dict[str, Any]:
    """Everything of one version, in the order in which it is written."""
    source = SOURCE
    return {
        "source": source,
        "structures": structures(version),
        "segments": dict(segments(version)),
        "types": dict(types(version)),
        "tables": tables(version),
    }


# -- structures ----------------------------------------------------------------------------------------------------


def structures(version: str) -> dict[str, str]:
    """Structure → its grammar."""
    found = {name: grammar(name, entry) for name, entry in module(version, "messages").MESSAGES.items()}
    if version in corrections.BORROWED:
        later, names = corrections.BORROWED[version]
        found |= {name: grammar(name, module(later, "messages").MESSAGES[name]) for name in names}
    for versions, name, text, _ in corrections.STRUCTURES:
        if version in versions:
            changed(found.get(name), text, f"{version} {name}")
            found[name] = text
    return {name: text for name, text in sorted(found.items()) if SHARED.get(name.split("_")[0], name) == name}


def grammar(structure: str, entry: Sequence[Any]) -> str:
    """The members of a message or group."""
    return " ".join(member(structure, *parts) for parts in entry[1])


def member(structure: str, name: str, entry: Sequence[Any], cardinality: tuple[int, int], kind: str) -> str:
    """One segment or group with its brackets."""
    text = "*" if name == ANY else name
    if kind == "GRP":
        short = name.removeprefix(f"{structure}_")
        short = "CHOICE" if short.endswith("_SUPPGRP") else short
        text = (
            f"<{short}: {grammar(structure, entry)}>" if is_choice(entry) else f"({short}: {grammar(structure, entry)})"
        )
    # Any segment means one or more of them (HL7 v2.5.1 §2.12.1, Hxx and Zxx).
    least, most = (cardinality[0], -1) if name == ANY else cardinality
    if most not in (1, -1):
        raise ValueError(f"{structure}: {name} stands up to {most} times")
    text = text if most == 1 else f"{{{text}}}"
    text = f"[{text}]" if least == 0 else text
    return text.replace("[{", "{[").replace("}]", "]}") if text.startswith("[{") and text.endswith("}]") else text


def is_choice(entry: Sequence[Any]) -> bool:
    """Groups of EHC messages are called choices in the tables, yet some members are optional or repeat: sequences."""
    return bool(entry[0] == "choice" and all(parts[2] == (1, 1) for parts in entry[1]))


# -- fields and components -----------------------------------------------------------------------------------------


def segments(version: str) -> Iterator[tuple[str, list[str]]]:
    """Segment → a row per field, by number."""
    for name, entry in sorted(module(version, "segments").SEGMENTS.items()):
        if name == ANY or not fields_of(entry):
            continue
        published = parts_of(version, "segments", name)
        rows = {number_of(parts): row(parts, published, number_of(parts)) for parts in fields_of(entry)}
        yield name, corrected(version, name, without_gaps(rows))


def number_of(parts: Sequence[Any]) -> int:
    """The number in a name (``PID_3``, ``XTN_18``); places in the list are wrong where some are withdrawn."""
    return int(parts[0].rpartition("_")[2])


def without_gaps(rows: Mapping[int, str]) -> list[str]:
    """The rows from number 1 on; what is left out was withdrawn."""
    return [rows.get(number, "- W 0 0 - -") for number in range(1, max(rows, default=0) + 1)]


def fields_of(entry: Sequence[Any]) -> Sequence[Any]:
    """The fields of a segment; ORO of 2.1 stands in the tables without the word ``sequence`` before them."""
    if entry[0] != "sequence":
        return entry
    return entry[1] if len(entry) > 1 else ()


def types(version: str) -> Iterator[tuple[str, list[str]]]:
    """Composite type → a row per component."""
    for name, components in sorted(module(version, "datatypes").DATATYPES_STRUCTS.items()):
        published = parts_of(version, "types", name)
        rows = {number_of(parts): row(parts, published, number_of(parts)) for parts in components}
        yield name, edited(version, name, without_gaps(rows), corrections.COMPONENTS)


def row(parts: Sequence[Any], published: Mapping[int, tuple[str, int]], number: int) -> str:
    """One field or component."""
    _, reference, (least, most), *_ = parts
    kind = reference[2] or "varies"
    name = (reference[3] or "-").replace("_", " ").lower()
    table = (reference[4] or "-").removeprefix("HL7")
    if kind.upper() == "WD" or most == 0:
        return f"- W 0 0 - {name}"
    type_there, length = published.get(number, ("", 0))
    # Types of hl7apy that only it has: a range or quantity inside of another type.
    kind = kind.removesuffix("_SIMPLE")
    required = least or type_there.endswith("*")
    return f"{kind} {'R' if required else 'O'} {'*' if most == -1 else most} {length} {table} {name}"


def parts_of(version: str, section: str, name: str) -> dict[int, tuple[str, int]]:
    """Number → type and length, where they are published."""
    text = LENGTHS.get(version, {}).get(section, {}).get(name, "")
    found = [part.rpartition(":") for part in text.split()]
    return {number: (kind, int(length)) for number, (kind, _, length) in enumerate(found, 1)}


def corrected(version: str, segment: str, rows: list[str]) -> list[str]:
    """The rows with what is known to be wrong put right."""
    for versions, name, numbers in corrections.WITHDRAWN:
        if version in versions and name == segment:
            for number in numbers:
                if number <= len(rows):
                    rows[number - 1] = f"- W 0 0 - {rows[number - 1].split(' ', 5)[5]}"
    return edited(version, segment, rows, corrections.FIELDS)


def edited(version: str, owner: str, rows: list[str], entries: Iterable[tuple[Any, ...]]) -> list[str]:
    """The rows of a segment or data type with single columns put right."""
    for versions, name, number, column, value, _ in entries:
        if version in versions and name == owner:
            if column == "row":
                changed(rows[number - 1], value, f"{version} {owner} {number}")
                rows[number - 1] = value
                continue
            parts = rows[number - 1].split(" ", 5)
            place = ("type", "usage", "most", "length", "table", "name").index(column)
            changed(parts[place], value, f"{version} {owner} {number} {column}")
            parts[place] = value
            rows[number - 1] = " ".join(parts)
    return rows


# -- tables --------------------------------------------------------------------------------------------------------


def tables(version: str) -> dict[str, list[str]]:
    """Table number → its codes."""
    try:
        raw = module(corrections.TABLES.get(version, version), "tables").TABLES
    except ImportError:
        raw = {}
    found = {name.removeprefix("HL7"): list(entry[1]) for name, entry in sorted(raw.items())}
    for versions, table, added, taken, reason in corrections.CODES:
        if version in versions:
            codes = set(found.get(table, ())) | set(added.split()) - set(taken.split())
            changed(sorted(found.get(table, ())), sorted(codes), f"{version} table {table}: {reason}")
            found[table] = sorted(codes)
    # What a version has a structure for is a structure and an event of it, also where its tables forgot to list them.
    names = list(module(version, "messages").MESSAGES)
    for table, listed in (("0354", names), ("0003", [name.partition("_")[2] for name in names])):
        if table in found:
            found[table] = sorted({*found[table], *filter(None, listed)})
    return {name: list(dict.fromkeys(codes)) for name, codes in found.items() if codes}


@lru_cache
def module(version: str, name: str) -> Any:
    """One module of hl7apy's tables."""
    return importlib.import_module(f"hl7apy.v{version.replace('.', '_')}.{name}")


def changed(before: object, after: object, what: str) -> None:
    """A correction that corrects nothing has lost its reason."""
    if before == after:
        raise ValueError(f"the correction of {what} changes nothing: the tables have it right now")
