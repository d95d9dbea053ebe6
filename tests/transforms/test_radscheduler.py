"""What RadScheduler is answered: the RIS's messages as JSON (systems.md D.1 to D.3)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from engine.envelope import Envelope
from engine.errors import Refused, StepFailed
from engine.transforms.base import ForgetKeys

Sample = Callable[[str], bytes]
Make = Callable[..., Envelope]
Answer = Callable[..., Any]

BODY = {
    "orderId": "ORDER123",
    "slotId": "DTI-XR1-202501160900",
    "locationId": "DTI",
    "modality": "CR",
    "start": "2025-01-16T09:00:00-06:00",
    "patient": {"mrn": "MRN123456"},
}


@pytest.fixture
def answer(kit: SimpleNamespace, envelope: Make) -> Answer:
    """Run a reply function on the RIS's answer."""

    def go(
        function: str,
        message: Any,
        *,
        query: dict[str, str] | None = None,
        now: str = "2025-01-15T08:31:00-05:00",
        with_: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        **step_: Any,
    ) -> Any:
        loading, context = kit.Loading(), kit.Context(datetime.fromisoformat(now))
        (location,) = loading.table("locations").rows("DTI")
        variables = {"location": location, "booking": {"minutes": 30}}
        context.request = envelope(None, request=body or BODY, query=query, variables=variables)
        reply = envelope(None, request=message) if isinstance(message, dict) else envelope(message)
        context.response = reply
        step = {"python": {"call": f"radscheduler:{function}", "with": with_ or {}, **step_}}
        loading.chain([step], ()).run(reply, context)
        return reply.body

    return go


DTI = {
    "id": "DTI",
    "name": "Downtown Imaging",
    "address": "100 Main St, Springfield, IL 62701",
    "phone": "+12175550100",
    "timezone": "America/Chicago",
    "modalities": ["CR", "DX", "US"],
}


@pytest.mark.parametrize("suffix", ["v23", "v251"])
def test_display_lines_become_locations(suffix: str, answer: Answer, sample: Sample) -> None:
    found = answer("locations", sample(f"L2_DSR_Q01_{suffix}"))
    assert found["locations"][0] == DTI
    assert [each["id"] for each in found["locations"]] == ["DTI", "NSI"]


def test_locations_are_those_of_the_modality_that_was_asked_for(answer: Answer, sample: Sample) -> None:
    found = answer("locations", sample("L2_DSR_Q01_v23"), query={"modality": "CT"})
    assert [each["id"] for each in found["locations"]] == ["NSI"]


@pytest.mark.parametrize("suffix", ["v23", "v251"])
def test_no_data_is_an_empty_list_whatever_its_line_says(suffix: str, answer: Answer, sample: Sample) -> None:
    assert answer("locations", sample(f"L3_DSR_nodata_{suffix}")) == {"locations": []}
    assert answer("slots", sample(f"S3_DSR_noslots_{suffix}")) == {"slots": []}


def test_a_location_master_file_becomes_locations(answer: Answer, sample: Sample) -> None:
    (found,) = answer("locations", sample("L6_MFR_M05_v251"))["locations"]
    assert found == DTI | {"phone": "+12175550100", "timezone": None, "modalities": ["CR"]}
    (found,) = answer("locations", sample("L6_MFR_M05_v251"), tables={"known": "locations"})["locations"]
    assert found["timezone"] == "America/Chicago", "a master file says none: the site's table does"
    unknown = sample("L6_MFR_M05_v251").replace(b"LOC|DTI", b"LOC|XYZ")
    assert answer("locations", unknown, tables={"known": "locations"})["locations"][0]["timezone"] is None


def test_escapes_in_display_lines_are_undone(answer: Answer, sample: Sample) -> None:
    text = sample("L2_DSR_Q01_v23").replace(b"NAME=Downtown Imaging", b"NAME=A%3Bb%3dc%25d \\T\\ E")
    assert answer("locations", text)["locations"][0]["name"] == "A;b=c%d & E"


