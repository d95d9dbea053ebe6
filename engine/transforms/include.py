"""``include: NAME``: the steps of ``transforms/NAME.yaml``, as if they stood here."""

from __future__ import annotations

from collections.abc import Awaitable

from engine.envelope import Envelope
from engine.transforms.base import Context, Loading, Step, Verdict
from engine.transforms.building.definition import named_in


class Include(Step):
    """Steps that stand in a file of their own."""

    Config = str

    def __init__(self, config: str, loading: Loading) -> None:
        self._chain = loading.include(named_in(loading.site, config, ()))
        self.pure = self._chain.pure  # type: ignore[misc]

    @property
    def asynchronous(self) -> bool:
        """Whether one of the steps is."""
        return self._chain.asynchronous

    def run(self, envelope: Envelope, context: Context) -> Verdict | Awaitable[Verdict]:
        """Run them."""
        if self._chain.asynchronous:
            return self._chain.run_async(envelope, context)
        return self._chain.run(envelope, context)
