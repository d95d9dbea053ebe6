"""What the store keeps encrypted or hashed.

Sealed values are AES-256-GCM with a random 96-bit nonce in front. Each is sealed under one numbered key of the ring,
and its row carries the number; 0 stands for a value that is not sealed. The place a value belongs to is authenticated
with it, so that a value moved to another row does not open.

Hashes are HMAC-SHA256 under a key of their own, which outlives every key of the ring (``ring.py`` keeps it, sealed):
equal values are found again after a rotation, and nothing can be read from them without the key. Nothing here touches
the database.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from hashlib import sha256
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.errors import DoesNotOpen, StoreError
from engine.remembered import LONGEST, Memory

KEY_BYTES = 32
_NONCE_BYTES = 12
#: Nonces that are drawn at a time.
_DRAWN = Struct(f"{_NONCE_BYTES}s" * 8)
_FINGERPRINT_BYTES = 8
#: 128 bits: two of a billion patients share a hash with a probability of 1e-21.
SHORT_HASH = 16
#: Hashes of each kind that are remembered: a patient's messages come together, and hashing costs ten times as much.
_REMEMBERED = 2048

#: First character of a hashed lane key.
HASHED_LANE = "\x01"
#: Beginnings of what holds nothing of a message: no key, a hash, the lane of one delivery alone, and several keys of
#: which the first is empty (engine/runtime/lane_keys.py).
_NOT_OF_A_MESSAGE = frozenset({"", HASHED_LANE, "\x00", "\x1e"})
#: RFC 2104: what the two hashes of an HMAC do to every byte of the key.
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
#: What ``urlsafe_b64encode`` has in place of two characters.
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Crypto:
    """Seals and hashes for one data folder: ``keys`` by number, the highest of which seals."""

    def __init__(self, keys: Mapping[int, bytes], *, encrypt: bool = True) -> None:
        """``encrypt``: seal bodies, answers and origins too, beside what is always sealed."""
        self.encrypt = encrypt
        self._ciphers: dict[int, AESGCM] = {}
        self._keys: dict[int, bytes] = {}
        for number, key in keys.items():
            self.add(number, key)
        self.use(max(keys))
        self._drawn: list[bytearray] = []
        self.use_hash_key(b"")

    def add(self, number: int, key: bytes) -> None:
        """Know a further key; ``use`` says which one seals."""
        if len(key) != KEY_BYTES:
            raise StoreError(f"the store key {number} has {len(key)} bytes, not {KEY_BYTES}")
        self._keys[number] = key
        self._ciphers[number] = AESGCM(_derive(key, b"hl7engine store: values"))

    def use(self, number: int) -> None:
        """Seal with this key from here on."""
        #: The number of the key that seals.
        self.current = number
        self._encrypt = self._ciphers[number].encrypt

    @property
    def keys(self) -> Mapping[int, bytes]:
        """The keys of the ring, by number."""
        return self._keys

    @property
    def numbers(self) -> frozenset[int]:
        """The keys of the ring."""
        return frozenset(self._ciphers)

    def fingerprint(self, number: int) -> str:
        """What tells a key of the ring from any other, and says nothing of it; empty for one that is not given."""
        return fingerprint(self._keys[number]) if number in self._keys else ""

    # -- sealing ---------------------------------------------------------------------------------------------------

    # A sealed value is a bytearray: SQLite's module takes one as it is, and looks each time for an adapter of bytes.

    def seal(self, value: bytes, place: bytes) -> tuple[int, bytearray]:
        """The number of the key, and ``value`` encrypted for the place it is stored at."""
        nonce = bytearray(os.urandom(_NONCE_BYTES))
        return self.current, nonce + self._encrypt(nonce, value, place)

    def seal_row(self, value: bytes, places: tuple[bytes, ...], row_id: int) -> tuple[int, bytearray]:
        """``seal`` inside of a transaction, for a row of the table of which these are the ``row_places``."""
        drawn, digits = self._drawn or self._draw(), b"%d" % row_id
        nonce = drawn.pop()
        return self.current, nonce + self._encrypt(nonce, value, places[len(digits)] + digits)

    def _draw(self) -> list[bytearray]:
        """Nonces for several values to come: asking the kernel takes as long as sealing does."""
        self._drawn = list(map(bytearray, _DRAWN.unpack(os.urandom(_DRAWN.size))))
        return self._drawn

    def forget_drawn(self) -> None:
        """All of a transaction is sealed. A nonce is used once, also by a machine that goes on from a picture of its
        memory: none is kept for longer than the values take that are written together.
        """
        self._drawn = []

    def seal_under(self, number: int, value: bytes, place: bytes) -> bytes:
        """``value`` encrypted under one key."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ciphers[number].encrypt(nonce, value, place)

    def open(self, number: int, sealed: bytes, place: bytes) -> bytes:
        """Decrypt what key ``number`` sealed; 0 gives the value as it is.

        Raises DoesNotOpen for a key that is not given, another place or a changed value.
        """
        if not number:
            return sealed
        cipher = self._ciphers.get(number)
        if cipher is None:
            raise DoesNotOpen(f"a value is sealed with store key {number}, which is not given")
        try:
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
        except (InvalidTag, ValueError):
            raise DoesNotOpen("a sealed value does not open: wrong store key, or changed") from None

    # -- hashing ---------------------------------------------------------------------------------------------------

    def use_hash_key(self, key: bytes) -> None:
        """Hash under this key from here on."""
        self._hash_key = key
        #: What hashes the last part, by those before it: kinds and names.
        self._hashes: Memory[tuple[str, ...], Callable[[str], bytes]] = Memory(
            1024, lambda parts: _Hmac(key, joined(*parts)).of
        )

        def exchange_key(key: tuple[str, ...]) -> bytes:
            return self.hashed("exchange_key", *key)

        #: What a patient id is searched by: the first 16 bytes of ``hashed("patient", patient_id)``.
        self.patient_hash: Callable[[str], bytes] = _PatientHashes(key).__getitem__
        #: What stands for an ordering key in memory and on disk: 128 bits as text; empty stays empty.
        self.lane_key: Callable[[str], str] = _LaneKeys(key).__getitem__
        #: What stands for a scope and an idempotency key, which is looked for, opened and closed within moments.
        self.key_hash: Callable[[tuple[str, ...]], bytes] = Memory(_REMEMBERED, exchange_key).__getitem__

    def first_hash_key(self) -> bytes:
        """The key that version 1 of the schema hashed under: derived from store key 1."""
        return _derive(self._keys[1], b"hl7engine store: keys")

    @property
    def hash_key(self) -> bytes:
        """What hashes are made with; empty before ``use_hash_key``."""
        return self._hash_key

    def hashed(self, *parts: str) -> bytes:
        """The same 32 bytes for the same parts."""
        return self._hashes[parts[:-1]](parts[-1])

    def stored_lane(self, key: str) -> str:
        """A key on its way to or from the disk: one that version 1 wrote, as it stood in its message, is hashed."""
        return key if key[:1] in _NOT_OF_A_MESSAGE else self.lane_key(key)


