"""The forms of numbers, dates and times."""

from __future__ import annotations

import pytest

from engine.hl7.datatypes import is_well_formed


@pytest.mark.parametrize(
    ("datatype", "texts"),
    [
        ("NM", ["0", "-1", "+1.5", ".5", "5.", "007"]),
        ("SI", ["0", "1", "0001"]),
        ("DT", ["2026", "202601", "20260131", "20240229"]),
        ("TM", ["08", "0832", "083204", "083204.1234", "0832-0500", "235959+0100"]),
        ("DTM", ["2026", "202601", "20260131", "2026013108", "202601310832", "20260131083204.1234-0500", "2026-0500"]),
        ("ST", ["anything", "12.x"]),
    ],
)
def test_what_is_well_formed(datatype: str, texts: list[str]) -> None:
    for text in texts:
        assert is_well_formed(datatype, text), text


@pytest.mark.parametrize(
    ("datatype", "texts"),
    [
        ("NM", ["", "1,5", "1e3", "--1", ".", "1 ", "٣", "0x1"]),
        ("SI", ["", "-1", "1.0", "x", "²"]),
        ("DT", ["26", "20261", "20261301", "20260230", "20250229", "2026-01-31", "20260131083204"]),
        ("TM", ["8", "2400", "0860", "083260", "0832.5", "08:32", "0832-05", "0832+2460"]),
        (
            "DTM",
            [
                "",
                "20260230",
                "202601312400",
                "2026013108325",
                "20260131T083204",
                "20260131083204.12345",
                "20260131٣",
            ],
        ),
    ],
)
def test_what_is_not(datatype: str, texts: list[str]) -> None:
    for text in texts:
        assert not is_well_formed(datatype, text), text
