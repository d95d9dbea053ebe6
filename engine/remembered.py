"""What is worked out for a text that a partner chooses, kept for when it comes again: in bounded memory.

``functools.lru_cache`` bounds how many results are kept, not how long the texts are that they are kept for. Where a
partner chooses these, a thousand of a megabyte would stay for good. Here those that are long are worked out each time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, TypeVarTuple, cast

#: Characters of a text, or of all texts of a call together, that a result is kept for at most.
LONGEST = 128

K = TypeVar("K", bound=str | tuple[str, ...])
R = TypeVar("R")
Texts = TypeVarTuple("Texts")


class Memory(dict[K, R]):
    """What ``work`` gives for a text, or for several: ``memory[text]``. Begins anew when ``most`` results are kept."""

    def __init__(self, most: int, work: Callable[[K], R], *, longest: int = LONGEST) -> None:
        """``longest``: characters of the texts of a result that is kept."""
        super().__init__()
        self._most, self._longest = most, longest
        self._work: Callable[[K], R] = work

    def __missing__(self, key: K) -> R:
        found = self._work(key)
        if (len(key) if isinstance(key, str) else sum(map(len, key))) <= self._longest:
            if len(self) >= self._most:
                self.clear()
            self[key] = found
        return found


def remembered(most: int) -> Callable[[Callable[[*Texts], R]], Callable[[*Texts], R]]:
    """Decorates a function of nothing but texts: ``most`` of its results are kept. It is called without names."""

    def decorate(work: Callable[[*Texts], R]) -> Callable[[*Texts], R]:
        if cast(Any, work).__code__.co_argcount == 1:
            # No function of Python's stands between the caller and what is kept.
            return cast(Any, Memory(most, cast(Any, work))).__getitem__  # type: ignore[no-any-return]
        memory: Memory[Any, R] = Memory(most, lambda texts: work(*texts))

        @wraps(work)
        def recall(*texts: *Texts) -> R:
            return memory[texts]

        return recall

    return decorate
