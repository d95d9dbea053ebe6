"""What a running engine can be watched by: every family of metrics, its labels, its meaning, and where its values are.

Counted is where things happen, on objects that are there anyway; here it is read, while somebody asks. Label values are
names of the site's files, states and codes of fixed sets: nothing of any message, nothing that a partner can choose.
How it is written down is the admin API's business.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import structlog

from engine.delivery import DeliveryState, MessageState
from engine.errors import StoreError
from engine.runtime.channel import RunningChannel
from engine.runtime.deliver import Lanes
from engine.runtime.orphans import OPEN
from engine.runtime.outcomes import Counts
from engine.runtime.receive import Receiver
from engine.runtime.supervisor import Supervisor
from engine.spread import Spread
from engine.store.base import Store
from engine.store.numbers import Waiting

log = structlog.get_logger("engine.metrics")

#: What waits is counted again when so many times as long has passed as counting it took: where millions wait, a thread
#: is busy with that for a twentieth of the time at most.
REST = 20

#: How a delivery is told of that an outcome leaves in this state.
OUTCOMES = {
    DeliveryState.QUEUED: "retried",
    DeliveryState.HELD: "held",
    DeliveryState.PARKED: "parked",
    DeliveryState.UNKNOWN: "unknown",
    DeliveryState.DISCARDED: "discarded",
}
#: Classes of HTTP statuses; a site's reply may have another number.
CLASSES = {2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
OTHER = "other"

Value = float | Spread
#: Values of a family's labels, and the value that is measured.
Sample = tuple[tuple[str, ...], Value]


class Waits:
    """What waits in the store, counted beside the loop."""

    def __init__(self, store: Store, seconds: Callable[[], float] = time.monotonic) -> None:
        self._store, self._seconds = store, seconds
        self._last: Waiting | None = None
        self._next = 0.0
        self._looking = asyncio.Lock()

    async def look(self) -> Waiting | None:
        """How it is, or was a moment ago; None when it cannot be read."""
        async with self._looking:
            began = self._seconds()
            if began >= self._next:
                try:
                    self._last = await self._store.waiting()
                except StoreError as error:
                    log.error("metrics.unreadable", error=str(error))
                    self._last = None
                ended = self._seconds()
                self._next = ended + REST * (ended - began)
            return self._last


class Seen:
    """An engine while it is looked at."""

    def __init__(self, engine: Supervisor, waiting: Waiting | None) -> None:
        self.engine, self.waiting, self.now = engine, waiting, engine.clock.time()
        self.numbers, self.process = engine.store.numbers, engine.store.writing_process
        self.space = engine.disk.look()
        self._channels = tuple(sorted(engine.supervised.items()))

    def running(self) -> Iterator[tuple[str, RunningChannel]]:
        """Channels that run, by name."""
        return ((name, channel.running) for name, channel in self._channels if channel.running is not None)

    def receivers(self) -> Iterator[tuple[str, Receiver]]:
        """Of those that answer no caller, what takes messages in."""
        return ((name, it.receiver) for name, it in self.running() if isinstance(it.receiver, Receiver))

    def lanes(self) -> Iterator[tuple[tuple[str, str], Lanes]]:
        """Of those that answer no caller, by channel and destination."""
        return (((name, to), lanes) for name, it in self.running() if not it.exchange for to, lanes in it.lanes.items())

    def places(self) -> Iterator[tuple[str, str]]:
        """Channel and destination of everything that something waits for, or may wait for."""
        if self.waiting is None:
            return iter(())
        declared = {(name, item.name) for name, channel in self._channels for item in channel.plan.outlets}
        return iter(sorted(declared | {(channel, to) for channel, to, _ in self.waiting.counts if to}))


@dataclass(frozen=True, slots=True)
class Family:
    """One family of metrics."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    says: str
    read: Callable[[Seen], Iterable[Sample]]
    labels: tuple[str, ...] = ()


def _one(value: Callable[[Seen], Value]) -> Callable[[Seen], Iterable[Sample]]:
    return lambda seen: (((), value(seen)),)


def _of_lanes(value: Callable[[Counts], Value]) -> Callable[[Seen], Iterable[Sample]]:
    return lambda seen: ((place, value(lanes.counts)) for place, lanes in seen.lanes())


def _of_receivers(value: Callable[[Receiver], float]) -> Callable[[Seen], Iterable[Sample]]:
    return lambda seen: (((name,), value(receiver)) for name, receiver in seen.receivers())


def _build(_: Seen) -> Iterable[Sample]:
    yield (version("hl7engine"), platform.python_version()), 1


def _states(seen: Seen) -> Iterable[Sample]:
    counts = {} if seen.waiting is None else seen.waiting.counts
    return ((place, 1) for place in sorted(seen.engine.states_where(counts).items()))


def _received(seen: Seen) -> Iterable[Sample]:
    return (((name,), it.receiver.received) for name, it in seen.running())


