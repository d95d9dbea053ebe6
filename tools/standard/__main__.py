"""Writes ``engine/hl7/standard/VERSION.json``, or tells with ``--check`` which are not what would be written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from engine.hl7.versions import SUPPORTED_VERSIONS
from tools.standard.make import version_data

TARGET = Path(__file__).parents[2] / "engine" / "hl7" / "standard"


def text_of(data: dict[str, object]) -> str:
    """JSON with one entry per line, so that a change shows where it is."""
    parts = []
    for section, entries in data.items():
        if isinstance(entries, dict):
            lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items()]
            parts.append(f"{json.dumps(section)}: {{\n" + ",\n".join(lines) + "\n}")
        else:
            parts.append(f"{json.dumps(section)}: {json.dumps(entries)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> int:
    """Write or compare all versions; 1 when a file is not what its sources make."""
    stale = 0
    for version in SUPPORTED_VERSIONS:
        target, text = TARGET / f"{version}.json", text_of(version_data(version))
        if "--check" not in sys.argv:
            target.write_text(text, encoding="utf-8")
        elif target.read_text(encoding="utf-8") != text:
            print(f"{target.name} is not what its sources make")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
