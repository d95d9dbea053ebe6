"""Structures as text, and segments against them: what is told of each kind of fault, and what hostile input costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.hl7.grammar import MOST_FAULTS, Misfit, Structure, names_in, parse
from engine.hl7.message import Message
from engine.hl7.validation import MOST_FINDINGS, MOST_TEXT, Level, Levels, structure, validate
from tests.counting import LINEAR, ratio

SCHEDULE = "MSH SCH [TQ1] {[NTE]} {(RESOURCES: RGS {[(SERVICE: AIS {[NTE]})]} {[(LOCATION: AIL {[NTE]})]})}"
ORDER = "MSH {(ORDER: ORC [(DETAIL: <CHOICE: OBR RXO> {[NTE]})])}"
Faults = list[tuple[Misfit, int, str]]


def faults(text: str, segments: str) -> Faults:
    """Misfit, place and element (or the segment itself)."""
    names = segments.split()
    found = Structure(parse(text)).match(names)
    return [(fault.misfit, fault.at, fault.element.name if fault.element else names[fault.at]) for fault in found]


@pytest.mark.parametrize(
    ("text", "segments", "expected"),
    [
        (SCHEDULE, "MSH SCH RGS", []),
        (SCHEDULE, "MSH SCH TQ1 NTE NTE RGS AIS NTE AIS AIL RGS AIL NTE", []),
        (ORDER, "MSH ORC ORC OBR NTE ORC RXO", []),
        (SCHEDULE, "MSH SCH", [(Misfit.MISSING, 2, "RGS")]),
        (SCHEDULE, "", [(Misfit.MISSING, 0, "MSH"), (Misfit.MISSING, 0, "SCH"), (Misfit.MISSING, 0, "RGS")]),
        (SCHEDULE, "MSH RGS AIS", [(Misfit.MISSING, 1, "SCH")]),
        (SCHEDULE, "MSH SCH AIS", [(Misfit.MISSING, 2, "RGS")]),
        (SCHEDULE, "MSH SCH TQ1 TQ1 RGS", [(Misfit.AGAIN, 3, "TQ1")]),
        (SCHEDULE, "MSH SCH NTE TQ1 RGS", [(Misfit.MISPLACED, 3, "TQ1")]),
        (SCHEDULE, "MSH SCH RGS AIL AIS", [(Misfit.MISPLACED, 4, "AIS")]),
        (SCHEDULE, "MSH SCH OBX RGS", [(Misfit.FOREIGN, 2, "OBX")]),
        (SCHEDULE, "AIS MSH SCH RGS", [(Misfit.MISPLACED, 0, "AIS")]),
        (SCHEDULE, "SCH RGS MSH", [(Misfit.MISSING, 0, "MSH"), (Misfit.MISPLACED, 2, "MSH")]),
        (ORDER, "MSH OBR", [(Misfit.MISSING, 1, "ORC")]),
        (ORDER, "MSH ORC NTE", [(Misfit.MISPLACED, 2, "NTE")]),
        (ORDER, "MSH ORC OBR RXO", [(Misfit.AGAIN, 3, "CHOICE")]),
        ("MSH (BODY: PID [PV1])", "MSH PV1", [(Misfit.MISSING, 1, "PID")]),
        ("MSH (BODY: PID PV1)", "MSH", [(Misfit.MISSING, 1, "BODY")]),
        ("MSH {[*]} [DSC]", "MSH QQQ OBX DSC", []),
        # Which of two equal segments a segment is, is clear only later.
        ("MSH {[LCH]} {[LRL]} LDP {[LCH]}", "MSH LCH LCH LDP LCH", []),
        ("MSH {[(A: NTE)]} {[(B: NTE OBX)]}", "MSH NTE NTE NTE OBX", []),
    ],
)
def test_the_fault_that_is_told_is_the_one_a_person_would_name(text: str, segments: str, expected: Faults) -> None:
    assert faults(text, segments) == expected


def test_a_misplaced_segment_comes_with_what_may_stand_there() -> None:
    (fault,) = Structure(parse(SCHEDULE)).match(["MSH", "PID", "SCH", "RGS"])
    assert fault.expected == ("SCH",)
    (fault,) = Structure(parse(SCHEDULE)).match(["MSH", "SCH", "RGS", "AIS", "OBX"])
    assert set(fault.expected) == {"NTE", "AIS", "AIL", "RGS"}


def test_one_fault_early_hides_none_that_comes_much_later() -> None:
    names = ["MSH", "PID", "SCH", "RGS", *["AIS"] * 500, "OBX", *["AIS"] * 500, "AIL", "AIS"]
    found = Structure(parse(SCHEDULE)).match(names)
    assert [fault.at for fault in found] == [1, 504, len(names) - 1]


def test_the_names_of_a_text_are_its_segments_once_each() -> None:
    assert names_in(SCHEDULE) == ("MSH", "SCH", "TQ1", "NTE", "RGS", "AIS", "AIL")


@pytest.mark.parametrize("text", ["[PID", "{PID]", "(A: PID", "(PID)", "PID)", "A: PID", "<A: PID)", "(A: )"])
def test_what_is_no_structure_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="structure"):
        parse(text)


#: What a hostile sender could try: everything optional inside of everything, equal names, no end of faults.
NESTED = "MSH {[(A: {[(B: {[(C: [PID] [PV1] {[NTE]})]} {[NTE]})]} {[NTE]})]} [DSC]"
HOSTILE: dict[str, tuple[str, Callable[[int], list[str]]]] = {
    "right": (SCHEDULE, lambda number: ["MSH", "SCH", "RGS", *["AIS", "NTE"] * (number // 2)]),
    "nested": (NESTED, lambda number: ["MSH", *["NTE"] * number, "QQQ"]),
    "nested and wrong at the end": (NESTED, lambda number: ["MSH", *["PID", "NTE", "PV1"] * (number // 3), "MSH"]),
    "ambiguous": ("MSH {[(A: NTE)]} {[(B: NTE OBX)]} {[NTE]}", lambda number: ["MSH", *["NTE"] * number, "MSH"]),
    "faults only": (SCHEDULE, lambda number: ["OBX"] * number),
    "a fault now and then": (
        SCHEDULE,
        lambda number: ["MSH", "SCH", "RGS", *(["AIS"] * 99 + ["QQQ"]) * (number // 99)],
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_ten_thousand_segments_take_steps_in_proportion(name: str) -> None:
    text, make = HOSTILE[name]
    compiled = Structure(parse(text))
    compiled.match(make(10_000))
    # One for each segment; where a fault is, a few for each reading of the next ones.
    assert compiled.steps <= 10_000 + MOST_FAULTS * 32 * 16
    assert compiled.steps < 40_000 or "fault" in name
    assert ratio(lambda number: lambda: compiled.match(make(number)), 5_000) < LINEAR


@pytest.mark.parametrize(
    "body",
    [
        lambda number: "OBX|1|NM|A^B||1\r" * number,
        lambda number: "NTE|1||" + "a~" * number + "b\r",
        lambda number: "PID|1||" + "a^b&c~" * number + "d\r",
        lambda number: "PID|1||" + "&" * number + "^" * number + "~" * number + "\r",
        lambda number: "PID" + "|x" * number + "\r",
        lambda number: "PID|1\rNTE|1\r" * number,
    ],
)
def test_a_message_is_validated_in_time_in_proportion(body: Callable[[int], str]) -> None:
    def make(number: int) -> Callable[[], object]:
        head = "MSH|^~\\&|||||20260115||ORU^R01^ORU_R01|1|P|2.5.1\rPID|1||1||D\rOBR|1|||X\r"
        message = Message.from_text(head + body(number))
        return lambda: validate(message)

    assert ratio(make, 400) < LINEAR


def test_findings_and_the_text_that_is_looked_at_have_an_end() -> None:
    head = "MSH|^~\\&|||||20260115||ORU^R01^ORU_R01|1|P|2.5.1\rPID|1||1||D\rOBR|1|||X\r"
    assert len(validate(Message.from_text(head + "QQQ|1\r" * 1000))) == MOST_FINDINGS
    line = f"NTE|1||{'x' * 60_000}\r"
    long = Message.from_text(head + line * (MOST_TEXT // 60_000 + 2))
    for levels in (Levels(), Levels.all(Level.IGNORE), Levels(structure=Level.IGNORE)):
        told = [found.problem for found in validate(long, levels)]
        assert told == ["the message is too long to be looked at from here on"] * (levels.required is not Level.IGNORE)


def test_a_structure_is_compiled_once() -> None:
    assert structure("2.5.1", "SIU_S12") is structure("2.5.1", "SIU_S12")