def test_display_lines_of_another_order_and_case_are_read(answer: Answer, sample: Sample) -> None:
    text = sample("L2_DSR_Q01_v23").replace(b"ID=DTI;NAME=Downtown Imaging", b"NAME=Downtown Imaging;id=DTI;;NEW=1")
    assert answer("locations", text)["locations"][0]["id"] == "DTI"


SLOTS = [
    {
        "id": f"DTI-XR1-20250116{start}",
        "locationId": "DTI",
        "modality": "CR",
        "start": f"2025-01-16T{start[:2]}:{start[2:]}:00-06:00",
        "end": f"2025-01-16T{end[:2]}:{end[2:]}:00-06:00",
        "durationMinutes": 30,
        "resource": "XR1",
    }
    for start, end in (("0900", "0930"), ("0930", "1000"))
]


@pytest.mark.parametrize(
    ("name", "count"), [("S2_DSR_Q01_v23", 2), ("S2_DSR_Q01_v251", 2), ("S5_SQR_S25_v23", 2), ("S5_SQR_S25_v251", 1)]
)
def test_slots_are_the_same_whichever_way_the_ris_says_them(
    name: str, count: int, answer: Answer, sample: Sample
) -> None:
    assert answer("slots", sample(name), query={"modality": "CR"}) == {"slots": SLOTS[:count]}


ROWS = [
    {
        "slot_id": f"DTI-XR1-20250116{start}",
        "location_id": "DTI",
        "modality": "CR",
        "resource": "XR1",
        "starts_at": f"2025-01-16T{begins}:00+00:00",
        "ends_at": f"2025-01-16T{ends}:00Z",
    }
    for start, begins, ends in (("0900", "15:00", "15:30"), ("0930", "15:30", "16:00"))
]


def test_rows_of_the_calendar_are_the_same_slots(answer: Answer) -> None:
    def found(rows: list[dict[str, Any]]) -> Any:
        return answer("slots", {"rows": rows}, query={"modality": "CR"})

    assert found(ROWS) == {"slots": SLOTS}
    assert found([]) == {"slots": []}
    assert found([{**ROWS[0], "resource": None}])["slots"][0]["resource"] is None
    for broken in ({"slot_id": None}, {"starts_at": None}, {"starts_at": "soon"}, {"ends_at": None}):
        with pytest.raises(StepFailed, match="wrong_answer"):
            found([{**ROWS[0], **broken}])


def test_slots_are_the_same_each_time_whatever_was_done_with_those_of_before(answer: Answer, sample: Sample) -> None:
    raw = sample("S2_DSR_Q01_v23")
    first = answer("slots", raw, query={"modality": "CR"})
    expected = [dict(slot) for slot in first["slots"]]
    with pytest.raises(TypeError):
        first["slots"][0].clear()
    first["slots"].clear()
    assert answer("slots", raw, query={"modality": "CR"}) == {"slots": expected}


def test_display_lines_of_other_delimiters_are_read(answer: Answer, sample: Sample) -> None:
    raw = sample("S2_DSR_Q01_v23")
    assert b"#" not in raw
    assert answer("slots", raw.replace(b"|", b"#")) == answer("slots", raw)


@pytest.mark.parametrize("suffix", ["v23", "v251"])
def test_a_schedule_answer_without_slots_is_an_empty_list(suffix: str, answer: Answer, sample: Sample) -> None:
    assert answer("slots", sample(f"S6_SQR_noslots_{suffix}")) == {"slots": []}


def test_a_display_line_that_says_nothing_is_no_slot_list(answer: Answer, sample: Sample) -> None:
    for line in (b"DSP\r", b"DSP|\r", b"DSP|9||\r"):
        with pytest.raises(StepFailed, match="wrong_answer at DSP-3"):
            answer("slots", sample("S2_DSR_Q01_v23").rstrip(b"\r") + b"\r" + line)


