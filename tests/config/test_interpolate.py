from pathlib import Path
from typing import Any

import pytest

from engine.config.interpolate import Variables, fill
from engine.config.yaml import Document, parse

ENV = {"HOST": "10.0.0.7", "PORT": "2602", "EMPTY": "", "TOKEN": "s3cret: {x: [1]}", "EPIC_HOST": "epic"}


def filled(text: str, folder: Path = Path(), env: dict[str, str] | None = None) -> Document:
    document = parse(text.encode(), "channels/x.yaml")
    fill(document, Variables(ENV if env is None else env, folder))
    return document


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${HOST}", "10.0.0.7"),
        ("mllp://${HOST}:${PORT}/", "mllp://10.0.0.7:2602/"),
        ("${NONE:-127.0.0.1}", "127.0.0.1"),
        ("${NONE:-}", ""),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("${HOST:-x}", "10.0.0.7"),
        ("${HOST:?why}", "10.0.0.7"),
        ("${NONE:-a:-b}", "a:-b"),
        ("$${HOST}", "${HOST}"),
        ("$body.id and $HOST", "$body.id and $HOST"),
        ("{{ body.x }}", "{{ body.x }}"),
    ],
)
def test_forms(written: str, value: str) -> None:
    document = filled(f"a: '{written}'")
    assert document.value == {"a": value}
    assert not document.problems


def test_a_value_of_the_environment_cannot_change_the_structure() -> None:
    assert filled("a: ${TOKEN}").value == {"a": "s3cret: {x: [1]}"}


def test_keys_are_left_alone_and_numbers_stay_numbers() -> None:
    assert filled("{'${HOST}': [1, true, null, '${PORT}']}").value == {"${HOST}": [1, True, None, "2602"]}


@pytest.mark.parametrize(
    ("written", "message", "nearest"),
    [
        ("${EPIC_HOTS}", "the environment has no `EPIC_HOTS`", "EPIC_HOST"),
        ("x ${NONE} y", "the environment has no `NONE`", ""),
        ("${EMPTY:?the RIS needs it}", "the environment has no `EMPTY`: the RIS needs it", ""),
        ("${HOST", "a `${` without its end", ""),
        ("${}", "a `${…}` that cannot be read", ""),
        ("${1X}", "a `${…}` that cannot be read", ""),
        ("${HOST:default}", "a `${…}` that cannot be read", ""),
        ("${file:/nowhere/at/all}", "there is no file `/nowhere/at/all`", ""),
    ],
)
def test_what_cannot_be_filled_in_is_a_problem_where_it_stands(written: str, message: str, nearest: str) -> None:
    document = filled(f"a: 1\nb:\n  - c: '{written}'\n")
    ((problem),) = document.problems
    assert (problem.line, problem.key, problem.message, problem.nearest) == (3, "b[0].c", message, nearest)
    assert document.spoiled(("b", 0, "c"))
    assert not document.spoiled(("a",))


def test_one_variable_behind_an_alias_is_one_problem() -> None:
    assert len(filled("a: &a {x: '${NONE}'}\nb: *a\nc: *a\n").problems) == 1


def test_a_file_is_read_relative_to_the_site_without_its_last_line_break(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    document = filled("a: 'Bearer ${file:token}'\nb: '${file:%s}'" % (tmp_path / "token"), tmp_path)
    assert document.value == {"a": "Bearer abc", "b": "abc"}


def test_a_file_that_is_no_text_or_too_large_is_a_problem_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_text("secret" * 20000)
    document = filled("a: ${file:binary}\nb: ${file:large}\nc: ${file:.}\n", tmp_path)
    assert [problem.line for problem in document.problems] == [1, 2, 3]
    assert "secret" not in str(document.problems)


def test_problems_never_show_what_the_environment_holds() -> None:
    document: Any = filled("a: '${TOKEN} ${TOKEM}'")
    assert "s3cret" not in str(document.problems)
    assert document.problem((), "`s3cret: {x: [1]}` is wrong").message == "`${TOKEN}` is wrong"
    assert document.written(("a",)) == "${TOKEN} ${TOKEM}", "what a message may quote is what stands in the file"
