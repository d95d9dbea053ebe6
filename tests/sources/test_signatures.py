"""Twilio's signature on a `rest:` source: Twilio's own examples, its own way of counting, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from pydantic import ValidationError

from engine.errors import Refused
from engine.sources.base import Building, HttpRequest
from engine.sources.rest import RestSource, RestSourceConfig
from engine.sources.serving.form_body import MAX_FIELDS, form_object, is_form
from engine.sources.serving.listener import RestListener
from engine.sources.serving.signatures import Signed, TwilioConfig, TwilioVerifier, addresses

FORM = {"content-type": "application/x-www-form-urlencoded; charset=UTF-8"}
#: The example of Twilio's page on webhook security, and that of the tests of its own libraries.
CALL = {"CallSid": "CA1234567890ABCDE", "Digits": "1234", "To": "+18005551212"}
PAGE = {**CALL, "Caller": "+12349013030", "From": "+12349013030"}
LIBRARY = {**CALL, "Caller": "+14158675309", "From": "+14158675309"}
EXAMPLE, QUERY = "https://mycompany.com/myapp.php", "foo=1&bar=2"
JSON_BODY = b'{"property": "value", "boolean": true}'
JSON_HASH = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"

PUBLIC = "https://hooks.example.org/twilio/status"
TOKEN = "0123456789abcdef"
STATUS = {"MessageSid": "SM" + "a" * 32, "MessageStatus": "delivered", "To": "+12175550111", "Body": "a b&c=d é"}


def request(signature: str, body: bytes, query: str = QUERY, headers: dict[str, str] | None = None) -> HttpRequest:
    given = {**(FORM if headers is None else headers), "x-twilio-signature": signature}
    return HttpRequest("POST", "/inside", query, given, body, "127.0.0.1:1", "")


def twilio(url: str = EXAMPLE, token: str = "12345") -> TwilioVerifier:
    return TwilioVerifier(TwilioConfig(auth_token=token, url=url))  # type: ignore[arg-type]


def sign(url: str, fields: dict[str, str], token: str = TOKEN) -> str:
    """Twilio's recipe once more, as its page tells it."""
    text = url
    for name in sorted(fields):
        text = text + name + fields[name]
    return base64.b64encode(hmac.new(token.encode(), text.encode("utf-8"), hashlib.sha1).digest()).decode()


@pytest.mark.parametrize(
    ("fields", "signature"), [(PAGE, "0/KCTR6DLpKmkAf8muzZqo1nDgQ="), (LIBRARY, "RSOYDt4T1cUTdK1PDd93/VVr8B8=")]
)
def test_the_examples_of_twilio_are_signed(fields: dict[str, str], signature: str) -> None:
    check = twilio()
    assert check(request(signature, urlencode(fields).encode()))
    assert check(request(signature, urlencode(sorted(fields.items(), reverse=True)).encode()))
    assert not check(request(signature, urlencode({**fields, "Digits": "1235"}).encode()))
    assert not check(request(signature, urlencode(fields).encode(), query="foo=1&bar=3"))
    assert not check(request(signature[:-2] + "A=", urlencode(fields).encode()))
    assert not check(request("", urlencode(fields).encode()))
    assert not twilio(token="12346")(request(signature, urlencode(fields).encode()))
    assert not twilio(EXAMPLE.replace("https", "http"))(request(signature, urlencode(fields).encode()))


def test_of_a_json_body_the_hash_in_the_address_is_signed() -> None:
    signature, query = "a9nBmqA0ju/hNViExpshrM61xv4=", f"{QUERY}&bodySHA256={JSON_HASH}"
    headers = {"content-type": "application/json"}
    assert twilio()(request(signature, JSON_BODY, query, headers))
    assert not twilio()(request(signature, JSON_BODY + b" ", query, headers))
    assert not twilio()(request(sign(f"{EXAMPLE}?{QUERY}", {}, "12345"), JSON_BODY, QUERY, headers)), "no hash"
    twice = f"{query}&bodySHA256={JSON_HASH}"
    assert not twilio()(request(sign(f"{EXAMPLE}?{twice}", {}, "12345"), JSON_BODY, twice, headers))


