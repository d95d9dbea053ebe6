"""The combinations of words that there are, and which of them cannot be."""

from collections.abc import Mapping
from itertools import product

Words = Mapping[str, str]

VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1")
LOCATIONS = ("qry", "mfq")
SLOTS = ("qry", "sqm", "db")
BOOKINGS = ("orm", "srm", "siu")
CONTROLS = ("NW", "XO", "SC")

ALL: tuple[Words, ...] = tuple(
    {"version": version, "locations": locations, "slots": slots, "booking": booking, "order_control": control}
    for version, locations, slots, booking, control in product(VERSIONS, LOCATIONS, SLOTS, BOOKINGS, CONTROLS)
)


def is_possible(words: Words) -> bool:
    """SRM and SIU have the order's own numbers from 2.4 on (ARQ-24, SCH-26)."""
    below = words["version"] in ("2.3", "2.3.1")
    return words["booking"] == "orm" or words["order_control"] == "NW" or not below


POSSIBLE = tuple(words for words in ALL if is_possible(words))
IMPOSSIBLE = tuple(words for words in ALL if not is_possible(words))


def named(words: Words) -> str:
    """``2.3-qry-qry-orm-NW``"""
    return "-".join(words.values())
