"""The window against a simple model: whatever happens, nothing overtakes, nothing is forgotten, memory is bounded."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runtime.item import Item
from engine.runtime.window import Window

ROOM, PAGE, CONNECTIONS = 6, 3, 2


def item(delivery_id: int, keys: tuple[str, ...], held: bool = False) -> Item:
    return Item(delivery_id, 0, keys, "", "", "", 0.0, held=held)


@dataclass
class Model:
    """What the store knows: id → keys and state; and a window on it."""

    parallel: bool = True
    keys: dict[int, tuple[str, ...]] = field(default_factory=dict)
    state: dict[int, str] = field(default_factory=dict)
    flying: dict[int, Item] = field(default_factory=dict)
    began: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.flying.clear()
        self.ready: list[Item] = []
        self.window = Window(self.read, self.ready.append, parallel=self.parallel, room=ROOM, page=PAGE)

    def read(self, after: int, limit: int) -> list[Item]:
        waiting = [number for number, state in self.state.items() if state in ("queued", "held") and number > after]
        return [item(number, self.keys[number], self.state[number] == "held") for number in sorted(waiting)[:limit]]

    def waiting(self) -> list[int]:
        return [number for number, state in self.state.items() if state in ("queued", "held")]

    # -- what may happen

    def arrive(self, *keys: str, held: bool = False) -> None:
        number = len(self.keys) + 1
        self.keys[number], self.state[number] = keys, "held" if held else "queued"
        came = item(number, keys, held)
        if self.window.push(came):
            self.ready.append(came)

    def fill(self) -> None:
        wanted = self.window.wants(self.idle)
        assert self.window.fill(self.idle) or not wanted, "what fills a window asks again until it wants no more"
        assert len(self.window) <= ROOM + self.window.resting + PAGE + len(self.flying)

    @property
    def idle(self) -> bool:
        return not any(map(self.window.may_go, self.ready)) and len(self.flying) < CONNECTIONS

    def begin(self) -> bool:
        if not self.window.stirred:
            assert all(map(self.window.may_go, self.ready)), "what was offered stands where it stood"
            assert len(self.ready) == len(set(self.ready)), "and is offered once"
        self.ready[:] = [*filter(self.may_go, dict.fromkeys(self.ready))]
        self.window.stirred = False
        while self.ready:
            first = self.ready.pop(0)
            if not self.window.may_go(first):
                first.offered = False
                continue
            number = first.delivery_id
            mine = set(self.keys[number])
            overtaken = [other for other in self.waiting() if other < number and mine & set(self.keys[other])]
            assert not overtaken, f"{number} overtakes {overtaken}"
            assert not [other for other in self.flying if mine & set(self.keys[other])], "a lane is worked on twice"
            self.window.begin(first)
            self.flying[number] = first
            self.began.append(number)
            return True
        return False

    def may_go(self, offered: Item) -> bool:
        """As the owner looks at what was offered before the window was stirred."""
        offered.offered = self.window.may_go(offered)
        return offered.offered

    def settle(self, outcome: str) -> None:
        if not self.flying:
            return
        number = min(self.flying)
        ended = self.flying.pop(number)
        self.state[number] = outcome
        if outcome == "queued":
            self.window.again(ended)
        elif outcome == "held":
            self.window.hold(ended)
        else:
            self.window.end(ended)

    def by_a_person(self, choice: int, action: str) -> None:
        there = [number for number in self.keys if number not in self.flying]
        if not there:
            return
        number = there[choice % len(there)]
        if action == "resend":
            self.state[number] = "queued"
            self.window.insert(item(number, self.keys[number]))
        elif self.state[number] in ("queued", "held", "parked"):
            self.state[number] = "discarded"
            self.window.remove(number, self.keys[number])

    def finish(self) -> None:
        """Everything that waits is delivered in the end, held ones once a person has let them go."""
        for _ in range(20 * len(self.keys) + 20):
            self.settle("delivered")
            if self.begin() or self.flying:
                continue
            if not self.window.fill(True):
                held = [number for number, state in self.state.items() if state == "held"]
                if not held:
                    break
                self.by_a_person(list(self.keys).index(held[0]), "resend")
        assert self.waiting() == []


KEYS = st.lists(st.sampled_from("ABCDE"), min_size=1, max_size=3, unique=True).map(tuple)
EVENTS = st.one_of(
    st.tuples(st.just("arrive"), KEYS),
    st.tuples(st.just("arrive"), st.just(("A",))),
    st.tuples(st.just("hold place"), KEYS),
    st.tuples(st.sampled_from(["fill", "begin", "begin", "restart"])),
    st.tuples(st.just("settle"), st.sampled_from(["delivered", "delivered", "parked", "queued", "held", "unknown"])),
    st.tuples(st.sampled_from(["resend", "discard"]), st.integers(0, 50)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(EVENTS, max_size=120), st.booleans())
def test_nothing_overtakes_an_earlier_one_of_its_keys_and_all_is_delivered(
    events: list[tuple[object, ...]], parallel: bool
) -> None:
    model = Model(parallel)
    for name, *rest in events:
        if name in ("arrive", "hold place"):
            keys = rest[0] if parallel else ("",)
            model.arrive(*keys, held=name == "hold place")  # type: ignore[misc]
        elif name == "fill":
            model.fill()
        elif name == "begin" and len(model.flying) < (CONNECTIONS if parallel else 1):
            model.begin()
        elif name == "restart":
            model.restart()
        elif name == "settle":
            model.settle(str(rest[0]))
        elif name in ("resend", "discard"):
            model.by_a_person(int(rest[0]), str(name))  # type: ignore[call-overload]
    model.finish()


def test_other_keys_pass_what_is_held_however_much_waits_behind_it() -> None:
    model = Model()
    model.fill()
    model.arrive("A", held=True)
    for _ in range(1000):
        model.arrive("A")
    model.arrive("B")
    while not model.begin():
        model.fill()
    assert model.began == [1002]
    assert len(model.window) <= ROOM + PAGE


def test_one_lane_behind_what_is_held_wants_no_more() -> None:
    model = Model(parallel=False)
    for number in range(3 * PAGE):
        model.arrive("", held=number == 0)
    model.fill()
    assert model.window.behind
    assert not model.window.wants(True)
    model.by_a_person(0, "resend")
    model.finish()


def test_one_full_lane_whose_head_waits_wants_no_more() -> None:
    model = Model(parallel=False)
    for _ in range(3 * ROOM):
        model.arrive("")
    while model.window.wants(model.idle):
        model.fill()
    assert model.begin()
    model.settle("queued")
    model.ready.clear()  # its next attempt comes later
    assert model.window.behind
    assert not model.window.wants(True)
    model.restart()
    model.finish()


@pytest.mark.parametrize("first", ["A", "B"])
def test_a_merge_goes_after_the_earlier_ones_of_both_keys_and_before_the_later_ones(first: str) -> None:
    model = Model()
    model.fill()
    second = "B" if first == "A" else "A"
    for keys in ((first,), ("A", "B"), (second,), (first,)):
        model.arrive(*keys)
    assert model.begin()
    assert not model.begin()
    model.settle("delivered")
    assert model.begin()
    assert not model.begin(), "the merge is under way: nothing of its keys goes"
    model.settle("delivered")
    assert model.begin()
    assert model.begin()
    assert model.began[:2] == [1, 2]
    assert sorted(model.began) == [1, 2, 3, 4]


def test_the_busiest_key_leaves_room_for_the_others() -> None:
    model = Model()
    for _ in range(200):
        model.arrive("A")
    for number in range(20):
        model.arrive(f"B{number}")
    for _ in range(200):
        model.fill()
        model.begin()
        if len(model.flying) == CONNECTIONS:
            break
    assert len(model.flying) == CONNECTIONS
    assert sorted(model.flying) == [1, 201]
    model.finish()


def test_an_older_one_that_a_person_sends_again_waits_for_what_is_under_way() -> None:
    model = Model()
    model.fill()
    for _ in range(3):
        model.arrive("A")
    model.begin()
    model.settle("parked")
    assert model.begin()
    model.by_a_person(0, "resend")
    assert not model.begin(), "the lane is worked on"
    model.settle("delivered")
    assert model.begin()
    assert model.began == [1, 2, 1]
    model.finish()


@pytest.mark.parametrize("becomes", ["queued", "held"])
def test_one_whose_lane_had_gone_on_and_that_comes_back_waits_for_what_has_passed_it(becomes: str) -> None:
    model = Model()
    model.fill()
    for _ in range(3):
        model.arrive("A")
    model.begin()
    first = model.flying.pop(1)
    model.window.pass_by(first)
    model.state[1] = "delivered"  # not committed yet
    assert model.begin()
    model.state[1] = becomes
    if becomes == "queued":
        model.window.again(first)
    else:
        model.window.hold(first)
        model.by_a_person(0, "resend")
    assert not model.begin(), "the second is under way: nothing of its lane goes"
    model.settle("delivered")
    assert model.begin()
    assert model.began == [1, 2, 1]
    model.finish()
