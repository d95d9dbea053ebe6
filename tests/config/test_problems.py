"""What an admin reads: one exact line per fault. The files hold one fault each unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SOURCE = "source: {mllp: {port: 2575}}\n"
CALL = "source: {rest: {path: /x}}\n"
TO = "destinations: [{name: a, to: {mllp: {port: 2601}}}]\n"
WAY = SOURCE + TO
REPLY = CALL + TO
ACK_CODES = "one of AA, AE, AR, CA, CE, CR, other, an HTTP status (422) or its class (4xx)"
TIME = "a time such as 500ms, 30s, 5m, 2h or 30d"
STEPS = "one of ask, broken, build, clumsy, include, lookup, no_step, python, set, twice"


def destination(rest: str, source: str = SOURCE) -> str:
    return f"{source}destinations:\n  - name: a\n    to: {{mllp: {{port: 2601}}}}\n    {rest}\n"


#: file, its text → the line that `check` prints.
CASES = [
    # words
    (
        "source: {mlpp: {port: 1}}\n" + TO,
        "1: source.mlpp: no source is called `mlpp`; expected one of channel, mllp, rest; did you mean 'mllp'?",
    ),
    (
        SOURCE + "destinations:\n  - name: a\n    to:\n      flie: {path: x}\n",
        "5: destinations[0].to.flie: no destination is called `flie`; expected one of channel, file, mllp;"
        " did you mean 'file'?",
    ),
    (
        WAY + "transform:\n  - set: {$x: 1}\n  - sett: {$x: 1}\n",
        f"5: transform[1].sett: no step is called `sett`; expected {STEPS}; did you mean 'set'?",
    ),
    (
        WAY + "transform:\n  - set: {$x: 1}\n    lookup: {}\n",
        "4: transform[0]: `set` and `lookup` stand together where one step stands; expected a dash before each",
    ),
    (
        "source: {mllp: {port: 1}, rest: {path: /x}}\n" + TO,
        "1: source: `mllp` and `rest` stand together where one source stands;"
        " expected its own keys indented under the source's word",
    ),
    (
        "source: mllp\n" + TO,
        "1: source: `mllp` is a word alone; expected `mllp:` with a colon, and its keys if it has any",
    ),
    ("source:\n" + TO, "1: source: found nothing instead of a source; expected one source, such as `channel: …`"),
    (
        WAY + "transform: [7]\n",
        "3: transform[0]: found a number instead of a step; expected one step, such as `ask: …`",
    ),
    # keys
    (
        SOURCE + "detsinations: [{name: a, to: {mllp: {port: 2601}}}]\n",
        "2: detsinations: unknown key `detsinations`; expected one of name, description, source, ack, ack_deadline,"
        " duplicates, batch, order, patients, on_error, charset, transform, destinations, reply, idempotency, breaker,"
        " retention; did you mean 'destinations'?",
    ),
    (SOURCE, "1: destinations: `destinations` is missing"),
    (SOURCE + "destinations: []\n", "2: destinations: too few or too many; expected at least 1 of them"),
    (SOURCE + "destinations: {a: b}\n", "2: destinations: found keys; expected a list"),
    (SOURCE + "destinations:\n  - a\n", "3: destinations[0]: found text; expected keys with values"),
    (SOURCE + "destinations:\n  - name: a\n", "3: destinations[0].to: `to` is missing"),
    (
        "source:\n  mllp:\n    prot: 2575\n" + TO,
        "3: source.mllp.prot: unknown key `prot`; expected one of port, host, timeout, tls; did you mean 'port'?",
    ),
    (
        "source: {mllp: {port: 1, tls: {ca: x, verfy: true}}}\n" + TO,
        "1: source.mllp.tls.verfy: unknown key `verfy`; expected one of ca, verify; did you mean 'verify'?",
    ),
    (
        "source:\n  rest:\n    path: /x\n    query:\n      date: {requierd: true}\n" + TO,
        "5: source.rest.query.date.requierd: unknown key `requierd`; expected one of required, one_of;"
        " did you mean 'required'?",
    ),
    (
        WAY + "transform:\n  - lookup: {table: emr, key: MSH-4, into: emr, misisng: keep}\n",
        "4: transform[0].lookup.misisng: unknown key `misisng`; expected one of table, key, into, missing;"
        " did you mean 'missing'?",
    ),
    # types
    ("source: {mllp: {port: many}}\n" + TO, "1: source.mllp.port: found text; expected a whole number"),
    ("source: {mllp: {port: 70000}}\n" + TO, "1: source.mllp.port: out of range; expected a number of at most 65535"),
    ("source: {mllp: {port: 1, timeout: 5 minutes}}\n" + TO, f"1: source.mllp.timeout: not valid; expected {TIME}"),
    ("source: {mllp: {port: 1, timeout: 0}}\n" + TO, "1: source.mllp.timeout: out of range; expected a number above 0"),
    (
        "source: {mllp: {port: 1, tls: on}}\n" + TO,
        "1: source.mllp.tls: `on` is not known here; expected off or keys with values",
    ),
    (
        "source: {mllp: {port: 1, tls: {ca: x, verify: 7}}}\n" + TO,
        "1: source.mllp.tls.verify: found a number; expected true or false",
    ),
    (
        WAY + "transform:\n  - lookup: {table: emr, key: MSH-4, into: 7}\n",
        "4: transform[0].lookup.into: found a number; expected text (put it in quotes)",
    ),
    (WAY + "transform: {set: {}}\n", "3: transform: found keys; expected a list"),
    ("source: {rest: {path: x}}\n" + TO, "1: source.rest.path: not valid; expected text of the form ^/"),
    # words of the engine
    (
        WAY + "ack: recieved\n",
        "3: ack: `recieved` is not known here; expected one of received, routed, delivered or keys with"
        " values; did you mean 'received'?",
    ),
    (WAY + "ack: [routed]\n", "3: ack: found a list; expected one of received, routed, delivered or keys with values"),
    (
        WAY + "order: recieved\n",
        "3: order: `recieved` is not known here; expected one of received, none or keys with values;"
        " did you mean 'received'?",
    ),
    (
        WAY + "order: {kye: PID-3}\n",
        "3: order.kye: unknown key `kye`; expected one of key, merge; did you mean 'key'?",
    ),
    (
        WAY + "order: {key: PID-3.1, merge: PID-3.1}\n",
        "3: order.merge: `PID-3.1` is no place in MRG; expected a field or component such as MRG-1.1",
    ),
    (
        WAY + "order: {key: PID-3.1, merge: MRG}\n",
        "3: order.merge: `MRG` is a whole segment; expected a field or component such as MRG-1.1",
    ),
    (
        WAY + "order: {key: PID}\n",
        "3: order.key: `PID` is a whole segment; expected a field or component such as PID-3.1",
    ),
    (
        WAY + "charset: latin9x\n",
        "3: charset: no charset of that name; expected one of HL7 table 0211 such as 8859/1 or UNICODE UTF-8",
    ),
    (
        destination("retry: {backof: [1s]}"),
        "5: destinations[0].retry.backof: unknown key `backof`; expected one of backoff, give_up, attempts, on;"
        " did you mean 'backoff'?",
    ),
    (
        destination("retry: {give_up: nver}"),
        f"5: destinations[0].retry.give_up: not valid; expected {TIME}, or never",
    ),
    (
        destination("retry: {backoff: [1s, soon]}"),
        f"5: destinations[0].retry.backoff[1]: not valid; expected {TIME}",
    ),
    (
        destination("retry: {on: [unavailable]}"),
        "5: destinations[0].retry.on: `on` is for the destination that a reply is made from;"
        " expected `on_unanswered` for answers that do not come",
    ),
    (
        destination("on_unanswered: unknown"),
        "5: destinations[0].on_unanswered: `unknown` is for the destination that a reply is made from;"
        " expected repeat or hold",
    ),
    (
        destination("on_answer:\n      - {ack: ae, then: park}"),
        f"6: destinations[0].on_answer[0].ack: `ae` is no ack code; expected {ACK_CODES}; did you mean 'AE'?",
    ),
    (
        destination("on_answer:\n      - {ack: AE, then: park}\n      - {ack: [AA, AZ], then: park}"),
        f"7: destinations[0].on_answer[1].ack: `AZ` is no ack code; expected {ACK_CODES}",
    ),
    (
        destination("on_answer:\n      - {condition: 207, then: rtry}"),
        "6: destinations[0].on_answer[0].then: `rtry` is not known here;"
        " expected one of delivered, retry, park, hold, discard; did you mean 'retry'?",
    ),
    (
        destination("on_answer:\n      - {condition: many, then: retry}"),
        "6: destinations[0].on_answer[0].condition: `many` is no condition; expected a number such as 207 (table 0357)",
    ),
    (
        destination("on_answer:\n      - {then: retry}"),
        "6: destinations[0].on_answer[0]: a rule that asks for nothing;"
        " expected one of ack, condition, location, application_error, text",
    ),
    (
        destination("on_answer:\n      - {text: '(a)\\1', then: retry}"),
        "6: destinations[0].on_answer[0].text: no regular expression, or one that looks ahead or back;"
        " expected a pattern such as (?i)slot .* taken, in quotes",
    ),
    (
        destination("on_answer: {AE: park}"),
        "5: destinations[0].on_answer: found keys; expected a list",
    ),
    (destination("connections: 0"), "5: destinations[0].connections: out of range; expected a number of at least 1"),
    (
        SOURCE + "destinations:\n  - {name: a, to: {mllp: {port: 1}}}\n  - {name: a, to: {mllp: {port: 2}}}\n",
        "4: destinations[1].name: two destinations are called `a`; expected every name once",
    ),
    # what belongs together
    (
        CALL
        + "destinations:\n  - {name: a, to: {mllp: {port: 1}}}\n"
        + "  - {name: b, to: {mllp: {port: 2}}}\nreply: {from: a}\n",
        "4: destinations[1].name: a channel with a reply has one destination, and it answers from `a`;"
        " expected another channel for this destination",
    ),
    (
        destination("where: {$emrr: epic}") + "transform: [{lookup: {table: emr, key: MSH-4, into: emr}}]\n",
        "5: destinations[0].where.$emrr: no step sets `$emrr`; expected $emr; did you mean '$emr'?",
    ),
    (
        "source: {mllp: {port: '99999'}}\n" + TO,
        "1: source.mllp.port: out of range; expected a number of at most 65535",
    ),
    (
        REPLY + "reply: {from: b}\n",
        "3: reply.from: no destination of this channel is called `b`; expected a",
    ),
    (
        SOURCE + TO + "reply: {from: a}\n",
        "3: reply: this source cannot give a reply; expected a source that answers with a body, such as rest",
    ),
    (
        CALL + "destinations: [{name: a, to: {file: {path: x}}}]\nreply: {from: a}\n",
        "3: reply.from: a reply cannot be made from the destination `file`, it gives no answer;"
        " expected a destination that answers, such as mllp or rest",
    ),
    (
        REPLY + "reply: {from: a}\nack: routed\n",
        "4: ack: `ack` and `reply` stand together; expected `reply` alone: it is the answer",
    ),
    (
        WAY + "idempotency: {key: MSH-10}\n",
        "3: idempotency: only a channel with `reply:` answers the same request again; expected `reply:`, or no key",
    ),
    (
        WAY + "breaker: {failures: 3}\n",
        "3: breaker: only a channel with `reply:` has a breaker; expected `reply:`, or no key",
    ),
    (
        WAY + "ack_deadline: 3s\n",
        "3: ack_deadline: only `ack: delivered` and `ack: {from: …}` wait; expected `ack: delivered`, or no key",
    ),
    (
        destination("order: none", CALL) + "reply: {from: a}\n",
        "5: destinations[0].order: `order` has no effect where the reply is made from: it has no lane;"
        " expected the key left out, or another destination for it",
    ),
    (
        destination("retry: {give_up: 3h}", CALL) + "reply: {from: a}\n",
        "5: destinations[0].retry.give_up: a caller waits for the reply: it is given up by number, not by time;"
        " expected `attempts`",
    ),
    (
        REPLY + "reply: {from: a, on: {slot_takn: []}}\n",
        "3: reply.on.slot_takn: no error is called `slot_takn`; expected a code of the file of `reply.errors`",
    ),
    (
        REPLY + "transform: [{lookup: {table: emr, key: x, into: y, missing: {error: in_progres}}}]\n",
        "3: transform[0].lookup.missing.error: no error is called `in_progres`;"
        " expected a code of the engine's error table; did you mean 'in_progress'?",
    ),
    # files
    (
        WAY + "transform:\n  - lookup:\n      table: emrr\n      key: MSH-4\n      into: emr\n",
        "5: transform[0].lookup.table: there is no table tables/emrr.csv;"
        " expected the name of a file in tables/, without ending; did you mean 'emr'?",
    ),
    (
        WAY + "transform: [{include: emr/epik}]\n",
        "3: transform[0].include: there is no file transforms/emr/epik.yaml;"
        " expected the name of a file in transforms/, without ending; did you mean 'emr/epic'?",
    ),
    (
        WAY + "transform: [{include: emr/epic.yaml}]\n",
        "3: transform[0].include: `emr/epic.yaml` is written with its ending;"
        " expected the name of a file in transforms/, without ending; did you mean 'emr/epic'?",
    ),
    (
        WAY + "transform: [{include: ../site}]\n",
        "3: transform[0].include: there is no file transforms/../site.yaml;"
        " expected the name of a file in transforms/, without ending",
    ),
    # components of others
    (
        SOURCE + "destinations:\n  - name: a\n    to:\n      mllp:\n        port: 1\n        host: nowhere\n",
        "7: destinations[0].to.mllp.host: this host does not exist; expected a host",
    ),
    (
        WAY + "transform: [{broken: x}]\n",
        "3: transform[0].broken: the step `broken` (stranger.broken:None) cannot be imported: ImportError;"
        " expected a package that works",
    ),
    (
        WAY + "transform: [{clumsy: x}]\n",
        "3: transform[0].clumsy: the step `clumsy` cannot be set up: RuntimeError; expected a package that works",
    ),
    (
        WAY + "transform: [{no_step: x}]\n",
        "3: transform[0].no_step: the step `no_step` (stranger.no_step:dict) is no step of hl7engine;"
        " expected a subclass of Step with Config",
    ),
    (
        WAY + "transform: [{twice: x}]\n",
        "3: transform[0].twice: two packages offer the step `twice`: stranger.twice:Note and stranger.twice:SetStep;"
        " expected one of them uninstalled",
    ),
    # the environment
    (
        "source:\n  mllp:\n    port: ${RIS_PROT}\n" + TO,
        "3: source.mllp.port: the environment has no `RIS_PROT`;"
        " expected a value there, or a default: ${NAME:-default}; did you mean 'RIS_PORT'?",
    ),
    (
        "source:\n  mllp:\n    port: ${RIS_WORD}\n" + TO,
        "3: source.mllp.port: found text; expected a whole number",
    ),
    # YAML
    (
        "source:\n  mllp:\n  port: 1: 2\n" + TO,
        "3: a `: ` where no key can stand;"
        " expected one `key: value` per line, indented like its neighbours; text with `: ` in quotes",
    ),
    (WAY + "ack: routed\nack: received\n", "4: ack: the key `ack` stands here and in line 3; expected every key once"),
    ("", " the file is empty"),
    ("- source\n", "1: found a list instead of a channel; expected keys: name, source, …"),
    (
        "name: two words\n" + WAY,
        "1: name: not valid; expected text of the form ^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[expected.partition(";")[0] for _, expected in CASES])
def test_one_fault_is_one_line_that_says_where_what_and_the_nearest_word(
    site: Callable[..., Any], text: str, expected: str
) -> None:
    made = site(
        {"tables/emr.csv": "facility,emr\nDTI,athena\n", "transforms/emr/epic.yaml": "- set: {PID-3: x}\n"},
        RIS_PORT="2576",
        RIS_WORD="s3cret",
    )
    problems = made.problems(text)
    assert [str(problem) for problem in problems] == [f"channels/x.yaml:{expected}"]
    assert list(made.load().broken) == ["x" if "two words" not in text else "two words"]


def test_all_faults_of_a_file_are_told_at_once(site: Callable[..., Any]) -> None:
    problems = site().problems(
        """\