class _Hmac:
    """HMAC-SHA256 of what begins alike: the key and the beginning are hashed once, not for every value."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, beginning: bytes) -> None:
        block = key.ljust(64, b"\0")  # a key is never longer than a block: 32 bytes
        self._inner = sha256(block.translate(_INNER) + beginning)
        self._outer = sha256(block.translate(_OUTER))

    def of(self, value: str) -> bytes:
        """``hmac.digest(key, beginning + joined(value), "sha256")``."""
        encoded = value.encode("utf-8", "surrogatepass")
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(len(encoded).to_bytes(4, "big") + encoded)
        outer.update(inner.digest())
        return outer.digest()


class _PatientHashes(dict[str, bytes]):
    """Patient id → its hash. Nothing long is kept, as in ``Memory``; most messages bring a new one, in one call."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self._of = _Hmac(key, joined("patient")).of

    def __missing__(self, patient_id: str) -> bytes:
        hashed = self._of(patient_id)[:SHORT_HASH]
        if len(patient_id) <= LONGEST:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[patient_id] = hashed
        return hashed


class _LaneKeys(dict[str, str]):
    """Ordering key → what stands for it; as above."""

    def __init__(self, key: bytes) -> None:
        super().__init__({"": ""})
        self._of = _Hmac(key, joined("lane")).of

    def __missing__(self, value: str) -> str:
        encoded = b2a_base64(self._of(value)[:SHORT_HASH], newline=False)
        key = HASHED_LANE + encoded[:22].translate(_URL_SAFE).decode()
        if len(value) <= LONGEST:
            if len(self) >= _REMEMBERED:
                self.clear()
                self[""] = ""
            self[value] = key
        return key


def fingerprint(key: bytes) -> str:
    """16 hex digits that may stand beside what a key sealed: derived one way from its 256 random bits."""
    return _derive(key, b"hl7engine store: fingerprint")[:_FINGERPRINT_BYTES].hex()


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)


def joined(*parts: str) -> bytes:
    """Parts with their lengths, so that no two lists of parts give the same bytes."""
    made = b""
    for part in parts:
        # surrogatepass: bytes outside a message's charset are lone surrogates in its text.
        encoded = part.encode("utf-8", "surrogatepass")
        made += len(encoded).to_bytes(4, "big") + encoded
    return made


def row_place(table: str, row_id: int) -> bytes:
    """The place of a row's value: ``joined(table, str(row_id))``."""
    digits = b"%d" % row_id
    return row_places(table)[len(digits)] + digits


@cache
def row_places(table: str) -> tuple[bytes, ...]:
    """What the place of a row begins with, by the number of the digits of its id."""
    return tuple(joined(table) + digits.to_bytes(4, "big") for digits in range(20))


def hash_place(*parts: str, hashed: bytes) -> bytes:
    """The place of a value that a hash stands for: ``joined(*parts, hashed.hex())``."""
    digits = hashed.hex().encode()
    return _beginning(parts) + len(digits).to_bytes(4, "big") + digits


@lru_cache(maxsize=1024)
def _beginning(parts: tuple[str, ...]) -> bytes:
    """``joined`` of what stands before the value that is hashed: kinds and names."""
    return joined(*parts)
