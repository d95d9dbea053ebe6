"""Message structures: which one an event uses in which version, how MSH-9 says it, the order of its segments.

Many events share a structure (S12 to S24 are all SIU_S12), and the tables name a structure only once, so the sharing is
written down here (HL7 table 0354). Segment order comes from ``dictionary.py``, validation is in ``validation.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

from engine.hl7.dictionary import grammar, structures
from engine.hl7.grammar import Element, names_in, parse
from engine.hl7.versions import at_least
from engine.remembered import remembered

# Event → structures to try, in order, when the tables have none of the event's own name. Later versions split some
# structures up (A05 was part of ADT_A01 before 2.4), hence more than one.
_SHARED: dict[str, dict[str, str]] = {
    "ADT": {
        "A04 A08 A13": "ADT_A01",
        "A05 A14 A28 A31": "ADT_A05 ADT_A01",
        "A07": "ADT_A06",
        "A10 A11": "ADT_A09",
        "A12": "ADT_A12 ADT_A09",
        "A15": "ADT_A15 ADT_A09",
        "A21 A22 A23 A25 A26 A27 A29 A32 A33": "ADT_A21 ADT_A02",
        "A34 A35 A36 A46 A47 A48 A49": "ADT_A30",
        "A37": "ADT_A37 ADT_A24",
        "A40 A41 A42": "ADT_A39",
        "A44": "ADT_A43",
        "A51": "ADT_A50",
        "A53 A55": "ADT_A52",
        "A62": "ADT_A61",
    },
    "BAR": {"P05": "BAR_P05 BAR_P01"},
    "CRM": {"C02 C03 C04 C05 C06 C07 C08": "CRM_C01"},
    "CSU": {"C10 C11 C12": "CSU_C09"},
    "LSU": {"U13": "LSU_U12"},
    "MDM": {"T03 T05 T07 T09 T11": "MDM_T01", "T04 T06 T08 T10": "MDM_T02"},
    "MFK": {"M02 M03 M04 M05 M06 M07 M08 M09 M10 M11 M12 M13 M14 M15": "MFK_M01"},
    "MFN": {"M04 M05 M06 M07 M12 M13 M14": "MFN_M01"},
    "MFQ": {"M02 M03 M04 M05 M06 M07": "MFQ_M01"},
    "MFR": {"M02 M03 M04 M05 M06 M07": "MFR_M01"},
    "ORU": {"R31 R32": "ORU_R30"},
    "PEX": {"P08": "PEX_P07"},
    "PGL": {"PC7 PC8": "PGL_PC6"},
    "PMU": {"B02": "PMU_B01", "B05 B06": "PMU_B04"},
    "PPG": {"PCH PCJ": "PPG_PCG"},
    "PPP": {"PCC PCD": "PPP_PCB"},
    "PPR": {"PC2 PC3": "PPR_PC1"},
    "QBP": {"Q22 Q23 Q24 Q25": "QBP_Q21", "Q31": "QBP_Q11"},
    "RDE": {"O25": "RDE_O11"},
    "REF": {"I13 I14 I15": "REF_I12"},
    "RPA": {"I09 I10 I11": "RPA_I08"},
    "RPI": {"I04": "RPI_I01"},
    "RQA": {"I09 I10 I11": "RQA_I08"},
    "RQC": {"I06": "RQC_I05"},
    "RQI": {"I02 I03": "RQI_I01"},
    "RRE": {"O26": "RRE_O12"},
    "RRI": {"I13 I14 I15": "RRI_I12"},
    "RSP": {"K24": "RSP_K23"},
    "TCU": {"U11": "TCU_U10"},
}
_REQUESTS = frozenset(f"S{number:02}" for number in range(1, 12))
# Message type → the one structure of its events, and which these are; an ACK is one whatever it answers. Some tables
# name only the first event, others all of them (HL7 v2.5.1 §10.3 to §10.5; S27 came with 2.7).
_ALWAYS: dict[str, tuple[str, frozenset[str] | None]] = {
    "ACK": ("ACK", None),
    "SIU": ("SIU_S12", frozenset(f"S{number}" for number in (*range(12, 25), 26, 27))),
    "SRM": ("SRM_S01", _REQUESTS),
    "SRR": ("SRR_S01", _REQUESTS),
    "SQM": ("SQM_S25", frozenset({"S25"})),
    "SQR": ("SQR_S25", frozenset({"S25"})),
}

_EVENTS: dict[tuple[str, str], tuple[str, ...]] = {
    (kind, event): tuple(names.split())
    for kind, groups in _SHARED.items()
    for events, names in groups.items()
    for event in events.split()
}


@remembered(1024)
def structure_of(message_type: str, event: str, version: str) -> str | None:
    """The structure of a message (``SIU_S12``); None when that version has none for it."""
    known = structures(version)
    if message_type in _ALWAYS:
        shared, events = _ALWAYS[message_type]
        return shared if shared in known and (events is None or event in events) else None
    own = f"{message_type}_{event}"
    tried = (own, *_EVENTS.get((message_type, event), ()))
    return next((name for name in tried if name in known), None)


@remembered(1024)
def message_type_field(message_type: str, event: str, version: str) -> str:
    """MSH-9 as HL7 text with the usual delimiters: the structure is named from 2.3.1 on.

    An acknowledgement is ``ACK`` alone before, ``ACK^S12^ACK`` from then on.
    """
    if not at_least(version, "2.3.1"):
        return message_type if message_type == "ACK" or not event else f"{message_type}^{event}"
    structure = structure_of(message_type, event, version)
    if not event:
        return message_type
    return f"{message_type}^{event}^{structure}" if structure else f"{message_type}^{event}"


@lru_cache(maxsize=1024)
def required_segments(structure: str, version: str) -> tuple[str, ...]:
    """The segments that a structure cannot do without, those of required groups too; empty for an unknown one."""
    text = grammar(version, structure)
    return tuple(_required(parse(text))) if text else ()


def _required(elements: Sequence[Element]) -> Iterator[str]:
    for element in elements:
        if element.required and not element.choice:
            if element.members:
                yield from _required(element.members)
            else:
                yield element.name


def segment_order(structure: str, version: str) -> tuple[str, ...]:
    """The segment names of a structure in the order of their first place; empty for an unknown structure.

    A segment that may stand in several places (NTE) is listed once, at the first of them.
    """
    text = grammar(version, structure)
    return names_in(text) if text else ()