source:
  mllp: {prot: 1}
ack: never
transform:
  - sett: {}
  - lookup: {table: nothing, key: x, into: y}
  - python: nothing:here
destinations:
  - name: a
    to: {file: {}}
    retry: {attempts: 0}
    where: 7
  - name: b
    to: {smpt: {}}
    transform: [{nothing: 1}]
    on_answer: [{ack: AZ, then: park}]
reply: {from: c, status: 500}
idempotency: {}
breaker: {probe: soon}
"""
    )
    assert [(problem.line, problem.key) for problem in problems] == [
        (2, "source.mllp.prot"),
        (3, "ack"),
        (3, "ack"),
        (5, "transform[0].sett"),
        (6, "transform[1].lookup.table"),
        (7, "transform[2].python"),
        (10, "destinations[0].to.file.path"),
        (11, "destinations[0].retry.attempts"),
        (12, "destinations[0].where"),
        (14, "destinations[1].to.smpt"),
        (15, "destinations[1].transform[0].nothing"),
        (16, "destinations[1].on_answer[0].ack"),
        (17, "reply.status"),
        (17, "reply.from"),
        (18, "idempotency.key"),
        (19, "breaker.probe"),
    ]


def test_a_reply_that_names_no_destination_brings_no_other_complaint(site: Callable[..., Any]) -> None:
    text = destination("on_unanswered: unknown\n    retry: {on: [unavailable]}", CALL)
    assert [problem.key for problem in site().problems(text + "reply: {from: b}\n")] == ["reply.from"]
    assert [problem.key for problem in site().problems(text + "reply: {}\n")] == ["reply.from"]


def test_a_destination_without_a_name_brings_no_complaint_about_a_reply(site: Callable[..., Any]) -> None:
    text = SOURCE + "destinations:\n  - {nam: a, where: {MSH-4: DTI}, to: {mllp: {port: 1}}}\n"
    [problem] = site().problems(text)
    assert (problem.key, problem.nearest) == ("destinations[0].nam", "name")


def test_no_problem_shows_a_secret(site: Callable[..., Any]) -> None:
    made = site(TOKEN="s3cret-token", HOST="nowhere")
    problems = made.problems(
        """\
