"""Telephone numbers in E.164 (ITU-T E.164): ``+12175550111``, the one form in which two writings of a number are equal.

What a country prefixes, and how long its numbers are, is known to libphonenumber. A number is taken if its country
could have given it out; whether it has is nobody's business here. No number ever stands in an error.
"""

from __future__ import annotations

from functools import lru_cache

#: Characters of a field that are looked at; what is longer is no number.
LONGEST = 100


def e164(text: str, country: str = "1") -> str:
    """A number in E.164; "" when it cannot be one. ``country``: its calling code when the text has none."""
    # Here, because most sites have no number and its tables take a twentieth of a second to load.
    import phonenumbers

    if not text or len(text) > LONGEST:
        return ""
    try:
        number = phonenumbers.parse(text, _region(country))
    except phonenumbers.NumberParseException:
        return ""
    # Shorter numbers are possible inside of a town only, and mean another number in the next.
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return ""
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def known_country(country: str) -> bool:
    """Whether a calling code is any country's."""
    return _region(country) not in (None, "ZZ")


@lru_cache(maxsize=256)
def _region(country: str) -> str | None:
    """The region whose habits of writing a calling code stands for; of several the main one."""
    import phonenumbers

    return phonenumbers.region_code_for_country_code(int(country)) if country.isdigit() else None
