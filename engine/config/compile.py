"""One channel file → its ChannelPlan: models, registry and the checks that need the whole file.

Everything that can be looked at is, whatever else is wrong, so that one run tells all faults of a file. What needs
several channels (ports, circles) is in ``site.py``; destinations are in ``destination.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engine.config.acks import AckCompiler
from engine.config.batches import check_patience, compile_batch
from engine.config.destination import DestinationCompiler, compile_order
from engine.config.errors_table import compile_errors
from engine.config.files import SiteFiles
from engine.config.fingerprint import fingerprint
from engine.config.loading import Findings, Place
from engine.config.models import ChannelPart, IdempotencyPart, ReplyPart
from engine.config.patients import compile_patients
from engine.config.plan import Breaker, ChannelPlan, DestinationPlan, IdempotencyPlan, Order, Patients, ReplyPlan
from engine.config.problems import kind, nearest, one_of
from engine.config.registry import component
from engine.config.rows import expand, note_unclaimed
from engine.config.yaml import Document
from engine.errors import ERROR_TABLE, ErrorRow, SpecError
from engine.sources.base import Building, Source
from engine.transforms.base import Chain, Condition
from engine.transforms.values import readers
from engine.transforms.values.conditions import compile_condition
from engine.transforms.values.direct import data_of
from engine.transforms.values.value import compile_value

#: Variables that are there before any step.
ROOTS = frozenset(readers.ROOTS) | {"site", "message"}


class ChannelCompiler:
    """Compiles one channel file."""

    def __init__(self, document: Document, name: str, files: SiteFiles, data: Path, patients: Patients) -> None:
        """``patients``: the site's, for a channel that does not say it."""
        self.name, self.files, self.data, self.patients = name, files, data, patients
        self.findings = Findings(name)
        self.findings.problems.extend(document.problems)
        self.document = document = expand(document, files, self.findings)
        self.place = Place(files, self.findings, document, (), (), document.value)
        self.raw: dict[str, Any] = document.value if isinstance(document.value, dict) else {}
        #: Name of the destination that the reply is made from; empty without a reply.
        reply = self.raw.get("reply")
        self.answering = str(reply.get("from", "")) if isinstance(reply, dict) else ""
        items = self.raw.get("destinations")
        #: Names of the destinations, in order; empty where there is none.
        self.names = [
            str(item.get("name", "")) if isinstance(item, dict) else ""
            for item in (items if isinstance(items, list) else [])
        ]
        #: Kept whatever else is wrong: two channels on one port are wrong all the same.
        self.source: Source | None = None

    def compile(self) -> ChannelPlan | None:
        """The plan; None when the findings hold errors."""
        if not self.document.usable:
            return None
        if not isinstance(self.document.value, dict):
            self.place.report(
                (), f"found {kind(self.document.value)} instead of a channel", expected="keys: name, source, …"
            )
            return None
        found = self.place.validate(ChannelPart, self.raw)
        part: ChannelPart | None = found[0] if found else None
        self.source = source = self._source()
        transform = self._chain("transform")
        self._check_variables()
        order = compile_order(part.order, self.place.at(("order",))) if part else Order()
        patients = self.patients
        if part is not None and part.patients is not None:
            patients = compile_patients(part.patients, self.place.at(("patients",)).report)
        destinations = self._destinations(order)
        if len(destinations) == len(self.names):  # else the one that takes it may be the one with a fault
            note_unclaimed(self.place, transform, destinations)
        reply = self._reply(source)
        idempotency = self._idempotency()
        acks = AckCompiler(self.place, self.raw, self.names, self.data).compile(part, source)
        if part is not None and acks is not None:
            check_patience(part, acks.when, destinations, self.place)
        self._check_keys()
        self._check_reads()
        self._check_answer_steps(transform, destinations, reply)
        self._check_codes(reply.rows if reply else ERROR_TABLE, complete="reply" not in self.raw or reply is not None)
        if part is None or source is None or acks is None or self.findings.problems.errors:
            return None
        return ChannelPlan(
            name=self.name,
            file=self.document.file,
            source=source,
            destinations=destinations,
            description=part.description,
            ack=acks.when,
            ack_deadline=part.ack_deadline,
            ack_from=acks.from_,
            ack_to=acks.to,
            ack_accept=acks.accept,
            duplicates=acks.duplicates,
            batch=compile_batch(part, source),
            order=order,
            patients=patients,
            on_error=part.on_error,
            charset=part.charset,
            transform=transform,
            reply=reply,
            idempotency=idempotency,
            resolves=frozenset(self.findings.resolves),
            breaker=Breaker(part.breaker.failures, part.breaker.probe),
            retention=part.retention.words,
            bodies=part.retention.bodies.model_dump(exclude_unset=True),
            line=self.document.mark.find(("destinations",)).line,
            reply_line=self.document.mark.find(("reply",)).line,
            fingerprint=fingerprint(self.document, self.findings.used, self.files),
        )

    # -- parts -----------------------------------------------------------------------------------------------------

    def _source(self) -> Source | None:
        if "source" not in self.raw:
            return None
        building = Building(self.name, self.files.folder, self.data)
        place = self.place.at(("source",), self.raw["source"])
        source: Source | None = place.component(
            "sources", self.raw["source"], lambda cls, config: cls(config, building)
        )
        for code in sorted(source.error_codes if source is not None else ()):
            self.findings.codes.setdefault((code, self.document.file, ("source",)))
        return source

    def _chain(self, *path: str) -> Chain:
        """The steps at ``path``; what is no list there is told by the models."""
        value: Any = self.raw
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return self.place.at(path, value).steps(value) if isinstance(value, list) else Chain(())

    def _destinations(self, order: Order) -> tuple[DestinationPlan, ...]:
        items = self.raw.get("destinations")
        plans: list[DestinationPlan | None] = []
        for index, item in enumerate(items if isinstance(items, list) else []):
            place = self.place.at(("destinations", index), item)
            name = self.names[index]
            if name and name in self.names[:index]:
                place.report(("name",), f"two destinations are called `{name}`", expected="every name once")
            known = "reply" not in self.raw or (self.answering != "" and self.answering in self.names)
            answering = (name != "" and name == self.answering) if known else None
            compiler = DestinationCompiler(place, name, answering, self.data)
            plans.append(compiler.compile(item, order))
        return tuple(plan for plan in plans if plan is not None)

    def _reply(self, source: Source | None) -> ReplyPlan | None:
        if "reply" not in self.raw:
            return None
        raw = self.raw["reply"]
        place = self.place.at(("reply",), raw)
        found = place.validate(ReplyPart, raw)
        if source is not None and not source.can_reply:
            place.report(
                (), "this source cannot give a reply", expected="a source that answers with a body, such as rest"
            )
        self._check_answering(place)
        transform = self._chain("reply", "transform")
        on = raw.get("on") if isinstance(raw, dict) else None
        chains = {str(code): self._chain("reply", "on", code) for code in on} if isinstance(on, dict) else {}
        rules, rows = self._errors(place, raw.get("errors") if isinstance(raw, dict) else None)
        if rows is None:
            return None
        for code in chains:
            self._check_code(code, rows, place.at(("on", code)))
        accept = self._accept(place, raw.get("accept") if isinstance(raw, dict) else None, rows)
        if found is None:
            return None
        part: ReplyPart = found[0]
        return ReplyPlan(part.from_, part.status, transform, rules, rows, chains, accept)

    def _accept(self, place: Place, conditions: Any, rows: Mapping[str, ErrorRow]) -> dict[str, Condition]:
        """Error code → the condition under which it is none."""
        found: dict[str, Condition] = {}
        for code, spec in conditions.items() if isinstance(conditions, dict) else ():
            here = place.at(("accept", code), spec)
            self._check_code(str(code), rows, here)
            condition = here.attempt(partial(compile_condition, spec, here), "the condition")
            if condition is not None:
                found[str(code)] = condition
        return found

    def _errors(self, place: Place, name: Any) -> tuple[Any, Mapping[str, ErrorRow] | None]:
        """Rules and rows of ``reply.errors``; rows are None when its file cannot be used."""
        if not isinstance(name, str):
            return (), ERROR_TABLE
        here = place.at(("errors",), name)
        fragment = here.attempt(lambda: here.fragment(name), "the error rules")
        if fragment is None:
            return (), None
        document = self.files.documents[fragment.file]
        return compile_errors(Place(self.files, self.findings, document, (), (), document.value))

    def _idempotency(self) -> IdempotencyPlan | None:
        if "idempotency" not in self.raw:
            return None
        raw = self.raw["idempotency"]
        place = self.place.at(("idempotency",), raw)
        if "reply" not in self.raw:
            place.report(
                (), "only a channel with `reply:` answers the same request again", expected="`reply:`, or no key"
            )
        found = place.validate(IdempotencyPart, raw)
        if found is None:
            return None
        part: IdempotencyPart = found[0]
        key = place.attempt(lambda: data_of(compile_value(part.key, place, ("key",))), "the key")
        until = None
        if part.keep.until is not None:
            until = place.attempt(lambda: data_of(compile_value(part.keep.until, place, ("keep", "until"))), "the time")
        return None if key is None else IdempotencyPlan(key, part.keep.at_least, until)

    # -- checks that need the whole file ---------------------------------------------------------------------------

    def _check_keys(self) -> None:
        """Keys that would have no effect beside the others."""
        if "batch" in self.raw and "reply" in self.raw:
            message = "a channel with `reply:` answers one request at a time"
            self.place.report(("batch",), message, expected="no key, or another channel for batches")
        if "breaker" in self.raw and "reply" not in self.raw:
            self.place.report(
                ("breaker",), "only a channel with `reply:` has a breaker", expected="`reply:`, or no key"
            )

    def _check_answer_steps(self, shared: Chain, own: tuple[DestinationPlan, ...], reply: ReplyPlan | None) -> None:
        """A step that answers the caller stands where there is a caller, and before the partner is asked."""
        chains: dict[tuple[str | int, ...], Chain] = {}
        message, expected = "the partner has answered already", "no step that answers the caller"
        if reply is not None:
            chains = {("reply", "transform"): reply.transform}
            chains |= {("reply", "on", code): chain for code, chain in reply.on.items()}
        elif "reply" not in self.raw:
            message = "a step answers the caller, and a channel without `reply:` has none"
            chains = {("transform",): shared}
            chains |= {("destinations", self.names.index(plan.name), "transform"): plan.transform for plan in own}
        for path, chain in chains.items():
            if chain.answers:
                self.place.report(path, message, expected=expected)

    def _check_answering(self, place: Place) -> None:
        """The reply's destination exists and gives answers."""
        if not self.answering:
            return
        if self.answering not in self.names:
            names = [name for name in self.names if name]
            message = f"no destination of this channel is called `{self.answering}`"
            place.report(("from",), message, expected=one_of(names), nearest=nearest(self.answering, names))
            return
        for index, name in enumerate(self.names):
            if name != self.answering:
                # It would be sent nothing: an exchange has one partner. Refused rather than passed over in silence.
                message = f"a channel with a reply has one destination, and it answers from `{self.answering}`"
                expected = "another channel for this destination"
                self.place.at(("destinations", index)).report(("name",), message, expected=expected)
        to = self.raw["destinations"][self.names.index(self.answering)].get("to")
        if isinstance(to, dict) and len(to) == 1:
            self._check_answers(next(iter(to)), place)

    def _check_answers(self, word: str, place: Place) -> None:
        try:
            cls = component("destinations", word)
        except SpecError:
            return  # told where the word stands
        if not cls.answers:
            message = f"a reply cannot be made from the destination `{word}`, it gives no answer"
            place.report(("from",), message, expected="a destination that answers, such as mllp or rest")

    def _check_variables(self) -> None:
        """Every variable that a `where` asks for is set by a shared step, where that can be known."""
        items = self.raw.get("destinations")
        if self.findings.open_variables or not isinstance(items, list):
            return
        known = sorted(self.findings.variables | ROOTS)
        for index, item in enumerate(items):
            where = item.get("where") if isinstance(item, dict) else None
            for key in where if isinstance(where, dict) else ():
                name = key[1:].split(".")[0] if key.startswith("$") else ""
                if name and name not in known:
                    place = self.place.at(("destinations", index, "where"))
                    near = nearest(name, known)
                    expected = one_of([f"${word}" for word in sorted(self.findings.variables)])
                    place.report((key,), f"no step sets `${name}`", expected=expected, nearest=near and f"${near}")

    def _check_reads(self) -> None:
        """Every variable that a step of this file reads is set by some step, where that can be known."""
        if self.findings.open_variables:
            return
        known = self.findings.variables | ROOTS
        for name, path in self.findings.reads.items():
            if name not in known:
                near = nearest(name, sorted(known))
                expected = one_of([f"${word}" for word in sorted(known)])
                place = self.place.at(path)
                place.report((), f"no step sets `${name}`", expected=expected, nearest=near and f"${near}")

    def _check_codes(self, rows: Mapping[str, ErrorRow], complete: bool) -> None:
        """Every error code that a step raises has its row."""
        if not complete:
            return
        for code, file, path in self.findings.codes:
            document = self.document if file == self.document.file else self.files.documents[file]
            self._check_code(code, rows, Place(self.files, self.findings, document, path))

    def _check_code(self, code: str, rows: Mapping[str, ErrorRow], place: Place) -> None:
        if code in rows:
            return
        where = "the file of `reply.errors`" if self.raw.get("reply") else "the engine's error table"
        place.report((), f"no error is called `{code}`", expected=f"a code of {where}", nearest=nearest(code, rows))
