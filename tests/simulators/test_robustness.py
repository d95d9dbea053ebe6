"""Whatever a partner is sent, it answers and lives on; and it shares no HL7 code with the engine."""

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.simulators import Emr, Ris
from engine.simulators.profiles import PROFILES
from engine.simulators.wire import parse

SITE = Path(__file__).parents[2]
SAMPLES = sorted((SITE / "samples" / "hl7").glob("*.hl7"))
ALLOWED = ("engine.simulators", "engine.tls", "engine.errors")


def ris() -> Ris:
    return Ris(SITE / "tables" / "locations.csv", sends_orders=False)


def read(path: Path) -> bytes:
    return path.read_bytes().replace(b"\n", b"\r").replace(b"@NOW", b"202501150832").replace(b"@MSG", b"EN1")


@given(
    sample=st.sampled_from(SAMPLES),
    segment=st.integers(0, 9),
    field=st.integers(0, 30),
    value=st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_a_field_of_any_content_is_answered(sample: Path, segment: int, field: int, value: str) -> None:
    lines = [line.split("|") for line in read(sample).decode("latin-1").rstrip("\r").split("\r")]
    chosen = lines[segment % len(lines)]
    chosen[field % len(chosen)] = value
    data = "".join("|".join(line) + "\r" for line in lines).encode("latin-1")
    profile = sorted(PROFILES)[segment % len(PROFILES)]
    for partner in (ris(), Emr(profile)):
        answers = partner.handle(data)
        assert all(parse(answer).text("MSA-1")[1] in "AER" for answer in answers)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_answered(data: bytes) -> None:
    for partner in (ris(), Emr("epic")):
        assert [parse(answer).text("MSA-1") for answer in partner.handle(data)] == ["AR"]


@pytest.mark.parametrize("path", sorted((SITE / "engine" / "simulators").glob("*.py")), ids=lambda path: path.name)
def test_nothing_of_the_engines_hl7_is_used(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = names if node.module == "engine" else [node.module or ""]
        assert all(name.startswith(ALLOWED) for name in modules if name.split(".")[0] == "engine"), modules
