"""One item of ``destinations:`` → its DestinationPlan, and ``order:``, which channels and destinations share.

The destination that a reply is made from has no lane: keys that govern lanes are refused there, and the other way
round.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.config.answers import compile_answers
from engine.config.batches import compile_join
from engine.config.loading import Place
from engine.config.models import DestinationPart, KeyPart, OrderPart, RetryPart
from engine.config.plan import DestinationPlan, Order, Retry
from engine.destinations.base import Building, Destination
from engine.errors import PathError
from engine.hl7.path import Path as MessagePath
from engine.transforms.base import Chain, Condition
from engine.transforms.values.conditions import compile_condition

#: Keys that govern lanes.
_LANE_KEYS = ("where", "order", "sends_ahead", "rate", "delay", "on_answer", "batch")


#: HL7 v2.5.1 §3.4.9: where MRG keeps the prior value of an identifier (segment, field → field of MRG).
_PRIOR = {
    ("PID", 2): 4,
    ("PID", 3): 1,
    ("PID", 4): 2,
    ("PID", 5): 7,
    ("PID", 18): 3,
    ("PV1", 19): 5,
    ("PV1", 50): 6,
}


def compile_order(part: OrderPart, place: Place) -> Order:
    """``order:``, its paths parsed."""
    if not isinstance(part, KeyPart):
        return Order(part)
    keys = [part.key] if isinstance(part.key, str) else part.key
    names = [text.removeprefix("$body.") for text in keys if text.startswith("$body.")]
    form = "a path, or a member of a JSON body such as $body.orderId"
    paths = _paths([text for text in keys if not text.startswith("$body.")], place, "key", form)
    return Order("key", tuple(paths), tuple(names), tuple(_merges(part, paths, place)))


def _merges(part: KeyPart, paths: list[MessagePath], place: Place) -> list[MessagePath]:
    """Where merges name their other keys; what the standard says unless the file says something else."""
    if part.merge == "none":
        return []
    if part.merge is None:
        prior = [(path, _PRIOR.get((path.segment, path.field or 0))) for path in paths]
        return [
            MessagePath("MRG", None, number, None, path.component, path.subcomponent)
            for path, number in prior
            if number is not None
        ]
    merges = _paths([part.merge] if isinstance(part.merge, str) else part.merge, place, "merge", "none, or a path")
    for path in merges:
        if path.segment != "MRG" or path.segment_index is not None:
            place.report(("merge",), f"`{path}` is no place in MRG", expected="a field or component such as MRG-1.1")
    return merges


def _paths(texts: list[str], place: Place, key: str, form: str) -> list[MessagePath]:
    paths: list[MessagePath] = []
    for text in texts:
        try:
            path = MessagePath.parse(text)
        except PathError as error:
            place.report((key,), str(error), expected=form)
            continue
        if path.field is None:
            expected = f"a field or component such as {'PID-3.1' if key == 'key' else 'MRG-1.1'}"
            place.report((key,), f"`{text}` is a whole segment", expected=expected)
        paths.append(path)
    return paths


class DestinationCompiler:
    """Compiles one destination.

    ``answering`` is true for the one that a reply is made from, and None while the reply names none that exists.
    """

    def __init__(self, place: Place, name: str, answering: bool | None, data: Path) -> None:
        self.place, self.name, self.answering, self.data = place, name, answering, data

    def compile(self, raw: Any, order: Order) -> DestinationPlan | None:
        """The plan; None when something is wrong, which is reported. ``order`` is the channel's."""
        found = self.place.validate(DestinationPart, raw)
        if not isinstance(raw, dict):
            return None
        part: DestinationPart | None = found[0] if found else None
        where = self._where(raw.get("where"))
        transform = self._transform(raw.get("transform"))
        to = self._to(raw, part.connections if part else 1)
        self._check_keys(raw)
        answers = compile_answers(part.on_answer, self.place.at(("on_answer",))) if part is not None else ()
        if part is None or to is None:
            return None
        return DestinationPlan(
            name=part.name,
            to=to,
            where=where,
            transform=transform,
            connections=part.connections,
            sends_ahead=part.sends_ahead,
            rate=part.rate,
            delay=part.delay,
            retry=self._retry(part.retry),
            on_unanswered=part.on_unanswered,
            on_answer=answers,
            order=compile_order(part.order, self.place.at(("order",))) if part.order is not None else order,
            secret=tuple(part.secret),
            batch=compile_join(part),
        )

    def _where(self, spec: Any) -> Condition | None:
        if spec is None:
            return None
        place = self.place.at(("where",), spec)
        return place.attempt(lambda: compile_condition(spec, place), "the condition")

    def _transform(self, steps: Any) -> Chain:
        return self.place.at(("transform",), steps).steps(steps) if isinstance(steps, list) else Chain(())

    def _to(self, raw: dict[str, Any], connections: int) -> Destination | None:
        if "to" not in raw:
            return None
        place = self.place.at(("to",), raw["to"])
        building = Building(
            channel=place.channel,
            destination=self.name,
            site=place.folder,
            data=self.data,
            connections=connections,
            channels=place.channels,
        )
        return place.component("destinations", raw["to"], lambda cls, config: cls(config, building))

    def _retry(self, part: RetryPart) -> Retry:
        attempts = part.attempts if part.attempts is not None or not self.answering else 1
        return Retry(tuple(part.backoff), part.give_up, attempts, frozenset(part.on))

    def _check_keys(self, raw: dict[str, Any]) -> None:
        """Words that are possible, and keys that have an effect here."""
        if "batch" in raw and "secret" in raw:
            message = "`secret` is for JSON bodies: they cannot be joined to a batch"
            self.place.report(("secret",), message, expected="one of the two")
        retry = raw["retry"] if isinstance(raw.get("retry"), dict) else {}
        if self.answering:
            for key in _LANE_KEYS:
                if key in raw:
                    message = f"`{key}` has no effect where the reply is made from: it has no lane"
                    self.place.report((key,), message, expected="the key left out, or another destination for it")
            if "give_up" in retry:
                message = "a caller waits for the reply: it is given up by number, not by time"
                self.place.report(("retry", "give_up"), message, expected="`attempts`")
        elif self.answering is False:
            if "on" in retry:
                message = "`on` is for the destination that a reply is made from"
                self.place.report(("retry", "on"), message, expected="`on_unanswered` for answers that do not come")
            if raw.get("on_unanswered") == "unknown":
                message = "`unknown` is for the destination that a reply is made from"
                self.place.report(("on_unanswered",), message, expected="repeat or hold")
