"""The rows of ``make bench`` in the order in which they run; each is a function that gives a ``Finding``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.finding import Finding
from benchmarks.measure import Bench
from benchmarks.rows import ceilings, large, lifetimes, main_path, paths, queued, requests


@dataclass(frozen=True)
class Row:
    """One measurement: how it is asked for, what it is called, and how it is made."""

    name: str
    title: str
    run: Callable[[Bench], Finding]
    #: Seconds after which it has failed.
    limit: int = 240


MAIN = "MLLP in → commit → transform → commit → MLLP out → settle, 4 lanes, 1 connection"

ROWS = (
    Row("files", "The disk alone", ceilings.files),
    Row("main-1", MAIN, partial(main_path.row, 1)),
    Row("main-8", "The same, 8 connections", partial(main_path.row, 8)),
    Row("main-32", "The same, 32 connections", partial(main_path.row, 32), 360),
    Row("writing-process", "The same, with the process that writes and without it", main_path.writing),
    Row("two-processes", "Two engines, each with its own store and 16 connections", main_path.two_processes),
    Row("curve", "The main path, connections between", main_path.curve),
    Row(
        "lane",
        "One strictly ordered lane while intake runs at full speed, each outcome committed before the next send",
        partial(paths.lane, "", 2_500),
    ),
    Row("lane-ahead", "The same, eight sends ahead of their commit", partial(paths.lane, paths.AHEAD, 6_000)),
    Row(
        "slots-1",
        "REST → QRY over MLLP → JSON, ten slots, outcome committed before the answer, 1 connection",
        partial(requests.slots, 1),
    ),
    Row("slots-8", "The same, 8 connections", partial(requests.slots, 8)),
    Row("booking", "A booking, its intent committed before it is sent, 8 connections", requests.bookings),
    Row("receive", "Receive only, to the commit, 64 connections", paths.receive),
    Row("fan-out", "Fan-out to five destinations, 32 connections", paths.fan_out),
    Row("interpreter", "The interpreter alone", ceilings.interpreter),
    Row("generator", "Load generator and sink with nothing between", ceilings.generator),
    Row("start-5", "Process launch → all listeners accept, 5 channels", partial(lifetimes.start, 5, 1.0)),
    Row("start-200", "The same, 200 channels", partial(lifetimes.start, 200, 3.0)),
    Row("start-site", "The same, the reference site of this repository", lifetimes.start_site),
    Row("recovery", "Back after SIGKILL with 100,000 queued", lifetimes.recovery, 600),
    Row("large", "One message of 50 MB, beside small ones", large.row),
    Row("dead", "A dead destination with 100,000 waiting", queued.dead),
    Row("memory", "Full load with 1,000,000 queued", queued.loaded, 400),
)
