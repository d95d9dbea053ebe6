"""Destinations made from the rows of a table: written out, filled in, and every fault with its row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Make = Callable[..., Any]

EMRS = "emr,host,port,ca\na,127.0.0.2,2601,\nb,127.0.0.3,2602,x.pem\n"
HEAD = "source: {mllp: {port: 2575}}\n"
EACH = HEAD + (
    "destinations:\n"
    "  - name: first\n"
    "    to: {mllp: {port: 2600}}\n"
    "  - for_each: emrs\n"
    "    name: $row.emr\n"
    "    description: to $row.emr at $row.host\n"
    "    to: {mllp: {host: $row.host, port: $row.port, tls: {ca: $row.ca}}}\n"
    "  - name: last\n"
    "    to: {mllp: {port: 2609}}\n"
)


def test_a_destination_stands_once_for_each_row(site: Make) -> None:
    plan = site({"tables/emrs.csv": EMRS}).channel(EACH)
    assert [each.name for each in plan.destinations] == ["first", "a", "b", "last"]
    configs = [each.to.config for each in plan.destinations]
    assert [(config.host, config.port) for config in configs[1:3]] == [("127.0.0.2", 2601), ("127.0.0.3", 2602)]
    assert configs[1].tls == "off", "an empty cell leaves its key out, and what holds nothing else"
    assert configs[2].tls.ca == "x.pem"


def test_without_rows_there_is_none(site: Make) -> None:
    plan = site({"tables/emrs.csv": "emr,host,port,ca\n"}).channel(EACH)
    assert [each.name for each in plan.destinations] == ["first", "last"]


def test_another_row_changes_the_channel(site: Make) -> None:
    prints = {
        rows: site({"tables/emrs.csv": rows}).channel(EACH).fingerprint
        for rows in (EMRS, EMRS + "c,127.0.0.4,2603,\n", EMRS)
    }
    assert len(set(prints.values())) == 2


def test_what_the_environment_fills_in_is_filled_in_each(site: Make) -> None:
    text = EACH.replace("$row.host,", '"${WHERE}",')
    plan = site({"tables/emrs.csv": EMRS}, WHERE="10.0.0.9").channel(text)
    assert [each.to.config.host for each in plan.destinations[1:3]] == ["10.0.0.9", "10.0.0.9"]


@pytest.mark.parametrize(
    ("rows", "old", "new", "told"),
    [
        (
            EMRS,
            "$row.port",
            "$row.prot",
            "channels/x.yaml:8: destinations[1].to.mllp.port: the table emrs has no column `prot`;"
            " expected one of emr, host, port, ca; did you mean 'port'?",
        ),
        (
            EMRS,
            "for_each: emrs",
            "for_each: emr",
            "channels/x.yaml:5: destinations[1].for_each: there is no table tables/emr.csv;"
            " expected the name of a file in tables/, without ending; did you mean 'emrs'?",
        ),
        (EMRS, "for_each: emrs", "for_each: [emrs]", "channels/x.yaml:5: destinations[1].for_each: this is no table;"
         " expected the name of a file in tables/, without ending"),
        (
            EMRS.replace("2602", "many"),
            "",
            "",
            "channels/x.yaml:8: destinations[2].to.mllp.port: found text (row `b` of tables/emrs.csv);"
            " expected a whole number",
        ),
        (
            EMRS.replace("b,", "first,"),
            "",
            "",
            "channels/x.yaml:6: destinations[2].name: two destinations are called `first` (row `first` of"
            " tables/emrs.csv); expected every name once",
        ),
        (EMRS.replace(",x.pem", ""), "", "", "tables/emrs.csv:3: values: 3, columns of the table: 4;"
         " expected as many; a value with a comma in quotes"),
    ],
)  # fmt: skip
def test_a_fault_names_its_row(site: Make, rows: str, old: str, new: str, told: str) -> None:
    text = EACH.replace(old, new) if old else EACH
    found = [str(problem) for problem in site({"tables/emrs.csv": rows}).problems(text)]
    assert told in found
    assert len(found) == len(set(found))
