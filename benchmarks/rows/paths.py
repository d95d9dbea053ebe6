"""Variations of the path: one strict lane, several sends ahead, receiving alone, five destinations."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.finding import Finding, Line, at_least, at_most
from benchmarks.measure import Bench, column, finding, under_load
from benchmarks.processes import Engine, Sink, free_port, load
from benchmarks.references.append import append

SITE = """\
rest: {port: "${REST_PORT}"}
admin: {port: "${ADMIN_PORT}"}
"""
#: How many sends of one lane may run ahead of the commit of their outcomes.
AHEAD = "sends_ahead: 8"
LANE = """\
name: lane
source:
  mllp: {{port: "${{IN_PORT}}"}}
transform:
  - set: {{MSH-5: ARCHIVE}}
destinations:
  - name: partner
    to: {{mllp: {{host: 127.0.0.1, port: "${{OUT_PORT}}"}}}}
    {more}
"""
RECEIVE = """\
name: receive
source:
  mllp: {port: "${IN_PORT}"}
transform:
  - keep: {MSH-9.1: ADT}
destinations:
  - name: nobody
    to: {discard: {}}
"""
FAN = """\
name: fan
source:
  mllp: {port: "${IN_PORT}"}
order: {key: PID-3.1}
transform:
  - set: {MSH-5: ARCHIVE, MSH-6: SITE}
  - convert: {version: "2.3.1"}
destinations:
"""
OUTLET = """\
  - name: emr-{number}
    to: {{mllp: {{host: 127.0.0.1, port: "${{OUT_PORT}}"}}}}
    connections: 4
"""
PORTS = ("IN_PORT", "OUT_PORT", "ADMIN_PORT", "REST_PORT")


def measured(bench: Bench, name: str, channel: str, connections: int, seconds: float) -> dict[str, Any]:
    """An engine with one channel, between load generator and sink."""
    with bench.scratch() as folder:
        engine = Engine(folder, {"site.yaml": SITE, f"channels/{name}.yaml": channel}, PORTS)
        with Sink(engine.ports["OUT_PORT"]) as sink, engine.start():
            return under_load(engine, name, engine.ports["IN_PORT"], connections, seconds, sink)


def lane(more: str, aim: float, bench: Bench) -> Finding:
    """One strictly ordered lane while intake runs at full speed."""
    seconds = bench.seconds(6.0)
    channel = LANE.format(more=more)
    runs = bench.rounds(
        engine=partial(measured, bench, "lane", channel, 32, seconds), partner=partial(partner, bench.seconds(1.0))
    )
    result = finding(runs, "engine", "accepted_per_s")
    told = "the partner's own closed-loop rate, one connection"
    settled, alone = column(runs["engine"], "settled_per_s"), column(runs["partner"], "per_s")
    result.lines.append(Line("settled", "messages/s", settled, at_least(aim), told, alone))
    return result


def partner(seconds: float) -> dict[str, Any]:
    """The sink alone, each message sent when the last one is acknowledged."""
    with Sink(free_port()) as sink:
        return {"per_s": load(sink.port, 1, seconds=seconds)["per_s"]}


def receive(bench: Bench) -> Finding:
    """To the commit, and no further: what is stored and passes no `keep`."""

    def disk(seconds: float) -> dict[str, Any]:
        with bench.scratch() as folder:
            return append(folder, 64, seconds)

    runs = bench.rounds(
        engine=partial(measured, bench, "receive", RECEIVE, 64, bench.seconds(6.0)),
        append=partial(disk, bench.seconds(1.0)),
    )
    result = finding(runs, "engine", "p50_ms", "p99_ms")
    told = "file append and fdatasync, 64 messages each"
    accepted = column(runs["engine"], "accepted_per_s")
    result.lines.append(
        Line("accepted", "messages/s", accepted, at_least(20_000), told, column(runs["append"], "per_s"))
    )
    return result


def fan_out(bench: Bench) -> Finding:
    """Five destinations beside one."""
    seconds = bench.seconds(5.0)

    def to(number: int) -> str:
        return FAN + "".join(OUTLET.format(number=one) for one in range(number))

    runs = bench.rounds(
        five=partial(measured, bench, "fan", to(5), 32, seconds),
        one=partial(measured, bench, "fan", to(1), 32, seconds),
    )
    result = finding(runs, "five", "accepted_per_s")
    five, one = (column(runs[name], "settled_per_s") for name in ("five", "one"))
    result.lines.append(
        Line("settled at all five", "messages/s", five, None, "the same with one destination", one, at_least(0.5))
    )
    accepted = column(runs["five"], "accepted_per_s")
    ahead = [came / went for came, went in zip(accepted, five, strict=True) if went]
    result.lines.append(Line("accepted for each that is settled", "messages", ahead, at_most(1.1)))
    return result
