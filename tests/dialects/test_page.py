"""`docs/ris-dialects.md` has every combination, and each cell names the test that shows it."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from tests.dialects.combinations import ALL, IMPOSSIBLE, POSSIBLE, VERSIONS, Words, is_possible, named

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ris-dialects.md").read_text("utf-8")


def table(combinations: Iterable[Words]) -> list[str]:
    """The page's table: a row for all words but the version, a column for each version."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for words in combinations:
        version, *others = words.values()
        cell = f"`{named(words)}`" if is_possible(words) else f"no: `{named(words)}`"
        rows.setdefault(tuple(others), {})[version] = cell
    head = ["`locations`", "`slots`", "`booking`", "`order_control`", *VERSIONS]
    lines = [head, ["---"] * len(head)]
    lines += [[*others, *(cells[version] for version in VERSIONS)] for others, cells in rows.items()]
    return [f"| {' | '.join(line)} |" for line in lines]


def test_the_table_is_that_of_the_tests() -> None:
    shown = [line for line in PAGE.splitlines() if line.startswith(("| `locations` | `slots`", "| qry", "| mfq"))]
    wanted = table(ALL)
    assert shown == [wanted[0], *wanted[2:]], "\n".join(["write into docs/ris-dialects.md:", *wanted])


def test_every_cell_is_a_test() -> None:
    cells = set(re.findall(r"`(2\.[\d.]+-\w+-\w+-\w+-\w+)`", PAGE))
    assert cells == {named(words) for words in (*POSSIBLE, *IMPOSSIBLE)}


@pytest.mark.parametrize("member", ["version", "locations", "slots", "booking", "order_control"])
def test_the_combinations_are_all_that_site_yaml_may_say(member: str) -> None:
    words = yaml.safe_load((ROOT / "transforms" / "ris" / "words.yaml").read_text("utf-8"))["words"]
    assert {each[member] for each in ALL} == set(words[f"ris.{member}"]["one_of"])
    assert all(f"`{value}`" in PAGE or f'`"{value}"`' in PAGE for value in words[f"ris.{member}"]["one_of"])
