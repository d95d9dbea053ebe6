"""Times, sizes and rates as people write them in YAML: ``30s``, ``5m``, ``180d``, ``16MiB``, ``10/s``.

``Duration``, ``Size`` and ``Rate`` are the types that models of connectors and channels use; the parse functions serve
whoever has only the text. A bare number is seconds, bytes, or so many a second. ``never`` is not a time: a key that
allows it says so itself.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
BYTES = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}

RATE_UNITS = ("s", "m", "h")

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_duration(value: object) -> float:
    """Seconds of ``10``, ``1.5``, ``500ms``, ``30s``, ``5m``, ``2h``, ``30d`` or ``1w``. Raises ValueError."""
    return _quantity(value, SECONDS, "s", "a time such as 500ms, 30s, 5m, 2h or 30d")


def parse_size(value: object) -> int:
    """Bytes of ``65536``, ``64KiB``, ``16MiB`` or ``1MB``. Raises ValueError."""
    return int(_quantity(value, BYTES, "B", "a size such as 64KiB or 16MiB"))


def parse_rate(value: object) -> float:
    """How many a second: ``10/s``, ``300/m``, ``1000/h`` or a number. Raises ValueError."""
    expected = "expected a rate such as 10/s or 300/m"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(expected)
    number, _, unit = value.partition("/") if isinstance(value, str) else (str(value), "", "")
    if unit.strip() not in ("", *RATE_UNITS) or not _NUMBER.fullmatch(number.strip()) or float(number) <= 0:
        raise ValueError(expected)
    return float(number) / SECONDS[unit.strip() or "s"]


def _quantity(value: object, units: dict[str, float] | dict[str, int], default: str, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected {expected}")
    if not isinstance(value, str):
        if value < 0:
            raise ValueError(f"expected {expected}")
        return value
    match = _QUANTITY.fullmatch(value.strip())
    unit = (match.group(2) or default) if match else ""
    if match is None or unit not in units:
        raise ValueError(f"expected {expected}")
    return float(match.group(1)) * units[unit]


Duration = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=float | str)]
#: A time-out: 0 would mean "at once", which nobody means.
Timeout = Annotated[Duration, Field(gt=0)]
Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=int | str), Field(gt=0)]
#: So many a second.
Rate = Annotated[float, BeforeValidator(parse_rate, json_schema_input_type=float | str)]