def test_without_a_body_the_address_is_signed() -> None:
    assert twilio()(request(sign(f"{EXAMPLE}?{QUERY}", {}, "12345"), b"", QUERY, {}))
    assert twilio()(request(sign(EXAMPLE, {}, "12345"), b"", "", {}))


@pytest.mark.parametrize("url", ["https://a.example.org/x", "https://a.example.org:443/x"])
def test_twilio_may_sign_the_usual_port_or_leave_it_out(url: str) -> None:
    signed = [sign(form, STATUS) for form in ("https://a.example.org/x", "https://a.example.org:443/x")]
    check = twilio(url, TOKEN)
    assert all(check(request(signature, urlencode(STATUS).encode(), "")) for signature in signed)
    assert addresses("https://a.example.org:8443/x") == ("https://a.example.org:8443/x",)
    assert addresses("http://a.example.org/x")[1] == "http://a.example.org:80/x"


def test_a_field_that_comes_twice_counts_once_for_each_value() -> None:
    body = b"MediaUrl=b&MediaUrl=a&MediaUrl=b"
    signature = sign(PUBLIC + "MediaUrlaMediaUrlb", {})
    assert twilio(PUBLIC, TOKEN)(request(signature, body, ""))


@pytest.mark.parametrize("body", [b"To=%ff", b"To=\xe9", b"&".join([b"a=1"] * (MAX_FIELDS + 1))])
def test_a_form_that_cannot_be_read_is_not_signed(body: bytes) -> None:
    assert not twilio()(request("x", body))
    with pytest.raises(Refused):
        form_object(body)


def test_a_form_is_an_object_of_texts() -> None:
    assert json.loads(form_object(b"a=1&b=&c=x+y%26%C3%A9&a=2&a=3")) == {"a": ["1", "2", "3"], "b": "", "c": "x y&é"}
    assert is_form("Application/X-WWW-Form-Urlencoded ;charset=utf-8")
    assert not is_form("application/json")


@pytest.mark.parametrize("url", ["hooks.example.org", "ftp://a/x", "https://a.example.org/x?y=1", "https:///x"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(ValidationError):
        TwilioConfig(auth_token="x", url=url)  # type: ignore[arg-type]


# -- HMAC-SHA256 ---------------------------------------------------------------------------------------------------

KEY = "0123456789abcdef-shared"


def hashed(body: bytes, key: str = KEY) -> Any:
    return hmac.new(key.encode(), body, hashlib.sha256)


@pytest.mark.parametrize(
    ("keys", "header", "write"),
    [
        ({}, "x-signature", lambda made: made.hexdigest()),
        ({}, "x-signature", lambda made: made.hexdigest().upper()),
        ({"prefix": "sha256=", "header": "X-Hub-Signature-256"}, "x-hub-signature-256",
         lambda made: f"sha256={made.hexdigest()}"),
        ({"encoding": "base64"}, "x-signature", lambda made: base64.b64encode(made.digest()).decode()),
    ],
)  # fmt: skip
def test_a_signature_over_the_body(keys: dict[str, str], header: str, write: Callable[[Any], str]) -> None:
    signed = Signed.model_validate({"hmac_sha256": {"secret": KEY, **keys}})
    check = signed.verifier()
    assert signed.header.lower() == header

    def asked(body: bytes, signature: str) -> bool:
        return check(request("", body, headers={header: signature}))

    assert asked(JSON_BODY, write(hashed(JSON_BODY)))
    assert not asked(JSON_BODY + b" ", write(hashed(JSON_BODY)))
    assert not asked(JSON_BODY, write(hashed(JSON_BODY, "another")))
    assert not asked(JSON_BODY, "")
    assert not asked(JSON_BODY, "é")
    assert not asked(b"", write(hashed(b""))), "nothing is signed where nothing is sent"
    if keys.get("prefix"):
        assert not asked(JSON_BODY, hashed(JSON_BODY).hexdigest())


def test_an_example_of_the_standard() -> None:
    """RFC 4231, 4.3, its short key made long enough by the zeros that HMAC itself adds (RFC 2104, 2)."""
    check = Signed.model_validate({"hmac_sha256": {"secret": "Jefe" + "\0" * 12}}).verifier()
    signature = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert check(request("", b"what do ya want for nothing?", headers={"x-signature": signature}))


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"hmac_sha256": {"secret": "short"}},
        {"hmac_sha256": {"secret": KEY, "header": "X Signature"}},
        {"hmac_sha256": {"secret": KEY}, "twilio": {"auth_token": "x", "url": PUBLIC}},
    ],
)
def test_exactly_one_signature_is_asked_for(auth: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Signed.model_validate(auth)


# -- over a real listener ------------------------------------------------------------------------------------------

Post = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
async def served(building: Building, make_context: Any, receive: Any) -> AsyncIterator[tuple[str, list[Any], Any]]:
    """A running source behind a proxy: its address here, who was told of refusals, and what it handed over."""
    told: list[Any] = []
    (building.site / "transforms").mkdir(parents=True, exist_ok=True)
    schema = {"type": "object", "required": ["MessageSid"]}
    (building.site / "transforms" / "status.json").write_text(json.dumps(schema))
    listener = RestListener("127.0.0.1", 0, {"k": ("s3cret", frozenset())}, refused=lambda *who: told.append(who))
    config = {
        "method": "POST",
        "path": "/inside",
        "body": {"format": "form", "schema": "status", "max_size": "2KiB"},
        "auth": {"twilio": {"auth_token": TOKEN, "url": PUBLIC}},
    }
    source = RestSource(RestSourceConfig.model_validate(config), building)
    await listener.start()
    await source.start(make_context(receive, listener))
    yield f"{listener.address}/inside", told, receive
    await source.stop()
    await listener.stop()


async def post(url: str, signature: str | None, **options: Any) -> tuple[int, Any]:
    headers = {} if signature is None else {"X-Twilio-Signature": signature}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, headers={**headers, **options.pop("headers", {})}, **options) as answer,
    ):
        return answer.status, await answer.json()


