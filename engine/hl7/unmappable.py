"""Where in a message the first character stands that a charset lacks: a path, never the character."""

from __future__ import annotations

from collections.abc import Iterable

from engine.hl7.segment import Segment


def first_unmappable(segments: Iterable[Segment], codec: str, *, same: bool) -> str:
    """``PID-5``, ``OBX[2]-5``; "" when there is none. ``same``: bytes that could not be read go out as they came."""
    seen: dict[str, int] = {}
    for segment in segments:
        nth = seen[segment.name] = seen.get(segment.name, 0) + 1
        if not segment.name or _encodes(segment.text, codec, same):
            continue
        place = segment.name if nth == 1 else f"{segment.name}[{nth}]"
        fields = segment.text.split(segment.separators.field)
        number = next((at for at, field in enumerate(fields) if not _encodes(field, codec, same)), 0)
        return f"{place}-{number + (segment.name == 'MSH')}"
    return ""


def _encodes(text: str, codec: str, same: bool) -> bool:
    try:
        text.encode(codec, "surrogateescape" if same else "strict")
    except UnicodeEncodeError:
        return False
    return True
