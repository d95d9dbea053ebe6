"""Segment order: every request among the samples is in order, and what is not is found."""

from collections.abc import Callable

import pytest

from engine.simulators.structure import GRAMMARS, is_ordered
from engine.simulators.wire import parse

REQUESTS = [
    "B1_ORM_O01_v23", "B1_ORM_O01_v251", "B6_SRM_S01_v23", "B6_SRM_S01_v251", "B9_ORM_CA_v23", "L1_QRY_Q01_v23",
    "L5_MFQ_M05_v251", "N1_SIU_S12_RIS_v23", "N1_SIU_S12_RIS_v251", "N1_SIU_S12_v24", "N2_SIU_S15_v251",
    "N3_SIU_seed_corrected_v23", "N5_SIU_S12_enhanced_v251", "O1_ORM_order_from_RIS_v23", "P_generic27_S12",
    "P_athena_S12", "S1_QRY_Q01_v251", "S4_SQM_S25_v23", "S4_SQM_S25_v251",
]  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_the_samples_are_in_order(name: str, sample: Callable[..., bytes]) -> None:
    message = parse(sample(name))
    assert message.text("MSH-9.1") in GRAMMARS
    assert is_ordered(message)


@pytest.mark.parametrize(
    "segments",
    [
        "SIU^S12|2.3 PID SCH RGS",
        "SIU^S12|2.3 SCH PID",
        "SIU^S12|2.3 SCH TQ1 PID RGS",
        "SIU^S12|2.3 SCH PID PD1 RGS",
        "SIU^S12|2.5.1 SCH NTE TQ1 RGS",
        "SIU^S12|2.5.1 SCH RGS AIL AIS",
        "QRY^Q01|2.3 QRF QRD",
        "QRY^Q01|2.3 QRF",
        "ORM^O01|2.3 PID OBR ORC",
        "ORM^O01|2.3 ORC OBR PID",
        "SRM^S01|2.3 ARQ PID",
    ],
)
def test_segments_out_of_order_are_found(segments: str) -> None:
    head, *names = segments.split(" ")
    kind, version = head.split("|")
    body = "".join(f"{name}|1\r" for name in names)
    assert not is_ordered(parse(f"MSH|^~\\&|A|B|C|D|||{kind}|1|P|{version}\r{body}".encode()))


def test_z_segments_are_looked_over() -> None:
    assert is_ordered(parse(b"MSH|^~\\&|||||||QRY^Q01|1|P|2.3\rZAA|1\rQRD|1\rZBB|1\r"))
