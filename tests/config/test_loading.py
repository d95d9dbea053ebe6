"""What steps are lent: tables, fragments, files of steps, functions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

SOURCE = "source: {mllp: {port: 2575}}\n"
TO = "destinations: [{name: a, to: {mllp: {port: 2601}}}]\n"


def with_steps(*steps: str) -> str:
    return SOURCE + TO + "transform:\n" + "".join(f"  - {step}\n" for step in steps)


def told(site: Any, *steps: str, **files: str) -> list[str]:
    return [str(problem) for problem in site.problems(with_steps(*steps), **files)]


def test_a_table_is_lent_and_read_once(site: Callable[..., Any]) -> None:
    made = site({"tables/emr.csv": "facility,emr\nWSI,epic\nWSI,generic\n"})
    lookup = "lookup: {table: emr, key: MSH-4, into: emr}"
    one, two = made.channel(with_steps(lookup, lookup)).transform.steps
    assert one.table is two.table
    assert [row["emr"] for row in one.table.rows("WSI")] == ["epic", "generic"]


def test_steps_see_the_site_and_where_they_are(site: Callable[..., Any]) -> None:
    made = site({"site.yaml": "ris: {version: '2.3'}\napi_keys: {k: {key: s3cret}}\nsecrets: [A]\n"})
    (step,) = made.channel(with_steps("set: {}")).transform.steps
    loading = step.loading
    assert loading.site == {"ris": {"version": "2.3"}}, "no secret is a value of the site"
    assert (loading.channel, loading.channels, loading.folder) == ("x", frozenset({"x"}), made.folder)


def test_included_steps_are_compiled_for_their_channel(site: Callable[..., Any]) -> None:
    made = site({"transforms/emr/base.yaml": "- set: {a: '${WHO}'}\n- include: emr/more\n"}, WHO="me")
    made.write({"transforms/emr/more.yaml": "- set: {b: 1}\n"})
    (step,) = made.channel(with_steps("include: emr/base")).transform.steps
    first, second = step.chain.steps
    assert first.config == {"a": "me"}
    assert second.chain.steps[0].config == {"b": 1}
    assert second.chain.steps[0].loading.channel == "x"


def test_the_same_file_may_be_included_twice_but_never_by_itself(site: Callable[..., Any]) -> None:
    made = site({"transforms/a.yaml": "- include: b\n", "transforms/b.yaml": "- set: {}\n"})
    assert len(made.channel(with_steps("include: a", "include: b", "include: a")).transform.steps) == 3
    assert told(made, "include: a", **{"transforms/b.yaml": "- set: {}\n- include: a\n"}) == [
        "transforms/b.yaml:2: [1].include: files include each other in a circle; expected an end to a → b → a"
    ]
    assert told(made, "include: a", **{"transforms/a.yaml": "- include: a\n"}) == [
        "transforms/a.yaml:1: [0].include: files include each other in a circle; expected an end to a → a"
    ]


def test_steps_inside_a_step_are_compiled_in_their_place(site: Callable[..., Any]) -> None:
    made = site({"channels/y.yaml": "source: {rest: {path: /y}}\n" + TO + "reply: {from: a}\n"})
    text = "ask: {channel: y, into: z, otherwise: [{set: {a: 1}}, {%s: {}}]}"
    (step,) = made.channel(with_steps(text % "set")).transform.steps
    assert len(step.chain.steps) == 2
    (line,) = told(made, text % "sett")
    assert line.startswith("channels/x.yaml:4: transform[0].ask.otherwise[1].sett: no step is called `sett`")
    (line,) = told(made, "ask: {channel: y, into: z, otherwise: [7]}")
    assert line.startswith("channels/x.yaml:4: transform[0].ask.otherwise[0]: found a number instead of a step")


def test_a_file_that_holds_no_steps_is_told_in_that_file(site: Callable[..., Any]) -> None:
    assert told(site(), "include: a", **{"transforms/a.yaml": "set: {}\n"}) == [
        "transforms/a.yaml:1: found keys instead of steps; expected a list of steps, each with a dash"
    ]


def test_faults_that_a_step_finds_in_a_fragment_are_told_there(site: Callable[..., Any]) -> None:
    made = site({"tables/emr.csv": "a,b\n"})
    assert told(made, "build: a", **{"transforms/a.yaml": "fields:\n  A: x\n  B: wrong\n"}) == [
        "transforms/a.yaml:3: fields.B: this is wrong"
    ]
    assert told(made, "build: a", **{"transforms/a.yaml": "fields:\n  A: x\n  B:\n    map: emrr\n"}) == [
        "transforms/a.yaml:4: fields.B.map: there is no table tables/emrr.csv;"
        " expected the name of a file in tables/, without ending; did you mean 'emr'?"
    ]
    assert told(made, "build: a", **{"transforms/a.yaml": "fields: [\n"}) == [
        "transforms/a.yaml:2: a value is missing, or a bracket is not closed; expected a value, ] or }"
    ]
    assert told(made, "build: a", **{"transforms/a.yaml": "fields:\n  A: ${NONE}\n"}) == [
        "transforms/a.yaml:2: fields.A: the environment has no `NONE`;"
        " expected a value there, or a default: ${NAME:-default}"
    ]


def test_a_broken_table_is_told_in_its_file_and_not_again_by_the_step(site: Callable[..., Any]) -> None:
    assert told(site(), "lookup: {table: emr, key: x, into: y}", **{"tables/emr.csv": "a,b\n1,2\n1\n"}) == [
        "tables/emr.csv:3: values: 1, columns of the table: 2; expected as many; a value with a comma in quotes"
    ]


TOOLS = """\
from __future__ import annotations
import dataclasses
from typing import ClassVar

