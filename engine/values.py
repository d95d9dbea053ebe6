"""``dataclass`` for the values that every message makes: ``frozen`` is the type checker's to hold, not the machine's.

A frozen dataclass of the standard library sets each field through ``object.__setattr__``, which takes three times as
long as a plain one; a message on its way makes a dozen of them. Compared, hashed, replaced and printed they are the
same. Elsewhere the standard library's own does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses

    def dataclass(*, frozen: bool = False, **options: Any) -> Any:
        """As ``dataclasses.dataclass``; what is ``frozen`` keeps its hash and is not guarded."""
        # Without equality of its own it is hashed as the object that it is: equal hashes of unequal keys fill a cache
        # with entries that are all compared.
        return dataclasses.dataclass(unsafe_hash=frozen and options.get("eq", True), **options)


__all__ = ["dataclass"]
