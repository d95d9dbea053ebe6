"""``include: NAME``: the steps of ``transforms/NAME.yaml``, as if they stood here.

A file that is the definition of a message is a ``build`` of it: what is asked by a message and what is asked in another
way can then stand beside each other under one name (``ris/slots/$site.ris.slots``).
"""

from __future__ import annotations

from collections.abc import Awaitable

from engine.envelope import Envelope
from engine.transforms.base import Context, Loading, Run, Step, Verdict
from engine.transforms.building.definition import named_in


class Include(Step):
    """Steps that stand in a file of their own."""

    Config = str

    def __init__(self, config: str, loading: Loading) -> None:
        name = named_in(loading.site, config, ())
        if isinstance(loading.fragment(name).data, dict):
            self._chain = loading.chain([{"build": {"using": name}}], ())
        else:
            self._chain = loading.include(name)
        self.pure, self.answers = self._chain.pure, self._chain.answers  # type: ignore[misc]
        self.opens = self._chain.opens  # type: ignore[misc]

    @property
    def asynchronous(self) -> bool:
        """Whether one of the steps is."""
        return self._chain.asynchronous

    @property
    def runs(self) -> tuple[Run, ...]:
        """Theirs."""
        return self._chain.runs

    def run(self, envelope: Envelope, context: Context) -> Verdict | Awaitable[Verdict]:
        """Run them."""
        if self._chain.asynchronous:
            return self._chain.run_async(envelope, context)
        return self._chain.run(envelope, context)
