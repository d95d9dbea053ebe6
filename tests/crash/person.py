"""The person at the engine: looks at what is held, parked and failed, and sends it again. Uses the admin API alone."""

import http.client
import json
import random
from collections.abc import Iterator
from typing import Any

from .journal import Journal
from .messages import number_of
from .site import ADMIN_KEY, Site, partner_of

#: Messages of one page.
PAGE = 500
SECONDS = 60.0


class Person:
    """Blocking; the harness calls it in a thread."""

    def __init__(self, site: Site, journal: Journal) -> None:
        self.site, self.journal = site, journal
        self._chosen = random.Random(journal.accounted)

    def tell(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Status and answer of the admin API. Raises OSError, http.client.HTTPException when there is no engine."""
        connection = http.client.HTTPConnection(*self.site.address("admin"), timeout=SECONDS)
        headers = {"X-API-Key": ADMIN_KEY} | ({} if body is None else {"Content-Type": "application/json"})
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def ask(self, method: str, path: str) -> dict[str, Any]:
        """The answer alone."""
        return self.tell(method, path)[1]

    def channels(self) -> list[dict[str, Any]]:
        """State of every channel."""
        found: list[dict[str, Any]] = self.ask("GET", "/api/channels")["channels"]
        return found

    def newest(self, down_to: int = 0, **query: str) -> Iterator[dict[str, Any]]:
        """Messages from the newest on, as far back as id ``down_to``."""
        before = ""
        filters = "".join(f"&{name}={value}" for name, value in query.items())
        while True:
            page = self.ask("GET", f"/api/messages?limit={PAGE}{filters}{before}")
            for message in page["messages"]:
                if message["id"] <= down_to:
                    return
                yield message
            if page["next"] is None:
                return
            before = f"&before={page['next']}"

    def deliveries(self, message_id: int) -> list[dict[str, Any]] | None:
        """The deliveries of a message in full; None for one that is not there."""
        status, shown = self.tell("GET", f"/api/messages/{message_id}")
        return shown["deliveries"] if status == 200 else None

    def open_messages(self) -> set[int]:
        """Ids of all messages with a delivery that is not finished."""
        return {
            message["id"]
            for state in ("queued", "sending", "held", "parked", "unknown")
            for message in self.newest(delivery_state=state)
        }

    def act(self, most: int, states: tuple[str, ...] = ("held", "parked")) -> int:
        """Send some messages in these states again, and one that failed; how many deliveries."""
        acted = 0
        for state in states:
            page = self.ask("GET", f"/api/messages?limit={PAGE}&delivery_state={state}")["messages"]
            for message in self._chosen.sample(page, min(most, len(page))):
                for delivery in message["deliveries"]:
                    if delivery["state"] == state:
                        # Noted before: the answer may be lost in a kill when the deed is done.
                        again = (partner_of(delivery["destination"]), number_of(message["control_id"]))
                        self.journal.resent.add(again)
                        self.ask("POST", f"/api/deliveries/{delivery['id']}/resend")
                        acted += 1
        for message in self.ask("GET", "/api/messages?limit=1&state=failed")["messages"]:
            self.ask("POST", f"/api/messages/{message['id']}/resend")
        return acted

    def waiting(self) -> tuple[int, int]:
        """(what goes on by itself, what is held), over all channels."""
        going = held = 0
        for channel in self.channels():
            going += channel["received"]
            for destination in channel["destinations"]:
                going += destination["queued"] + destination["sending"]
                held += destination["held"]
        return going, held

    def is_well(self) -> bool:
        """Whether /health says 200."""
        connection = http.client.HTTPConnection(*self.site.address("admin"), timeout=SECONDS)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        finally:
            connection.close()
