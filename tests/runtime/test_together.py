"""What goes out in one batch, on random lanes: order of each lane, nothing that must wait, and as many as may."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.item import Item
from engine.runtime.window import Window

_KEYS = st.lists(st.sampled_from("ABCD"), min_size=1, max_size=2, unique=True).map(lambda keys: tuple(sorted(keys)))


def window_of(keys: list[tuple[str, ...]]) -> tuple[Window, list[Item], list[Item]]:
    """A window with a delivery for each, these deliveries, and those that were offered as the first of their lanes."""
    offered: list[Item] = []
    window = Window(lambda _after, _limit: [], offered.append)
    window.fill(True)
    items = [Item(number, number, each, "", "", "", 0.0) for number, each in enumerate(keys, 1)]
    for item in items:
        if window.push(item):
            offered.append(item)
    return window, items, offered


@given(st.lists(_KEYS, min_size=1, max_size=20), st.integers(1, 12), st.sets(st.integers(1, 20)), st.data())
def test_a_batch_keeps_every_lane_in_order_and_takes_what_may_go(
    keys: list[tuple[str, ...]], most: int, resting: set[int], data: st.DataObject
) -> None:
    window, items, offered = window_of(keys)
    # Another batch may be under way, with the first of some lanes.
    under_way: list[Item] = []
    if len(offered) > 1 and data.draw(st.booleans()):
        window.begin(other := data.draw(st.sampled_from(offered)))
        under_way = window.together(other, most, lambda _item: True)
        for item in under_way:
            window.begin(item)
    heads = [item for item in offered if window.may_go(item) and item.delivery_id not in resting]
    if not heads:
        return
    first = data.draw(st.sampled_from(heads))
    window.begin(first)
    batch = window.together(first, most, lambda item: item.delivery_id not in resting)
    assert first in batch
    assert [item.delivery_id for item in batch] == sorted({item.delivery_id for item in batch})
    assert len(batch) <= most
    assert not {item.delivery_id for item in batch} & {item.delivery_id for item in under_way}
    assert not {item.delivery_id for item in batch if item is not first} & resting
    busy = {key for item in under_way for key in item.keys}
    for item in batch:
        assert busy.isdisjoint(item.keys)
        for before in items[: item.delivery_id - 1]:
            if not set(before.keys).isdisjoint(item.keys):
                assert before in batch, "it would overtake one of its lane"
    if len(batch) < most:
        for item in items:
            earlier = [each for each in items[: item.delivery_id - 1] if not set(each.keys).isdisjoint(item.keys)]
            free = item.delivery_id not in resting and busy.isdisjoint(item.keys)
            assert item in batch or not free or any(each not in batch for each in earlier), "it could have gone"


@given(st.lists(_KEYS, min_size=1, max_size=12), st.integers(1, 6))
def test_whatever_settles_in_whatever_order_all_go_in_the_end(keys: list[tuple[str, ...]], most: int) -> None:
    window, items, offered = window_of(keys)
    gone: list[int] = []
    while heads := [item for item in offered if window.may_go(item)]:
        window.begin(heads[0])
        batch = window.together(heads[0], most, lambda _item: True)
        for item in batch:
            window.begin(item)
        gone += [item.delivery_id for item in batch]
        for item in reversed(batch):
            window.end(item)
    assert sorted(gone) == [item.delivery_id for item in items]
    for key in "ABCD":
        lane = [number for number in gone if key in items[number - 1].keys]
        assert lane == sorted(lane)
