"""The path writer: what is written reads back, and nothing else changes.

Input: what to do, a path, a value, then the bytes of a message.
"""

from __future__ import annotations

from engine.errors import MalformedMessage, PathError
from engine.hl7.message import Message
from engine.hl7.path import Path
from fuzz.data import Input, samples

_STEPS = ("set", "write", "delete", "trim", "insert")
Place = tuple[int, int, int, int, int]


def seeds() -> list[bytes]:
    """Every step on several samples, at places that exist and others."""
    paths = (
        "PID-3.1",
        "PID-3[2].1",
        "PID-5",
        "OBX[2]-5.2.3",
        "NTE[3]-3",
        "ZZZ-12.3",
        "MSH-10",
        "PV1-3[3]",
        "AIL",
        "PID-3.1.2",
    )
    values = (b"a^b|c~d\\e&f", b"", b'""', b"plain", b"x\ry\nz", b"\\F\\", "ä€".encode())
    chosen = samples()[::11]
    return [
        bytes([step]) + path.encode() + b"\x00" + values[(number + step) % len(values)] + b"\x00" + sample
        for step in range(len(_STEPS))
        for number, path in enumerate(paths)
        for sample in chosen[(number + step) % len(chosen) :][:1]
    ]


def check(data: bytes) -> None:
    """One change of one message."""
    given = Input(data)
    step = given.choose(_STEPS)
    where, value = given.line().decode("utf-8", "replace"), given.line().decode("utf-8", "replace")
    try:
        path = Path.parse(where)
        message = Message.parse(given.rest())
    except (PathError, MalformedMessage):
        return
    assert Path.parse(str(path)) == path, "a path reads as it is written"
    if (path.segment_index or 0) > 50 or (path.field or 0) > 500 or (path.repetition or 0) > 500:
        return
    before, names, text = _places(message), message.names(), message.text
    try:
        changed = _act(message, step, path, value)
    except PathError:
        assert message.text == text, "what was refused has changed nothing"
        return
    _check_rest(before, _places(message), names, message, path if changed else None, step)
    if "?" in message.separators.field + message.separators.encoding_characters:
        return  # what stands for a character that cannot be written would be a delimiter
    # A change may not make another message of it.
    assert Message.parse(message.to_bytes("utf-8", "replace"), "utf-8").names() == message.names()


def _act(message: Message, step: str, path: Path, value: str) -> bool:
    if step == "set":
        message.set(path, value)
        assert message.value(path) == value, "what is set reads back"
    elif step == "write":
        message.write(path, value)
        expected = value.replace("\r", message.separators.escapes[13]).replace("\n", message.separators.escapes[10])
        assert message.read(path) == expected, "what is written reads back"
    elif step == "delete":
        count = message.count(path.segment)
        message.delete(path)
        if path.field is None:
            assert message.count(path.segment) == (
                0 if path.segment_index is None else count - (count >= path.segment_index)
            )
        elif path.repetition is None or path.component is not None:
            assert not message.read(path)
    elif step == "trim":
        message.trim()
        return False
    else:
        source = message.segments()[-1]
        mine = message.insert(len(message.segments()), source)
        assert mine.text == source.text
        there = f"{mine.name}[{message.count(mine.name)}]"
        if Path.looks_like(there):
            message.delete(there)
        return False
    return True


def _places(message: Message) -> dict[Place, str]:
    """Every leaf that holds something, by segment, field, repetition, component and subcomponent."""
    marks, found = message.separators, {}
    for at, segment in enumerate(message.segments()):
        fields = segment.text.split(marks.field)
        for number, field in enumerate(fields):
            if segment.name in ("MSH", "BHS", "FHS") and number < 2:
                found[at, number, 0, 0, 0] = field
                continue
            for third, repetition in enumerate(field.split(marks.repetition)):
                for fourth, component in enumerate(repetition.split(marks.component)):
                    for fifth, leaf in enumerate(component.split(marks.subcomponent)):
                        if leaf:
                            found[at, number, third, fourth, fifth] = leaf
    return found


def _check_rest(
    before: dict[Place, str], after: dict[Place, str], names: list[str], message: Message, path: Path | None, step: str
) -> None:
    if path is not None and (path.field is None or (step == "delete" and path.component is None and path.repetition)):
        return  # segments or repetitions were taken out, and what stood behind has moved up
    differing = {place for place in before.keys() | after.keys() if before.get(place) != after.get(place)}
    if path is None:
        differing = {place for place in differing if place[0] < len(names)}
        assert not differing, "trimming or inserting has changed a value"
        return
    if step == "delete" and names.count(path.segment) < (path.segment_index or 1):
        assert not differing, "what is not there was deleted from elsewhere"
        return
    if len(message.names()) > len(names):
        differing = {place for place in differing if place[0] < len(names)}
        assert not differing, "a new segment has changed another"
        return
    at = _segment(names, path)
    for place in differing:
        assert place[0] == at, "another segment has changed"
        assert place[1] == (path.field or 0) - (path.segment in ("MSH", "BHS", "FHS")), "another field has changed"
        if path.component is not None or path.repetition is not None:
            assert place[2] == (path.repetition or 1) - 1, "another repetition has changed"
        if path.component is not None:
            assert place[3] == path.component - 1, "another component has changed"
        if path.subcomponent is not None:
            assert place[4] == path.subcomponent - 1, "another subcomponent has changed"


def _segment(names: list[str], path: Path) -> int:
    index = path.segment_index or 1
    return [at for at, name in enumerate(names) if name == path.segment][index - 1]
