"""A patient's name, planted wherever a partner or a caller can put one, is in nothing the engine shows unasked.

Searched are the log at its most talkative, everything printed, every answer to a caller and every view of the admin
API and the command line. Content is shown when bodies are asked for, and then it is there.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .peers import Partner, Sender, ack, arrived, channel, frame, is_idle, siu, told, value

Site = Any
WaitFor = Callable[..., Any]

#: Long enough to be in no id by chance.
NAME = "ZQXWVKJH"
ROUTER = "channels/ris-siu-router.yaml"
EDITS = (
    # A site's Python that says in its exception what it choked on.
    (ROUTER, "  - keep: {MSH-9.1: SIU}", "  - keep: {MSH-9.1: SIU}\n  - python: careless:read"),
    (ROUTER, "retry: {backoff: [1s, 5s, 15s, 60s], give_up: never}", "retry: {backoff: [100ms]}"),
)
CARELESS = '''
"""A function of the site that breaks."""


def read(message, context):
    """Raise with the patient's name for one facility."""
    if message.value("MSH-4") == "BREAK":
        raise ValueError(f"cannot read {message.value('PID-5')} of {message.value('PID-3')}")
    return message
'''


def planted(appointment: str, facility: str = "NSI", **options: Any) -> bytes:
    """A notification about the planted patient."""
    replace = [
        ("Doe^John", f"{NAME}^Ann"),
        ("MRN123456", f"{NAME}77"),
        ("ACCT5566", f"{NAME}78"),
        ("X-ray scheduled at", f"{NAME} comes to"),
        *options.pop("replace", ()),
    ]
    return siu(appointment, facility, replace=replace, **options)


def order(number: str) -> bytes:
    """An order for the planted patient; the webhook refuses its phone number, which is none."""
    return (
        f"MSH|^~\\&|SYNAPSE|DTI|RADSCHED|RADORDERPAD|20260101080000||ORM^O01|{number}|P|2.3\r"
        f"PID|1||{NAME}77^^^DTI^MR||{NAME}^Ann||19800101|F|||1 {NAME} St||(217)555-0111\r"
        f"PV1|1|O|DTI\rORC|NW|{number}^ATHENA|ACC1^SYNAPSE\r"
        f"OBR|1|{number}^ATHENA|ACC1^SYNAPSE|XRCHEST2^{NAME}^L||||||||||||||||||||CR\r"
    ).encode()


@pytest.fixture
def site(new_site: Callable[..., Site]) -> Site:
    site = new_site(EDITS, options=("--log-level", "debug"))
    (site.folder / "transforms" / "careless.py").write_text(CARELESS)
    return site.start()


def test_a_planted_name_is_shown_to_nobody(site: Site, booking: Any, wait_for: WaitFor) -> None:
    heard = [*notify(site, wait_for), *call(site, booking)]
    site.kill()
    site.start()
    wait_for(lambda: is_idle(site), "everything settled")
    site.assert_clean_log()
    for path in (site.engine_log, site.engine_log.with_suffix(".out")):
        heard.append((path.name, path.read_text()))
    heard += views(site)
    for where, text in heard:
        assert NAME.lower() not in text.lower(), f"the planted name is in {where}"
    # The causes are told all the same, in words that name no value.
    causes = {message["cause"] for message in site.messages(state="failed")}
    assert causes == {
        "step python: python_failed careless:read ValueError",
        "step lookup: lookup_missing facility_emr",
        "step require: requirement",
    }
    newest = site.messages(control_id="CV1S12")[0]["id"]
    asked = site.cli("message", str(newest), "--bodies").stdout
    assert NAME in asked, "what is asked for is shown"
    assert site.log_lines("admin.bodies_viewed"), "and that it was shown is logged"


def notify(site: Site, wait_for: WaitFor) -> Iterator[tuple[str, str]]:
    """Notifications and orders that go well and wrong in every way; what their senders were answered."""
    site.control("POST", "/emr/athena/down")
    site.fault("error", "emr/epic", ack="AE", condition=204, location="PID-3", text=f"{NAME}, Ann is not known")
    site.fault("error", "emr/epic", ack="AR", condition=207, text=f"{NAME} later")
    site.fault("error", "emr/cerner", ack="AE", condition=103, location="PID-5", text=f"{NAME} is no name")
    site.fault("garbage", "emr/cerner")

    def answers(message: bytes, _: int) -> list[bytes]:
        text = f"ERR||PID^1^5|204^Unknown key identifier^HL70357|E|{NAME}, Ann^{NAME}||{NAME} diagnosed|{NAME} told"
        return [ack(message, "AE", None, text)]

    with Partner(site.port("ATHENA"), answers) as athena, Sender(site.port("SIU")) as ris:
        good = [
            *(planted(f"V{number}", facility) for number, facility in enumerate(("DTI", "NSI", "WSI", "NSI"), 1)),
            planted("V5", "BREAK"),
            planted("V6", "NOWHERE"),
            # No ASCII: athena's profile cannot say it, and the delivery is parked.
            planted("V7", "DTI", replace=[("|P|2.3\r", "|P|2.3||||||UNICODE UTF-8\r"), ("^Ann", "^Žofie")]),
        ]
        for message in good:
            answer = ris.ask(message)
            assert value(answer, "MSA-1") == "AA"
            yield "an ack", answer
        ris.write(frame(f"PID|1||{NAME}77||{NAME}^Ann\r".encode()))
        yield "an ack of what is no message", ris.receive()
        ris.write(b"MSH|" + NAME.encode() * 2 + b"\x0b" + frame(planted("V8")))
        assert told(ris.receive()) == ("AA", "CV8S12")
        wait_for(lambda: is_idle(site) and athena.received, "everything settled")
    site.control("POST", "/emr/athena/up")
    assert [entry["answers"] for entry in arrived(site, "epic")][:2] == [["AE"], ["AR"]]
    lanes = channel(site)["lanes"]
    parked = {name: lane["parked"] for name, lane in lanes.items() if lane["parked"]}
    assert parked == {"epic": 1, "athena": 2, "cerner": 1}
    with Sender(site.port("ORDERS")) as orders:
        site.fault("status", "webhook", status=400)
        for number in ("PLANT1", "PLANT2"):
            yield "an ack of an order", orders.ask(order(number))
        twice = order("PLANT3") + f"ORC|NW|{NAME}^ATHENA\r".encode()
        answer = orders.ask(twice)
        assert told(answer) == ("AE", "PLANT3")
        yield "a refused order", answer


def call(site: Site, booking: Any) -> Iterator[tuple[str, str]]:
    """Calls that go well and wrong; what their callers were answered."""

    def told_to_caller(what: str, status: int, answer: Any) -> tuple[str, str]:
        assert answer.status == status, f"{what}: {answer.text}"
        return what, f"{answer.text} {answer.headers}"

    for path, status in (
        (f"/api/ris/locations?modality={NAME}", 400),
        (f"/api/ris/available-slots?location={NAME}&modality=CR&date=2030-01-01", 400),
        (f"/api/ris/available-slots?location=DTI&modality=CR&date={NAME}", 400),
        (f"/api/ris/locations?patient={NAME}", 200),
        (f"/api/{NAME}", 404),
    ):
        yield told_to_caller(path.replace(NAME, "…"), status, site.rest("GET", path))
    yield told_to_caller("another key", 401, site.rest("GET", "/api/ris/locations", key=NAME))
    odd = site.rest("GET", "/api/ris/locations", headers={"X-Correlation-ID": f"{NAME} Ann"})
    yield told_to_caller("an id with a name", 200, odd)
    person = {"mrn": "MRN123456", "lastName": NAME, "firstName": NAME}
    path = "/api/ris/book-appointment"
    yield told_to_caller("a cut body", 400, site.rest("POST", path, f'{{"patient": "{NAME}'.encode()))
    yield told_to_caller("a name for an order", 404, site.book(booking(orderId=f"{NAME}1", patient=person)))
    yield told_to_caller("a name for a place", 404, site.book(booking(locationId=f"{NAME}", patient=person)))
    yield told_to_caller("a name for a time", 400, site.book({**booking(), "start": NAME}))
    yield told_to_caller("another patient", 409, site.book(booking(patient={**person, "mrn": NAME})))
    for settings in (
        {"ack": "AE", "condition": 103, "location": "ORC-7"},
        {"ack": "AR", "condition": 200},
        {"ack": "AE", "condition": 207},
    ):
        site.fault("error", only="ORM", text=f"{NAME}, Ann cannot come", **settings)
        answer = site.book(booking(patient=person, notes=f"for {NAME}"), f"key of {NAME} {settings['condition']}")
        assert answer.status >= 400
        yield f"a booking refused with {settings}", f"{answer.text} {answer.headers}"
    answer = site.book(booking(patient=person, notes=f"for {NAME}"), f"key of {NAME}")
    yield told_to_caller("a booking", 201, answer)
    changed = site.book(booking(patient=person, notes="another"), f"key of {NAME}")
    yield told_to_caller("another booking with its key", 422, changed)


def views(site: Site) -> Iterator[tuple[str, str]]:
    """Everything the admin API and the command line show of what is stored."""
    newest = site.messages(limit="200")
    assert len(newest) > 20
    for words in (("channels",), ("messages",), ("messages", "--json"), ("channels", "--json")):
        done = site.cli(*words)
        yield f"hl7engine {' '.join(words)}", done.stdout + done.stderr
    for path in ("/api/status", "/api/channels", "/api/messages?limit=500"):
        yield path, site.admin("GET", path).text
    for message in newest:
        for path in (f"/api/messages/{message['id']}", f"/api/trace/{message['correlation_id']}"):
            yield path, site.admin("GET", path).text
    broken = next(message for message in newest if "careless" in message["cause"])
    parked = next(entry for message in newest for entry in message["deliveries"] if entry["state"] == "parked")
    for words in (
        ("message", str(broken["id"])),
        ("trace", broken["correlation_id"]),
        ("resend", str(broken["id"])),
        ("resend", "--delivery", str(parked["id"])),
        ("discard", "--delivery", str(parked["id"])),
    ):
        done = site.cli(*words)
        yield f"hl7engine {' '.join(words)}", done.stdout + done.stderr
    done = site.run("check", str(site.folder), "--data", str(site.data))
    yield "hl7engine check", done.stdout + done.stderr
