"""``batch:`` of a channel and of a destination: where it is on, what it means, what is told of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.plan import BatchPlan, JoinPlan, SitePlan
from engine.testing import load_for_tests

MLLP = "source: {mllp: {port: 2575}}\ndestinations: [{name: a, to: {discard: {}}}]\n"
CHANNEL = "source: {channel: {}}\ndestinations: [{name: a, to: {mllp: {host: localhost, port: 2601}}}]\n"
JOINED = """\
source: {mllp: {port: 2575}}
destinations:
  - {name: a, to: {mllp: {host: localhost, port: 2601}}, batch: %s}
"""
ASKED = JOINED.replace("mllp: {port: 2575}", "channel: {}") + "reply: {from: a}\n"


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
        (JOINED % "{count: 0}", "channels/x.yaml:3: destinations[0].batch.count"),
        (JOINED % "{count: 1001}", "channels/x.yaml:3: destinations[0].batch.count"),
        (JOINED % "{seconds: 0}", "channels/x.yaml:3: destinations[0].batch.seconds"),
        (JOINED % "{second: 5}", "did you mean 'seconds'?"),
        (JOINED % "{}, secret: [phone]", "channels/x.yaml:3: destinations[0].secret: `secret` is for JSON"),
        (JOINED % "{}" + "ack: {from: a}\n", "channels/x.yaml:4: ack.from: what `a` answers is for a batch"),
        (
            JOINED.replace("mllp: {port: 2575}", "channel: {}") % "{}" + "reply: {from: a}\n",
            "`batch` has no effect where",
        ),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, expected: str) -> None:
    plan = load(tmp_path, text)
    assert "x" not in plan.channels
    assert expected in "\n".join(map(str, plan.broken["x"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", JoinPlan(100, 5.0, False, "all")),
        ("{count: 500, seconds: 2m, file: true, answer: errors}", JoinPlan(500, 120.0, True, "errors")),
    ],
)
def test_what_goes_out_is_joined_where_the_file_says_so(tmp_path: Path, text: str, expected: JoinPlan) -> None:
    assert load(tmp_path, JOINED % text).channels["x"].destinations[0].batch == expected


def test_otherwise_every_delivery_goes_by_itself(tmp_path: Path) -> None:
    assert load(tmp_path, MLLP).channels["x"].destinations[0].batch is None
