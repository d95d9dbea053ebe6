"""`words:` of site.yaml: a slip of a site's own member is told there, with the nearest word or the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import load_site
from engine.errors import ConfigError

WORDS = """\
words:
  lab.version: {one_of: ["2.3", "2.5.1"], refused: {"2.7": there is no test system for it}}
  lab.orders: {one_of: [orm, oml], same: {omg: oml}}
rules:
  - when: {lab.version: "2.3", lab.orders: oml}
    because: OML came with 2.4
  - {when: {lab.version: "2.3"}, because: it is old, level: note}
"""


def told(folder: Path, lab: str, words: str = WORDS, name: str = "lab/words", env: dict[str, str] | None = None) -> str:
    """What loading says of a site whose `lab:` is this: its problems, one a line."""
    (folder / "transforms" / "lab").mkdir(parents=True, exist_ok=True)
    (folder / "channels").mkdir(exist_ok=True)
    (folder / "transforms" / "lab" / "words.yaml").write_text(words)
    (folder / "site.yaml").write_text(f"words: {name}\nlab: {lab}\n")
    try:
        problems = load_site(folder, folder / "data", env or {}).problems
    except ConfigError as error:
        problems = error.problems
    return "\n".join(str(problem) for problem in problems if problem.key)


@pytest.mark.parametrize(
    ("lab", "expected"),
    [
        ('{version: "2.5.1", orders: oml}', ""),
        ("{version: 2.5.1, orders: orm}", ""),
        (
            '{version: "2.5.1", orders: orrm}',
            "site.yaml:2: lab.orders: `orrm` is not known here; expected one of orm, oml; did you mean 'orm'?",
        ),
        (
            '{version: "2.7", orders: orm}',
            "site.yaml:2: lab.version: `2.7` cannot be: there is no test system for it; expected one of 2.3, 2.5.1",
        ),
        ('{version: "2.5.1", orders: omg}', "site.yaml:2: lab.orders: `omg` is taken for `oml`"),
        ('{version: "2.5.1"}', "site.yaml:2: lab.orders: `lab.orders` is missing; expected one of orm, oml"),
        ('{version: "2.5.1", orders: [orm]}', "site.yaml:2: lab.orders: found a list; expected one of orm, oml"),
        ('{version: "2.3", orders: orm}', "site.yaml:2: lab.version: `2.3`: it is old"),
    ],
)
def test_a_value_is_held_to_its_words(lab: str, expected: str, tmp_path: Path) -> None:
    assert told(tmp_path, lab) == expected


def test_values_that_do_not_go_together_are_told_at_the_last(tmp_path: Path) -> None:
    first, *_ = told(tmp_path, '{version: "2.3", orders: omg}').splitlines()
    assert "taken for" in first
    assert (
        "site.yaml:2: lab.orders: `oml` with lab.version 2.3 cannot be: OML came with 2.4"
        in told(tmp_path, '{version: "2.3", orders: omg}').splitlines()
    )


def test_another_word_is_replaced_in_what_channels_read(tmp_path: Path) -> None:
    told(tmp_path, '{version: "2.5.1", orders: omg}')
    (tmp_path / "channels" / "orders.yaml").write_text(
        "name: orders\nsource: {channel: {}}\ntransform:\n  - include: lab/$site.lab.orders\n"
        "destinations:\n  - {name: nowhere, to: {discard: {}}}\n"
    )
    (tmp_path / "transforms" / "lab" / "oml.yaml").write_text("- drop: {MSH-9.1: ACK}\n")
    assert not load_site(tmp_path, tmp_path / "data", {}).broken


def test_what_a_variable_filled_in_is_not_shown(tmp_path: Path) -> None:
    lab = '{version: "2.5.1", orders: "${LAB_ORDERS}"}'
    said = told(tmp_path, lab, env={"LAB_ORDERS": "s3cret"})
    assert said == "site.yaml:2: lab.orders: `${LAB_ORDERS}` is not known here; expected one of orm, oml"
    assert told(tmp_path, lab).count("lab.orders") == 1, "what is not set is told once"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("same: {omg: oml}", "same: {omg: olm}", "words.lab.orders.same.omg: this is no value of it"),
        ("because: OML came", "becuase: OML came", "rules[0].becuase: unknown key `becuase`"),
        ('"2.3", lab.orders: oml}', '"2.3", lab.order: oml}', "rules[0].when.lab.order: this member has no words"),
        ('"2.3", lab.orders: oml}', '"2.3", lab.orders: omL}', "rules[0].when.lab.orders: this is no value of it"),
        ("one_of: [orm, oml]", "one_of: []", "words.lab.orders.one_of: too few or too many"),
    ],
)
def test_a_slip_in_the_words_themselves_is_told_there(old: str, new: str, expected: str, tmp_path: Path) -> None:
    assert old in WORDS
    said = told(tmp_path, '{version: "2.5.1", orders: orm}', WORDS.replace(old, new))
    assert said.startswith("transforms/lab/words.yaml:")
    assert expected in said


def test_a_file_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    said = told(tmp_path, "{}", name="lab/word")
    assert said.startswith("site.yaml:1: words: there is no file transforms/lab/word.yaml")
    assert "lab/words" in said
