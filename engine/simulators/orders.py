"""The orders and patients that the simulated RIS holds at start (systems.md D.8), and the ORM that announces one.

All people, numbers and addresses are synthetic. Appointments made of an order are in `notices.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.simulators.wire import at_least, components, encode, escape, line, stamp

FIRST_ACCOUNT = 5566
#: Ordering provider of every order; from 2.5.1 XCN has more components.
PROVIDER = "1234567893^Smith^Jane^^^^^^NPI"
PHONE = "(217)555-0100"
ADDRESS = "100 Elm St^^Springfield^IL^62701"
#: Procedures of made-up orders by modality.
PROCEDURES = {
    "CR": "XRCHEST2^Chest X-ray 2 views^L",
    "DX": "XRWRIST^X-ray wrist^L",
    "CT": "CTHEAD^CT head without contrast^L",
    "MR": "MRKNEE^MRI knee^L",
    "US": "USABD^Ultrasound abdomen^L",
    "MG": "MGSCREEN^Screening mammogram^L",
}
#: What an order is called in the notice of its appointment.
MODALITY_WORDS = {"CR": "X-ray", "DX": "X-ray", "US": "Ultrasound", "CT": "CT", "MR": "MRI", "MG": "Mammogram"}


@dataclass(frozen=True, slots=True)
class Patient:
    """A synthetic person. `authority` issued the medical record number."""

    mrn: str
    authority: str
    family: str
    given: str
    birth_date: str
    sex: str
    phone: str
    account: str

    @property
    def told(self) -> str:
        """How free text names the patient; this must never leave the engine."""
        return f"{self.family}, {self.given} ({self.mrn})"


@dataclass(frozen=True, slots=True)
class Order:
    """One imaging order. `placer` and `accession` are EI as sent (`ORDER123^ATHENA`)."""

    placer: str
    accession: str
    facility: str
    patient: Patient
    procedure: str
    modality: str

    @property
    def id(self) -> str:
        return self.placer.partition("^")[0]

    @property
    def accession_id(self) -> str:
        return self.accession.partition("^")[0]


#: ORC-2 | ORC-3.1 | facility | MRN | PID-5 | PID-7 | PID-8 | PID-13 | OBR-4 | OBR-24
TABLE = """
ORDER123^ATHENA|ACC778899|DTI|MRN123456|Doe^John|19800101|M|(217)555-0111|XRCHEST2^Chest X-ray 2 views^L|CR
ORDER124^EPIC|ACC778900|NSI|MRN123457|Roe^Jane|19751203|F|(217)555-0112|CTHEAD^CT head without contrast^L|CT
ORDER125^EPIC|ACC778901|NSI|MRN123458|Poe^Edgar|19640119|M|(217)555-0113|MRKNEE^MRI knee^L|MR
ORDER126^ATHENA|ACC778902|DTI|MRN123459|Moe^Mary|19900222|F|(217)555-0114|USABD^Ultrasound abdomen^L|US
ORDER127^CERNER|ACC778903|WSI|MRN123460|Müller^Eva|19710930|F|(217)555-0115|MGSCREEN^Screening mammogram^L|MG
ORDER128^ATHENA|ACC778904|DTI|MRN123461|Loe^Sam|20010515|M|(217)555-0116|XRWRIST^X-ray wrist^L|DX
ORDER129^CERNER|ACC778905|WSI|MRN123462|Noe^Ann|19580807|F|(217)555-0117|PETWB^PET whole body^L|PT
"""


def starting_orders() -> list[Order]:
    """The orders the RIS knows from the first moment, ORDER123 to ORDER129."""
    rows = [row.split("|") for row in TABLE.strip().splitlines()]
    return [read_order(row, FIRST_ACCOUNT + index) for index, row in enumerate(rows)]


def read_order(row: list[str], account: int) -> Order:
    placer, accession, facility, mrn, name, birth_date, sex, phone, procedure, modality = row
    family, given = name.split("^")
    patient = Patient(mrn, facility, family, given, birth_date, sex, phone, f"ACCT{account}")
    return Order(placer, f"{accession}^SYNAPSE", facility, patient, procedure, modality)


def made_up_order(name: str, number: str, facility: str, modality: str) -> Order:
    """An order of a person who does not exist; `number` makes the accession, the patient and the account."""
    patient = Patient(f"MRN{number}", facility, f"Sample{number}", "Alex", "19700101", "F", PHONE, f"ACCT{number}")
    procedure = PROCEDURES.get(modality, PROCEDURES["CR"])
    return Order(f"{name}^RADSCHED", f"ACC{number}^SYNAPSE", facility, patient, procedure, modality)


def made_up_orders(count: int, prefix: str, kinds: Sequence[tuple[str, str]]) -> list[Order]:
    """`count` orders, `prefix` with a number, of each facility and modality of `kinds` in turn."""
    names = (f"{prefix}{number:05d}" for number in range(1, count + 1))
    return [made_up_order(name, name, *kinds[at % len(kinds)]) for at, name in enumerate(names)]


def order_message(order: Order, control_id: str, now: datetime, control: str = "NW", version: str = "2.3") -> bytes:
    """ORM^O01 that announces (NW), changes (XO) or cancels (CA) an order, in the shape of O1."""
    charset = charset_for(order.patient)
    kind = "ORM^O01^ORM_O01" if at_least(version, "2.3.1") else "ORM^O01"
    person = order.patient
    lines = [
        message_header(order.facility, kind, control_id, now, version, charset),
        line("PID", patient_fields(person, version) | {11: ADDRESS, 13: escape(person.phone)}),
        line("PV1", {1: "1", 2: "O", 3: order.facility}),
        line("ORC", {1: control, 2: order.placer, 3: order.accession, 7: "1^^^^^R"}
             | {9: stamp(now, version), 12: provider(version)}),
        line("OBR", {1: "1", 2: order.placer, 3: order.accession, 4: order.procedure}
             | {16: provider(version), 24: order.modality, 27: "1^^^^^R"}),
    ]  # fmt: skip
    return encode(lines, charset)


def message_header(facility: str, kind: str, control_id: str, now: datetime, version: str, charset: str) -> str:
    """MSH of what the RIS sends by itself to RadScheduler's side."""
    fields = {3: "SYNAPSE", 4: facility, 5: "RADSCHED", 6: "RADORDERPAD", 7: stamp(now, version), 9: kind}
    return line("MSH", fields | {10: control_id, 11: "P", 12: version, 18: charset})


def patient_fields(patient: Patient, version: str) -> dict[int, str]:
    """PID-1 to PID-8. From 2.5 the name says that it is the legal one."""
    name = f"{escape(patient.family)}^{escape(patient.given)}"
    if at_least(version, "2.5"):
        name += "^^^^^L"
    identifier = components(escape(patient.mrn), "", "", patient.authority, "MR")
    return {1: "1", 3: identifier, 5: name, 7: patient.birth_date, 8: patient.sex}


def provider(version: str) -> str:
    return PROVIDER + "^L^^^NPI" if at_least(version, "2.5") else PROVIDER


def charset_for(patient: Patient) -> str:
    """MSH-18: this RIS names 8859/1 where a name needs it, and nothing otherwise."""
    return "" if f"{patient.family}{patient.given}".isascii() else "8859/1"