async def test_a_signed_form_is_handed_over_as_json(served: Any) -> None:
    url, told, receive = served
    status, _ = await post(url, sign(PUBLIC, STATUS), data=STATUS)
    assert status == 202
    assert json.loads(receive.bodies[0]) == STATUS
    assert "x-twilio-signature" not in receive.taken[0].origin.headers, "a credential is no header of the message"
    assert told == []


async def test_the_query_is_part_of_what_is_signed(served: Any) -> None:
    url, _, _ = served
    assert (await post(f"{url}?leg=1&x=%20", sign(f"{PUBLIC}?leg=1&x=%20", STATUS), data=STATUS))[0] == 202
    assert (await post(f"{url}?leg=2", sign(f"{PUBLIC}?leg=1", STATUS), data=STATUS))[0] == 403


@pytest.mark.parametrize(
    "signature", [None, "", "AAAA", sign(PUBLIC, STATUS, "another"), sign("http://a", STATUS), "é"]
)
async def test_anybody_else_is_answered_403_and_nothing_is_kept(served: Any, signature: str | None) -> None:
    url, told, receive = served
    status, body = await post(url, signature, data=STATUS, headers={"X-API-Key": "s3cret"})
    assert (status, body["error"]["code"]) == (403, "wrong_signature")
    assert receive.bodies == []
    assert receive.refused == []
    assert [who[1:] for who in told] == [("", "test-channel")], "the audit trail hears of it"


async def test_a_signed_request_that_is_not_what_the_schema_says_is_400(served: Any) -> None:
    url, _, _ = served
    status, body = await post(url, sign(PUBLIC, {"a": "1"}), data={"a": "1"})
    assert (status, body["error"]["code"], body["error"]["field"]) == (400, "missing_parameter", "MessageSid")


async def test_a_signed_json_body_is_no_form(served: Any) -> None:
    url, _, _ = served
    digest = hashlib.sha256(JSON_BODY).hexdigest()
    signature = sign(f"{PUBLIC}?bodySHA256={digest}", {})
    headers = {"Content-Type": "application/json"}
    assert (await post(f"{url}?bodySHA256={digest}", signature, data=JSON_BODY, headers=headers))[0] == 415


async def test_a_body_that_is_too_large_is_not_even_read(served: Any) -> None:
    url, _, _ = served
    large = {**STATUS, "Body": "x" * 3000}
    assert (await post(url, sign(PUBLIC, large), data=large))[0] == 413
