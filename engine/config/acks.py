"""``ack:`` and ``duplicates:`` of a channel file: which words go together, and the connection for application acks.

Everything that would have no effect is refused, with what to write instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.config.destination import DestinationCompiler
from engine.config.loading import Place
from engine.config.models import AckPart, ChannelPart, DuplicatesPart
from engine.config.plan import ACKS, DestinationPlan, Duplicates, Order
from engine.config.problems import nearest, one_of
from engine.config.registry import component
from engine.destinations.base import Destination
from engine.errors import SpecError
from engine.sources.base import Source

#: One ack that its sender does not want must not keep the others back.
_ANSWERS = [{"condition": "207", "then": "retry"}, {"ack": ["AE", "AR", "CE", "CR"], "then": "park"}]


@dataclass(frozen=True, slots=True)
class AckPlan:
    """How the senders of one channel are acknowledged; the words are those of ``ChannelPlan``."""

    when: Literal["received", "routed", "delivered"] = "received"
    from_: str = ""
    to: DestinationPlan | None = None
    accept: Literal["AL", "NE"] = "AL"
    duplicates: Duplicates | None = None


class AckCompiler:
    """Compiles ``ack:`` and ``duplicates:`` of one channel."""

    def __init__(self, place: Place, raw: dict[str, Any], names: Sequence[str], data: Any) -> None:
        #: ``names`` are those of the destinations, in their order.
        self.place, self.raw, self.names, self.data = place, raw, names, data

    def compile(self, part: ChannelPart | None, source: Source | None) -> AckPlan | None:
        """The plan; None when something is wrong, which is reported."""
        self._check_keys(source)
        long = self.raw.get("ack")
        to = self._to(long) if isinstance(long, dict) and "to" in long else None
        if isinstance(long, dict):
            self._check_long(long, source)
        if part is None:
            return None
        ack = part.ack if isinstance(part.ack, AckPart) else AckPart(when=part.ack)
        when = "delivered" if ack.from_ else ack.when
        return AckPlan(when, ack.from_ or "", to, ack.accept, self._duplicates(part, source))

    def _duplicates(self, part: ChannelPart, source: Source | None) -> Duplicates | None:
        """Known again wherever HL7 comes by a protocol that repeats what it got no ack for."""
        asked = part.duplicates
        if isinstance(asked, DuplicatesPart):
            return Duplicates(asked.window, asked.changed)
        known = asked is None and source is not None and source.acknowledges and part.reply is None
        return Duplicates() if known else None

    # -- what goes together ----------------------------------------------------------------------------------------

    def _check_keys(self, source: Source | None) -> None:
        raw = self.raw
        long = raw.get("ack") if isinstance(raw.get("ack"), dict) else {}
        if "reply" in raw and "ack" in raw:
            self.place.report(("ack",), "`ack` and `reply` stand together", expected="`reply` alone: it is the answer")
        if "reply" in raw and "duplicates" in raw:
            message = "a channel with `reply:` knows requests again by `idempotency:`"
            self.place.report(("duplicates",), message, expected="`idempotency:`, or no key")
        if "ack_deadline" in raw and raw.get("ack") != "delivered" and not _waits(long):
            message = "only `ack: delivered` and `ack: {from: …}` wait"
            self.place.report(("ack_deadline",), message, expected="`ack: delivered`, or no key")

    def _check_long(self, long: dict[str, Any], source: Source | None) -> None:
        place = self.place.at(("ack",), long)
        if source is not None and not source.acknowledges and ("from" in long or "to" in long):
            message = "this source gives no HL7 acknowledgements"
            place.report((), message, expected="`mllp` as the source, or `reply:` for one that answers with a body")
        if "from" in long:
            self._check_from(str(long["from"]), place)
            if "when" in long:
                message = "an answer is passed on when it comes: `when` has no effect beside `from`"
                place.report(("when",), message, expected="one of the two")
        if "to" in long:
            if ACKS in self.names:
                where = self.place.at(("destinations", self.names.index(ACKS)))
                message = f"`{ACKS}` is the name of the connection for application acks"
                where.report(("name",), message, expected="another name")
            return
        for key in ("retry", "accept"):
            if key in long:
                message = f"`{key}` is of the connection for application acks"
                place.report((key,), message, expected="`to`, or no key")

    def _check_from(self, name: str, place: Place) -> None:
        if name not in self.names:
            names = [known for known in self.names if known]
            message = f"no destination of this channel is called `{name}`"
            place.report(("from",), message, expected=one_of(names), nearest=nearest(name, names))
            return
        items = self.raw["destinations"]
        to = items[self.names.index(name)].get("to")
        cls = _class(next(iter(to))) if isinstance(to, dict) and len(to) == 1 else None
        if cls is not None and not cls.answers:
            message = f"`{next(iter(to))}` gives no answer that could be passed on"
            place.report(("from",), message, expected="a destination that answers, such as mllp")
        if "batch" in items[self.names.index(name)]:
            message = f"what `{name}` answers is for a batch"
            place.report(("from",), message, expected="a destination without `batch`")

    def _to(self, long: dict[str, Any]) -> DestinationPlan | None:
        """The connection as a destination of its own: refusals are parked, everything else is as for any."""
        word = next(iter(long["to"])) if isinstance(long["to"], dict) and len(long["to"]) == 1 else ""
        if word and word != "mllp" and _class(word) is not None:
            message = "an application ack goes out by MLLP"
            self.place.at(("ack", "to")).report((), message, expected="`mllp:` with host and port")
            return None
        place = self.place.at(("ack",), long)
        item: dict[str, Any] = {key: long[key] for key in ("to", "retry") if key in long}
        item |= {"name": ACKS, "on_answer": _ANSWERS}
        return DestinationCompiler(place, ACKS, False, self.data).compile(item, Order())


def _waits(long: Any) -> bool:
    return isinstance(long, dict) and ("from" in long or long.get("when") == "delivered")


def _class(word: str) -> type[Destination] | None:
    """The connector of that word; None where the word is told as wrong elsewhere."""
    try:
        return component("destinations", word)
    except SpecError:
        return None
