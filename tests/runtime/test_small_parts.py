"""Control ids, the circuit breaker, idempotency keys' matching, secret members."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

from engine.runtime.breaker import CircuitBreaker
from engine.runtime.control_ids import ControlIds
from engine.runtime.keys import digest, member_of, same
from engine.runtime.secret import hashed_members


def test_control_ids_are_unique_and_fit_msh_10_before_2_7() -> None:
    make = ControlIds()
    ids = {make() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(control_id) <= 20 and control_id.isalnum() for control_id in ids)


def test_control_ids_of_two_processes_at_the_same_moment_differ() -> None:
    def now() -> float:
        return 1_800_000_000.0

    assert len({ControlIds(now)()[:12] for _ in range(40)}) > 30


def test_control_ids_that_threads_ask_for_at_one_moment_differ() -> None:
    make = ControlIds(lambda: 1_800_000_000.0)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: make(), range(20_000), chunksize=100))
    assert len(set(made)) == len(made)


def test_the_circuit_opens_after_failures_in_a_row_only() -> None:
    breaker = CircuitBreaker(failures=3)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(2):
        breaker.failed()
    assert not breaker.open
    breaker.failed()
    assert breaker.open
    breaker.succeeded()
    assert not breaker.open


def test_moments_are_the_same_however_they_are_written() -> None:
    assert same("2025-01-16T09:00:00-06:00", "2025-01-16T15:00:00+00:00")
    assert same("ORDER123", "ORDER123")
    assert not same("2025-01-16T09:00:00-06:00", "2025-01-16T09:00:00-05:00")
    assert not same("2025-01-16T09:00:00", "2025-01-16T09:00:00-06:00")
    assert not same("", "ORDER123")


def test_a_member_is_a_scalar_of_a_request() -> None:
    request = {"orderId": "O1", "patient": {"mrn": "M1"}, "minutes": 30, "flag": True, "list": [1, 2]}
    found = {"orderId": "O1", "patient.mrn": "M1", "minutes": "30", "flag": "", "list": "", "patient": "", "x.y": ""}
    assert {name: member_of(request, f"body.{name}") for name in found} == found
    assert member_of(["O1"], "body.orderId") == ""


def test_the_digest_does_not_depend_on_the_order_of_members() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": "1"})


def test_secret_members_become_salted_hashes_and_the_rest_stays() -> None:
    body = json.dumps({"phone": "+12175550111", "orderId": "O1", "missing": None}).encode()
    replaced = json.loads(hashed_members(body, ["phone", "missing", "absent"], b"salt"))
    assert replaced == {
        "phone": hashlib.sha256(b"+12175550111salt").hexdigest(),
        "orderId": "O1",
        "missing": None,
    }
    assert hashed_members(b"no json", ["phone"], b"salt") == b""
