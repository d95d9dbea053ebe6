"""Pages name every word, key, state, code and command that the engine has, and none that it does not have."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.config import models, registry, settings
from engine.config.errors_table import _WORDS as EVIDENCE
from engine.delivery import DeliveryState, MessageState
from engine.errors import ERROR_TABLE
from engine.simulators.faults import MLLP_FAULTS, WEBHOOK_FAULTS
from engine.sources.serving.http_connection import BAD_REQUEST, HEAD_TOO_LARGE
from engine.sources.serving.listener import REQUEST_TIMEOUT
from engine.testing import load_for_tests
from engine.transforms.values import conditions, formats, missing, readers, sandbox
from engine.transforms.values import value as values
from engine.units import parse_duration, parse_size

KINDS = ("sources", "steps", "destinations")


def registered() -> list[tuple[str, str]]:
    """Kind and word of every entry point in pyproject.toml."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    return [(kind, word) for kind in KINDS for word in project["entry-points"][f"hl7engine.{kind}"]]


# -- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "word"), registered())
def test_every_word_has_its_page_with_every_key_and_default(pages: dict[str, Any], kind: str, word: str) -> None:
    page = pages[f"docs/{kind}/{word}.md"]
    assert page.text.startswith(f"# `{word}`")
    config = registry.component(kind, word).Config  # type: ignore[arg-type]
    check_keys(page, {key: field for model in of(config) for key, field in keys(model)})


def test_there_is_no_page_for_a_word_that_does_not_exist(pages: dict[str, Any]) -> None:
    shown = {tuple(name.removesuffix(".md").split("/")[1:]) for name in pages if name.count("/") == 2}
    assert shown == set(registered())


def test_the_channel_page_has_every_key_of_a_channel(pages: dict[str, Any]) -> None:
    wanted = dict(keys(models.ChannelPart))
    inside = {
        "destinations[]": models.DestinationPart,
        "reply": models.ReplyPart,
        "idempotency": models.IdempotencyPart,
    }
    for prefix, model in inside.items():
        wanted |= {f"{prefix}.{key}": field for key, field in keys(model)}
    check_keys(pages["docs/channel.md"], wanted)


def test_the_site_page_has_every_key_of_site_yaml(pages: dict[str, Any]) -> None:
    check_keys(pages["docs/site.md"], dict(keys(settings.SiteSettings)))


def test_the_errors_page_has_every_key_of_an_error_rule(pages: dict[str, Any]) -> None:
    check_keys(pages["docs/errors.md"], dict(keys(models.RulePart)))


def check_keys(page: Any, wanted: dict[str, FieldInfo]) -> None:
    rows = {row[0].strip("`"): row for row in page.rows("Key")}
    assert sorted(rows) == sorted(wanted), f"{page.name}: keys of the page, keys of the code"
    for key, field in wanted.items():
        assert is_default(rows[key][1], field), f"{page.name}: {key} is {field.get_default(call_default_factory=True)}"
        assert rows[key][2], f"{page.name}: {key} has no meaning"


def is_default(cell: str, field: FieldInfo) -> bool:
    """Whether a page's cell says what the model does when the key is left out."""
    if field.is_required():
        return cell == "required"
    default = field.get_default(call_default_factory=True)
    if default is None or default in ((), [], {}, ""):
        return cell == "none"
    if isinstance(default, BaseModel):
        return cell == "see below"
    written = yaml.safe_load(cell.strip("`"))
    return any(same(read, written, default) for read in (str, lambda text: text, parse_duration, parse_size))


def same(read: Any, written: Any, default: Any) -> bool:
    try:
        found = [read(item) for item in written] if isinstance(written, list) else read(written)
    except (ValueError, TypeError):
        return False
    return found == default or (isinstance(default, Path) and found == str(default))


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a model with its place: ``retry.backoff``, ``query.NAME.required``."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        yield key, field
        for inner in of(field.annotation):
            yield from keys(inner, f"{key}.{'NAME.' if is_mapping(field.annotation) else ''}")


