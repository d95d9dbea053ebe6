"""What is received and what is sent of it, in one row: written, sealed and removed together.

A destination that is sent what another one is, or what was received, adds nothing to the row. Kept apart are large
bodies, those that are replaced once they have been sent (``NewDelivery.sealed``), and those of which the row would grow
long: to read one stretch opens all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.hl7.bulk import Pieces
from engine.store.operations import NewDelivery

#: Bytes of a row up to which something is added to it.
_TOGETHER = 64 * 1024
#: Start and length in the row; None twice for what has a row of its own, or nothing at all.
Stretch = tuple[int | None, int | None]
APART: Stretch = (None, None)


def together(received: bytes | Pieces, deliveries: Sequence[NewDelivery]) -> tuple[bytes | Pieces, list[Stretch]]:
    """The row's bytes, which begin with what was received, and the stretch of it that each delivery's body is."""
    if isinstance(received, Pieces):
        return received, [APART] * len(deliveries)
    if len(deliveries) == 1:  # of most messages
        (delivery,) = deliveries
        body, end = delivery.body, len(received)
        if body and isinstance(body, bytes) and not delivery.sealed and end + len(body) <= _TOGETHER:
            return (received, [(0, end)]) if body == received else (received + body, [(end, len(body))])
    stretches: list[Stretch] = []
    laid, starts, end = [received], [0], len(received)
    last, stretch = None, APART
    for delivery in deliveries:
        body = delivery.body
        if delivery.sealed or not body or isinstance(body, Pieces):
            stretches.append(APART)
            continue
        if body is not last:  # destinations without steps of their own are sent the very same bytes
            last = body
            if body in laid:
                stretch = (starts[laid.index(body)], len(body))
            elif end + len(body) > _TOGETHER:
                stretch = APART
            else:
                stretch = (end, len(body))
                laid.append(body)
                starts.append(end)
                end += len(body)
        stretches.append(stretch)
    return b"".join(laid), stretches
