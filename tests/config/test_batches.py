"""``batch:`` of a channel: where it is on by itself, what it means, and what is told of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.plan import BatchPlan, SitePlan
from engine.testing import load_for_tests

MLLP = "source: {mllp: {port: 2575}}\ndestinations: [{name: a, to: {discard: {}}}]\n"
CHANNEL = "source: {channel: {}}\ndestinations: [{name: a, to: {mllp: {host: localhost, port: 2601}}}]\n"


def load(folder: Path, text: str) -> SitePlan:
    (folder / "channels").mkdir()
    (folder / "site.yaml").write_text("{}\n")
    (folder / "channels" / "x.yaml").write_text(text)
    return load_for_tests(folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MLLP, BatchPlan("all", "refuse")),
        (MLLP + "batch: none\n", None),
        (MLLP + "batch: {answer: one, on_count: report}\n", BatchPlan("one", "report")),
        (CHANNEL, None),
        (CHANNEL + "batch: {}\n", BatchPlan()),
        (CHANNEL + "reply: {from: a}\n", None),
    ],
)
def test_where_batches_are_split(tmp_path: Path, text: str, expected: BatchPlan | None) -> None:
    assert load(tmp_path, text).channels["x"].batch == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MLLP + "batch: {answer: non}\n", "channels/x.yaml:3: batch.answer"),
        (MLLP + "batch: {on_counts: report}\n", "did you mean 'on_count'?"),
        (CHANNEL + "reply: {from: a}\nbatch: {}\n", "channels/x.yaml:4: batch: a channel with `reply:` answers one"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, expected: str) -> None:
    plan = load(tmp_path, text)
    assert "x" not in plan.channels
    assert expected in "\n".join(map(str, plan.broken["x"]))
