"""The local socket of a data folder: its name, and an address that always fits.

Standard library only, because every command imports it. The address of a unix socket holds about 100 bytes
(``man 7 unix``); a data folder may lie deeper, so its descriptor stands in for a long path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Name of the socket inside the data folder.
SOCKET = "engine.sock"
#: The smallest sun_path among the systems Python runs on is 104 bytes, its end mark included.
LONGEST_ADDRESS = 100


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """An address for ``bind`` or ``connect``, valid inside the ``with``. OSError when the folder is not there."""
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
