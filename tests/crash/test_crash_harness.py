"""The crash harness for twenty kills, and that it would see what must never be.

The seed is printed; ``HL7ENGINE_CRASH_SEED`` repeats its kills and its traffic. ``make crash`` is the long run.
"""

import os
import random
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from . import errands, keeping, messages, plan, points, report, stock
from .account import Account, account
from .harness import Harness
from .journal import Arrival, Booking, Journal, Sent
from .person import Person
from .shim import Disk, is_possible
from .site import Site
from .stock import Row

KILLS = 20


@pytest.mark.timeout(300)
async def test_twenty_kills_lose_nothing_keep_the_order_and_mark_what_comes_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_possible() or "HL7ENGINE_REQUIRE_ALL" not in os.environ, "cc is not here"
    seed = int(os.environ.get("HL7ENGINE_CRASH_SEED") or random.randrange(1_000_000))
    disk = Disk(tmp_path) if is_possible() else None
    told: list[str] = []
    harness = Harness(tmp_path, seed, disk, told.append)
    outcome = await harness.run(list(plan.kills(seed, KILLS, disk is not None)), KILLS, time.monotonic())
    with capsys.disabled():
        print(f"\n  seed {seed}: {'; '.join(told)}")
    assert not outcome.violations, report.text(outcome)
    # A stop that was over before its point came is no kill.
    assert outcome.kills >= KILLS - 3
    assert len(outcome.died_at) >= KILLS // 4
    assert outcome.total.acknowledged > 100
    assert outcome.total.bookings > 0
    assert outcome.total.acks > 0
    assert outcome.total.repetitions > 0
    assert outcome.removed > 0
    assert len(outcome.errands) >= len(harness.errands.shares) // 2


def test_a_seed_gives_the_same_kills_and_every_point_is_among_a_thousand() -> None:
    first, second = (list(plan.kills(7, 1000, True)) for _ in range(2))
    assert first == second
    assert first[:20] == list(plan.kills(7, 20, True))
    assert first != list(plan.kills(8, 1000, True))
    assert {kill.point for kill in first} >= set(plan.known(True))
    assert {kill.errand for kill in first[:20]} >= set(points.ERRANDS.values())
    assert {kill.how for kill in first} >= {"apart", "writer", "both"}
    assert {kill.how for kill in first if kill.point.startswith("writer.wal")} == {"writer"}
    assert max(kill.nth for kill in first if kill.point.startswith("writer.wal.write")) > 100, "inside of a batch"
    for how in ("moment", "start"):
        assert {kill.apart for kill in first if kill.how == how} == {True, False}


