"""How a pilot is told: tables for people, one JSON document for machines. No patient is in either."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from rich.text import Text

from engine.cli.output import console, print_json, print_table
from engine.cli.piloting.bookings import PilotPlan
from engine.cli.piloting.ground import Ground
from engine.cli.piloting.judge import BAR, PHASE_2, Result, Times, Verdict
from engine.simulators.radscheduler import Call, Kind

CALLS: dict[Kind, str] = {"locations": "locations", "slots": "available slots", "book": "book appointment"}
ARRIVAL = "S12 at the EMR"
#: In this order.
OUTCOMES = ("booked", "booked at another try", "booked in another slot", "not booked")


def print_head(ground: Ground, plan: PilotPlan) -> None:
    """What is about to happen."""
    where = "an engine and simulators of its own" if ground.own else f"the engine at {ground.rest}"
    line = f"Pilot of {ground.site}: {number_of(plan.bookings, 'booking')} into the slots of {days_of(plan.days)}, "
    line += f"{plan.faults:g} % of them with a fault, seed {plan.seed}; on {where}."
    console().print(line, markup=False, soft_wrap=True)


def print_result(result: Result) -> None:
    """What happened, and whether that will do."""
    print_table(("call", "number", "positive", "p50", "p95", "p99", "longest"), time_rows(result))
    counts = Counter(verdict.became for verdict in result.verdicts)
    print_table(("outcome", "bookings"), ((word, counts[word]) for word in OUTCOMES if counts[word]))
    rows = list(failure_rows(result.verdicts))
    if rows:
        print_table(("met", "because", "RadScheduler was told", "became", "correlation id"), rows)
    problems = [(text, verdict.booking.correlation_id) for verdict in result.verdicts for text in verdict.problems]
    if problems:
        print_table(("wrong behind the answer", "correlation id"), problems)
    for text in sentences(result):
        console().print(text, soft_wrap=True)


def time_rows(result: Result) -> Iterator[tuple[str | int, ...]]:
    named: list[tuple[str, Times | None]] = [(name, result.times(kind)) for kind, name in CALLS.items()]
    for name, times in [*named, (ARRIVAL, result.arrival_times())]:
        if times is not None:
            spans = (times.p50, times.p95, times.p99, times.longest)
            yield (name, times.number, times.positive, *map(span, spans))


def failure_rows(verdicts: Sequence[Verdict]) -> Iterator[tuple[str, ...]]:
    """Every booking that a fault was dealt to, or that was told no in between."""
    for verdict in verdicts:
        booking = verdict.booking
        if booking.fault is None and not booking.outcome.setbacks and booking.outcome.booked:
            continue
        met = booking.fault.name if booking.fault else ""
        why = booking.fault.what if booking.fault else "of the other patients" if verdict.explained else "not known"
        told = [answer_of(call) for call in distinct(booking.outcome.setbacks)]
        if booking.outcome.booked:
            told.append(answer_of(booking.outcome.calls[-1]))
        elif booking.outcome.calls[-1].positive:
            told.append(booking.outcome.code)
        became = verdict.became if booking.outcome.booked else f"not booked: {booking.outcome.message}"
        became += f"; at {late}" if (late := late_at(verdict)) else ""
        yield met, why, ", ".join(told), became, booking.correlation_id


def late_at(verdict: Verdict) -> str:
    """``epic after 1.2 s`` for each EMR that heard of it late."""
    return ", ".join(f"{emr} after {span(took)}" for emr, took in sorted(verdict.late.items()))


def answer_of(call: Call) -> str:
    """``409 slot_taken``; ``201 after 20.1 s``."""
    code = f" {call.code}" if call.code else ""
    took = f" after {span(call.milliseconds)}" if call.milliseconds >= 1000 else ""
    return f"{call.status or 'nothing'}{code}{took}"


def distinct(calls: Sequence[Call]) -> list[Call]:
    """One of each answer, in order."""
    return list({(call.status, call.code): call for call in calls}.values())


def sentences(result: Result) -> Iterator[Text]:
    """The last lines: where the appointments are, and the verdict."""
    arrived = Counter(emr for verdict in result.verdicts for emr in verdict.arrivals)
    where = ", ".join(f"{emr} {number}" for emr, number in sorted(arrived.items())) or "none"
    right = result.booked - sum(bool(each.problems) for each in result.verdicts if each.booking.outcome.booked)
    yield Text(
        f"{right} of {result.booked} appointments are once in the RIS and once at each EMR of the facility ({where}).",
        style="" if right == result.booked else "red",
    )
    failed = len(result.verdicts) - result.booked
    errors = 100 - result.share
    opens = "opens" if errors < PHASE_2 else "does not open"
    yield Text(f"{errors:.1f} % booking errors: phase 2 {opens} (below {PHASE_2:g} %).")
    why = "" if not failed else ", every one of the rest explained" if not result.unexplained else (
        f", {result.unexplained} of the other {failed} without a reason that is known"
    )  # fmt: skip
    verdict = "Passed" if result.passed else "Not passed"
    yield Text(
        f"{verdict}: {result.share:.1f} % booked (at least {BAR:g} %){why}.",
        style="bold green" if result.passed else "bold red",
    )


def print_as_json(ground: Ground, plan: PilotPlan, result: Result) -> None:
    """All of it, every booking included."""
    named = {name: result.times(kind) for kind, name in CALLS.items()} | {ARRIVAL: result.arrival_times()}
    print_json(
        {
            "passed": result.passed,
            "site": str(ground.site),
            "days": [day.isoformat() for day in plan.days],
            "seed": plan.seed,
            "faults_percent": plan.faults,
            "bookings": len(result.verdicts),
            "booked": result.booked,
            "booked_percent": round(result.share, 2),
            "bar_percent": BAR,
            "unexplained": result.unexplained,
            "misplaced": result.misplaced,
            "times_ms": {name: times_view(times) for name, times in named.items() if times is not None},
            "outcomes": dict(Counter(verdict.became for verdict in result.verdicts)),
            "each": [verdict_view(verdict) for verdict in result.verdicts],
        }
    )


def times_view(times: Times) -> dict[str, float]:
    spans = {"p50": times.p50, "p95": times.p95, "p99": times.p99, "longest": times.longest}
    return {"number": times.number, "positive": times.positive} | {name: round(ms, 1) for name, ms in spans.items()}


def verdict_view(verdict: Verdict) -> dict[str, Any]:
    booking, outcome = verdict.booking, verdict.booking.outcome
    return {
        "order": booking.order_id,
        "modality": booking.modality,
        "correlation_id": booking.correlation_id,
        "fault": booking.fault.name if booking.fault else None,
        "became": verdict.became,
        "slot": outcome.slot.get("id"),
        "setbacks": [{"call": call.kind, "status": call.status, "code": call.code} for call in outcome.setbacks],
        "reason": None if outcome.booked else {"code": outcome.code, "message": outcome.message},
        "explained": verdict.explained,
        "problems": verdict.problems,
        "emrs_ms": {emr: round(ms, 1) for emr, ms in verdict.arrivals.items()},
        "late": sorted(verdict.late),
    }


def span(milliseconds: float) -> str:
    """``12 ms``, ``20.1 s``."""
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def number_of(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def days_of(days: Sequence[date]) -> str:
    """``Mon 30 Nov and Tue 1 Dec``"""
    named = [f"{day:%a} {day.day} {day:%b}" for day in days]
    return " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