def test_slots_that_have_begun_are_left_out(answer: Answer, sample: Sample) -> None:
    found = answer("slots", sample("S2_DSR_Q01_v23"), now="2025-01-16T10:00:00-05:00")
    assert [each["id"] for each in found["slots"]] == ["DTI-XR1-202501160930"]


def test_the_hour_that_comes_twice_is_told_apart_by_its_offset(answer: Answer, sample: Sample) -> None:
    text = sample("S2_DSR_Q01_v251")
    text = text.replace(
        b"START=20250116090000-0600;END=20250116093000-0600", b"START=20251102013000-0500;END=20251102013000-0600"
    )
    slot = answer("slots", text)["slots"][-2]
    assert (slot["start"], slot["end"]) == ("2025-11-02T01:30:00-05:00", "2025-11-02T01:30:00-06:00")


def test_an_end_is_worked_out_from_the_duration(answer: Answer, sample: Sample) -> None:
    text = sample("S2_DSR_Q01_v23").replace(b"END=20250116093000;", b"")
    assert answer("slots", text)["slots"][0] == SLOTS[0]


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        ("slots", b"START=20250116090000;", b""),
        ("slots", b"START=20250116090000;", b"START=soon;"),
        ("slots", b"START=20250116090000;", b"START=20250116;"),
        ("slots", b"END=20250116093000;DUR=30;", b""),
        ("slots", b"DSR^Q01", b"ORU^R01"),
        ("locations", b"DSR^Q01", b"ACK^Q01"),
        ("confirmation", b"DSR^Q01", b"DSR^Q01"),
    ],
)
def test_an_answer_of_the_wrong_form_is_a_bad_response(
    function: str, old: bytes, new: bytes, answer: Answer, sample: Sample
) -> None:
    with pytest.raises(StepFailed, match="wrong_answer"):
        answer(function, sample("S2_DSR_Q01_v23").replace(old, new))


def test_a_query_status_of_error_is_one_whatever_the_ack_says(answer: Answer, sample: Sample) -> None:
    with pytest.raises(Refused) as refused:
        answer("slots", sample("S2_DSR_Q01_v23").replace(b"|OK\r", b"|AE\r"))
    assert refused.value.code == "ris_error"


def _confirmed(number: str, source: str, appointment: str | None = None) -> dict[str, Any]:
    return {
        "status": "booked",
        "confirmationNumber": number,
        "confirmationSource": source,
        "orderId": "ORDER123",
        "appointmentId": appointment,
        "appointment": {
            "locationId": "DTI",
            "locationName": "Downtown Imaging",
            "modality": "CR",
            "start": "2025-01-16T09:00:00-06:00",
            "durationMinutes": 30,
        },
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("B2_ORR_O02_AA_v23", _confirmed("ACC778899", "filler")),
        ("B2_ORR_O02_AA_v251", _confirmed("ACC778899", "filler")),
        ("B3_ACK_AA_v23", _confirmed("ORDER123", "placer")),
        ("B3_ACK_AA_v251", _confirmed("ORDER123", "placer")),
        ("B7_SRR_S01_AA_v23", _confirmed("APT556677", "filler", "APT556677")),
        ("N1_SIU_S12_RIS_v251", _confirmed("ACC778899", "filler", "APT556677")),
        ("N1_SIU_S12_RIS_v23", _confirmed("APT556677", "filler", "APT556677")),
    ],
)
def test_a_confirmation_has_the_first_number_that_exists(
    name: str, expected: dict[str, Any], answer: Answer, sample: Sample
) -> None:
    assert answer("confirmation", sample(name)) == expected


def test_an_order_answer_without_a_number_of_the_order_gives_that_of_its_detail(answer: Answer, sample: Sample) -> None:
    text = sample("B2_ORR_O02_AA_v23").replace(
        b"ORC|OK|ORDER123^RADSCHED|ACC778899^SYNAPSE", b"ORC|OK|ORDER123^RADSCHED|"
    )
    assert answer("confirmation", text)["confirmationNumber"] == "ACC778899"


