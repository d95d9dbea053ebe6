"""What happens when a value is not there: ``missing:`` of a lookup, a map, a recall, an ask.

``error`` fails the step (the channel's ``on_error`` decides), ``park`` and ``hold`` fail it with that outcome, ``keep``
leaves what was looked up, ``null`` leaves nothing, ``{error: CODE}`` tells the caller no.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.errors import Refused, SpecError, StepFailed
from engine.transforms.values.text import near

#: Takes what was looked up; returns what stands instead, or raises.
Policy = Callable[[Any], Any]

_WORDS = ("error", "park", "hold", "keep", "null")


def missing_policy(word: Any, at: tuple[str | int, ...], step: str, cause: str, where: str) -> Policy:
    """The policy that ``word`` names. ``where`` is a path, table or key name for the error, never a value."""
    if word is None or word == "null":
        return lambda _: None
    if word == "keep":
        return lambda value: value
    if isinstance(word, dict):
        if set(word) != {"error"} or not isinstance(word["error"], str):
            raise SpecError("only an error code can stand here", at=at, expected="{error: CODE}")
        return _refuse(word["error"])
    if word not in _WORDS:
        raise SpecError(
            f"{word} is no way to go on",
            at=at,
            expected=f"{', '.join(_WORDS)} or {{error: CODE}}",
            nearest=near(word, _WORDS),
        )
    return _fail(step, cause, where, None if word == "error" else word)


def _refuse(code: str) -> Policy:
    def refuse(_: Any) -> Any:
        raise Refused(code)

    return refuse


def _fail(step: str, cause: str, where: str, outcome: str | None) -> Policy:
    def fail(_: Any) -> Any:
        raise StepFailed(step, cause, where, outcome=outcome)

    return fail
