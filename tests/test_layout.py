"""The house rules that a machine can hold: one word, one file, one test; small modules; annotated functions."""

from __future__ import annotations

import ast
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

import engine

ENGINE = Path(engine.__file__).parent
TESTS = Path(__file__).parent
FOLDERS = {"sources": "sources", "steps": "transforms", "destinations": "destinations"}
COMPONENTS = [
    pytest.param(point, folder, id=f"{folder}/{point.name}")
    for kind, folder in FOLDERS.items()
    for point in entry_points(group=f"hl7engine.{kind}")
    if point.module.startswith("engine.")
]
STEPS = {"keep", "drop", "set", "copy", "delete", "build", "lookup", "convert", "include", "require"}
STEPS |= {"answer", "query_database", "remember", "recall", "ask", "resolve", "template", "python", "validate"}
MODULES = sorted(ENGINE.rglob("*.py"))


def functions(module: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_the_words_of_the_design_are_registered() -> None:
    words = {kind: {point.name for point in entry_points(group=f"hl7engine.{kind}")} for kind in FOLDERS}
    assert words["sources"] >= {"rest", "mllp", "channel"}
    assert words["destinations"] >= {"mllp", "rest", "channel", "file", "discard"}
    assert words["steps"] >= STEPS


@pytest.mark.parametrize("folder", FOLDERS.values())
def test_the_listing_of_a_folder_answers_what_can_be_written(folder: str) -> None:
    kind = next(kind for kind, name in FOLDERS.items() if name == folder)
    files = {file.stem for file in (ENGINE / folder).glob("*.py")} - {"__init__", "base"}
    assert files == {
        point.name for point in entry_points(group=f"hl7engine.{kind}") if point.module.startswith("engine.")
    }


@pytest.mark.parametrize(("point", "folder"), COMPONENTS)
def test_a_word_is_a_file_with_a_test(point: EntryPoint, folder: str) -> None:
    assert point.module == f"engine.{folder}.{point.name}"
    assert point.load().__doc__, "what an admin can write needs a sentence"
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (TESTS / folder).glob("test_*.py"))
    assert point.attr in tests or f"{point.name}:" in tests or f'"{point.name}"' in tests


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ENGINE)))
def test_modules_stay_small_and_say_what_they_are(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    assert ast.get_docstring(ast.parse(text)), "a module says what it is"
    for function in functions(module):
        assert (function.end_lineno or 0) - function.lineno < 60, f"{function.name} is long"
        assert function.returns is not None, f"{function.name} says what it returns"