def test_a_pruning_is_waited_for_while_something_comes_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A busy machine takes long; what hangs is told with what it had done."""

    def run(began: str, ended: str | None, size: int) -> dict[str, Any]:
        return {"began_at": began, "ended_at": ended, "bytes": size}

    runs = [run("1", None, 1), run("1", None, 2), run("1", "now", 3)]

    def tell(*_: Any) -> None:
        raise TimeoutError

    def ask(*_: Any) -> dict[str, Any]:
        return {"pruning": {"last": runs.pop(0)}}

    monkeypatch.setattr(errands, "SECONDS", 0.0)
    person = cast("Person", SimpleNamespace(tell=tell, ask=ask))
    somebody = errands.Errands(cast("Site", None), person, tmp_path / "backups", None)
    somebody.prune()
    assert not runs
    runs += [run("1", None, 1), run("2", None, 1)]  # another one is not waited for
    somebody.prune()
    assert not runs
    runs += [run("1", None, 1)] * 2
    with pytest.raises(TimeoutError, match="'bytes': 1"):
        somebody.prune()


def test_a_seed_gives_the_same_message_for_a_number() -> None:
    assert messages.note(5, "A1", True) == messages.note(5, "A1", True)
    assert messages.number_of(messages.field(messages.note(5, "A1", True).body, "MSH", 10)) == 5


# -- the account sees what must never be ---------------------------------------------------------------------------

#: A message that goes to ``steady`` alone.
NUMBER = 16


def told(*answers: str, arrivals: str = "AA", state: str = "delivered", marked: bool = False) -> Account:
    """The account of one message: what its sender was told, what its partner said each time, what the engine says."""
    journal = Journal()
    message = messages.note(NUMBER, "A1", False)
    journal.sent[NUMBER] = Sent(message, list(answers))
    for place, answer in enumerate(arrivals.split()):
        journal.arrivals["steady"].append(Arrival(NUMBER, "A1", place, place, answer.replace("-", "")))
    return account(journal, rows(state), lambda *_: [{"may_be_duplicated": marked}])


def rows(state: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    if state:
        row = {"state": "routed", "ack": "AA", "cause": "", "deliveries": [{"destination": "steady", "state": state}]}
        found["notes"][messages.control_id(NUMBER)].append(row)
    return found


def test_a_message_that_is_delivered_or_visible_is_accounted_for() -> None:
    assert told("AA").violations == []
    assert told("AA").delivered == 1
    assert told("AA", arrivals="", state="held").visible == 1
    assert told(arrivals="", state="").violations == []
    assert told("CA", "AA").violations == []


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        pytest.param(told("AA", arrivals="", state=""), "lost", id="acknowledged and not stored"),
        pytest.param(told("AA", arrivals="", state="queued"), "lost", id="waits for ever"),
        pytest.param(told("AA", arrivals="", state="delivered"), "lost", id="never arrived"),
        pytest.param(told("AA", arrivals="AE", state="delivered"), "lost", id="was refused"),
        pytest.param(told("AA", arrivals="AA AA"), "unexplained", id="twice without a mark"),
        pytest.param(told("AA", arrivals="- AA"), "unexplained", id="again after silence, without a mark"),
        pytest.param(told("AA", "AE"), "wrong", id="acknowledged twice differently"),
        pytest.param(told("AE"), "wrong", id="told otherwise than stored"),
        pytest.param(told("AR"), "wrong", id="refused and delivered"),
    ],
)
def test_a_violation_is_seen(found: Account, kind: str) -> None:
    assert getattr(found, kind)
    assert found.violations


def test_a_repetition_with_a_mark_or_after_a_refusal_is_explained() -> None:
    assert told("AA", arrivals="AA AA", marked=True).violations == []
    assert told("AA", arrivals="207 AA").violations == []


def test_what_overtakes_or_passes_a_held_one_is_seen() -> None:
    journal = Journal()
    for number in (1, 2, 3):
        journal.sent[number] = Sent(messages.note(number, "A1", False))
    for name, sequence in (("steady", (1, 3, 2)), ("cautious", (1, 2))):
        for place, number in enumerate(sequence):
            answer = "" if (name, number) == ("cautious", 1) else "AA"
            journal.arrivals[name].append(Arrival(number, "A1", 1, place, answer))
    found = account(journal, rows(""), lambda *_: [])
    assert len(found.out_of_order) == 2


def test_a_booking_that_is_answered_twice_differently_is_seen() -> None:
    journal = Journal()
    journal.bookings[5] = Booking(5, [(504, ""), (201, "M1"), (201, "M2")])
    journal.requests[5] += [("M1", ""), ("M2", "AA")]
    found = account(journal, rows(""), lambda *_: [])
    assert len(found.wrong) == 2
    assert len(found.lost) == 1


def letter(channel: str, *answers: str, acks: tuple[tuple[str, str], ...] = (), kept: tuple[Row, ...] = ()) -> Account:
    """The account of one message of ``later`` or ``again`` that its partner took once."""
    journal, partner = Journal(), {"later": "late", "again": "again"}[channel]
    journal.sent[NUMBER] = Sent(messages.letter(NUMBER, channel, "A1"), list(answers))
    journal.arrivals[partner].append(Arrival(NUMBER, "A1", 1, 0, "AA"))
    if acks:
        journal.acks[NUMBER] += acks
    found: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    delivered = [{"destination": partner, "state": "delivered"}]
    row: Row = {"state": "routed", "ack": "AA", "cause": "", "deliveries": delivered}
    found[channel][messages.control_id(NUMBER)] += [row, *kept]
    return account(journal, found, lambda *_: [])


COPY: Row = {"state": "filtered", "ack": "AA", "cause": "duplicate 1", "deliveries": []}


def test_acks_on_their_own_connection_and_repetitions_are_accounted_for() -> None:
    told = letter("later", "CA", acks=(("AA", "E1"), ("AA", "E1")))
    assert (told.violations, told.acks) == ([], 1)
    repeated = letter("again", "AA", "AA", kept=(COPY,))
    assert (repeated.violations, repeated.repetitions) == ([], 1)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        pytest.param(letter("later", "CA"), "lost", id="the application ack never came"),
        pytest.param(letter("later", "CA", acks=(("AA", "E1"), ("AE", "E1"))), "wrong", id="first yes, then no"),
        pytest.param(letter("later", "CA", acks=(("AA", "E1"), ("AA", "E2"))), "wrong", id="one ack as two messages"),
        pytest.param(letter("later", "CA", acks=(("AE", "E1"),)), "wrong", id="another ack than the store has"),
        pytest.param(letter("again", "AA", "AE", kept=(COPY,)), "wrong", id="a repetition is told otherwise"),
        pytest.param(letter("again", "AA", kept=({**COPY, "cause": ""},)), "wrong", id="a repetition is kept"),
    ],
)
def test_an_ack_that_is_missing_or_another_is_seen(found: Account, kind: str) -> None:
    assert getattr(found, kind)


# -- what is removed, and what is left on the disk -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"state": "filtered", "deliveries": []}, ""),
        ({"state": "received"}, "is received"),
        ({"ack": "owed"}, "owes its ack"),
        ({"deliveries": [{"destination": "steady", "state": "parked"}]}, "is parked at steady"),
    ],
)
def test_only_what_is_finished_may_be_removed(changed: Row, why: str) -> None:
    finished: Row = {"state": "routed", "ack": "AA", "deliveries": [{"destination": "steady", "state": "delivered"}]}
    assert stock.unfinished({**finished, **changed}) == why


@pytest.mark.parametrize("state", ["queued", "sending", "held", "parked", "unknown"])
def test_what_was_open_and_is_gone_without_a_trace_is_seen(tmp_path: Path, state: str) -> None:
    row: Row = {
        "id": 7,
        "channel": "notes",
        "control_id": "C1",
        "deliveries": [{"destination": "dead", "state": state}],
    }
    stored = [row]
    person = SimpleNamespace(
        newest=lambda down_to: list(stored),
        open_messages=lambda: {row["id"] for row in stored},
        deliveries=lambda _: None,
    )
    looked = stock.Stock(cast("Any", person), tmp_path / "removed")
    looked.rows()
    stored.clear()
    looked.rows()
    assert looked.wrong == ["message 7 was not finished, and is gone"]


def test_a_backup_that_is_not_whole_or_not_there_is_seen(tmp_path: Path) -> None:
    assert keeping._backup(tmp_path / "monday", False, {}) == []
    assert "is not there" in keeping._backup(tmp_path / "monday", True, {})[0]
    (tmp_path / "monday").mkdir()
    assert "broken off" in keeping._backup(tmp_path / "monday", False, {})[0]
