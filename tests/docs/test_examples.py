"""Every example of the documentation loads through the real loader, and those with a result give that result."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.envelope import Origin
from engine.testing import load_for_tests, transform


def test_examples_load_without_a_complaint(examples: Any) -> None:
    plan = load_for_tests(examples.folder, examples.env)
    assert [str(problem) for problem in plan.problems if problem.level == "error"] == []
    assert set(examples.channels) <= set(plan.channels)


async def test_examples_give_what_the_page_says(examples: Any) -> None:
    plan = load_for_tests(examples.folder, examples.env)
    for channel, given, wanted in examples.runs:
        source = "mllp" if given.language == "hl7" else "rest"
        result = await transform(plan, channel, wire(given), origin=Origin(source))
        assert told(result, wanted) == wanted.text.strip(), f"{examples.page.name}: {channel}"


def test_every_page_with_steps_shows_what_they_do_or_loads_them(page: Any) -> None:
    if page.name.startswith(("docs/steps/", "docs/sources/", "docs/destinations/")):
        assert any(block.info in ("yaml channel", "yaml steps") for block in page.blocks)


def test_every_fenced_yaml_says_what_it_is(page: Any) -> None:
    """An example that is not marked would not be checked."""
    for block in page.blocks:
        if block.language == "yaml":
            # What is a file of Prometheus is looked at where the metrics are.
            known = block.role in ("channel", "steps", "site.yaml", "prometheus")
            assert known or block.role.startswith(("transforms/", "channels/")), block.info


@pytest.mark.parametrize("name", ["set", "copy", "delete", "build", "convert", "lookup", "keep", "drop", "template"])
def test_a_pure_step_is_shown_with_its_result(pages: dict[str, Any], name: str) -> None:
    assert any(block.role == "out" for block in pages[f"docs/steps/{name}.md"].blocks)


def wire(block: Any) -> bytes:
    """The bytes of an ``in`` block: HL7 segments end with CR."""
    if block.language == "hl7":
        return "".join(f"{line}\r" for line in block.text.strip().split("\n")).encode()
    return str(block.text).strip().encode()


def told(result: Any, wanted: Any) -> str:
    """What became of a message, in the form in which the page says it."""
    if wanted.language == "text":
        return f"{result.state}: {result.cause}" if result.cause else str(result.state)
    assert result.cause == ""
    body = result.sent["out"].decode()
    if wanted.language == "json":
        return str(wanted.text).strip() if json.loads(body) == json.loads(wanted.text) else body
    lines = body.rstrip("\r").split("\r")
    header, asked = lines[0].split("|"), wanted.text.split("\n")[0].split("|")
    for number, word in enumerate(asked):
        # What differs from run to run is written in round brackets.
        if word.startswith("(") and number < len(header) and header[number]:
            header[number] = word
    return "\n".join(["|".join(header), *lines[1:]])
