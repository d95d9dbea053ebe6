"""One message for five destinations: what is done once, and what for each of them."""

from __future__ import annotations

import pytest

from engine.envelope import Envelope
from engine.runtime import content

from .conftest import Bench, Scripted, siu, steps, to
from .test_load import statements

FIVE = [f"emr{number}" for number in range(5)]


def readdress(envelope: Envelope, *_: object) -> None:
    envelope.body.set("MSH-5", "ARCHIVE")


async def test_destinations_without_steps_of_their_own_share_what_is_made_for_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, honest = [], content.encode
    monkeypatch.setattr(content, "encode", lambda envelope: encoded.append(1) or honest(envelope))
    sent = {name: Scripted() for name in (*FIVE, "own", "last")}
    own = {name: {"transform": steps(readdress)} for name in ("own", "last")}
    async with bench.running(*(to(one, name, **own.get(name, {})) for name, one in sent.items())):
        assert (await bench.source.send(siu("A1"))).positive
        await bench.until(lambda: len(bench.deliveries("delivered")) == 7)
    assert len(encoded) == 3
    changed = siu("A1").split(b"|")
    changed[4] = b"ARCHIVE"
    assert {name: one.sent[0].body for name, one in sent.items()} == {
        **dict.fromkeys(FIVE, siu("A1")),
        **dict.fromkeys(own, b"|".join(changed)),
    }


async def test_five_destinations_cost_five_deliveries_and_one_message(bench: Bench) -> None:
    async with bench.running(*(to(Scripted(), name) for name in FIVE)):
        await bench.source.send(siu("A0"))
        await bench.until(lambda: len(bench.deliveries("delivered")) == 5)
        with statements(bench.store) as executed:
            await bench.source.send(siu("A1"))
            await bench.until(lambda: len(bench.deliveries("delivered")) == 10)
    if executed.pop("UPDATE message SET state", None):  # where it is routed after its first commit
        assert executed.pop("INSERT OR REPLACE INTO") == 5, "bodies"
    assert {words: number for words, number in executed.items() if words.startswith(("INSERT", "UPDATE"))} == {
        "INSERT INTO message (id,": 1,
        "INSERT INTO message_body (message_id,": 1,
        "INSERT INTO delivery (id,": 5,
        "UPDATE delivery SET state": 5,
    }
