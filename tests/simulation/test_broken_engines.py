"""A simulation that finds nothing proves nothing: engines broken on purpose are caught."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest

from engine.destinations import mllp as mllp_destination
from engine.envelope import Ack
from engine.errors import StoreError
from engine.hl7.answer import read_ack
from engine.hl7.modes import Wanted
from engine.runtime import lane_keys, reading, reload, supervisor
from engine.runtime.acknowledge import Acknowledgements
from engine.runtime.deliver import Lanes
from engine.runtime.doubt import Doubt
from engine.runtime.duplicates import Seen
from engine.runtime.item import Item
from engine.runtime.pace import Pace
from engine.runtime.pruning import STATES, Pruning
from engine.runtime.window import Window
from engine.store import database, keeping, queries
from engine.store.absent import Absent
from engine.store.base import Accept, Settle
from engine.store.process.wire import IN_DOUBT
from engine.store.process.writing import WritingProcess
from engine.store.sqlite import SqliteStore
from engine.store.transaction import Transaction
from simulation.choose import choose
from simulation.disk import Trouble
from simulation.run import Simulation, simulate
from simulation.workload import Act, Death, Workload, Writing
from simulation.world import World as Chance

#: Seeds within which each must be caught.
WITHIN = 400

Break = Callable[[pytest.MonkeyPatch], None]
World = Callable[[Simulation], None]


def told_early(kind: type[Any]) -> Break:
    """Whoever waits for a commit of this kind of operation is told at once that it is done."""

    def break_it(patch: pytest.MonkeyPatch) -> None:
        real = SqliteStore.commit

        def commit(self: SqliteStore, operations: Sequence[Any], told: Callable[[StoreError | None], object]) -> None:
            if any(isinstance(operation, kind) for operation in operations):
                real(self, operations, lambda _: None)
                asyncio.get_running_loop().call_soon(told, None)
            else:
                real(self, operations, told)

        patch.setattr(SqliteStore, "commit", commit)

    return break_it


def overtaking(patch: pytest.MonkeyPatch) -> None:
    """Every message has a lane of its own, whatever its key is."""
    keys = itertools.count()
    patch.setattr(lane_keys, "key_of", lambda order, body, hashed: hashed(f"lane {next(keys)}"))
    read = reading.reader
    patch.setattr(
        reading,
        "reader",
        lambda order, named, hashed: (
            lambda body, query: (
                hashed(f"lane {next(keys)}"),
                read(order, named, hashed)(body, query)[1],
            )
        ),
    )


def any_answer(patch: pytest.MonkeyPatch) -> None:
    """An answer counts whatever message it is about."""

    patch.setattr(mllp_destination, "_named", lambda raw, control_id: (read_ack(raw), raw))
    patch.setattr(mllp_destination, "plain_yes", lambda frame: None)


def marks_only_heads(patch: pytest.MonkeyPatch) -> None:
    """After a crash the first of a lane is marked, however many had been sent ahead."""
    begin = Doubt.__init__
    patch.setattr(Doubt, "__init__", lambda self, up_to, ahead, *, ordered: begin(self, up_to, 1, ordered=ordered))


def no_cut(patch: pytest.MonkeyPatch) -> None:
    """What an fsync failed on is told to be lost although the log may keep it."""
    patch.setattr(Transaction, "cut", lambda self: True)


def forgets_the_interrupted(patch: pytest.MonkeyPatch) -> None:
    """What was being sent when the engine died stays as it was."""
    patch.setattr(queries, "RECOVER_INTERRUPTED", "UPDATE delivery SET state = state WHERE ? < 0")


def forgets_the_other_patient(patch: pytest.MonkeyPatch) -> None:
    """A merge has one key."""
    patch.setattr(lane_keys, "_repetitions", lambda segment, path: iter(()))


def leaves_destinations_behind(patch: pytest.MonkeyPatch) -> None:
    """Whatever waits for a destination that a file no longer names, the file counts."""
    for module in (reload, supervisor):
        patch.setattr(module, "left_behind", lambda plan, counts: ())


def leaves_channels_behind(patch: pytest.MonkeyPatch) -> None:
    """A channel goes with its file, whatever waits in it."""
    patch.setattr(reload, "lost_channels", lambda known, counts: {})


def answers_unasked(patch: pytest.MonkeyPatch) -> None:
    """MSH-15 and MSH-16 count for nothing but their being there."""
    patch.setattr(Wanted, "accept_acks", property(lambda self: (self.accept is not None,) * 2))
    patch.setattr(
        Wanted, "application_acks", property(lambda self: (not self.enhanced or self.application is not None,) * 2)
    )


def answers_anew(patch: pytest.MonkeyPatch) -> None:
    """Whoever asks again is told no."""
    patch.setattr(Acknowledgements, "told", lambda self, row, modes: Ack("error"))


def knows_nothing_again(patch: pytest.MonkeyPatch) -> None:
    """What comes again is taken again."""
    patch.setattr(Seen, "find", lambda self, coming: self.begin(coming))


def forgets_acks(patch: pytest.MonkeyPatch) -> None:
    """What was not decided before a restart stays so."""
    patch.setattr(Acknowledgements, "recover", lambda self: None)


def drops_late_acks(patch: pytest.MonkeyPatch) -> None:
    """An ack that is committed after one with a higher number is taken for one that was sent."""
    patch.setattr(Window, "push_late", Window.push)


def forgets_the_clock(patch: pytest.MonkeyPatch) -> None:
    """That the clock was set back is not written down."""
    patch.setattr(queries, "NOTE_CLOCK_STEP", "SELECT ?")


def trusts_the_clock(patch: pytest.MonkeyPatch) -> None:
    """A next attempt is waited for until the clock says so, and be it a month."""

    def offered(self: Lanes, item: Item) -> None:
        self._suspect(item)
        delay = item.next_at - self.clock.time()
        if delay > 0:
            self._timers[item.delivery_id] = asyncio.get_running_loop().call_later(delay, self._due, item)
        else:
            self._ready.append(item)

    patch.setattr(Lanes, "_offered", offered)


def no_rate(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pace, "begun", lambda self, now: None)


def no_delay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pace, "ended", lambda self, now: None)


def no_pause(patch: pytest.MonkeyPatch) -> None:
    """A pause is written down and nothing else."""
    patch.setattr(Lanes, "pause", lambda self, paused: None)


def forgets_pauses(patch: pytest.MonkeyPatch) -> None:
    """A pause ends with the process."""
    patch.setattr(SqliteStore, "paused", lambda self, channel: {})


def sends_what_is_given_up(patch: pytest.MonkeyPatch) -> None:
    """What a person gives up stays in its lane."""
    patch.setattr(Lanes, "remove", lambda self, row: None)


def sends_nothing_again(patch: pytest.MonkeyPatch) -> None:
    """What a person sends again is queued in the store alone."""
    patch.setattr(Lanes, "insert", lambda self, row, control_id, content_type: None)


def breaks_off(patch: pytest.MonkeyPatch) -> None:
    """Who hangs up breaks off what was begun for him."""
    for name in ("stop_channel", "resend_delivery", "resend_message", "reload", "discard_delivery"):
        patch.setattr(supervisor.Supervisor, name, getattr(supervisor.Supervisor, name).__wrapped__)


def prunes_the_unfinished(patch: pytest.MonkeyPatch) -> None:
    """Age is all that counts."""
    old_enough = "m.received_at < ? AND ? >= 0"
    patch.setattr(keeping, "MAY_PRUNE", f"SELECT 1 FROM message m WHERE {old_enough} AND m.id = ? AND m.state = ?")
    queued = f"SELECT m.id, m.received_at, {old_enough}, 0 FROM message m"
    patch.setattr(keeping, "PRUNABLE", f"{queued} WHERE m.channel = ? AND m.state = ? AND m.id > ? LIMIT ?")


def prunes_the_young(patch: pytest.MonkeyPatch) -> None:
    """What is finished is old enough."""
    patch.setattr(Pruning, "_kept", lambda self, channel: dict.fromkeys(STATES, -1e6))


def moves_the_log_in_a_commit(patch: pytest.MonkeyPatch) -> None:
    """SQLite moves the log inside of a COMMIT, which fails with that."""
    pragmas = (*database._WRITER_PRAGMAS, "PRAGMA wal_autocheckpoint = 10")
    patch.setattr(database, "_WRITER_PRAGMAS", pragmas)


def takes_for_kept(patch: pytest.MonkeyPatch) -> None:
    """Whatever the process that writes died in is committed."""
    patch.setattr(WritingProcess, "_left", lambda self, number, noted: (0, 0.0))


def takes_for_lost(patch: pytest.MonkeyPatch) -> None:
    """Whatever the process that writes died in is not committed."""
    patch.setattr(WritingProcess, "_left", lambda self, number, noted: IN_DOUBT)


def forgets_late_control_ids(patch: pytest.MonkeyPatch) -> None:
    """Control ids that are in no index yet are taken for new ones."""
    patch.setattr(Absent, "_order", lambda self: [])


def lets_control_ids_go_early(patch: pytest.MonkeyPatch) -> None:
    """They are forgotten before they are in the index."""

    def let_go(self: Absent) -> None:
        self._late, self._ordered, self._in_order = [], [], 0

    patch.setattr(Absent, "_let_go", let_go)


BROKEN: dict[str, Break] = {
    "forgets control ids that are not in the index": forgets_late_control_ids,
    "lets control ids go before they are in the index": lets_control_ids_go_early,
    "takes what a process died in for kept": takes_for_kept,
    "takes what a process died in for lost": takes_for_lost,
    "forgets the other patient of a merge": forgets_the_other_patient,
    "leaves behind what waits for a destination": leaves_destinations_behind,
    "leaves behind what waits in a channel": leaves_channels_behind,
    "answers what nobody asked for": answers_unasked,
    "answers a repetition differently": answers_anew,
    "takes a repetition for a new message": knows_nothing_again,
    "forgets which acks it owes": forgets_acks,
    "drops acks that are committed late": drops_late_acks,
    "forgets that the clock was set back": forgets_the_clock,
    "trusts the clock": trusts_the_clock,
    "has no rate": no_rate,
    "has no delay": no_delay,
    "does not pause": no_pause,
    "forgets pauses at a restart": forgets_pauses,
    "sends what was given up": sends_what_is_given_up,
    "does not send again": sends_nothing_again,
    "breaks off acts whose caller hangs up": breaks_off,
    "prunes what is unfinished": prunes_the_unfinished,
    "prunes what is young": prunes_the_young,
    "moves the log in a commit": moves_the_log_in_a_commit,
    "acknowledges before the commit": told_early(Accept),
    "goes on before an outcome is committed": told_early(Settle),
    "lets a later message overtake": overtaking,
    "takes an answer for another message": any_answer,
    "marks only the first of a lane": marks_only_heads,
    "does not recover what was interrupted": forgets_the_interrupted,
}


def acting(*what: str, patience: float | None = None) -> World:
    """A world in which people do this all the time."""

    def change(simulation: Simulation) -> None:
        storm = simulation.work.storm
        simulation.work.acts = [
            Act(storm * (0.02 + number / 40), what[number % len(what)], (number * 0.37) % 1.0, patience)
            for number in range(36)
        ]

    return change


def set_back(simulation: Simulation) -> None:
    """A world whose clock goes back a month while deliveries wait."""
    simulation.work.jumps = [(simulation.work.storm * share, -40 * 86400.0) for share in (0.1, 0.3, 0.5, 0.7)]


def refusing(simulation: Simulation) -> None:
    """A world in which the disk refuses what comes, for moments, all the time."""
    storm = simulation.work.storm
    simulation.work.troubles = [(storm * number / 20, 1.0, Trouble(write_error=0.1)) for number in range(20)]


def hurried(simulation: Simulation) -> None:
    """A world whose disk is slow, and in which sends run far ahead of it."""
    work = simulation.work
    work.troubles = [(0.0, work.storm, Trouble(sync_seconds=0.05, sync_spread=0.1))]
    for number, channel in enumerate(work.channels):
        ahead = tuple(replace(to, ahead=8, rate=None, delay=0.0) for to in channel.destinations)
        work.channels[number] = replace(channel, destinations=ahead)


def written_apart(simulation: Simulation) -> None:
    """A world in which a process writes, and dies again and again."""
    simulation.work.writing = Writing(dies=0.3)


#: Where what is broken shows sooner than in any world.
WORLDS: dict[str, World] = {
    "takes what a process died in for kept": written_apart,
    "takes what a process died in for lost": written_apart,
    "leaves behind what waits for a destination": acting("edit"),
    "leaves behind what waits in a channel": acting("edit"),
    "drops acks that are committed late": refusing,
    "trusts the clock": set_back,
    "marks only the first of a lane": hurried,
    "does not pause": acting("pause", "resume"),
    "forgets pauses at a restart": acting("pause"),
    "sends what was given up": acting("discard delivery"),
    "does not send again": acting("resend delivery"),
    "breaks off acts whose caller hangs up": acting("stop", "start", "resend delivery", patience=0.0005),
}


def has_acks_elsewhere(work: Workload) -> bool:
    return any(channel.acks is not None for channel in work.channels)


#: Which worlds can show it at all.
WHERE: dict[str, Callable[[Workload], bool]] = {
    "forgets which acks it owes": has_acks_elsewhere,
    "drops acks that are committed late": has_acks_elsewhere,
}


def caught(change: World | None = None, where: Callable[[Workload], bool] = lambda work: True) -> list[str]:
    """What the first seed that fails says."""
    seeds = (seed for seed in range(1, 10 * WITHIN) if where(choose(Chance(seed).random("workload"))))
    for seed in itertools.islice(seeds, WITHIN):
        if violations := simulate(seed, change).violations:
            return violations
    return []


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.timeout(600)
def test_a_broken_engine_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN[name](monkeypatch)
    assert caught(WORLDS.get(name), WHERE.get(name, lambda work: True))


@pytest.mark.timeout(600)
def test_the_engine_lives_in_the_worlds_of_the_broken_ones() -> None:
    worlds = [simulate(seed, world) for world in WORLDS.values() for seed in range(1, 6)]
    assert [violation for outcome in worlds for violation in outcome.violations] == []


@pytest.mark.timeout(600)
def test_a_disk_whose_fsync_does_nothing_is_caught() -> None:
    def lie(simulation: Simulation) -> None:
        simulation.disk.lying = True

    assert caught(lie)


def failing_fsyncs(simulation: Simulation) -> None:
    """A world in which fsyncs fail all the time, and the power goes soon after they did."""
    simulation.work.troubles = [(0.0, simulation.work.storm, Trouble(sync_error=0.3))]
    soon = (0.001, 0.003, 0.01) * 12
    simulation.engine.will_die([Death("power", 0.0, after_failure=delay) for delay in soon])


@pytest.mark.timeout(600)
def test_an_engine_that_calls_lost_what_a_failed_fsync_may_have_kept_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    no_cut(monkeypatch)
    assert caught(failing_fsyncs)


def restarts_between(simulation: Simulation) -> None:
    """The same, with a restart of the process alone before the power goes."""
    failing_fsyncs(simulation)
    ends: list[tuple[Literal["kill", "power"], float]] = [("kill", 0.01), ("power", 0.05)]
    simulation.engine.will_die([Death(how, 0.0, after_failure=delay) for how, delay in ends * 6])


@pytest.mark.timeout(600)
def test_an_engine_that_builds_on_what_only_the_cache_has_is_caught() -> None:
    def trusting(simulation: Simulation) -> None:
        restarts_between(simulation)
        simulation.machine.write_anew = lambda path: None

    assert any("is gone" in violation for violation in caught(trusting))


@pytest.mark.timeout(600)
def test_the_engine_lives_where_fsyncs_fail_and_the_power_goes_after_them() -> None:
    outcomes = [simulate(seed, world) for seed in range(1, 26) for world in (failing_fsyncs, restarts_between)]
    assert [violation for outcome in outcomes for violation in outcome.violations] == []
    assert sum(outcome.ends.get("power", 0) for outcome in outcomes) > 40
    assert sum(outcome.counts["fsync error"] for outcome in outcomes) > 40
