"""``hash_phone: {phone, salt, into}``: a telephone number as its salted SHA-256; the number itself goes no further.

The number is brought into E.164 first: two writings of one number have one hash. The hash is that of the number
followed by the salt, in 64 hexadecimal digits (systems.md D.7), as RadScheduler keeps its phones.
"""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from engine.envelope import Envelope
from engine.errors import SpecError
from engine.transforms.base import CONTINUE, Context, Loading, Step, Verdict
from engine.transforms.lookup import variable_name
from engine.transforms.values.missing import missing_policy
from engine.transforms.values.phones import e164, known_country
from engine.transforms.values.value import Compiler

#: Characters of a salt at least: numbers are few enough to be tried out, so the salt is all that keeps a hash.
SHORTEST_SALT = 16


class HashPhoneConfig(BaseModel):
    """A number and where its hash goes."""

    model_config = ConfigDict(extra="forbid")

    phone: Any = Field(description="A path, a variable, or a list: the first that is not empty.")
    salt: SecretStr = Field(description=f"The salt, from the environment; {SHORTEST_SALT} characters at least.")
    into: str = Field(description="Name of the variable, without $.")
    country: str = Field("1", description="The calling code of numbers that have none.")
    missing: Any = Field("error", description="When there is no number: error, park, hold, null or {error: CODE}.")


class HashPhone(Step):
    """A salted hash of a telephone number."""

    Config = HashPhoneConfig

    def __init__(self, config: HashPhoneConfig, loading: Loading) -> None:
        self._phone = Compiler(loading, "hash_phone").source(config.phone, ("phone",))
        self._salt = config.salt.get_secret_value().encode()
        if len(self._salt) < SHORTEST_SALT:
            expected = f"{SHORTEST_SALT} characters at least, from the environment"
            raise SpecError("this salt is too short", at=("salt",), expected=expected)
        if not known_country(config.country):
            raise SpecError("no country has this calling code", at=("country",), expected='digits, such as "1" or "44"')
        self._country = config.country
        self._into = variable_name(config.into, ("into",), "hash_phone")
        self._missing = missing_policy(config.missing, ("missing",), "hash_phone", "no_phone", self._into)

    def run(self, envelope: Envelope, context: Context) -> Verdict:
        """Hash; what ``missing`` says when there is no number, or what is there can be none."""
        number = e164(self._phone.text(envelope, context), self._country)
        found = hashlib.sha256(number.encode() + self._salt).hexdigest() if number else self._missing(None)
        envelope.variables[self._into] = found
        return CONTINUE