CONSTANT = 1

@dataclasses.dataclass
class Row:
    kind: ClassVar[str] = "row"
    name: str = ""

def fix(message, context):
    return Row(name="fixed")

async def wait(message, context):
    return None
"""


def test_a_function_is_loaded_by_path(site: Callable[..., Any]) -> None:
    made = site(
        {"transforms/helpers.py": TOOLS, "transforms/emr/helpers.py": "def fix(message, context):\n    return 2\n"}
    )
    before = list(sys.path)
    one, two = made.channel(with_steps("python: helpers:fix", "python: emr/helpers:fix")).transform.steps
    assert one.function(None, None).name == "fixed"
    assert two.function(None, None) == 2
    assert sys.path == before
    assert "helpers" not in sys.modules
    assert not list(made.folder.rglob("__pycache__")), "no compiled copy that could be stale"


def test_a_function_is_loaded_anew_each_time(site: Callable[..., Any]) -> None:
    made = site({"transforms/tools.py": "def fix(message, context):\n    return 1\n"})
    (old,) = made.channel(with_steps("python: tools:fix")).transform.steps
    made.write({"transforms/tools.py": "def fix(message, context):\n    return 2\n"})
    (new,) = made.channel(with_steps("python: tools:fix")).transform.steps
    assert (old.function(None, None), new.function(None, None)) == (1, 2)


def test_a_module_of_the_site_runs_once_per_load(site: Callable[..., Any]) -> None:
    made = site({"transforms/tools.py": "seen = []\ndef fix(message, context):\n    seen.append(1)\n    return seen\n"})
    one, two = made.channel(with_steps("python: tools:fix", "python: tools:fix")).transform.steps
    one.function(None, None)
    assert two.function(None, None) == [1, 1]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (
            "tool:fix",
            "there is no file transforms/tool.py; expected the name of a file in transforms/, without ending;"
            " did you mean 'tools'?",
        ),
        (
            "tools:fixx",
            "`fixx` does not exist in transforms/tools.py; expected one of Row, fix, wait; did you mean 'fix'?",
        ),
        ("tools:CONSTANT", "`CONSTANT` is no function in transforms/tools.py; expected one of Row, fix, wait"),
        ("tools", "`tools` names no function; expected FILE:FUNCTION, such as radscheduler:slots"),
        ("tools:", "`tools:` names no function; expected FILE:FUNCTION, such as radscheduler:slots"),
        (
            "raises:fix",
            "transforms/raises.py cannot be imported: KeyError in line 4;"
            " expected a file that runs by itself; other files of the site cannot be imported in it",
        ),
        (
            "leaves:fix",
            "transforms/leaves.py cannot be imported: SystemExit in line 2;"
            " expected a file that runs by itself; other files of the site cannot be imported in it",
        ),
        (
            "imports:fix",
            "transforms/imports.py cannot be imported: ModuleNotFoundError (neighbour) in line 1;"
            " expected a file that runs by itself; other files of the site cannot be imported in it",
        ),
        (
            "wrong:fix",
            "transforms/wrong.py cannot be imported: SyntaxError in line 2;"
            " expected a file that runs by itself; other files of the site cannot be imported in it",
        ),
    ],
)
def test_a_function_that_cannot_be_had_is_told_by_type_and_line_only(
    site: Callable[..., Any], reference: str, expected: str
) -> None:
    made = site(
        {
            "transforms/tools.py": TOOLS,
            "transforms/raises.py": "import json\n\ndef inner():\n    return {}['s3cret']\n\ninner()\n",
            "transforms/leaves.py": "import sys\nsys.exit('s3cret')\n",
            "transforms/imports.py": "import neighbour\n",
            "transforms/neighbour.py": TOOLS,
            "transforms/wrong.py": "x = 1\ndef (s3cret:\n",
        }
    )
    assert told(made, f"python: '{reference}'") == [f"channels/x.yaml:4: transform[0].python: {expected}"]


def test_a_module_that_fails_leaves_no_trace(site: Callable[..., Any]) -> None:
    made = site({"transforms/raises.py": "1 / 0\n"})
    before = set(sys.modules)
    assert len(told(made, "python: raises:a", "python: raises:b")) == 2
    assert set(sys.modules) == before
