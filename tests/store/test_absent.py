"""Whether a control id is stored is answered from memory where that is certain, and never otherwise."""

from __future__ import annotations

import asyncio
import random
import threading
from bisect import bisect_left

import pytest

from engine.errors import StoreError
from engine.remembered import LONGEST
from engine.store import absent
from engine.store.absent import Absent

from .test_group_commit import DiskOfATest

CHANNEL = "c"


class Index:
    """Control ids as an index has them, of which a reader sees those that are committed."""

    def __init__(self) -> None:
        self.ids: list[str | bytes] = []
        #: Those that are committed and not in the index yet, with their messages.
        self.late: list[tuple[str, int]] = []
        self.looks = self.up_to = 0

    def control_ids(self, least: str) -> list[str | bytes]:
        self.looks += 1
        late = [control_id for control_id, _ in self.late]
        texts = sorted((found for found in self.ids if isinstance(found, str) and found not in late), key=str.encode)
        at = bisect_left([found.encode() for found in texts], least.encode())
        return [*texts[at:], *(found for found in self.ids if isinstance(found, bytes))][:10]

    def indexed_up_to(self) -> int:
        return self.up_to

    def late_control_ids(self) -> list[tuple[str, int]]:
        return self.late


def test_the_next_number_of_a_sender_is_known_without_a_look() -> None:
    index = Index()
    index.ids = ["A00500", "C", b"\xed\xb2\x80"]
    known = Absent(index)
    for number in range(400):
        for sender in ("A", "B", "D"):
            control_id = f"{sender}{number:05}"
            assert known.knows(control_id)
            known.written(control_id, 1)
            index.ids.append(control_id)
            known.visible()
            assert not known.knows(control_id)
    assert index.looks == 3 + 3 * 400, "one for each gap; an id that is stored is looked up"
    assert not known.knows("A00500")
    assert known.knows("A00501")


def test_numbers_without_leading_zeros_cost_a_look_for_a_hundred() -> None:
    index = Index()
    known = Absent(index)
    for number in range(1, 2001):
        for sender in ("A-", "A-1-", "B"):
            control_id = f"{sender}{number}"
            assert known.knows(control_id)
            known.written(control_id, 1)
            index.ids.append(control_id)
            known.visible()
    assert index.looks <= 3 * 40
    assert not any(known.knows(str(control_id)) for control_id in index.ids)


def test_an_id_of_a_later_transaction_is_not_seen_with_an_earlier_one() -> None:
    index = Index()
    known = Absent(index)
    for control_id in ("A1", "A2", "A3"):
        known.written(control_id, 1)
    index.ids += ["A1", "A2"]
    known.visible(2)
    assert known.knows("A25"), "looked up while no reader sees A3"
    index.ids.append("A3")
    known.visible(1)
    assert not known.knows("A3")


def test_a_long_number_is_looked_up_and_not_kept() -> None:
    index = Index()
    index.ids = ["B" + "9" * 1000]
    known = Absent(index)
    for control_id in ("A1", "A" + "9" * 1000, "B1", "B" + "9" * 1001, "C1"):
        assert known.knows(control_id)
        known.written(control_id, 1)
        index.ids.append(control_id)
        known.visible()
        assert not known.knows(control_id)
    assert max(map(len, known._lows + known._highs)) <= LONGEST


def test_of_what_is_no_ascii_nothing_is_known() -> None:
    known = Absent(Index())
    assert known.knows("A")
    assert not known.knows("B\udc80")
    assert not known.knows("Bé")


@pytest.mark.parametrize("longest", [2, 128])
@pytest.mark.parametrize("gaps", [1, 3, 4096])
@pytest.mark.parametrize("many", [1, 20, 2048])
def test_nothing_is_absent_that_was_written(
    many: int, gaps: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absent, "_GAPS", gaps)
    monkeypatch.setattr(absent, "LONGEST", longest)
    monkeypatch.setattr(absent, "_MANY", many)
    for seed in range(60):
        chance, index, transaction, ids = random.Random(seed), Index(), list[tuple[str, int]](), 0
        known = Absent(index)
        for _ in range(300):
            control_id = "".join(chance.choices("ABé\x7f", k=chance.randrange(1, 3))) + str(chance.randrange(30))
            if known.knows(control_id):
                assert control_id not in index.ids
            if chance.random() < 0.5:
                ids += 1
                message_id = ids - chance.choice((0, 0, 0, 5))  # or it was given out long ago
                known.written(control_id, message_id)
                transaction.append((control_id, message_id))
            if chance.random() < 0.1:
                committed = [] if chance.random() < 0.2 else transaction  # or the commit failed
                index.ids += [control_id for control_id, _ in committed]
                index.late += [late for late in committed if late[1] > index.up_to]
                transaction = []
                known.visible()
            if chance.random() < 0.03 and index.late:
                index.up_to = sorted(message_id for _, message_id in index.late)[len(index.late) // 2]
                index.late = [late for late in index.late if late[1] > index.up_to]
            if chance.random() < 0.05 and index.ids:
                pruned = chance.choice(index.ids)
                index.ids.remove(pruned)
                index.late = [late for late in index.late if late[0] != pruned]
            if chance.random() < 0.02 and not transaction:
                known = Absent(index)  # the engine was started anew
        for control_id in index.ids:
            assert not known.knows(str(control_id))
        for late, _ in index.late:
            assert known.may_be_late(late)
        lows, highs = known._lows, known._highs
        assert all(low < high for low, high in zip(lows, highs, strict=True))
        assert all(len(each) <= longest for each in (*lows, *highs))
        assert all(high <= low for high, low in zip(highs, lows[1:], strict=False))


async def test_what_is_committed_while_somebody_looks_is_found_afterwards(tmp_path, samples) -> None:
    store = DiskOfATest(tmp_path / "data", bytes(32))
    await store.open()
    accept = samples.accept(store, channel=CHANNEL, control_id="M5")
    began, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        assert go_on.wait(30)

    store.instead = wait
    units = [store.submit(accept)] + [store.submit(samples.accept(store)) for _ in range(9)]
    assert await asyncio.to_thread(began.wait, 30)
    assert not store.same_control_id(CHANNEL, "M1", 9)  # a gap over M5, which no reader sees yet
    assert not store.same_control_id(CHANNEL, "M5", 9)
    store.instead = None
    go_on.set()
    await asyncio.gather(*units)
    assert [row.message_id for row in store.same_control_id(CHANNEL, "M5", 9)] == [accept.message_id]
    assert not store.same_control_id("another", "M5", 9)
    await store.close()
    await store.open()
    assert [row.message_id for row in store.same_control_id(CHANNEL, "M5", 9)] == [accept.message_id]
    await store.close()


async def test_a_store_that_cannot_be_read_says_so(sqlite) -> None:
    sqlite._opened.reader.close()
    with pytest.raises(StoreError):
        sqlite.same_control_id(CHANNEL, "M1", 1)
