"""`answer`: what the steps know is the answer. `check` refuses it where nobody waits for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.envelope import Envelope
from engine.testing import load_for_tests
from engine.transforms.base import Verdict

Make = Callable[..., Envelope]

HERE = "destinations:\n  - name: ris\n    to: {rest: {url: 'http://127.0.0.1:8070/x'}}\n"
STEPS = "transform:\n  - include: slots/$site.slots\n"
ASKED = "source: {rest: {path: /x}}\n"
REPLY = "reply: {from: ris}\n"


@pytest.fixture
def problems(tmp_path: Path) -> Callable[..., list[str]]:
    """What `check` tells of a channel ``x``."""

    def tell(channel: str) -> list[str]:
        files = {
            "site.yaml": "slots: db\n",
            "channels/x.yaml": channel,
            "transforms/slots/db.yaml": "- answer: {rows: 1}\n",
        }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return [str(problem) for problem in load_for_tests(tmp_path).problems if problem.level == "error"]

    return tell


async def test_the_body_is_the_answer_and_no_step_runs_behind_it(kit: SimpleNamespace, envelope: Make) -> None:
    chain = kit.Loading().chain([{"answer": {"rows": "$rows", "of": "$body.day"}}, {"drop": True}], ())
    made = envelope(None, request={"day": "2027-01-29"}, variables={"rows": [{"id": "A"}]})
    assert chain.answers
    assert chain.run(made, kit.Context()) is Verdict.ANSWER
    assert made.body == {"rows": [{"id": "A"}], "of": "2027-01-29"}
    assert await chain.run_async(made, kit.Context()) is Verdict.ANSWER


def test_a_channel_with_a_reply_may_answer(problems: Callable[..., list[str]]) -> None:
    assert problems(ASKED + STEPS + HERE + REPLY) == []


@pytest.mark.parametrize(
    ("channel", "where"),
    [
        ("source: {mllp: {port: 2575}}\n" + STEPS + HERE, "channels/x.yaml:2: transform"),
        (
            "source: {mllp: {port: 2575}}\n" + HERE + "    transform: [{answer: {}}]\n",
            "channels/x.yaml:5: destinations[0].transform",
        ),
        (ASKED + HERE + "reply:\n  from: ris\n  transform: [{answer: {}}]\n", "channels/x.yaml:7: reply.transform"),
    ],
)
def test_nobody_is_answered_where_nobody_waits(channel: str, where: str, problems: Callable[..., list[str]]) -> None:
    (told,) = problems(channel)
    assert told.startswith(where)
    assert "answer" in told


def test_an_included_definition_is_a_build_of_it(kit: SimpleNamespace, envelope: Make) -> None:
    loading = kit.Loading(files={"slots/qry": {"json": {"asks": "$query.day"}}, "slots/db": [{"answer": {"rows": 1}}]})
    made = envelope(None, query={"day": "2027-01-29"})
    for name, verdict, body in (
        ("qry", Verdict.CONTINUE, {"asks": "2027-01-29"}),
        ("db", Verdict.ANSWER, {"rows": 1}),
    ):
        chain = loading.chain([{"include": f"slots/{name}"}], ())
        assert chain.answers is (verdict is Verdict.ANSWER)
        assert chain.run(made, kit.Context()) is verdict
        assert made.body == body
