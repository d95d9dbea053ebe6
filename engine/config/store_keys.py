"""The ring of store keys: where a site keeps it, and how a further key comes into it.

A ring is text: one key of 32 bytes in base64, which is number 1, or several written ``NUMBER:KEY`` with commas, blanks
or line breaks between them. The highest number seals what is stored from here on. It stands in the file that
``store.key_file`` names, else in the variable ``HL7ENGINE_STORE_KEY`` of the environment or of ``.env``.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.config.secrets import STORE_KEY, read_env, replace_file, set_variable
from engine.config.settings import StoreSettings
from engine.errors import StoreError

_KEY_BYTES = 32
_BETWEEN = re.compile(r"[\s,]+")
_ENTRY = re.compile(r"(?:([1-9][0-9]{0,8}):)?([A-Za-z0-9+/]+={0,2})")


def parse_ring(text: str, where: str) -> dict[int, bytes]:
    """Number → key. Raises StoreError that says what is wrong with ``where``, never what stands there."""
    ring: dict[int, bytes] = {}
    for entry in filter(None, _BETWEEN.split(text)):
        found = _ENTRY.fullmatch(entry)
        try:
            key = base64.b64decode(found[2], validate=True) if found else b""
        except binascii.Error:
            key = b""
        if found is None or len(key) != _KEY_BYTES:
            raise StoreError(f"{where} is not 32 bytes in base64, or NUMBER:KEY for each of several")
        number = int(found[1] or 1)
        if number in ring:
            raise StoreError(f"{where} has two keys of the number {number}")
        ring[number] = key
    if not ring:
        raise StoreError(f"{where} is empty")
    return ring


def write_ring(ring: Mapping[int, bytes], between: str = ",") -> str:
    """The text of a ring."""
    return between.join(f"{number}:{base64.b64encode(key).decode()}" for number, key in sorted(ring.items()))


@dataclass(frozen=True, slots=True)
class StoreKeys:
    """Where the ring of one site is."""

    site: Path
    settings: StoreSettings
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    @property
    def where(self) -> str:
        """What a person is told of it."""
        if self._file is not None:
            return f"the store key in {self._file}"
        return f"{STORE_KEY} of the environment" if self.environ.get(STORE_KEY) else f"{STORE_KEY} in .env"

    def read(self) -> dict[int, bytes]:
        """The ring as it stands now. Raises StoreError."""
        try:
            return parse_ring(self._text(), self.where)
        except FileNotFoundError:
            raise StoreError(f"{self.where} cannot be read: there is no such file") from None
        except (OSError, UnicodeError):
            raise StoreError(f"{self.where} cannot be read") from None

    def with_next(self, current: int) -> dict[int, bytes]:
        """A ring with a key above ``current``: the one that somebody added already, else a new one, written down.

        Raises StoreError when it can be neither found nor written.
        """
        ring = self.read()
        if current not in ring:
            raise StoreError(f"{self.where} has no key {current} any more: stored values are sealed with it")
        if max(ring) > current:
            return ring
        ring[current + 1] = secrets.token_bytes(_KEY_BYTES)
        try:
            self._write(ring)
        except OSError as error:
            how = f"add a line {current + 1}:KEY to it (openssl rand -base64 32) and say this again"
            raise StoreError(f"{self.where} cannot be written ({error.strerror}): {how}") from None
        return ring

    @property
    def _file(self) -> Path | None:
        return None if self.settings.key_file is None else self.site / self.settings.key_file

    def _text(self) -> str:
        if self._file is not None:
            return self._file.read_text(encoding="ascii")
        return self.environ.get(STORE_KEY) or read_env((self.site / ".env").read_text(encoding="utf-8"))[STORE_KEY]

    def _write(self, ring: Mapping[int, bytes]) -> None:
        if self._file is not None:
            replace_file(self._file, write_ring(ring, "\n") + "\n")
        elif self.environ.get(STORE_KEY):
            number = max(ring)
            raise StoreError(
                f"{self.where} is set from outside: add {number}:KEY there after a comma"
                f" (openssl rand -base64 32; a key without a number is 1:KEY) and start again"
            )
        else:
            set_variable(self.site, STORE_KEY, write_ring(ring))
