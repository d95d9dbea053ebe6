"""What the RIS answers to queries: the shapes of the samples, and each refusal with its place."""

from collections.abc import Callable

import pytest

from engine.simulators import Ris
from engine.simulators.wire import parse

Sample = Callable[..., bytes]
Change = Callable[[bytes, dict[str, str]], bytes]
Lines = Callable[[bytes], list[str]]
VERSIONS = ["v23", "v251"]


def only(ris: Ris, message: bytes) -> bytes:
    (answer,) = ris.handle(message)
    return answer


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("request_name", "fields", "answer_name"),
    [
        ("L1_QRY_Q01", {}, "L2_DSR_Q01"),
        ("L1_QRY_Q01", {"QRF-5": "PT"}, "L3_DSR_nodata"),
        ("L1_QRY_Q01", {"QRF-5": "ZZ"}, "L4_ACK_AE"),
        ("S1_QRY_Q01", {"QRF-5": "PT"}, "S3_DSR_noslots"),
        ("S1_QRY_Q01", {"QRD-10": "ZZZ"}, "S8_ACK_AE_badlocation"),
        ("S4_SQM_S25", {"AIG-3": "PT^Positron^DCM"}, "S6_SQR_noslots"),
    ],
)
def test_answers_have_the_samples_shape(
    ris: Ris, sample: Sample, change: Change, lines: Lines, version: str, request_name: str, fields: dict[str, str],
    answer_name: str,
) -> None:  # fmt: skip
    question = change(sample(f"{request_name}_{version}"), fields)
    expected = sample(f"{answer_name}_{version}")
    if answer_name == "S3_DSR_noslots":
        expected = change(expected, {"QRF-5": "PT"})
    assert lines(only(ris, question)) == lines(expected)


@pytest.mark.parametrize("version", VERSIONS)
def test_slots_have_the_samples_shape(ris: Ris, sample: Sample, lines: Lines, version: str) -> None:
    answer = lines(only(ris, sample(f"S1_QRY_Q01_{version}")))
    expected = lines(sample(f"S2_DSR_Q01_{version}"))
    shown = [text for text in answer if not text.startswith("DSP") or "1609" in text.split("ID=")[1][:25]]
    assert len([text for text in answer if text.startswith("DSP")]) == 16
    assert [text.split("|", 2)[-1] for text in shown] == [text.split("|", 2)[-1] for text in expected]


def test_slots_by_sqm_have_the_samples_shape(ris: Ris, sample: Sample, change: Change, lines: Lines) -> None:
    from_nine = change(sample("S4_SQM_S25_v23"), {"QRF-2": "20250116090000"})
    answer, expected = lines(only(ris, from_nine)), lines(sample("S5_SQR_S25_v23"))
    assert answer[: len(expected)] == expected
    assert len(answer) == 3 + 14 * 5


def book(ris: Ris, sample: Sample, change: Change) -> None:
    assert parse(only(ris, change(sample("B1_ORM_O01_v23"), {"MSH-10": "BOOK1"}))).text("MSA-1") == "AA"


def test_sqm_at_251_is_the_sample_when_one_slot_is_asked_for(
    ris: Ris, sample: Sample, change: Change, lines: Lines
) -> None:
    ask = sample("S4_SQM_S25_v251")
    ask = change(ask, {"QRD-7": "1^RD", "QRF-2": "20250116090000-0600"})
    answer, expected = lines(only(ris, ask)), lines(sample("S5_SQR_S25_v251"))
    assert [text for text in answer if not text.startswith("QAK")] == [
        text for text in expected if not text.startswith("QAK")
    ]
    assert answer[2] == "QAK|RS00000002|OK||14|1|13"


def test_mfq_answers_with_the_master_file(ris: Ris, sample: Sample, lines: Lines) -> None:
    answer, expected = lines(only(ris, sample("L5_MFQ_M05_v251"))), lines(sample("L6_MFR_M05_v251"))
    assert answer[:8] == expected[:8]
    assert answer[8] == expected[8] + "~DX^Digital Radiography^DCM~US^Ultrasound^DCM"
    assert [text.split("|")[1] for text in answer if text.startswith("LOC")] == ["DTI^^^DTI", "NSI^^^NSI"]


def test_mfq_without_a_match_is_nf(ris: Ris, sample: Sample, change: Change) -> None:
    answer = parse(only(ris, change(sample("L5_MFQ_M05_v251"), {"QRF-5": "XA"})))
    assert answer.names() == ["MSH", "MSA", "QAK", "QRD", "QRF"]
    assert answer.text("QAK-2") == "NF"