def _processed(seen: Seen) -> Iterable[Sample]:
    for name, receiver in seen.receivers():
        router = receiver.router
        yield (name, MessageState.ROUTED.value), router.routed - router.filtered - router.failed
        yield (name, MessageState.FILTERED.value), router.filtered
        yield (name, MessageState.FAILED.value), router.failed + router.not_stored


def _refused(seen: Seen) -> Iterable[Sample]:
    for name, it in seen.running():
        receiver = it.receiver
        refused = receiver.entries.refused if isinstance(receiver, Receiver) else receiver.records.number_refused
        yield (name,), refused


def _acknowledged(seen: Seen) -> Iterable[Sample]:
    for name, it in seen.running():
        if it.plan.source.given is not None:
            for code, number in it.plan.source.given.codes.items():
                yield (name, code.value), number


def _acknowledging(seen: Seen) -> Iterable[Sample]:
    return (((name,), it.plan.source.given.took) for name, it in seen.running() if it.plan.source.given is not None)


def _outcomes(seen: Seen) -> Iterable[Sample]:
    for (name, to), lanes in seen.lanes():
        yield (name, to, DeliveryState.DELIVERED.value), lanes.counts.delivered
        for state, outcome in OUTCOMES.items():
            yield (name, to, outcome), lanes.counts.others[state]


