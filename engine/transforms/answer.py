"""``answer: {…}``: the caller is answered from what the steps found; no partner is asked.

For a channel with ``reply:`` whose steps know the answer already: from a database, a table, a cache. The reply's
transform and status are those of a partner's positive answer. The steps behind it do not run.
"""

from __future__ import annotations

from typing import Any

from engine.envelope import Envelope
from engine.transforms.base import Context, Loading, Step, Verdict
from engine.transforms.building.json_body import compile_json
from engine.transforms.values.scope import Scope
from engine.transforms.values.value import Compiler


class Answer(Step):
    """Answer the caller without asking a partner."""

    Config = Any
    answers = True

    def __init__(self, config: Any, loading: Loading) -> None:
        self._body = compile_json(Compiler(loading, "answer"), config)

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Make the answer; the request ends with it."""
        envelope.body = self._body.read(Scope(envelope, context))
        return Verdict.ANSWER
