"""The YAML loader: never anything but Problems, and values whose size and depth are bounded whatever aliases say.

Input: the text of a file. ``${VAR}`` is filled in as the engine does it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.config.interpolate import Variables, fill
from engine.config.yaml import MAX_DEPTH, MAX_VALUES, Mark, parse
from fuzz.data import ROOT

_ENVIRONMENT = {"HOST": "127.0.0.1", "PORT": "2575", "EMPTY": "", "SECRET": "s3cr3t-value"}
#: Characters of one file when everything is filled in; a larger one is refused.
_TEXT = 64 * 1024 * 1024


def seeds() -> list[bytes]:
    """This site's own files, and what grows when it is read."""
    files = [
        ROOT / "site.yaml",
        *sorted((ROOT / "channels").glob("*.yaml")),
        *sorted((ROOT / "transforms").rglob("*.yaml"))[:12],
    ]
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join(['*' + chr(ord(name) - 1)] * 9)}]\n" for name in "bcdefghi"
    )
    deep = "a: &a [[[[[[1]]]]]]\n" + "".join(
        f"k{n}: &k{n} [[[[*{'a' if n == 0 else f'k{n - 1}'}]]]]\n" for n in range(30)
    )
    long = "a: &a " + '"${HOST}' + "x" * 3000 + '"\nb: [' + ",".join(["*a"] * 300) + "]\n"
    merged = "a: &a {x: 1, y: {z: 2}}\nb: {<<: *a, x: 3}\nc: {<<: [*a, *a]}\n"
    odd = "a: ${HOST:-x}\nb: $${x\nc: ${file:no}\nz: ${file:/dev/zero}\nd: ${EMPTY:?why}\ne: ${\nf: !!python/object:os.system x\n? [a]\n: b\na: 2\n---\nb"
    return [
        *(path.read_bytes() for path in files),
        *(text.encode() for text in (laughs, deep, long, merged, odd, "[" * 200)),
    ]


def check(data: bytes) -> None:
    """Parse, fill in, and look at everything."""
    document = parse(data, "file.yaml")
    assert document.usable or document.problems, "nothing to go on with and nobody told"
    lines = sum(data.count(end) for end in (b"\n", b"\r", b"\x85", b"\xa8", b"\xa9")) + 2
    for problem in document.problems:
        assert 0 <= problem.line <= lines
        str(problem)
    if not document.usable:
        return
    fill(document, Variables(_ENVIRONMENT, Path("/nonexistent")))
    values, depth, text = _measure(document.value)
    assert values <= MAX_VALUES, "more values than a file may have"
    assert depth <= MAX_DEPTH, "deeper than a file may be"
    assert text <= _TEXT, "more text than a file may have"
    _check_marks(document.mark, document.raw)
    for problem in document.problems:
        assert "s3cr3t-value" not in str(problem)


def _measure(value: Any) -> tuple[int, int, int]:
    """Values, depth and characters, aliases expanded; without recursion of its own."""
    values = depth = text = 0
    waiting = [(value, 1)]
    while waiting:
        item, level = waiting.pop()
        values, depth = values + 1, max(depth, level)
        if isinstance(item, str):
            text += len(item)
        elif isinstance(item, dict):
            text += sum(len(key) for key in item)
            waiting += [(inner, level + 1) for inner in item.values()]
        elif isinstance(item, list):
            waiting += [(inner, level + 1) for inner in item]
    return values, depth, text


def _check_marks(mark: Mark, value: Any) -> None:
    """Every key and item has its line."""
    waiting = [(mark, value)]
    seen = 0
    while waiting and seen < 2000:
        at, item = waiting.pop()
        seen += 1
        keys: Any = item if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        assert set(at.items) == set(keys)
        waiting += [(at.items[key], item[key]) for key in keys]
