"""Which dialect a simulated RIS speaks: the words of `ris:` in site.yaml, each with what it lets the RIS take.

Without words a RIS speaks every dialect at once. With words it is as strict as a real one: a message it was not set
up for is refused as a whole (AR 200, 201 or 203), a subject or order control it does not serve by AE 103.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1")
#: Word of `ris:` → its values.
WORDS: Mapping[str, tuple[str, ...]] = {
    "version": VERSIONS,
    "locations": ("qry", "mfq"),
    "slots": ("qry", "sqm", "db"),
    "booking": ("orm", "srm", "siu"),
    "order_control": ("NW", "XO", "SC"),
}
ANY = "any"
#: VXQ is a vaccination query: whoever says it means QRY (systems.md C.1).
ALIASES = {"vxq": "qry"}

#: message → (MSH-9.3, answer, MSH-9.3 of the answer); an empty answer refuses by plain ACK.
EXCHANGES = {
    "QRY^Q01": ("QRY_Q01", "", ""),
    "MFQ^M05": ("MFQ_M01", "", ""),
    "SQM^S25": ("SQM_S25", "SQR^S25", "SQR_S25"),
    "ORM^O01": ("ORM_O01", "ORR^O02", "ORR_O02"),
    "SRM^S01": ("SRM_S01", "SRR^S01", "SRR_S01"),
    "SRM^S02": ("SRM_S01", "SRR^S02", "SRR_S01"),
    "SRM^S03": ("SRM_S01", "SRR^S03", "SRR_S01"),
    "SRM^S04": ("SRM_S01", "SRR^S04", "SRR_S01"),
    "SIU^S12": ("SIU_S12", "", ""),
    "SIU^S13": ("SIU_S12", "", ""),
    "SIU^S14": ("SIU_S12", "", ""),
    "SIU^S15": ("SIU_S12", "", ""),
}

_ORDERS = ("ORM^O01",)
_REQUESTS = ("SRM^S01", "SRM^S02", "SRM^S03", "SRM^S04")
_NOTICES = ("SIU^S12", "SIU^S13", "SIU^S14", "SIU^S15")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the RIS takes; one value per word where site.yaml names one."""

    version: tuple[str, ...] = WORDS["version"]
    locations: tuple[str, ...] = WORDS["locations"]
    slots: tuple[str, ...] = WORDS["slots"]
    booking: tuple[str, ...] = WORDS["booking"]
    order_control: tuple[str, ...] = WORDS["order_control"]

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> "Dialect":
        """The dialect of `ris:`; words of other things are left alone. Raises ValueError for a value that is none.

        `any` stands for every value of a word.
        """
        found: dict[str, tuple[str, ...]] = {}
        for word, known in WORDS.items():
            if word in words:
                value = ALIASES.get(str(words[word]), str(words[word]))
                if value not in (*known, ANY):
                    raise ValueError(f"ris.{word} is none of {', '.join(known)}, nor {ANY}")
                found[word] = known if value == ANY else (value,)
        return cls(**found)

    @property
    def own_version(self) -> str:
        """The version of what the RIS sends by itself."""
        return self.version[0]

    @property
    def subjects(self) -> tuple[str, ...]:
        """What QRY^Q01 may ask for (QRD-9). Booked slots (SBK) are told by the query that open ones are asked by."""
        found: tuple[str, ...] = ("OTH",) if "qry" in self.locations else ()
        found += ("SOP",) if "qry" in self.slots else ()
        # A calendar database holds open slots alone: bookings are read again by HL7.
        return found + (("SBK",) if {"qry", "db"} & set(self.slots) else ())

    def takes(self, kind: str) -> bool:
        """Whether this RIS knows such a message (`ORM^O01`)."""
        return (
            (kind == "QRY^Q01" and bool(self.subjects))
            or (kind == "MFQ^M05" and "mfq" in self.locations)
            or (kind == "SQM^S25" and "sqm" in self.slots)
            or (kind in _ORDERS and "orm" in self.booking)
            or (kind in _REQUESTS and "srm" in self.booking)
            or (kind in _NOTICES and "siu" in self.booking)
        )
