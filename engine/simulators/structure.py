"""Segment order per message and version, as regular expressions over the segment names.

The grammars are those of systems.md C.1 (`[ ]` optional, `{ }` repeats) for the messages that partners receive here.
Fields are checked in `checks.py`; what a segment group means is up to the partner.
"""

import re
from functools import lru_cache

from engine.simulators.wire import Message, at_least

RESOURCES = "{ RGS {[ AIS {[NTE]} ]} {[ AIG {[NTE]} ]} {[ AIL {[NTE]} ]} {[ AIP {[NTE]} ]} }"
#: In requests every resource may be followed by its preference (APR).
WANTED = "{ RGS {[ AIS [APR] {[NTE]} ]} {[ AIG [APR] {[NTE]} ]} {[ AIL [APR] {[NTE]} ]} {[ AIP [APR] {[NTE]} ]} }"
# A query names personnel before locations (C.1, SQM_S25), yet the worked-out example has AIL last as well.
QUERIED = "{ RGS {[ AIS [APR] ]} {[ AIG [APR] ]} {[ AIP [APR] ]} {[ AIL [APR] ]} }"
ORDER = "{ ORC [ OBR {[NTE]} {[DG1]} {[ OBX {[NTE]} ]} ] [CTI] [BLG] }"

#: message → (first version, grammar), newest first.
GRAMMARS: dict[str, tuple[tuple[str, str], ...]] = {
    "QRY": (("2.5", "MSH {[SFT]} QRD [QRF] [DSC]"), ("2.3", "MSH QRD [QRF] [DSC]")),
    "MFQ": (("2.5", "MSH {[SFT]} QRD [QRF] [DSC]"), ("2.3", "MSH QRD [QRF] [DSC]")),
    "SQM": (("2.3", f"MSH QRD [QRF] [ ARQ [APR] [PID] {QUERIED} ] [DSC]"),),
    "SRM": (("2.3", f"MSH ARQ [APR] {{[NTE]}} {{[ PID [PV1] [PV2] {{[OBX]}} {{[DG1]}} ]}} {WANTED}"),),
    "ORM": (
        ("2.3", f"MSH {{[NTE]}} [ PID [PD1] {{[NTE]}} [ PV1 [PV2] ] {{[ IN1 [IN2] [IN3] ]}} [GT1] {{[AL1]}} ] {ORDER}"),
    ),
    "ORU": (
        (
            "2.5",
            "MSH {[SFT]} { [ PID [PD1] {[NTE]} {[NK1]} [ PV1 [PV2] ] ]"
            " { [ORC] OBR {[NTE]} {[ TQ1 {[TQ2]} ]} [CTD] {[ OBX {[NTE]} ]} {[FT1]} {[CTI]}"
            " {[ SPM {[OBX]} ]} } } [DSC]",
        ),
        ("2.3", "MSH { [ PID [PD1] {[NTE]} [ PV1 [PV2] ] ] { [ORC] OBR {[NTE]} {[ OBX {[NTE]} ]} {[CTI]} } } [DSC]"),
    ),
    "SIU": (
        ("2.5", f"MSH SCH {{[TQ1]}} {{[NTE]}} {{[ PID [PD1] [PV1] [PV2] {{[OBX]}} {{[DG1]}} ]}} {RESOURCES}"),
        ("2.3.1", f"MSH SCH {{[NTE]}} {{[ PID [PD1] [PV1] [PV2] {{[OBX]}} {{[DG1]}} ]}} {RESOURCES}"),
        ("2.3", f"MSH SCH {{[NTE]}} {{[ PID [PV1] [PV2] {{[OBX]}} {{[DG1]}} ]}} {RESOURCES}"),
    ),
}
TOKEN = re.compile(r"\{\[|\]\}|[\[\]{}]|[A-Z][A-Z0-9]{2}")
PATTERNS = {"{[": "(?:", "[": "(?:", "{": "(?:", "]}": ")*", "]": ")?", "}": ")+"}


@lru_cache(maxsize=64)
def compiled(grammar: str) -> re.Pattern[str]:
    return re.compile("".join(PATTERNS.get(token, f"{token},") for token in TOKEN.findall(grammar)))


def is_ordered(message: Message) -> bool:
    """Whether the segments stand as the message's grammar has them; Z segments are looked over."""
    names = [name for name in message.names() if not name.startswith("Z")]
    versions = GRAMMARS[message.text("MSH-9.1")]
    grammar = next((text for first, text in versions if at_least(message.version, first)), versions[-1][1])
    return compiled(grammar).fullmatch("".join(f"{name}," for name in names)) is not None
