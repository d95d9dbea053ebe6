"""``batch:`` of a channel (batches that come in are split) and of a destination (what goes out is joined)."""

from __future__ import annotations

from engine.config.models import BatchPart, ChannelPart, DestinationPart
from engine.config.plan import BatchPlan, JoinPlan
from engine.sources.base import Source


def compile_batch(part: ChannelPart, source: Source) -> BatchPlan | None:
    """Batches are split wherever HL7 comes by a protocol with acknowledgements, and where the file says so."""
    if isinstance(part.batch, BatchPart):
        return BatchPlan(part.batch.answer, part.batch.on_count)
    known = part.batch is None and source.acknowledges and part.reply is None
    return BatchPlan() if known else None


def compile_join(part: DestinationPart) -> JoinPlan | None:
    """None where every delivery goes by itself."""
    join = part.batch
    return JoinPlan(join.count, join.seconds, join.file, join.answer) if join is not None else None
