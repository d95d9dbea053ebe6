"""What the store keeps encrypted or hashed, under keys derived from the site's one store key.

Sealed values are AES-256-GCM with a random 96-bit nonce in front; the place a value belongs to is authenticated with
it, so that a value moved to another row does not open. Hashes are HMAC-SHA256: equal values can be found again, and
nothing can be read from them without the key. Nothing here touches the database.
"""

from __future__ import annotations

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.errors import StoreError

KEY_BYTES = 32
_NONCE_BYTES = 12


class Crypto:
    """Seals and hashes for one data folder."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise StoreError(f"the store key has {len(key)} bytes, not {KEY_BYTES}")
        self._cipher = AESGCM(_derive(key, b"hl7engine store: values"))
        self._hash_key = _derive(key, b"hl7engine store: keys")

    def seal(self, value: bytes, *place: str) -> bytes:
        """Encrypt ``value`` for the place it is stored at (table, cache, key)."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, value, _joined(place))

    def open(self, sealed: bytes, *place: str) -> bytes:
        """Decrypt. Raises StoreError for another key, another place or a changed value."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _joined(place))
        except (InvalidTag, ValueError):
            raise StoreError(f"a sealed value of {place[0]} does not open: wrong store key, or changed") from None

    def hashed(self, *parts: str) -> bytes:
        """The same 32 bytes for the same parts."""
        return hmac.digest(self._hash_key, _joined(parts), "sha256")


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)


def _joined(parts: tuple[str, ...]) -> bytes:
    """Parts with their lengths, so that no two lists of parts give the same bytes."""
    # surrogatepass: bytes outside a message's charset are lone surrogates in its text.
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
