"""Addresses with members of the body in them, and forms: what a request of the REST destination is made of."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest
from pydantic import ValidationError

from engine.destinations.connections.request_body import Address, Unaddressed, form, read_object
from engine.destinations.rest import RestDestinationConfig

BASE = "https://api.example.org/v1/{practice}/appointments"


@pytest.mark.parametrize(
    ("template", "members", "wanted"),
    [
        ("/{id}", {"id": 700001}, "/700001"),
        ("/{id}{/action}", {"id": "7"}, "/7"),
        ("/{id}{/action}", {"id": "7", "action": "cancel"}, "/7/cancel"),
        ("/{id}", {"id": "../../admin?x=1#y"}, "/..%2F..%2Fadmin%3Fx%3D1%23y"),
        ("/{id}", {"id": "é /%"}, "/%C3%A9%20%2F%25"),
        ("/open{?from,to}", {"from": "01/31/2027", "to": None}, "/open?from=01%2F31%2F2027"),
        ("/open{?from,to}", {}, "/open"),
        ("/open?x=1{&y}", {"y": True}, "/open?x=1&y=true"),
    ],
)
def test_a_template_is_filled_with_members(template: str, members: dict[str, Any], wanted: str) -> None:
    """RFC 6570, 3.2."""
    address = Address(f"https://api.example.org{template}")
    assert address.filled(members) == f"https://api.example.org{wanted}"
    assert address.names >= set(members)


@pytest.mark.parametrize("members", [{}, {"id": None}, {"id": ""}, {"id": ".."}, {"id": "."}])
def test_what_the_address_needs_must_be_there(members: dict[str, Any]) -> None:
    with pytest.raises(Unaddressed):
        Address("https://a.example.org/{id}").filled(members)


@pytest.mark.parametrize(
    "url",
    ["https://{host}/x", "https://a.example.org:{port}/x", "https://a.example.org{id}/x", "https://a/{id", "https://a/{+id}"],
)  # fmt: skip
def test_braces_elsewhere_are_told(url: str) -> None:
    with pytest.raises((ValueError, ValidationError)):
        RestDestinationConfig.model_validate({"url": url})
    RestDestinationConfig.model_validate({"url": f"{BASE}/{{id}}{{/action}}"})


def test_a_form_has_the_members_as_text() -> None:
    made = form({"a": "x y&é", "n": 5, "yes": True, "none": None, "many": [1, "2", None], "deep": {"k": "v"}})
    wanted = [("a", "x y&é"), ("n", "5"), ("yes", "true"), ("many", "1"), ("many", "2"), ("deep", '{"k": "v"}')]
    assert parse_qsl(made.decode(), strict_parsing=True) == wanted


@pytest.mark.parametrize("body", [b"", b"[1]", b"MSH|^~\\&|", b"[" * 100_000])
def test_only_an_object_can_be_taken_apart(body: bytes) -> None:
    with pytest.raises(Unaddressed):
        read_object(body)
