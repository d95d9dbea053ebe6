"""``GET /metrics``: the engine's metrics as Prometheus text, or as OpenMetrics for who asks for that.

The library writes the format, a few hundred lines at a time: in between the loop has a turn, so that no message waits
for whoever looks at a site with hundreds of channels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from engine.admin.asking import Engine
from engine.runtime.metrics import FAMILIES, Family, Seen, Waits
from engine.runtime.supervisor import Supervisor
from engine.spread import BOUNDS, Spread

router = APIRouter()

#: Lines that are written without a turn of the loop: one to two milliseconds.
LINES = 100
_END = b"# EOF\n"
_BOUNDS = (*map(floatToGoString, BOUNDS), "+Inf")


@router.get("/metrics")
async def get_metrics(engine: Engine, request: Request) -> Response:
    """Every family of ``engine/runtime/metrics.py``, and both processes' own."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    waits: Waits = request.app.state.waits
    text = await written(encode, engine, waits)
    return Response(text, headers={"content-type": content_type})


async def written(encode: Callable[[Collector], bytes], engine: Supervisor, waits: Waits) -> bytes:
    """All of it."""
    seen, parts, end = Seen(engine, await waits.look()), list[bytes](), b""
    for first, metric in _metrics(seen):
        part = encode(_One(metric))
        if part.endswith(_END):
            part, end = part.removesuffix(_END), _END
        parts.append(part if first else _without_head(part))
        await asyncio.sleep(0)
    return b"".join((*parts, end))


def _metrics(seen: Seen) -> Iterator[tuple[bool, Metric]]:
    """Each family, in parts that are not long; whether it is the first."""
    for family in FAMILIES:
        first, metric = True, _empty(family)
        for labels, value in family.read(seen):
            _add(metric, dict(zip(family.labels, labels, strict=True)), value)
            if len(metric.samples) >= LINES:
                yield first, metric
                first, metric = False, _empty(family)
        if first or metric.samples:
            yield first, metric
    for metric in _processes(seen):
        yield True, metric


def _processes(seen: Seen) -> Iterable[Metric]:
    """Processor, memory and files of the engine, and of the process that writes while there is one."""
    yield from ProcessCollector(registry=None).collect()
    if (pid := seen.process.pid) is not None:
        yield from ProcessCollector("hl7engine_writing", lambda: pid, registry=None).collect()


def _empty(family: Family) -> Metric:
    return Metric(family.name, family.says, family.kind)


def _add(metric: Metric, labels: dict[str, str], value: float | Spread) -> None:
    if isinstance(value, Spread):
        number = 0
        for bound, more in zip(_BOUNDS, value.numbers, strict=True):
            number += more
            metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, number)
        metric.add_sample(f"{metric.name}_count", labels, number)
        metric.add_sample(f"{metric.name}_sum", labels, value.seconds)
    else:
        metric.add_sample(f"{metric.name}_total" if metric.type == "counter" else metric.name, labels, float(value))


def _without_head(part: bytes) -> bytes:
    """What stands behind the lines that begin a family."""
    while part.startswith(b"#"):
        part = part.partition(b"\n")[2]
    return part


class _One(Collector):
    """What the library is given to write."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        return (self._metric,)
