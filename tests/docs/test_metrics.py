"""The page on metrics has every family as the code has it, and its examples name none that does not exist."""

from __future__ import annotations

import re
from typing import Any

import yaml

from engine.runtime.metrics import CLASSES, FAMILIES, OTHER, OUTCOMES
from engine.spread import BOUNDS

NAMES = {f"{family.name}_total" if family.kind == "counter" else family.name: family for family in FAMILIES}
#: Of the library, and of the format.
OF_PROCESSES = {f"hl7engine_writing_process_{name}" for name in ("cpu_seconds_total",)}
OF_HISTOGRAMS = {
    f"{name}_{end}" for name, it in NAMES.items() if it.kind == "histogram" for end in ("bucket", "count", "sum")
}


def test_the_table_has_every_family(pages: dict[str, Any]) -> None:
    rows = {row[0].strip("`"): row[1:] for row in pages["docs/metrics.md"].rows("Metric")}
    assert rows == {
        name: [family.kind, ", ".join(f"`{label}`" for label in family.labels), family.says]
        for name, family in NAMES.items()
    }


def test_every_name_of_the_page_exists(pages: dict[str, Any]) -> None:
    text = pages["docs/metrics.md"].text
    named = set(re.findall(r"hl7engine_\w+", text)) - {"hl7engine_writing_"}
    assert named <= {*NAMES, *OF_HISTOGRAMS, *OF_PROCESSES}
    for word in (*OUTCOMES.values(), *CLASSES.values(), OTHER):
        assert f"`{word}`" in text or word == "3xx" or word.endswith("xx"), word
    assert len(BOUNDS) == 10, "the page names them"


def test_the_alerts_and_the_scrape_are_yaml_with_their_labels(pages: dict[str, Any]) -> None:
    blocks = pages["docs/metrics.md"].blocks
    scrape, alerts = (yaml.safe_load(block.text) for block in blocks if block.role == "prometheus")
    assert scrape["scrape_configs"][0]["static_configs"] == [{"targets": ["127.0.0.1:8090"]}]
    rules = alerts["groups"][0]["rules"]
    assert len(rules) == 3
    for rule in rules:
        for name, matched in re.findall(r"(hl7engine_\w+)(?:\{(\w+)=)?", rule["expr"]):
            assert not matched or matched in NAMES[name].labels