def of(annotation: Any) -> Iterator[Any]:
    """The models inside of a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for inner in get_args(annotation):
        yield from of(inner)


def is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, UnionType, Annotated):
        return any(is_mapping(inner) for inner in get_args(annotation))
    return origin is dict


# -- words ---------------------------------------------------------------------------------------------------------


def words(page: Any, first: str) -> set[str]:
    """What stands in the first column of the tables with that head; several words of one row are apart by commas."""
    return {word for row in page.rows(first) for word in re.findall(r"`([^`]+)`", row[0])}


def test_values_page_has_every_word_of_a_value(pages: dict[str, Any]) -> None:
    page = pages["docs/values.md"]
    assert words(page, "Word") == set(values._LONG)
    assert words(page, "Format") == set(formats.FORMATS)
    assert words(page, "Test") == set(conditions._WORDS)
    assert words(page, "Otherwise") == {*missing._WORDS, "{error: CODE}"}
    roots = {word.removeprefix("$").split(".")[0] for word in words(page, "Variable")}
    assert roots == {*readers.ROOTS, "site", "name"}


def test_values_page_has_everything_a_template_may_use(pages: dict[str, Any]) -> None:
    prose = pages["docs/values.md"].prose
    for title, known in (("Filters", sandbox._FILTERS), ("Tests", sandbox._TESTS)):
        found = re.search(rf"^{title}: (.+?)\.$", prose, re.MULTILINE | re.DOTALL)
        assert found
        assert set(re.findall(r"`(\w+)`", found[1])) == known


@pytest.mark.parametrize("name", ["README.md", "docs/operating.md"])
def test_states_are_those_of_the_engine(pages: dict[str, Any], name: str) -> None:
    page = pages[name]
    assert words(page, "State of a message") == {str(state) for state in MessageState}
    assert words(page, "State of a delivery") == {str(state) for state in DeliveryState}


def test_readme_has_the_words_of_the_connectors_and_steps(pages: dict[str, Any]) -> None:
    text = pages["README.md"].text
    for kind, word in registered():
        assert f"docs/{kind}/{word}.md" in text


def test_every_fault_of_the_simulators_is_told_with_its_parameters(pages: dict[str, Any]) -> None:
    page = pages["docs/simulators.md"]
    for head, known in (("Fault of an MLLP partner", MLLP_FAULTS), ("Fault of the webhook", WEBHOOK_FAULTS)):
        rows = {row[0].strip("`"): row[1] for row in page.rows(head)}
        told = {name: set(re.findall(r"`(\w+)`", cell)) for name, cell in rows.items()}
        assert told == {name: set(settings) for name, settings in known.items()}


# -- errors --------------------------------------------------------------------------------------------------------


def test_every_code_is_told_with_status_and_sentence(pages: dict[str, Any]) -> None:
    engine = {**ERROR_TABLE, **{row.code: row for row in (REQUEST_TIMEOUT, BAD_REQUEST, HEAD_TOO_LARGE)}}
    check_codes(pages["docs/errors.md"].rows("Code"), engine)


def test_every_code_of_the_reference_site_is_told(pages: dict[str, Any], root: Path) -> None:
    found: dict[str, Any] = {}
    for channel in load_for_tests(root).channels.values():
        if channel.reply is not None:
            found |= {code: row for code, row in channel.reply.rows.items() if row != ERROR_TABLE.get(code)}
    page = pages["docs/errors.md"]
    told = {row[0].strip("`"): (row[1], row[2]) for row in page.rows("Site code")}
    assert {code: row[0] for code, row in told.items()} == {code: str(row.status) for code, row in found.items()}
    for code, row in found.items():
        # Of a time-out queries and bookings have sentences of their own.
        assert row.message in told[code][1] or code == "ris_timeout"


def check_codes(rows: list[list[str]], wanted: dict[str, Any]) -> None:
    told = {row[0].strip("`"): (row[1], row[2], row[3]) for row in rows}
    expected = {code: (str(row.status), row.message, "yes" if row.retryable else "no") for code, row in wanted.items()}
    assert told == expected


def test_every_word_of_evidence_is_told(pages: dict[str, Any]) -> None:
    assert words(pages["docs/errors.md"], "Evidence") == {*EVIDENCE}


def test_every_cause_is_told(pages: dict[str, Any], root: Path) -> None:
    told = words(pages["docs/errors.md"], "Cause")
    assert step_causes(root) <= told
    for error, word in (("Unavailable", "unavailable"), ("Unanswered", "unanswered")):
        found = {f"{word} {reason}" for reason in literals(root, error, 0) if " " not in reason}
        assert found <= told, f"{error} without a word on the page"
    everything = "".join(path.read_text() for path in (root / "engine").rglob("*.py"))
    everything += "".join(path.read_text() for path in (root / "transforms").glob("*.py"))
    for cause in told:
        assert all(word in everything for word in re.findall(r"[a-z_]+", cause)), f"no {cause} in the engine"


def step_causes(root: Path) -> set[str]:
    """The second argument of every StepFailed, and the cause of every `missing:`."""
    return literals(root, "StepFailed", 1) | literals(root, "missing_policy", 3)


def literals(root: Path, name: str, position: int) -> set[str]:
    """The texts that calls of ``name`` have at ``position``."""
    found: set[str] = set()
    for path in (root / "engine").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name and len(node.args) > position:
                argument = node.args[position]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    found.add(argument.value)
    return found
