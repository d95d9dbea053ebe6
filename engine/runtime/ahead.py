"""Lanes that go on before the outcome of what their partner has is committed (``sends_ahead``).

Of a key so many sends are without a committed outcome at most: as many may come twice after a crash. Where there are so
many, the last of them lets its lanes go on as soon as the outcome of an earlier one is committed.
"""

from __future__ import annotations

from engine.runtime.doubt import Doubt
from engine.runtime.item import Item
from engine.runtime.window import Window


class Ahead:
    """The lanes of one destination. ``most`` is ``sends_ahead``."""

    def __init__(self, window: Window, doubt: Doubt, most: int) -> None:
        self._window, self._doubt, self._most = window, doubt, most
        #: The partner has them, and their lanes wait for the outcome of an earlier one: by each of their keys.
        self._last: dict[str, Item] = {}

    def arrived(self, item: Item) -> None:
        """The partner has it, and its outcome is being committed."""
        if self._window.may_pass(item, self._most):
            self._pass(item)
        else:
            self._last.update(dict.fromkeys(item.keys, item))

    def ended(self, item: Item) -> None:
        """Its outcome is committed, or will never be."""
        for key in item.keys:
            last = self._last.get(key)
            if last is item:
                del self._last[key]
            elif last is not None and self._window.may_pass(last, self._most):
                for other in last.keys:
                    del self._last[other]
                self._pass(last)

    def _pass(self, item: Item) -> None:
        self._doubt.moved(item)
        self._window.pass_by(item)
