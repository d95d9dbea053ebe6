"""The engine's process: killed in the middle of a booking, told to end, started twice, started on a broken site."""

import signal
import stat
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

Site = Any
Booking = Callable[..., dict[str, Any]]
WaitFor = Callable[..., Any]
NewSite = Callable[..., Any]


def book_until_it_is_sent(
    site: Site, threads: ThreadPoolExecutor, wait_for: WaitFor, body: Any, key: str
) -> Future[Any]:
    """Begin a booking; return when the RIS has it."""
    asking = threads.submit(site.book, body, key, headers={"X-Correlation-ID": key})
    wait_for(lambda: site.received("ORM"), "the booking is at the RIS")
    return asking


def test_killed_between_sending_and_the_answer(new_site: NewSite, booking: Booking, wait_for: WaitFor) -> None:
    site = new_site().start()
    site.control("POST", "/ris/hold", {"outbox": "siu"})  # no notice may resolve it
    site.fault("late", ms=60_000)
    with ThreadPoolExecutor() as threads:
        asking = book_until_it_is_sent(site, threads, wait_for, booking(), "killed")
        site.kill()
        assert isinstance(asking.exception(), ConnectionError | OSError)
    site.start(orders=False)

    [message] = site.messages(delivery_state="unknown")
    assert (message["channel"], message["correlation_id"]) == ("radscheduler-book-appointment", "killed")
    [delivery] = message["deliveries"]
    assert delivery["state"] == "unknown"
    [channel] = [found for found in channels(site) if found["name"] == "radscheduler-book-appointment"]
    assert channel["destinations"][0]["unknown"] == 1
    # Everything else goes on, with the orders of before the kill, and nothing sends the booking by itself.
    assert site.slots().status == 200
    assert site.book(booking("ORDER124"), "after").status == 201
    assert [entry["body"].count("ORDER123") > 0 for entry in site.received("ORM")] == [True, False]

    again = site.book(booking(), "killed")
    assert (again.status, again.json["confirmationNumber"]) == (201, "ACC778899")
    first, _, second = site.received("ORM")
    assert first["body"] == second["body"]
    assert second["duplicate"]
    assert [held["orderId"] for held in site.control("GET", "/ris")["bookings"]] == ["ORDER123", "ORDER124"]
    assert site.messages(delivery_state="unknown") == []


def test_a_notice_after_a_kill_resolves_the_booking(new_site: NewSite, booking: Booking, wait_for: WaitFor) -> None:
    site = new_site().start()
    site.control("POST", "/ris/hold", {"outbox": "siu"})
    site.fault("late", ms=60_000)
    with ThreadPoolExecutor() as threads:
        book_until_it_is_sent(site, threads, wait_for, booking(), "noticed")
        site.kill()
    site.start(orders=False)
    assert len(site.messages(delivery_state="unknown")) == 1
    site.control("POST", "/ris/release", {"outbox": "siu"})
    wait_for(lambda: not site.messages(delivery_state="unknown"), "the notice resolves the booking")
    assert site.book(booking(), "noticed").json["appointmentId"] == "APT556677"
    assert len(site.received("ORM")) == 1


def test_a_signal_lets_a_booking_under_way_finish(new_site: NewSite, booking: Booking, wait_for: WaitFor) -> None:
    site = new_site().start()
    site.fault("delay", ms=700)
    with ThreadPoolExecutor() as threads:
        asking = threads.submit(site.book, booking(), "drained")
        wait_for(lambda: site.control("GET", "/ris")["faults"] == [], "the booking is at the RIS")
        assert site.terminate() == 0
        assert asking.result().status == 201
    assert site.log_lines("engine.stopped")
    site.start(orders=False)
    assert site.book(booking(), "drained").headers["idempotent-replayed"] == "true"


def test_the_first_run_makes_what_is_missing_for_its_owner_alone(new_site: NewSite) -> None:
    site = new_site().start()
    assert stat.S_IMODE((site.folder / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE(site.data.stat().st_mode) == 0o700
    assert stat.S_IMODE((site.data / "engine.sock").stat().st_mode) == 0o600
    made = (site.folder / ".env").read_text()
    site.restart()
    assert (site.folder / ".env").read_text() == made
    assert site.locations().status == 200
    assert site.terminate(signal.SIGINT) == 0


def test_a_second_engine_on_the_same_data_is_refused(new_site: NewSite) -> None:
    site = new_site().start(simulators=False)
    second = site.run("run", str(site.folder), "--data", str(site.data))
    assert second.returncode == 4
    assert f"{site.data} is in use by another engine" in second.stderr
    assert "Traceback" not in second.stderr
    assert site.health().status == 200


def test_commands_without_an_engine_say_so(new_site: NewSite) -> None:
    site = new_site()
    for words in (["channels"], ["messages"], ["ask", "radscheduler-locations", "{}"], ["stop", "ris-orders"]):
        done = site.cli(*words)
        assert done.returncode == 3
        assert "no engine is running" in done.stderr


def test_a_broken_channel_file_leaves_the_others_running(new_site: NewSite) -> None:
    edits = [
        ("channels/radscheduler-available-slots.yaml", "required: true, one_of", "requird: true, one_of"),
        ("channels/ris-siu-router.yaml", "ack: received", "ack: recieved"),
    ]
    site = new_site(edits)
    checked = site.run("check", str(site.folder), "--data", str(site.data))
    assert checked.returncode == 1
    site.start()
    for text in (checked.stdout + checked.stderr, site.told()):
        assert "channels/radscheduler-available-slots.yaml:9 source.rest.query.modality" in text
        assert "did you mean required" in text
        assert "channels/ris-siu-router.yaml:5 ack" in text
        assert "did you mean received" in text
    assert site.health().json["channels"] == {
        "athena-rest": "running",
        "athena-rest-slot": "running",
        "radscheduler-available-slots": "broken",
        "radscheduler-book-appointment": "running",
        "radscheduler-booked": "running",
        "radscheduler-cancel": "running",
        "radscheduler-locations": "running",
        "ris-orders": "running",
        "ris-oru-router": "running",
        "ris-siu-router": "broken",
        "twilio-status": "running",
    }
    assert site.locations().status == 200
    assert site.slots().status == 404


def test_a_port_that_is_taken_is_named(new_site: NewSite) -> None:
    one = new_site().start(simulators=False)
    other = new_site(env={"REST_PORT": one.env["REST_PORT"]})
    done = other.run("run", str(other.folder), "--data", str(other.data))
    assert done.returncode == 1
    assert f"REST listener on 127.0.0.1:{one.env['REST_PORT']}" in done.stderr


def channels(site: Site) -> list[dict[str, Any]]:
    """What ``hl7engine channels --json`` lists."""
    found: list[dict[str, Any]] = site.admin("GET", "/api/channels").json["channels"]
    return found
