"""What a channel file becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.config.plan import AnswerRule, Breaker, ErrorWhen, Order, Retry
from engine.errors import ERROR_TABLE, ErrorRow
from engine.hl7.path import Path
from engine.pattern import Pattern

SOURCE = "source: {mllp: {port: 2575}}\n"
TO = "destinations: [{name: a, to: {mllp: {port: 2601}}}]\n"
CALL = "source: {rest: {path: /x}}\n"


def test_defaults_are_the_safe_ones(site: Callable[..., Any]) -> None:
    plan = site().channel(SOURCE + TO)
    assert (plan.name, plan.file, plan.description) == ("x", "channels/x.yaml", "")
    assert (plan.ack, plan.ack_deadline, plan.on_error, plan.charset) == ("received", 30.0, "park", None)
    assert plan.order == Order("received")
    assert plan.breaker == Breaker(5, 10.0)
    assert (plan.reply, plan.idempotency, plan.transform.steps) == (None, None, ())
    (destination,) = plan.destinations
    assert destination.name == "a"
    assert destination.retry == Retry((1.0, 5.0, 15.0, 60.0), None, None, frozenset({"unavailable"}))
    assert (destination.connections, destination.on_unanswered, destination.on_answer) == (1, "repeat", ())
    assert (destination.where, destination.transform.steps, destination.secret) == (None, (), ())
    assert destination.order == Order("received")


def test_everything_a_file_says_is_in_the_plan(site: Callable[..., Any]) -> None:
    plan = site().channel(
        """\
name: x
description: The RIS announces an appointment.
source:
  mllp: {port: "${SIU_PORT:-2575}", timeout: 2m}
ack: delivered
ack_deadline: 5s
order: {key: [PID-3.1, MSH-10, $body.order.id]}
on_error: hold
charset: 8859/1
transform:
  - set: {$emr: epic}
  - set: {PID-3: x}
destinations:
  - name: epic
    description: The EMR of the north.
    where: {$emr: epic}
    transform:
      - set: {PID-3: y}
    to:
      mllp: {port: 2602, tls: {ca: data/tls/ca.pem}}
    connections: 4
    retry: {backoff: [500ms, 2m], give_up: 24h, attempts: 9}
    on_unanswered: hold
    on_answer:
      - {ack: AA, text: "queued, not stored", then: park}
      - {ack: [4xx, other], then: hold}
      - {condition: [207, 1001], location: PID-3, application_error: SLOT_TAKEN, then: delivered}
    order: none
    secret: [phone]
"""
    )
    assert plan.source.config.port == 2575
    assert plan.source.config.timeout == 120.0
    assert (plan.ack, plan.ack_deadline, plan.on_error, plan.charset) == ("delivered", 5.0, "hold", "8859/1")
    paths = (Path.parse("PID-3.1"), Path.parse("MSH-10"))
    assert plan.order == Order("key", paths, ("order.id",), (Path.parse("MRG-1.1"),))
    assert [step.config for step in plan.transform.steps] == [{"$emr": "epic"}, {"PID-3": "x"}]
    (epic,) = plan.destinations
    assert epic.where is not None
    assert epic.where.variables == {"emr": frozenset({"epic"})}
    assert [step.config for step in epic.transform.steps] == [{"PID-3": "y"}]
    assert epic.to.config.tls.ca == "data/tls/ca.pem"
    assert (epic.to.building.channel, epic.to.building.destination, epic.to.building.connections) == ("x", "epic", 4)
    assert epic.to.building.channels == frozenset({"x"})
    assert epic.connections == 4
    assert epic.retry == Retry((0.5, 120.0), 86400.0, 9)
    assert epic.on_unanswered == "hold"
    assert epic.on_answer == (
        AnswerRule("park", frozenset({"AA"}), text=Pattern("queued, not stored")),
        AnswerRule("hold", frozenset({"4xx", "other"})),
        AnswerRule(
            "delivered",
            condition=frozenset({"207", "1001"}),
            location=frozenset({"PID-3"}),
            application_error=frozenset({"SLOT_TAKEN"}),
        ),
    )
    assert (epic.order, epic.secret) == (Order("none"), ("phone",))


def test_a_destination_without_order_takes_the_channels(site: Callable[..., Any]) -> None:
    plan = site().channel(SOURCE + TO + "order: {key: PID-3}\n")
    assert plan.destinations[0].order == plan.order
    assert plan.order == Order("key", (Path.parse("PID-3"),), (), (Path.parse("MRG-1"),))


def test_a_component_without_keys_may_be_left_empty(site: Callable[..., Any]) -> None:
    assert site().channel("source:\n  channel:\n" + TO).source.config is not None


def test_a_reply_channel(site: Callable[..., Any]) -> None:
    made = site({"tables/t.csv": "a,b\n"})
    plan = made.channel(
        """\