def test_free_text_is_a_number_only_if_the_whole_of_it_has_the_form(answer: Answer, sample: Sample) -> None:
    pattern = {"confirmation_pattern": "ACC[0-9]{6}"}
    text = sample("B3_ACK_AA_v23")
    assert answer("confirmation", text, with_=pattern) == _confirmed("ACC778899", "filler")
    text = text.replace(b"ACC778899", b"ACC778899 for Doe")
    assert answer("confirmation", text, with_=pattern) == _confirmed("ORDER123", "placer")


def test_a_cancellation_is_confirmed(answer: Answer, sample: Sample) -> None:
    assert answer("cancelled", sample("B3_ACK_AA_v23")) == {"status": "cancelled", "orderId": "ORDER123"}


def test_a_cancellation_that_the_ris_could_not_make_is_an_error(answer: Answer, sample: Sample) -> None:
    with pytest.raises(Refused) as refused:
        answer("cancelled", sample("B2_ORR_O02_AA_v23").replace(b"ORC|OK", b"ORC|UC"))
    assert refused.value.code == "ris_error"


def test_a_cancellation_forgets_the_orders_keys(kit: SimpleNamespace, envelope: Make, sample: Sample) -> None:
    loading, context = kit.Loading(), kit.Context()
    context.request = envelope(None, request={"orderId": "ORDER123"})
    reply = envelope(sample("B3_ACK_AA_v23"))
    step = {
        "resolve": {
            "channel": "radscheduler-book-appointment",
            "match": {"$body.orderId": "$body.orderId"},
            "outcome": "cancelled",
        }
    }
    loading.chain([step], ()).run(reply, context)
    assert context.effects == [ForgetKeys("radscheduler-book-appointment", {"body.orderId": ("ORDER123",)})]


def test_a_reply_function_outside_of_a_reply_fails_with_the_type_alone(
    kit: SimpleNamespace, envelope: Make, sample: Sample
) -> None:
    with pytest.raises(StepFailed, match="radscheduler:slots TypeError"):
        kit.Loading().chain([{"python": "radscheduler:slots"}], ()).run(
            envelope(sample("S2_DSR_Q01_v23")), kit.Context()
        )


BOOKED = BODY | {"room": "XR1"}
BOOKED_LINE = (
    b"MSH|^~\\&|SYNAPSE|DTI|RADSCHED|RADORDERPAD|20250115083101||DSR^Q01|SY1|P|2.3\rMSA|AA|RS1\rQAK|RS1|OK\r"
    b"QRD|20250115083100|D|I|RS1|||100^RD|ALL|SBK|DTI||T\rQRF|SYNAPSE|20250116090000|20250116235959||CR\r"
    b"DSP|1||ID=DTI-XR1-202501160900;START=20250116090000;LOC=DTI;RES=XR1;ORD=ORDER123;APT=APT1;ACC=ACC778899||X\r"
)


def test_a_booked_slot_is_the_orders_own_in_the_very_slot(answer: Answer, sample: Sample) -> None:
    told = {"booking": {"appointmentId": "APT1", "accession": "ACC778899"}}
    assert answer("booked", BOOKED_LINE, body=BOOKED) == told
    assert answer("booked", BOOKED_LINE, body=BODY) == told, "a slot id of another form names no room"
    for other in (
        {"orderId": "ORDER124"},
        {"locationId": "NSI"},
        {"room": "US1"},
        {"start": "2025-01-16T09:30:00-06:00"},
    ):
        assert answer("booked", BOOKED_LINE, body=BOOKED | other) == {"booking": None}
    assert answer("booked", sample("S3_DSR_noslots_v23"), body=BOOKED) == {"booking": None}
    assert answer("booked", sample("S6_SQR_noslots_v23"), body=BOOKED) == {"booking": None}
    with pytest.raises(StepFailed, match="wrong_answer"):
        answer("booked", sample("B3_ACK_AA_v23"), body=BOOKED)
