"""What the published tables have wrong, one entry and one reason each.

Found by comparing hl7apy 1.3.5 with hl7-dictionary 1.0.1, both with the standard's chapters, and by checking the
sample messages. A correction that no longer changes anything is an error, so the list cannot outlive its reasons.
"""

from __future__ import annotations

from collections.abc import Mapping

FROM_2_7 = ("2.7", "2.8", "2.8.1", "2.8.2")
FROM_2_6 = ("2.6", *FROM_2_7)

#: (versions, structure, grammar, reason).
STRUCTURES: tuple[tuple[tuple[str, ...], str, str, str], ...] = (
    (
        ("2.1",),
        "ORM_O01",
        "MSH {[NTE]} [(PATIENT: PID {[NTE]} [PV1])] {(ORDER: ORC [(ORDER_DETAIL: <CHOICE: OBR ORO RX1> {[NTE]} "
        "{[(OBSERVATION: OBX {[NTE]})]})] [BLG])}",
        "hl7apy wants OBR, ORO and RX1, of which one is chosen (HL7 v2.1 chapter 4)",
    ),
    (
        ("2.1",),
        "ORR_O02",
        "MSH MSA {[NTE]} [(RESPONSE: [PID] {[NTE]} {(ORDER: ORC [<CHOICE: OBR ORO RX1>] {[NTE]})})]",
        "hl7apy wants OBR, ORO and RX1, of which one is chosen (HL7 v2.1 chapter 4)",
    ),
    (
        ("2.1",),
        "ADT_A03",
        "MSH EVN PID PV1",
        "hl7apy has no PV1 in a discharge, hl7-dictionary and the standard have (HL7 v2.1 chapter 3)",
    ),
    (
        ("2.4",),
        "QBP_Q13",
        "MSH QPD [RDF] RCP [DSC]",
        'hl7apy has a group without segments where the standard writes "..." (HL7 v2.4 §5.4.2)',
    ),
    (
        ("2.2",),
        "ORM_O01",
        "MSH {[NTE]} [(PATIENT: PID {[NTE]} [PV1])] {(ORDER: ORC [(ORDER_DETAIL: <CHOICE: OBR RQD RQ1 RXO ODS ODT> "
        "{[NTE]} {[(OBSERVATION: OBX {[NTE]})]})] [BLG])}",
        "hl7apy requires an NTE behind all OBX; it belongs to each OBX and is optional (HL7 v2.2 §4.2.1)",
    ),
    (
        ("2.3", "2.3.1", "2.4"),
        "MFN_M01",
        "MSH MFI {(MF: MFE {[*]})}",
        "hl7apy lacks the segments that hold the data of an entry, which 2.5 names (HL7 v2.3 §8.4.1: [Z..])",
    ),
    (
        ("2.3", "2.3.1", "2.4"),
        "MFR_M01",
        "MSH MSA [ERR] [QAK] QRD [QRF] MFI {(MF_QUERY: MFE {[*]})} [DSC]",
        "hl7apy lacks the segments that hold the data of an entry, which 2.5 names (HL7 v2.3 §8.4.3: [Z..])",
    ),
)

#: version → (later version that has them, structures): described in the standard and missing in the tables.
BORROWED: Mapping[str, tuple[str, tuple[str, ...]]] = {"2.3": ("2.3.1", ("MFQ_M01", "MFR_M01"))}

#: version → the version whose code tables it uses, as far as its own are not published.
TABLES: Mapping[str, str] = {"2.3": "2.3.1"}

#: (versions, table, added codes, taken codes, reason). Tables 0354 and 0003 have the structures
#: of their version and its events besides.
CODES: tuple[tuple[tuple[str, ...], str, str, str, str], ...] = (
    (
        ("2.3", "2.3.1"),
        "0276",
        "Routine Walkin Checkup Followup Emergency",
        "",
        "mixed case before 2.4 (HL7 v2.3 §10.6.2.7); hl7apy has the later spelling, which is left in",
    ),
    (
        ("2.5", "2.5.1"),
        "0396",
        "UCUM 99zzz",
        "",
        "the units that 2.5 itself uses in examples, and local codes, are not in hl7apy's list",
    ),
)

#: Given up with 2.7, though the tables still give some of them a type (HL7 v2.7 chapters 2, 3, 4 and 10).
WITHDRAWN: tuple[tuple[tuple[str, ...], str, tuple[int, ...]], ...] = (
    (FROM_2_7, "ERR", (1,)),
    (FROM_2_7, "MSA", (3, 5, 6)),
    (FROM_2_7, "OBR", (5, 6, 14, 15, 27)),
    (FROM_2_7, "ORC", (7,)),
    (FROM_2_7, "PID", (2, 4, 9, 12, 19, 20)),
    (FROM_2_7, "PV1", (52,)),
    (FROM_2_7, "SCH", (9, 10, 11)),
)

#: (versions, segment, field, column, value, reason); column is type, usage or most.
FIELDS: tuple[tuple[tuple[str, ...], str, int, str, str, str], ...] = (
    (("2.3.1",), "MSH", 9, "length", "15", "7 leaves no room for the structure that 2.3.1 puts there (§2.24.1.9)"),
)

#: (versions, data type, component, column, value, reason); column may be row, the whole of it.
COMPONENTS: tuple[tuple[tuple[str, ...], str, int, str, str, str], ...] = (
    (
        ("2.6",),
        "XTN",
        1,
        "row",
        "ST O 1 199 - telephone number",
        "hl7apy leaves it out; it is deprecated in 2.6 and withdrawn in 2.7 (HL7 v2.7 §2.A.89.1)",
    ),
    (("2.3.1",), "CX", 2, "type", "ST", "hl7apy has NM; a check digit may be a letter (HL7 v2.3.1 §2.8.5)"),
    (
        ("2.1",),
        "TS",
        2,
        "usage",
        "O",
        "hl7apy requires the degree of precision, which is optional (HL7 v2.1 chapter 2)",
    ),
    (
        ("2.1", "2.2", "2.3", "2.3.1", "2.4"),
        "TS",
        1,
        "type",
        "DTM",
        "called ST before 2.5 gave its form a name; the form was the same (HL7 v2.3 §2.8.38)",
    ),
)
