"""The way to a running engine: the socket, its errors, what is sent."""

from pathlib import Path
from typing import Any

import pytest

from engine.admin.local import SOCKET
from engine.admin.server import bind_local
from engine.cli.client import ApiError, Client
from engine.errors import NotRunning

Api = Any


def test_no_socket_means_no_engine(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="no engine is running"):
        Client(tmp_path).get("status")


def test_no_folder_means_no_engine(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="no engine is running"):
        Client(tmp_path / "none").get("status")


def test_a_socket_left_by_a_crash_means_no_engine(tmp_path: Path) -> None:
    bind_local(tmp_path / SOCKET).close()
    with pytest.raises(NotRunning, match="no engine is running"):
        Client(tmp_path).get("status")


def test_an_engine_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with bind_local(tmp_path / SOCKET), pytest.raises(NotRunning, match="did not answer"):
        Client(tmp_path, timeout=0.05).get("status")


def test_an_error_carries_code_and_field(api: Api) -> None:
    error = {"code": "invalid_parameter", "message": "A parameter is not valid.", "field": "since"}
    api.answer("GET", "/api/messages", {"error": error}, 400)
    with pytest.raises(ApiError, match=r"A parameter is not valid. \(since\)") as caught:
        Client(api.data).get("messages")
    assert (caught.value.status, caught.value.code) == (400, "invalid_parameter")


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b""])
def test_an_answer_that_is_no_object_is_an_error(api: Api, body: bytes) -> None:
    api.answer("GET", "/api/status", body, 500 if body != b"[1]" else 200)
    with pytest.raises(ApiError):
        Client(api.data).get("status")


def test_parts_of_the_path_cannot_leave_it(api: Api) -> None:
    api.answer("GET", "/api/trace/..%2Fstatus%3Fa", {})
    Client(api.data).get("trace", "../status?a")
    assert api.asked[0][1] == "/api/trace/..%2Fstatus%3Fa"


def test_filters_that_are_not_given_are_not_sent(api: Api) -> None:
    api.answer("GET", "/api/messages", {})
    Client(api.data).get("messages", channel="a b&c", state=None, limit=5)
    assert api.asked[0][1] == "/api/messages?channel=a+b%26c&limit=5"


def test_a_body_goes_as_json(api: Api) -> None:
    api.answer("POST", "/api/ask/slots", {"status": 200})
    assert Client(api.data).post("ask", "slots", body={"a": 1}, headers={"X-Correlation-ID": "c"}) == {"status": 200}
    _, _, body, headers = api.asked[0]
    assert (body, headers["X-Correlation-ID"]) == ({"a": 1}, "c")
