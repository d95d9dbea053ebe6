"""``batch:`` of a channel file: whether batches that come in are split, and what is answered to them."""

from __future__ import annotations

from engine.config.models import BatchPart, ChannelPart
from engine.config.plan import BatchPlan
from engine.sources.base import Source


def compile_batch(part: ChannelPart, source: Source) -> BatchPlan | None:
    """Batches are split wherever HL7 comes by a protocol with acknowledgements, and where the file says so."""
    if isinstance(part.batch, BatchPart):
        return BatchPlan(part.batch.answer, part.batch.on_count)
    known = part.batch is None and source.acknowledges and part.reply is None
    return BatchPlan() if known else None
