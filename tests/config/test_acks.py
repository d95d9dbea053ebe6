"""``ack:`` and ``duplicates:``: what they mean, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.plan import ACKS, ChannelPlan, Duplicates, SitePlan
from engine.testing import load_for_tests

SOURCE = "source: {mllp: {port: 2575}}\n"
WAY = SOURCE + "destinations: [{name: a, to: {mllp: {host: localhost, port: 2601}}}, {name: b, to: {discard: {}}}]\n"
JSON = "source: {channel: {}}\ndestinations: [{name: a, to: {mllp: {host: localhost, port: 2601}}}]\n"


class Made:
    """A site of one channel, with the connectors that there are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, text: str) -> SitePlan:
        (self.folder / "channels").mkdir(exist_ok=True)
        (self.folder / "site.yaml").write_text("{}\n")
        (self.folder / "channels" / "x.yaml").write_text(text)
        return load_for_tests(self.folder)

    def plan(self, text: str) -> ChannelPlan:
        return self.load(text).channels["x"]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_the_defaults(made: Made) -> None:
    plan = made.plan(WAY)
    assert (plan.ack, plan.ack_from, plan.ack_to, plan.duplicates) == (
        "received",
        "",
        None,
        Duplicates(86400.0, "deliver"),
    )
    assert made.plan(JSON).duplicates is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("none", None), ("{window: 1h}", Duplicates(3600.0)), ("{changed: park}", Duplicates(changed="park"))],
)
def test_duplicates(made: Made, text: str, expected: Duplicates | None) -> None:
    assert made.plan(WAY + f"duplicates: {text}\n").duplicates == expected


def test_an_answer_that_is_passed_on(made: Made) -> None:
    plan = made.plan(WAY + "ack: {from: a}\nack_deadline: 5s\n")
    assert (plan.ack, plan.ack_from, plan.ack_deadline) == ("delivered", "a", 5.0)


def test_a_connection_for_application_acks(made: Made) -> None:
    plan = made.plan(
        WAY + "ack: {when: routed, accept: NE, retry: {backoff: [2s]}, to: {mllp: {host: localhost, port: 2602}}}\n"
    )
    assert (plan.ack, plan.ack_accept, plan.ack_to.name, plan.ack_to.retry.backoff) == ("routed", "NE", ACKS, (2.0,))
    assert [item.name for item in plan.outlets] == ["a", "b", ACKS]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WAY + "ack: {from: c}\n", "3: ack.from: no destination of this channel is called `c`; expected one of a, b"),
        (
            WAY + "ack: {from: b}\n",
            "3: ack.from: `discard` gives no answer that could be passed on;"
            " expected a destination that answers, such as mllp",
        ),
        (
            WAY + "ack: {from: a, when: routed}\n",
            "3: ack.when: an answer is passed on when it comes: `when` has no effect beside `from`;"
            " expected one of the two",
        ),
        (
            WAY + "ack: {accept: NE}\n",
            "3: ack.accept: `accept` is of the connection for application acks; expected `to`, or no key",
        ),
        (
            WAY + "ack: {to: {discard: {}}}\n",
            "3: ack.to: an application ack goes out by MLLP; expected `mllp:` with host and port",
        ),
        (
            JSON + "ack: {from: a}\n",
            "3: ack: this source gives no HL7 acknowledgements;"
            " expected `mllp` as the source, or `reply:` for one that answers with a body",
        ),
        (
            WAY.replace("name: b", f"name: {ACKS}") + "ack: {to: {mllp: {host: localhost, port: 2602}}}\n",
            "2: destinations[1].name: `acks` is the name of the connection for application acks; expected another name",
        ),
        (
            WAY + "duplicates: {changed: drop}\n",
            "3: duplicates.changed: `drop` is not known here; expected one of deliver, refuse, park",
        ),
    ],
)
def test_what_does_not_go_together_is_told(made: Made, text: str, expected: str) -> None:
    assert [str(problem) for problem in made.load(text).broken["x"]] == [f"channels/x.yaml:{expected}"]
