"""The matrix and the table of the EMR profiles are what the tests run and what the examples hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.simulators.profiles import PROFILES
from tests.acceptance.test_emr_profiles import CELLS, EVENTS, PARKED

PAGE = "docs/emr-profiles.md"


def example(root: Path, profile: str, event: str = "S12") -> dict[str, list[list[str]]]:
    """Segment → its lines as fields, of the profile's worked example."""
    name = "generic27" if profile == "generic" else profile
    found: dict[str, list[list[str]]] = {}
    for line in (root / "samples" / "hl7" / f"P_{name}_{event}.hl7").read_text().splitlines():
        fields = line.split("|")
        found.setdefault(fields[0], []).append(fields)
    return found


def test_the_matrix_is_what_the_tests_run(pages: dict[str, Any]) -> None:
    page = pages[PAGE]
    heads = [line for line in page.prose.splitlines() if line.startswith("| Event |")]
    assert [cell.strip() for cell in heads[0].split("|")[2:-1]] == list(PROFILES)
    # The first table of events; others on the page are of the REST API.
    rows = {row[0].split()[0]: row[1:] for row in page.tables("Event")[0]}
    told = {(emr, event): cell for event, cells in rows.items() for emr, cell in zip(PROFILES, cells, strict=True)}
    assert told == {cell: "parked" if what == PARKED else "sent" for cell, what in CELLS.items()}
    assert list(rows) == list(EVENTS)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_table_of_profiles_is_what_the_examples_hold(pages: dict[str, Any], root: Path, profile: str) -> None:
    (row,) = [row for row in pages[PAGE].rows("Profile") if row[0] == f"`{profile}`"]
    segments = example(root, profile)
    header = segments["MSH"][0]
    _, _, version, charset, receiver, resources, units, _ = row
    assert version == header[11]
    assert charset == (header[17] if len(header) > 17 else "none")
    assert receiver == f"{header[4]} {header[5]}"
    assert resources.split() == [name for name in ("AIS", "AIG", "AIL", "AIP") if name in segments]
    if units != "by version":
        assert units == segments["SCH"][0][10]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("event", ["S12", "S13", "S14", "S15", "S17", "S26"])
def test_there_is_an_example_of_each_event_that_the_page_names(root: Path, profile: str, event: str) -> None:
    assert example(root, profile, event)["MSH"][0][8].startswith(f"SIU^{event}")


def test_there_is_a_profile_file_for_every_row(pages: dict[str, Any], root: Path) -> None:
    told = {row[0].strip("`") for row in pages[PAGE].rows("Profile")}
    others = {"base", "athena_rest"}  # what all extend; the one that speaks no HL7
    assert told == {path.stem for path in (root / "transforms" / "emr").glob("*.yaml")} - others == set(PROFILES)
