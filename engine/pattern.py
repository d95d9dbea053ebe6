"""Regular expressions for what partners and callers write, matched in time that grows with the text and no faster.

Python's own matcher goes back over the text again and again and may need years for ``(a+)+b``. RE2 looks at each
character once; so it has no back-references and does not look ahead or behind. Only whether it matches is asked.
"""

from __future__ import annotations

from typing import Any

import re2

#: Characters of a text that are looked at; what stands behind them does not count.
LONGEST_TEXT = 1000
#: Bytes of a compiled pattern at most.
_MOST_MEMORY = 1024 * 1024


class Pattern:
    """One compiled pattern.

    Raises ValueError, with a sentence, for what is none or cannot be matched in bounded time.
    """

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        options: Any = re2.Options()
        options.log_errors = False  # it would write the pattern to stderr
        options.max_mem = _MOST_MEMORY
        try:
            self._compiled: Any = re2.compile(_encoded(text), options)
        except re2.error:
            raise ValueError("no regular expression, or one that looks ahead or back") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def search(self, text: str) -> bool:
        """Whether it matches anywhere in the first part of ``text``."""
        return self._compiled.search(_encoded(text[:LONGEST_TEXT])) is not None

    def fullmatch(self, text: str) -> bool:
        """Whether it matches the whole of ``text``, whose length its caller has bounded."""
        return self._compiled.fullmatch(_encoded(text)) is not None


def _encoded(text: str) -> bytes:
    """UTF-8; a byte that its charset did not explain (a lone surrogate) becomes a question mark."""
    return text.encode("utf-8", "replace")
