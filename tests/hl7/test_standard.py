"""The shipped tables: what their sources make, complete, readable, and no more of them loaded than is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import engine.hl7
from engine.hl7 import dictionary
from engine.hl7.grammar import Structure, parse
from engine.hl7.versions import SUPPORTED_VERSIONS
from tools.standard import corrections
from tools.standard.__main__ import TARGET, text_of
from tools.standard.make import version_data

STANDARD = Path(engine.hl7.__file__).parent / "standard"


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_the_files_are_what_their_sources_make(version: str) -> None:
    assert TARGET == STANDARD
    assert (STANDARD / f"{version}.json").read_text(encoding="utf-8") == text_of(version_data(version))


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_every_entry_can_be_read_and_every_structure_has_known_segments(version: str) -> None:
    data = json.loads((STANDARD / f"{version}.json").read_text(encoding="utf-8"))
    for name in data["segments"]:
        assert dictionary.fields(version, name)
    for name in data["types"]:
        assert dictionary.components(version, name)
    # The tables of 2.7 name the withdrawn query segments in structures, without their fields.
    unknown = {"QRD", "QRF", "URD", "URS", "*"}
    for text in data["structures"].values():
        assert Structure(parse(text)).names - set(data["segments"]) <= unknown


def test_every_correction_has_a_reason() -> None:
    reasons = [entry[-1] for entry in corrections.STRUCTURES]
    reasons += [entry[-1] for entry in (*corrections.CODES, *corrections.FIELDS, *corrections.COMPONENTS)]
    assert all(len(reason) > 20 for reason in reasons)


@pytest.mark.parametrize(
    ("version", "structure", "text"),
    [
        # A choice is a choice: hl7apy's own validator wants every branch of it.
        ("2.5.1", "ORM_O01", "<CHOICE: OBR RQD RQ1 RXO ODS ODT>"),
        ("2.3", "ORR_O02", "<CHOICE: OBR RQD RQ1 RXO ODS ODT>"),
        ("2.1", "ORM_O01", "<CHOICE: OBR ORO RX1>"),
        ("2.3", "ACK", "MSH MSA [ERR]"),
        ("2.7", "SIU_S12", "MSH SCH {[TQ1]}"),
        ("2.3", "MFQ_M01", "MSH QRD [QRF] [DSC]"),
        ("2.8", "EHC_E01", "(INVOICE_INFORMATION_SUBMIT: IVC [PYE]"),
    ],
)
def test_what_hl7apy_has_wrong_is_right_here(version: str, structure: str, text: str) -> None:
    assert text in (dictionary.grammar(version, structure) or "")


def test_codes_that_the_tables_forgot() -> None:
    assert "Routine" in dictionary.codes("2.3", "0276")
    assert "UCUM" in dictionary.codes("2.5.1", "0396")
    assert "MFR_M05" in dictionary.codes("2.5.1", "0354")
    assert dictionary.codes("2.2", "0001") == frozenset()
    assert dictionary.codes("2.7", "0399") == frozenset()  # listed only as an ellipsis


def test_one_message_loads_one_version_and_not_hl7apy() -> None:
    code = (
        "import sys; from engine.hl7.message import Message; from engine.hl7 import dictionary as d;"
        "from engine.hl7.validation import validate;"
        "print(d._load.cache_info().currsize, end=' ');"
        "validate(Message.from_text('MSH|^~\\\\&|||||||SIU^S12|1|P|2.3\\rSCH|1\\r'));"
        "print(d._load.cache_info().currsize, 'hl7apy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1", "False"]