ack: ${TOKEN}
source: {mllp: {port: "${TOKEN}", tls: "${TOKEN}"}}
order: {key: "${TOKEN}"}
transform: [{clumsy: "${TOKEN}"}, {broken: "${TOKEN}"}]
destinations:
  - name: a
    to: {mllp: {port: 1, bearer: [my-literal-s3cret], host: "${HOST}"}}
    on_unanswered: ${TOKEN}
"""
    )
    assert len(problems) == 7
    problems += made.problems(WAY + 'order: {key: "${TOKEN}"}\ntransform: [{include: "${TOKEN}"}]\n')
    assert [problem.message for problem in problems[7:]] == [
        "'${TOKEN}' is no path: a path is written PID, PID-3, PID-3.1, PID-3.1.2, PID-3[2].1 or OBX[2]-5,"
        " numbers from 1 to 9999",
        "there is no file transforms/${TOKEN}.yaml",
    ]
    assert all("s3cret" not in str(problem) and "s3cret" not in repr(problem) for problem in problems)


def test_a_file_that_many_channels_use_tells_its_faults_once_and_breaks_them_all(site: Callable[..., Any]) -> None:
    made = site({"transforms/base.yaml": "- set: {}\n- sett: {}\n", "tables/emr.csv": "a,b\n1\n"})
    steps = "transform: [{include: base}, {lookup: {table: emr, key: x, into: y}}]\n"
    for port, name in enumerate("xyz", 1):
        made.write({f"channels/{name}.yaml": f"source: {{mllp: {{port: {port}}}}}\n{TO}{steps}"})
    plan = made.load()
    assert [(problem.file, problem.line) for problem in plan.problems] == [
        ("tables/emr.csv", 2),
        ("transforms/base.yaml", 2),
    ]
    assert sorted(plan.broken) == ["x", "y", "z"]
    assert plan.broken["x"] == plan.broken["z"] == plan.problems