def test_sqm_refuses_an_unknown_location_as_the_sample_does(
    ris: Ris, sample: Sample, change: Change, lines: Lines
) -> None:
    answer = only(ris, change(sample("S4_SQM_S25_v251"), {"AIL-3": "ZZZ^^^ZZZ"}))
    assert lines(answer) == lines(sample("S7_SQR_AE_v251"))


def test_locations_without_a_modality_are_all(ris: Ris, sample: Sample, change: Change) -> None:
    answer = parse(only(ris, change(sample("L1_QRY_Q01_v23"), {"QRF-5": ""})))
    assert [segment.text(5) for segment in answer.all("DSP")] == ["DTI", "NSI", "WSI"]


def test_the_wanted_quantity_limits_the_rows(ris: Ris, sample: Sample, change: Change) -> None:
    answer = parse(only(ris, change(sample("S1_QRY_Q01_v23"), {"QRD-7": "3^RD"})))
    assert [segment.text(1) for segment in answer.all("DSP")] == ["1", "2", "3"]


def test_booked_slots_are_told_with_their_order(ris: Ris, sample: Sample, change: Change) -> None:
    book(ris, sample, change)
    answer = parse(only(ris, change(sample("S1_QRY_Q01_v251"), {"QRD-9": "SBK"})))
    (row,) = answer.all("DSP")
    assert row.text(5) == "DTI-XR1-202501160900"
    assert row.text(3).endswith(";RES=XR1;MOD=CR;ORD=ORDER123;APT=APT556677;ACC=ACC778899")
    open_slots = parse(only(ris, change(sample("S1_QRY_Q01_v251"), {"MSH-10": "NEXT1"})))
    assert "DTI-XR1-202501160900" not in [segment.text(5) for segment in open_slots.all("DSP")]


def test_a_location_that_lacks_the_modality_has_no_slots(ris: Ris, sample: Sample, change: Change) -> None:
    assert parse(only(ris, change(sample("S1_QRY_Q01_v23"), {"QRF-5": "CT"}))).text("QAK-2") == "NF"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("fields", "condition", "location"),
    [
        ({"QRD-8": ""}, "101", "QRD^1^8"),
        ({"QRD-4": ""}, "101", "QRD^1^4"),
        ({"QRD-4": "RS000000021"}, "102", "QRD^1^4"),
        ({"QRD-7": "many"}, "102", "QRD^1^7"),
        ({"QRD-3": "D"}, "103", "QRD^1^3"),
        ({"QRD-2": "R"}, "103", "QRD^1^2"),
        ({"QRD-9": "LOC"}, "103", "QRD^1^9"),
        ({"QRD-9": "SAL"}, "103", "QRD^1^9"),
        ({"QRD-9": "OTH"}, "103", "QRD^1^10"),
        ({"QRD-12": "X"}, "103", "QRD^1^12"),
        ({"QRF-1": ""}, "101", "QRF^1^1"),
        ({"QRF-2": ""}, "101", "QRF^1^2"),
        ({"QRF-2": "2025-01-16"}, "102", "QRF^1^2"),
        ({"QRF-2": "20251316000000"}, "102", "QRF^1^2"),
        ({"QRF-2": "20250116"}, "102", "QRF^1^2"),
        ({"QRF-5": ""}, "101", "QRF^1^5"),
        ({"QRF-5": "ZZ"}, "103", "QRF^1^5"),
        ({"QRD-10": ""}, "101", "QRD^1^10"),
        ({"MSH-5": "ANOTHER"}, "103", "MSH^1^5"),
        ({"MSH-6": "ZZZ"}, "103", "MSH^1^6"),
        ({"MSH-10": "RS0000000002000000021"}, "102", "MSH^1^10"),
        ({"MSH-18": "8859/99"}, "102", "MSH^1^18"),
        ({"MSH-7": ""}, "101", "MSH^1^7"),
    ],
)
def test_a_wrong_slot_query_is_refused(
    ris: Ris, sample: Sample, change: Change, version: str, fields: dict[str, str], condition: str, location: str
) -> None:
    answer = parse(only(ris, change(sample(f"S1_QRY_Q01_{version}"), fields)))
    assert answer.text("MSA-1") == "AE"
    if version == "v251":
        assert (answer.text("ERR-3"), answer.raw("ERR-2"), answer.text("MSA-6")) == (condition, location, "")
    else:
        assert (answer.text("MSA-6"), answer.raw("ERR-1").split("&")[0]) == (condition, f"{location}^{condition}")


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"QRF-2": "20250116000000-0600"}, "QRF^1^2"),
        ({"QRF-2": "20250117000000", "QRF-3": "20250116000000"}, "QRF^1^3"),
        ({"QRF-2": "20240116000000", "QRF-3": "20240116235959"}, "QRF^1^2"),
    ],
)
def test_ranges_that_cannot_be(ris: Ris, sample: Sample, change: Change, fields: dict[str, str], path: str) -> None:
    answer = parse(only(ris, change(sample("S1_QRY_Q01_v23"), fields)))
    assert answer.raw("ERR-1").startswith(f"{path}^102")


