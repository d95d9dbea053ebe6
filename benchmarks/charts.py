"""Charts as SVG, from a result of ``make bench``: plain shapes in colours that can be read on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from benchmarks.finding import number

INK, BLUE, ORANGE, GREEN = "#7a828e", "#2f81d6", "#c9731a", "#2da44e"
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
STYLE = f"""\
  <style>
    text      {{ font-size: 13px; fill: {INK}; }}
    .title    {{ font-size: 16px; font-weight: 600; }}
    .tick     {{ font-size: 12px; }}
    .name     {{ font-weight: 600; }}
    .grid     {{ stroke: {INK}; stroke-opacity: 0.25; stroke-width: 1; }}
    .axis     {{ stroke: {INK}; stroke-width: 1.5; }}
    .line     {{ fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round; }}
    .spread   {{ stroke-width: 6; stroke-opacity: 0.35; stroke-linecap: round; }}
    .middle   {{ text-anchor: middle; }}
    .right    {{ text-anchor: end; }}
  </style>"""

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Series:
    """One line: points with x, median, least and most."""

    name: str
    colour: str
    points: Sequence[tuple[float, float, float, float]]
    #: What stands below the name.
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    x_label: str
    #: Value on the x axis and what is written there.
    ticks: Sequence[tuple[float, str]]
    series: Sequence[Series]
    left: float
    width: float
    top: float = 64.0
    height: float = 250.0

    def draw(self) -> str:
        """Grid, axes, lines, and each line's name at its end."""
        highest, step = scale(max(point[3] for one in self.series for point in one.points))
        spots = [spot for spot, _ in self.ticks]
        first, last = min(spots), max(spots)

        def x(value: float) -> float:
            return self.left + 14 + (value - first) / ((last - first) or 1) * (self.width - 28)

        def y(value: float) -> float:
            return self.top + self.height * (1 - value / highest)

        parts = [text(self.left, self.top - 22, self.title, "title")]
        bottom, end = self.top + self.height, self.left + self.width
        for count in range(round(highest / step) + 1):
            at = y(count * step)
            parts.append(line(self.left, at, end, at, "axis" if count == 0 else "grid"))
            parts.append(text(self.left - 8, at + 4, number(count * step), "tick right"))
        for spot, label in self.ticks:
            parts.append(text(x(spot), bottom + 20, label, "tick middle"))
        parts.append(text(self.left + self.width / 2, bottom + 42, self.x_label, "middle"))
        for one in self.series:
            parts += drawn(one, x, y)
        parts += names(self.series, y, x(last) + 12)
        return "\n".join(parts)