def _exchanges(seen: Seen) -> Iterable[Sample]:
    for name, it in seen.running():
        if it.exchange is not None:
            numbers = Counter(dict.fromkeys((*CLASSES.values(), OTHER), 0))
            for status, number in it.exchange.statuses.items():
                numbers[CLASSES.get(status // 100, OTHER)] += number
            for status_class, number in numbers.items():
                yield (name, status_class), number


def _exchanging(seen: Seen) -> Iterable[Sample]:
    return (((name,), it.exchange.took) for name, it in seen.running() if it.exchange is not None)


def _messages_waiting(seen: Seen) -> Iterable[Sample]:
    if seen.waiting is not None:
        counts = seen.waiting.counts
        names = {name for name, _ in seen.running()} | {channel for channel, to, _ in counts if not to}
        for name in sorted(names):
            for state in (MessageState.RECEIVED.value, MessageState.FAILED.value):
                yield (name, state), counts.get((name, "", state), 0)


def _deliveries_waiting(seen: Seen) -> Iterable[Sample]:
    for name, to in seen.places():
        for state in OPEN:
            assert seen.waiting is not None  # noqa: S101 - else there are no places
            yield (name, to, state.value), seen.waiting.counts.get((name, to, state.value), 0)


def _oldest(seen: Seen) -> Iterable[Sample]:
    for place in seen.places():
        assert seen.waiting is not None  # noqa: S101 - else there are no places
        yield place, max(0.0, seen.now - seen.waiting.oldest.get(place, seen.now))


def _oldest_unrouted(seen: Seen) -> Iterable[Sample]:
    for name, _ in seen.receivers():
        if seen.waiting is not None:
            yield (name,), max(0.0, seen.now - seen.waiting.oldest.get((name, ""), seen.now))


def _up(seen: Seen) -> Iterable[Sample]:
    for name, it in seen.running():
        if it.exchange is not None:
            yield (name, it.exchange.caller.destination.name), not it.exchange.caller.breaker.open
        else:
            for to, lanes in it.lanes.items():
                yield (name, to), not lanes.counts.away


def _connected(seen: Seen) -> Iterable[Sample]:
    for name, it in seen.running():
        if (number := it.plan.source.summary().get("connections")) is not None:
            yield (name,), number


def _connected_to(seen: Seen) -> Iterable[Sample]:
    for name, it in seen.running():
        for item in it.plan.outlets:
            if (number := item.to.summary().get("connections")) is not None:
                yield (name, item.name), number


def _space(seen: Seen) -> Iterable[Sample]:
    if seen.space is not None:
        yield (), seen.space.free


_CHANNEL, _PLACE = ("channel",), ("channel", "destination")

#: All but those of the two processes, which are the library's: ``process_…`` and ``hl7engine_writing_process_…``.
FAMILIES = (
    Family("hl7engine_build_info", "gauge", "Always 1; the versions.", _build, ("version", "python")),
    Family("hl7engine_start_time_seconds", "gauge", "When it was started.", _one(lambda seen: seen.engine.started_at)),
    Family("hl7engine_ready", "gauge", "1 while it runs.", _one(lambda seen: seen.engine.ready)),
    Family("hl7engine_channel_state", "gauge", "1 for the state a channel is in.", _states, ("channel", "state")),
    Family("hl7engine_messages_received", "counter", "Messages, or requests, that were taken in.", _received, _CHANNEL),
    Family(
        "hl7engine_messages_processed",
        "counter",
        "Messages whose transforms ran, by what became of them.",
        _processed,
        ("channel", "state"),
    ),
    Family("hl7engine_messages_refused", "counter", "What the channel does not take as it came.", _refused, _CHANNEL),
    Family(
        "hl7engine_messages_repeated",
        "counter",
        "Messages that came before and were not delivered again.",
        _of_receivers(lambda receiver: receiver.repeats.number),
        _CHANNEL,
    ),
    Family(
        "hl7engine_control_ids_reused",
        "counter",
        "Other messages under an MSH-10 that came before.",
        _of_receivers(lambda receiver: receiver.reused),
        _CHANNEL,
    ),
    Family("hl7engine_acknowledgements", "counter", "HL7 acks that were given.", _acknowledged, ("channel", "code")),
    Family(
        "hl7engine_acknowledgement_seconds",
        "histogram",
        "From the receipt of a message to each ack of it.",
        _acknowledging,
        _CHANNEL,
    ),
    Family("hl7engine_deliveries", "counter", "Outcomes of sends.", _outcomes, (*_PLACE, "outcome")),
    Family(
        "hl7engine_delivery_seconds",
        "histogram",
        "From the routing of a message to the partner's positive answer.",
        _of_lanes(lambda counts: counts.took),
        _PLACE,
    ),
    Family(
        "hl7engine_sends_unanswered",
        "counter",
        "Sends that may have reached the partner and had no valid answer.",
        _of_lanes(lambda counts: counts.unanswered),
        _PLACE,
    ),
    Family(
        "hl7engine_sends_rejected",
        "counter",
        "Sends that the partner's answer said no to.",
        _of_lanes(lambda counts: counts.rejected),
        _PLACE,
    ),
    Family(
        "hl7engine_sends_repeated",
        "counter",
        "Sends of what the partner may have had before.",
        _of_lanes(lambda counts: counts.repeated),
        _PLACE,
    ),
    Family(
        "hl7engine_outcomes_refused",
        "counter",
        "Outcomes that the store refused for good.",
        _of_lanes(lambda counts: counts.outcomes_refused),
        _PLACE,
    ),
    Family("hl7engine_destination_up", "gauge", "0 while the partner cannot be reached.", _up, _PLACE),
    Family(
        "hl7engine_destination_paused",
        "gauge",
        "1 while a person has it paused.",
        lambda seen: ((place, lanes.pace.paused) for place, lanes in seen.lanes()),
        _PLACE,
    ),
    Family("hl7engine_destination_connections", "gauge", "Open connections.", _connected_to, _PLACE),
    Family("hl7engine_source_connections", "gauge", "Senders that are connected.", _connected, _CHANNEL),
    Family("hl7engine_exchanges", "counter", "Requests that were answered.", _exchanges, ("channel", "status")),
    Family("hl7engine_exchange_seconds", "histogram", "From a request to its answer.", _exchanging, _CHANNEL),
    Family(
        "hl7engine_rest_connections",
        "gauge",
        "Callers that are connected to the REST listener.",
        _one(lambda seen: seen.engine.http.summary().get("connections", 0)),
    ),
    Family(
        "hl7engine_messages_waiting",
        "gauge",
        "Messages that are not routed yet, or failed.",
        _messages_waiting,
        ("channel", "state"),
    ),
    Family(
        "hl7engine_deliveries_waiting",
        "gauge",
        "Deliveries that are unfinished, or wait for a person.",
        _deliveries_waiting,
        (*_PLACE, "state"),
    ),
    Family(
        "hl7engine_oldest_waiting_seconds",
        "gauge",
        "Age of the oldest delivery that is queued, being sent or held.",
        _oldest,
        _PLACE,
    ),
    Family(
        "hl7engine_oldest_unrouted_seconds",
        "gauge",
        "Age of the oldest message that is not routed yet.",
        _oldest_unrouted,
        _CHANNEL,
    ),
    Family(
        "hl7engine_commit_seconds", "histogram", "Of each COMMIT, with its fsync.", _one(lambda it: it.numbers.took)
    ),
    Family("hl7engine_committed_units", "counter", "Units committed.", _one(lambda it: it.numbers.units)),
    Family(
        "hl7engine_log_pages_moved", "counter", "Pages moved from the log.", _one(lambda it: it.numbers.pages_moved)
    ),
    Family(
        "hl7engine_store_trouble", "gauge", "1 if the disk refuses.", _one(lambda it: bool(it.engine.store.trouble))
    ),
    Family("hl7engine_disk_low", "gauge", "1 while the disk is nearly full.", _one(lambda it: it.engine.disk.low)),
    Family("hl7engine_disk_free_bytes", "gauge", "What is left of the disk.", _space),
    Family(
        "hl7engine_writing_process_state",
        "gauge",
        "1 for the state that the process that writes is in.",
        lambda seen: (((seen.process.state.value,), 1),),
        ("state",),
    ),
    Family(
        "hl7engine_writing_process_deaths", "counter", "Processes that died.", _one(lambda seen: seen.numbers.deaths)
    ),
)
