"""Conditions: every word, lists, variables, and what is refused when the channel loads."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from engine.envelope import Envelope
from engine.errors import SpecError
from engine.hl7.message import Message
from engine.transforms.values.conditions import compile_condition
from engine.transforms.values.text import HL7Text

MESSAGE = 'MSH|^~\\&|A|B|C|D|20250115||SIU^S12|1|P|2.3\rPID|1||M1||Doe\\T\\Co^John\rZZZ|""\r'
VARIABLES = {"emr": ["epic", "generic"], "order": {"mrn": "M1", "n": 3}, "flag": True, "text": HL7Text("a\\T\\b")}


@pytest.fixture
def holds(kit: SimpleNamespace, envelope: Callable[..., Envelope]) -> Callable[..., bool]:
    def go(spec: Any, body: Any = MESSAGE, **more: Any) -> bool:
        condition = compile_condition(spec, kit.Loading())
        return condition(envelope(body, variables=dict(VARIABLES), **more), kit.Context())

    return go


@pytest.mark.parametrize(
    ("spec", "opens"),
    [
        ({"MSH-9.1": "SIU", "MSH-9.2": ["S12", "S13"]}, False),
        ({"any": [{"MSH-9.1": "ADT"}, {"not": {"MSH-9.2": "S15"}}]}, False),
        (False, False),
        ({"MSH-9.1": "SIU", "PID-3.1": ""}, True),
        ({"MSH-9.1": ["SIU", {"from": "PID-3.1"}]}, True),
        ({"MSH-9.1": "$missing"}, True),
        ({"MSH-9.1": {"matches": "S.*"}}, True),
        ({"$emr": "epic"}, True),
        ({"filled": "MSH-9.1"}, True),
        ("{{ now }}", True),
    ],
)
def test_what_only_asks_for_the_kind_opens_no_message(
    spec: Any, opens: bool, kit: SimpleNamespace, envelope: Callable[..., Envelope]
) -> None:
    condition = compile_condition(spec, kit.Loading())
    assert condition.opens is opens
    body = Message.usual(MESSAGE.encode(), split=False)
    assert body is not None
    condition(envelope(body, variables=dict(VARIABLES)), kit.Context())
    assert opens or body._rows is None


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"MSH-9.1": "SIU"}, True),
        ({"MSH-9.1": "ORM"}, False),
        ({"MSH-9.2": ["S13", "S12"]}, True),
        ({"MSH-9.1": "SIU", "MSH-9.2": "S15"}, False),
        ({"PID-5.1": "Doe&Co"}, True),
        ({"PID-9": ""}, True),
        ({"PID-3": {"matches": "M[0-9]"}}, True),
        ({"PID-3": {"matches": "M"}}, False),
        ({"$emr": "epic"}, True),
        ({"$emr": "athena"}, False),
        ({"$emr": ["athena", "generic"]}, True),
        ({"$order.mrn": "M1"}, True),
        ({"$order.n": 3}, True),
        ({"$order.mrn": "$body.mrn"}, True),
        ({"$order.mrn": ["x", "$body.mrn"]}, True),
        ({"$flag": True}, True),
        ({"$flag": "true"}, True),
        ({"$text": "a&b"}, True),
        ({"$missing": "x"}, False),
        ({"any": [{"MSH-9.1": "ORM"}, {"$emr": "epic"}]}, True),
        ({"any": [{"MSH-9.1": "ORM"}, {"$emr": "athena"}]}, False),
        ({"all": [{"MSH-9.1": "SIU"}, {"$emr": "epic"}]}, True),
        ({"not": {"MSH-9.1": "SIU"}}, False),
        ({"filled": "PID-3"}, True),
        ({"filled": ["PID-3", "PID-9"]}, False),
        ({"empty": "PID-9"}, True),
        ({"empty": "ZZZ-1"}, True),
        ({"empty": "ORC[2]"}, True),
        ({"filled": "PID"}, True),
        ("{{ order.n > 2 }}", True),
        ("{{ query.date == '2025' }}", False),
        (True, True),
        (False, False),
    ],
)
def test_every_form_of_a_condition(spec: Any, expected: bool, holds: Callable[..., bool]) -> None:
    assert holds(spec, request={"mrn": "M1"}) is expected


def test_members_of_a_json_body(holds: Callable[..., bool]) -> None:
    body = {"status": "new", "patient": {"age": 40}}
    assert holds({"status": "new", "patient.age": 40}, body)
    assert not holds({"status": "old"}, body)
    assert not holds({"MSH-9.1": "SIU"}, body)


def test_the_literals_of_variables_are_known(kit: SimpleNamespace) -> None:
    def variables(spec: Any) -> Any:
        return dict(compile_condition(spec, kit.Loading()).variables)

    assert variables({"$emr": ["epic", "generic"], "MSH-9.1": "SIU"}) == {"emr": {"epic", "generic"}}
    assert variables({"$order.mrn": "x", "$a": "$b"}) == {}
    assert variables({"not": {"$emr": "epic"}}) == {}


@pytest.mark.parametrize(
    ("spec", "at"),
    [
        ("SIU", ()),
        ([], ()),
        ({}, ()),
        ({"any": {}}, ("any",)),
        ({"any": [{"MSH-9": []}]}, ("any", 0, "MSH-9")),
        ({"PID-": "x"}, ("PID-",)),
        ({"PID-3": {"matches": "("}}, ("PID-3", "matches")),
        ({"PID-3": {"is": "x"}}, ("PID-3", "is")),
        ({"3": "x"}, ("3",)),
        ("{{ 1", ()),
    ],
)
def test_what_is_no_condition_is_refused_where_it_stands(spec: Any, at: tuple[Any, ...], kit: SimpleNamespace) -> None:
    with pytest.raises(SpecError) as refused:
        compile_condition(spec, kit.Loading(), ("where",))
    assert refused.value.at == ("where", *at)
