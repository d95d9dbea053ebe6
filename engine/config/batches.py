"""``batch:`` of a channel (batches that come in are split) and of a destination (what goes out is joined)."""

from __future__ import annotations

from collections.abc import Sequence

from engine.config.loading import Place
from engine.config.models import BatchPart, ChannelPart, DestinationPart
from engine.config.plan import BatchPlan, DestinationPlan, JoinPlan
from engine.sources.base import Source


def compile_batch(part: ChannelPart, source: Source) -> BatchPlan | None:
    """Batches are split wherever HL7 comes by a protocol with acknowledgements, and where the file says so."""
    if isinstance(part.batch, BatchPart):
        return BatchPlan(part.batch.answer, part.batch.on_count, part.batch.max_messages)
    known = part.batch is None and source.acknowledges and part.reply is None
    return BatchPlan() if known else None


def compile_join(part: DestinationPart) -> JoinPlan | None:
    """None where every delivery goes by itself."""
    join = part.batch
    return JoinPlan(join.count, join.seconds, join.file, join.answer) if join is not None else None


def check_patience(part: ChannelPart, when: str, destinations: Sequence[DestinationPlan], place: Place) -> None:
    """With ``ack: delivered`` a sender must not be told no because its message waits for a batch to fill."""
    for at, plan in enumerate(destinations):
        if when == "delivered" and plan.batch is not None and plan.batch.seconds >= part.ack_deadline:
            message = f"senders wait for the delivery {part.ack_deadline:g} s at most (`ack_deadline`), a batch longer"
            key = ("destinations", at, "batch", "seconds")
            place.report(key, message, expected="a shorter time, a longer `ack_deadline`, or `ack: routed`")