def test_at_251_a_time_needs_its_offset(ris: Ris, sample: Sample, change: Change) -> None:
    answer = parse(only(ris, change(sample("S1_QRY_Q01_v251"), {"QRF-3": "20250116235959"})))
    assert (answer.text("ERR-3"), answer.raw("ERR-2")) == ("102", "QRF^1^3")


@pytest.mark.parametrize(
    ("name", "fields", "condition", "path"),
    [
        ("L1_QRY_Q01_v23", {"MSH-9": "QRY^Q01^QRY_Q01"}, "102", "MSH^1^9"),
        ("L1_QRY_Q01_v251", {"MSH-9": "QRY^Q01"}, "103", "MSH^1^9"),
        ("L5_MFQ_M05_v251", {"MSH-9": "MFQ^M05^MFQ_M05"}, "103", "MSH^1^9"),
        ("L5_MFQ_M05_v251", {"QRD-9": "OTH"}, "103", "QRD^1^9"),
        ("S4_SQM_S25_v251", {"QRD-9": "SOP"}, "103", "QRD^1^9"),
        ("S4_SQM_S25_v251", {"ARQ-15": ""}, "101", "ARQ^1^15"),
        ("S4_SQM_S25_v251", {"AIG-3": "ZZ^Nothing^DCM"}, "103", "AIG^1^3"),
        ("S4_SQM_S25_v251", {"AIS-3": ""}, "101", "AIS^1^3"),
    ],
)
def test_the_form_of_the_version_is_demanded(
    ris: Ris, sample: Sample, change: Change, name: str, fields: dict[str, str], condition: str, path: str
) -> None:
    answer = parse(only(ris, change(sample(name), fields)))
    found = (answer.text("ERR-3") or answer.text("MSA-6"), answer.raw("ERR-2") or answer.raw("ERR-1")[: len(path)])
    assert (answer.text("MSA-1"), *found) == ("AE", condition, path)


@pytest.mark.parametrize(
    ("fields", "condition"),
    [
        ({"MSH-12": "2.7"}, "203"),
        ({"MSH-12": "2.6"}, "203"),
        ({"MSH-9": "VXQ^V01"}, "200"),
        ({"MSH-9": "QRY^A19"}, "201"),
        ({"MSH-11": "T"}, "202"),
    ],
)
def test_a_message_of_another_kind_is_rejected(
    ris: Ris, sample: Sample, change: Change, fields: dict[str, str], condition: str
) -> None:
    answer = parse(only(ris, change(sample("L1_QRY_Q01_v23"), fields)))
    assert answer.text("MSA-1") == "AR"
    assert (answer.text("ERR-3") or answer.text("MSA-6")) == condition


def test_segments_out_of_order_are_refused(ris: Ris, sample: Sample) -> None:
    msh, qrd, qrf = sample("L1_QRY_Q01_v23").decode().rstrip("\r").split("\r")
    answer = parse(only(ris, "\r".join([msh, qrf, qrd, ""]).encode()))
    assert (answer.text("MSA-1"), answer.text("MSA-6")) == ("AE", "100")


def test_bytes_outside_the_charset_are_refused(ris: Ris, sample: Sample) -> None:
    answer = parse(only(ris, sample("L1_QRY_Q01_v23").replace(b"|ALL|", "|Müller|".encode())))
    assert (answer.text("MSA-6"), answer.raw("ERR-1")[:8]) == ("102", "MSH^1^18")


@pytest.mark.parametrize("data", [b"rubbish", b"MSH|^~\\&|no end", b"MSH|^~\\&|A\nPID|1\n"])
def test_what_is_no_message_is_rejected(ris: Ris, data: bytes) -> None:
    answer = parse(only(ris, data))
    assert (answer.text("MSA-1"), answer.text("MSA-2")) == ("AR", "UNKNOWN")


def test_acknowledgements_are_not_answered(ris: Ris, sample: Sample) -> None:
    assert ris.handle(sample("B3_ACK_AA_v23")) == []
