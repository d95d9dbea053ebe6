"""Twilio: posts what became of a text message to the engine, signed as Twilio signs.

Form bodies with Twilio's own fields; `X-Twilio-Signature` over the public address and the fields (Twilio: webhooks
security). It keeps nothing but what it was answered. Nothing here shares code with the engine's check of the signature.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

ACCOUNT = "AC" + "0" * 32
SENDER = "+12175550100"
#: The life of a message that arrives.
DELIVERED = ("queued", "sent", "delivered")


class Twilio:
    """Calls `address`; what it signs is `url`, the address as the account has it."""

    def __init__(self, token: str, address: str, url: str) -> None:
        self.token, self.address, self.url = token, address, url
        self.answers: list[dict[str, Any]] = []

    async def emit(
        self,
        *,
        to: str,
        statuses: Sequence[str] = DELIVERED,
        message_sid: str = "",
        error_code: str = "",
        token: str = "",
        repeat: int = 1,
    ) -> list[dict[str, Any]]:
        """Post each status `repeat` times and return what was answered. `token` signs with another token."""
        sid = message_sid or f"SM{secrets.token_hex(16)}"
        told = []
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as http:
            for status in statuses:
                fields = status_fields(sid, status, to, error_code)
                headers = {"X-Twilio-Signature": sign(token or self.token, self.url, fields)}
                for _ in range(repeat):
                    async with http.post(self.address, data=fields, headers=headers) as answer:
                        told.append({"messageSid": sid, "status": status, "answer": answer.status})
        self.answers += told
        return told


def status_fields(sid: str, status: str, to: str, error_code: str = "") -> dict[str, str]:
    """The fields of a status callback."""
    fields = {"SmsSid": sid, "SmsStatus": status, "MessageStatus": status, "To": to, "MessageSid": sid}
    fields |= {"AccountSid": ACCOUNT, "From": SENDER, "ApiVersion": "2010-04-01"}
    return fields | ({"ErrorCode": error_code} if error_code else {})


def sign(token: str, url: str, fields: Mapping[str, str]) -> str:
    """The header's value."""
    text = url
    for name in sorted(fields):
        text += name + fields[name]
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()
