"""Telephone numbers in one form, and `hash_phone`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from engine.envelope import Envelope
from engine.errors import Refused, SpecError, StepFailed
from engine.transforms.values.phones import e164

Make = Callable[..., Envelope]
SALT = "a-salt-of-sixteen-or-more"


@pytest.mark.parametrize(
    ("text", "country", "expected"),
    [
        ("(217)555-0111", "1", "+12175550111"),
        ("217.555.0111 x12", "1", "+12175550111"),
        ("1-217-555-0111", "1", "+12175550111"),
        ("+1 (217) 555-0111 ext. 4", "44", "+12175550111"),
        ("011 44 20 7946 0018", "1", "+442079460018"),
        ("+44 20 7946 0018", "1", "+442079460018"),
        ("+44 (0)20 7946 0018", "1", "+442079460018"),
        ("020 7946 0018", "44", "+442079460018"),
        ("0044 20 7946 0018", "1", ""),
        ("0044 20 7946 0018", "44", "+442079460018"),
        ("06 6982 0000", "39", "+390669820000"),
        ("030 123456", "49", "+4930123456"),
        ("555-0111", "1", ""),
        ("", "1", ""),
        ("none", "1", ""),
        ("+1", "1", ""),
        ("+", "1", ""),
        ("1" * 5000, "1", ""),
        ("2175550111", "nowhere", ""),
    ],
)
def test_telephone_numbers(text: str, country: str, expected: str) -> None:
    assert e164(text, country) == expected


def run(kit: SimpleNamespace, envelope: Envelope, **keys: Any) -> Any:
    step = kit.Loading().step({"hash_phone": {"phone": "$body.To", "salt": SALT, "into": "hash", **keys}})
    assert step.pure
    step.run(envelope, kit.Context())
    return envelope.variables["hash"]


@pytest.mark.parametrize("text", ["(217)555-0111", "+12175550111", "1 217 555 0111", "tel:+1-217-555-0111"])
def test_a_number_has_one_hash_however_it_is_written(text: str, kit: SimpleNamespace, envelope: Make) -> None:
    found = run(kit, envelope(None, request={"To": text}))
    assert found == hashlib.sha256(b"+12175550111" + SALT.encode()).hexdigest()
    assert len(found) == 64


def test_the_number_is_the_first_that_is_there(kit: SimpleNamespace, envelope: Make) -> None:
    made = envelope("MSH|^~\\&|A|B|C|D|20270131||ADT^A08|1|P|2.3\rPID|1||||||||||||(217)555-0111\r")
    found = run(kit, made, phone=["PID-13.12", "PID-13.1"])
    assert found == hashlib.sha256(b"+12175550111" + SALT.encode()).hexdigest()


def test_what_is_no_number_is_never_hashed(kit: SimpleNamespace, envelope: Make) -> None:
    for text in ("", "none", "555-0111", None):
        with pytest.raises(StepFailed, match=r"hash_phone failed: no_phone at hash$"):
            run(kit, envelope(None, request={"To": text}))
    assert run(kit, envelope(None, request={"To": "none"}), missing="null") is None
    with pytest.raises(Refused):
        run(kit, envelope(None, request={"To": "none"}), missing={"error": "invalid_body"})


@pytest.mark.parametrize(("keys", "at"), [({"salt": "short"}, "salt"), ({"country": "999"}, "country"),
                                          ({"country": "US"}, "country")])  # fmt: skip
def test_what_is_wrong_is_told_without_the_salt(keys: dict[str, str], at: str, kit: SimpleNamespace) -> None:
    with pytest.raises(SpecError) as found:
        kit.Loading().step({"hash_phone": {"phone": "To", "salt": SALT, "into": "hash", **keys}})
    assert found.value.at == (at,)
    assert "short" not in found.value.message.replace("too short", "")
