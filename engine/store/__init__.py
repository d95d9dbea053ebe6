"""ON DISK: what is accepted, owed, answered and remembered.

``base.py`` is the contract (operations and reads); ``sqlite.py`` is the embedded store that follows it. Start there: it
names the other files. Nothing outside this folder knows SQL, and nothing inside it knows channels or connectors.
"""

from engine.store.base import Store
from engine.store.sqlite import SqliteStore

__all__ = ["SqliteStore", "Store"]
