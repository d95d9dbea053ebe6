"""HL7 version numbers (MSH-12.1): which ones have tables, how they compare, what an unknown one falls back to.

Versions compare by number, not as text. A version nobody published tables for is treated as the nearest older one
that has them, so 2.7.1 is read as 2.7 and 2.9 as 2.8.2.
"""

from __future__ import annotations

from engine.remembered import remembered

#: Versions with reference tables (``dictionary.py``), oldest first.
SUPPORTED_VERSIONS = ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2")

#: What a message without a version, or with one that is no number, is taken for: the form every receiver understands.
FALLBACK_VERSION = "2.3"


def _numbers(version: str) -> tuple[int, ...] | None:
    parts = version.strip().split(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 4 for part in parts):
        return None
    return tuple(int(part) for part in parts)


@remembered(64)
def nearest_version(version: str) -> str:
    """The newest version with tables that is not newer than ``version``; 2.1 below that, 2.3 for what is no version."""
    numbers = _numbers(version)
    if numbers is None:
        return FALLBACK_VERSION
    older = [known for known in SUPPORTED_VERSIONS if (_numbers(known) or ()) <= numbers]
    return older[-1] if older else SUPPORTED_VERSIONS[0]


@remembered(256)
def at_least(version: str, other: str) -> bool:
    """Whether ``version`` is ``other`` or newer; what is no version counts as 2.3."""
    numbers = _numbers(version) or _numbers(FALLBACK_VERSION)
    return (numbers or ()) >= (_numbers(other) or ())
