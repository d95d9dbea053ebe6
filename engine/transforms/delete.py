"""``delete: [TARGET, …]``: take out fields, components, whole segments (``NTE``), variables or JSON members."""

from __future__ import annotations

from engine.envelope import Envelope
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.values.targets import target


class Delete(Step):
    """Take things out."""

    Config = str | list[str]

    def __init__(self, config: str | list[str], loading: Loading) -> None:
        names = [config] if isinstance(config, str) else config
        self._targets = tuple(target(name, (number,), "delete", segment=True) for number, name in enumerate(names))

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Take out each; what is not there is no fault."""
        for place in self._targets:
            place.clear(envelope)
        return CONTINUE