def drawn(one: Series, x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    """Spread, line and points of one series."""
    parts = []
    for at, _, low, high in one.points:
        if high > low:
            parts.append(line(x(at), y(low), x(at), y(high), "spread", one.colour))
    way = " ".join(
        f"{'M' if place == 0 else 'L'}{x(point[0]):.1f} {y(point[1]):.1f}" for place, point in enumerate(one.points)
    )
    parts.append(f'  <path class="line" stroke="{one.colour}" d="{way}"/>')
    parts += [f'  <circle cx="{x(p[0]):.1f}" cy="{y(p[1]):.1f}" r="4" fill="{one.colour}"/>' for p in one.points]
    return parts


def names(series: Sequence[Series], y: Callable[[float], float], x: float) -> list[str]:
    """The name of each line at its end, moved apart where they would touch."""
    parts, free = [], -math.inf
    for one in sorted(series, key=lambda each: y(each.points[-1][1])):
        at = max(y(one.points[-1][1]) + 4, free)
        free = at + (36 if one.note else 17)
        colour = f' style="fill: {one.colour}"'
        parts.append(text(x, at, one.name, "name", colour))
        if one.note:
            parts.append(text(x, at + 16, one.note, "tick"))
    return parts


def scale(highest: float) -> tuple[float, float]:
    """The end of an axis and its step: round numbers, four to six steps."""
    power = 10 ** math.floor(math.log10(highest or 1))
    step = next(factor * power for factor in (0.2, 0.25, 0.5, 1, 2) if factor * power * 6 >= highest)
    return math.ceil(highest / step) * step, step


def text(x: float, y: float, words: str, kind: str, more: str = "") -> str:
    """Words."""
    return f'  <text class="{kind}" x="{x:.1f}" y="{y:.1f}"{more}>{escape(words)}</text>'


def line(x: float, y: float, to_x: float, to_y: float, kind: str, colour: str = "") -> str:
    """A straight line."""
    stroke = f' stroke="{colour}"' if colour else ""
    return f'  <line class="{kind}"{stroke} x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'


def picture(title: str, description: str, panels: Sequence[Panel], width: int = 1000, height: int = 376) -> str:
    """Panels in one file."""
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"
     aria-labelledby="title description" font-family="{FONT}">
  <title id="title">{escape(title)}</title>
  <desc id="description">{escape(description)}</desc>
{STYLE}
{chr(10).join(panel.draw() for panel in panels)}
</svg>
"""


# -- the two charts ----------------------------------------------------------------------------------------------------


def lines_of(result: Json, name: str) -> list[Json]:
    """The lines of a row; none when it failed or did not run."""
    return [line for row in result["rows"] if row["row"] == name for line in row["lines"]]


def throughput(result: Json) -> str:
    """Messages a second against connections: the engine, and the server that only parses and acknowledges."""
    ours: list[tuple[float, float, float, float]] = []
    theirs: list[tuple[float, float, float, float]] = []
    for connections in (1, 2, 4, 8, 16, 32, 64):
        found = lines_of(result, f"main-{connections}")[:1]
        found += [one for one in lines_of(result, "curve") if one["figure"] == f"settled, {connections} connections"]
        for one in found:
            at = math.log2(connections)
            ours.append((at, one["median"], one["low"], one["high"]))
            beside = one["against"]
            theirs.append((at, beside["median"], beside["low"], beside["high"]))
    told = [f"{2 ** round(at)} connections: {number(median)} messages/s" for at, median, _, _ in ours]
    series = [
        Series("hl7engine", BLUE, ours, "commits, routes, delivers"),
        Series("hl7.mllp", ORANGE, theirs, "parses and acknowledges only"),
    ]
    ticks = [(math.log2(count), str(count)) for count in (1, 2, 4, 8, 16, 32, 64)]
    panel = Panel(
        "Messages a second",
        "connections of senders",
        ticks,
        series,
        76,
        690,
    )
    return picture("Throughput against connections", "; ".join(told), [panel] if ours else [])


def stored(points: Sequence[Json]) -> str:
    """What a message costs the store, and a search takes, against the messages that are stored."""
    spots = [math.log10(max(100, point["stored"])) for point in points]

    def series(name: str, colour: str, key: str) -> Series:
        return Series(name, colour, [(at, one[key], one[key], one[key]) for at, one in zip(spots, points, strict=True)])

    ticks = [(at, short(point["stored"])) for at, point in zip(spots, points, strict=True)]
    told = [f"{point['stored']:,} stored: {number(point['cpu_us'])} µs" for point in points]
    commits = Panel(
        "Processor of a message's three commits, µs",
        "messages stored",
        ticks,
        [series("commits", BLUE, "cpu_us")],
        60,
        330,
    )
    searches = Panel(
        "A search, milliseconds",
        "messages stored",
        ticks,
        [series("by patient", ORANGE, "patient_ms"), series("by MSH-10", GREEN, "control_id_ms")],
        540,
        330,
    )
    return picture("Cost against stored messages", "; ".join(told), [commits, searches])


def short(count: float) -> str:
    """``1,000`` → ``1 k``."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:g} {letter}"
    return f"{count:g}"
