"""``copy: {TARGET: SOURCE}``: copy a field, a member or a variable as it stands.

As in ``set``, the target is on the left.
"""

from __future__ import annotations

from engine.envelope import Envelope
from engine.errors import SpecError
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.values.targets import putting, target
from engine.transforms.values.value import Compiler


class Copy(Step):
    """Copy fields as they stand."""

    Config = dict[str, str]

    def __init__(self, config: dict[str, str], loading: Loading) -> None:
        if not config:
            raise SpecError("nothing is copied", expected="TARGET: SOURCE")
        compiler = Compiler(loading, "copy")
        pairs = ((target(name, (name,), "copy"), compiler.source(source, (name,))) for name, source in config.items())
        self._puts = putting(pairs, "copy")

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Copy each; what is empty empties its target."""
        for put in self._puts:
            put(envelope, context)
        return CONTINUE