source: {rest: {path: /x, method: POST}}
idempotency: {key: [$header.Idempotency-Key, $body.requestId], keep: {at_least: 2h, until: $body.start}}
transform:
  - lookup: {table: t, key: x, into: y, missing: {error: unknown_order}}
destinations:
  - name: ris
    to: {mllp: {port: 2576, timeout: 20s}}
    on_unanswered: unknown
reply:
  from: ris
  status: 201
  transform: [{set: {a: b}}]
  errors: ris/errors
  on:
    slot_taken: [{set: {$c: d}}]
breaker: {failures: 2, probe: 500ms}
""",
        **{
            "transforms/ris/errors.yaml": """\
- {when: {condition: 204, location: [QRD-10, AIL-3]}, code: unknown_location, status: 404}
- {when: {application_error: SLOT_TAKEN}, code: slot_taken, status: 409, message: The slot is no longer available.}
- {when: {ack: [AE, 409], condition: [206, 205]}, code: slot_taken}
- {when: {response: {ORC-1: UA}}, code: slot_taken}
- {when: {text: "(?i)already taken"}, code: slot_taken}
- {when: unavailable, code: ris_unavailable, status: 503, retry_after: 10s}
- {when: {unanswered: true}, code: ris_timeout, status: 504}
- {when: bad_response, code: ris_bad_response, status: 502, retryable: true}
- {code: unknown_order, status: 404}
- {code: unauthorized, message: No.}
- {when: {condition: 101}, code: ris_error, retryable: false}
- {when: {condition: 207}, code: ris_error, retryable: true}
- {otherwise: true, code: ris_error}
"""
        },
    )
    reply = plan.reply
    assert reply is not None
    assert (reply.destination, reply.status) == ("ris", 201)
    assert [step.config for step in reply.transform.steps] == [{"a": "b"}]
    assert {code: [step.config for step in chain.steps] for code, chain in reply.on.items()} == {
        "slot_taken": [{"$c": "d"}]
    }
    codes = [rule.code for rule in reply.rules]
    assert codes[:3] == ["unknown_location", "slot_taken", "slot_taken"]
    assert codes[-1] == "ris_error"
    assert len(codes) == 11, "what has no `when` declares a row and is no rule"
    whens = [rule.when for rule in reply.rules]
    assert whens[0] == ErrorWhen(condition=frozenset({"204"}), location=frozenset({"QRD-10", "AIL-3"}))
    assert whens[1] == ErrorWhen(application_error=frozenset({"SLOT_TAKEN"}))
    assert whens[2] == ErrorWhen(ack=frozenset({"AE", "409"}), condition=frozenset({"206", "205"}))
    assert whens[3].response is not None
    assert whens[4] == ErrorWhen(text=Pattern("(?i)already taken"))
    assert whens[5:8] == [ErrorWhen(unavailable=True), ErrorWhen(unanswered=True), ErrorWhen(bad_response=True)]
    assert whens[-1] == ErrorWhen(otherwise=True)
    assert [rule.retryable for rule in reply.rules[-3:]] == [False, True, None]
    assert not reply.rows["ris_error"].retryable, "the first word is the row's, a later one its own case's"
    assert reply.rows["slot_taken"] == ErrorRow("slot_taken", 409, "The slot is no longer available.")
    assert reply.rows["unknown_order"] == ErrorRow("unknown_order", 404, "Unknown order.")
    assert reply.rows["ris_unavailable"] == ErrorRow("ris_unavailable", 503, "Ris unavailable.", True, 10.0)
    assert reply.rows["ris_bad_response"] == ErrorRow("ris_bad_response", 502, "Ris bad response.", True)
    assert reply.rows["unauthorized"] == ErrorRow("unauthorized", 401, "No."), "the rest is the engine's row"
    assert reply.rows["internal_error"] is ERROR_TABLE["internal_error"]
    assert plan.idempotency is not None
    assert (plan.idempotency.at_least, plan.idempotency.until is not None) == (7200.0, True)
    assert plan.breaker == Breaker(2, 0.5)
    (ris,) = plan.destinations
    assert ris.retry.attempts == 1, "who is answered directly is asked once by default"
    assert ris.on_unanswered == "unknown"


def test_a_query_may_be_repeated(site: Callable[..., Any]) -> None:
    plan = site().channel(
        CALL
        + "destinations:\n  - name: ris\n    to: {mllp: {port: 1}}\n"
        + "    retry: {attempts: 2, on: [unavailable, unanswered]}\nreply: {from: ris}\n"
    )
    assert plan.destinations[0].retry.attempts == 2
    assert plan.destinations[0].retry.on == frozenset({"unavailable", "unanswered"})
    assert plan.idempotency is None
    assert plan.reply.status == 200
    assert plan.reply.rows is ERROR_TABLE


def test_a_variable_that_a_function_of_the_site_may_set_can_be_asked_for(site: Callable[..., Any]) -> None:
    made = site({"transforms/f.yaml": "- set: {$inner: 1}\n", "tables/t.csv": "a,b\n"})
    steps = "transform: [{include: f}, {lookup: {table: t, key: x, into: emr}}]\n"
    where = "destinations: [{name: a, to: {mllp: {port: 1}}, where: {$inner: 1, $emr: x, $header.x: y, MSH-4: z}}]\n"
    assert len(made.channel(SOURCE + steps + where).destinations) == 1
    assert [problem.key for problem in made.problems(SOURCE + where)] == [
        "destinations[0].where.$inner",
        "destinations[0].where.$emr",
    ]


ERRORS = [
    (
        "- {when: unavailabel, code: x}\n",
        "1: [0].when: `unavailabel` is not known here; expected one of unavailable, unanswered, bad_response;"
        " did you mean 'unavailable'?",
    ),
    (
        "- {when: {ak: AE}, code: x}\n",
        "1: [0].when.ak: unknown key `ak`; expected one of ack, condition, location, application_error, unavailable,"
        " unanswered, bad_response, response, text; did you mean 'ack'?",
    ),
    (
        "- {when: {ack: AF}, code: x}\n",
        "1: [0].when.ack: `AF` is no ack code; expected one of AA, AE, AR, CA, CE, CR, or an HTTP status",
    ),
    (
        "- {when: {text: '('}, code: x}\n",
        "1: [0].when.text: no regular expression, or one that looks ahead or back; expected a pattern such as",
    ),
    ("- {when: {unanswered: 1}, code: x}\n", "1: [0].when.unanswered: found a number; expected true, or the key left"),
    ("- {when: {ack: []}, code: x}\n", "1: [0].when.ack: found a list; expected a code, or a list of codes"),
    ("- {when: 7, code: x}\n", "1: [0].when: found a number; expected keys: ack, condition"),
    ("- {otherwise: false, code: x}\n", "1: [0].otherwise: `false` is not known here; expected true"),
    ("- {code: x, status: 200}\n", "1: [0].status: out of range; expected a number of at least 400"),
    (
        "- {code: x, status: 404}\n- {when: unanswered, code: x, status: 405}\n",
        "2: [1].status: `x` has another status in an earlier rule; expected one per code",
    ),
    (
        "- {otherwise: true, when: unanswered, code: x}\n",
        "1: [0].otherwise: `otherwise` and `when` stand together; expected one of them",
    ),
    ("- x\n", "1: [0]: found text; expected keys with values"),
    ("when: x\n", "1: found keys instead of error rules; expected a list of rules, each with a dash"),
]


def test_faults_of_an_error_table_are_told_in_its_file(site: Callable[..., Any]) -> None:
    for text, expected in ERRORS:
        problems = site().problems(CALL + TO + "reply: {from: a, errors: e}\n", **{"transforms/e.yaml": text})
        assert len(problems) == 1, expected
        assert str(problems[0]).startswith(f"transforms/e.yaml:{expected}")


def test_a_code_without_a_row_is_told_where_the_step_stands(site: Callable[..., Any]) -> None:
    made = site({"tables/t.csv": "a,b\n", "transforms/e.yaml": "- {code: unknown_order, status: 404}\n"})
    made.write(
        {"transforms/f.yaml": "- set: {}\n- lookup: {table: t, key: x, into: y, missing: {error: unknown_ordr}}\n"}
    )
    (problem,) = made.problems(CALL + TO + "transform: [{include: f}]\nreply: {from: a, errors: e}\n")
    assert str(problem) == (
        "transforms/f.yaml:2: [1].lookup.missing.error: no error is called `unknown_ordr`;"
        " expected a code of the file of `reply.errors`; did you mean 'unknown_order'?"
    )


def test_an_error_file_that_is_wrong_does_not_make_every_code_unknown(site: Callable[..., Any]) -> None:
    made = site({"tables/t.csv": "a,b\n", "transforms/e.yaml": "- {code: [\n"})
    steps = "transform: [{lookup: {table: t, key: x, into: y, missing: {error: unknown_order}}}]\n"
    problems = made.problems(CALL + TO + steps + "reply: {from: a, errors: e}\n")
    assert [problem.file for problem in problems] == ["transforms/e.yaml"]


@pytest.mark.parametrize(
    ("order", "merges"),
    [
        ("key: PID-3.1", ["MRG-1.1"]),
        ("key: 'PID-3[2].1'", ["MRG-1.1"]),
        ("key: [PID-18.1, PV1-19, PID-2]", ["MRG-3.1", "MRG-5", "MRG-4"]),
        ("key: SCH-1.1", []),
        ("key: PID-3.1, merge: none", []),
        ("key: ZPI-1, merge: [MRG-1.1, MRG-4]", ["MRG-1.1", "MRG-4"]),
    ],
)
def test_where_merges_name_their_other_keys_follows_from_the_key(
    site: Callable[..., Any], order: str, merges: list[str]
) -> None:
    plan = site().channel(f"{SOURCE}{TO}order: {{{order}}}\n")
    assert [str(path) for path in plan.order.merges] == merges
