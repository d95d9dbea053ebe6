"""What the engine itself knows of every message: the rows of its store, and what a witness wrote down of those that
were removed. What is removed must have been finished, and what was open in one account must be there in the next.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .person import Person
from .site import partner_of

Row = dict[str, Any]
#: channel → MSH-10 → messages
Rows = Mapping[str, Mapping[str, list[Row]]]

#: States of a message that may be removed, and of its deliveries.
FINISHED = ("routed", "filtered", "failed", "refused")
SETTLED = ("delivered", "discarded")


def unfinished(removed: Row) -> str:
    """Why a message should not have been removed; empty where it may be."""
    if removed["state"] not in FINISHED:
        return f"is {removed['state']}"
    if removed["ack"] == "owed":
        return "owes its ack"
    waiting = [item for item in removed["deliveries"] if item["state"] not in SETTLED]
    return f"is {waiting[0]['state']} at {waiting[0]['destination']}" if waiting else ""


def _is_more(removed: Row, shown: Row | None) -> bool:
    """Whether a message was removed while the engine showed it: it reads the message first, then its deliveries."""
    return shown is None or len(shown["deliveries"]) < len(removed["deliveries"])


class Stock:
    """Blocking; reads what came since the last look."""

    def __init__(self, person: Person, witness: Path) -> None:
        self.person, self.witness = person, witness
        #: Messages that were removed, in all.
        self.removed = 0
        #: What must never be.
        self.wrong: list[str] = []
        self._seen = 0
        self._read = 0
        self._removed: dict[int, Row] = {}
        #: Messages with an unfinished delivery at the last look.
        self._open: set[int] = set()

    def rows(self) -> Rows:
        """Every message since the last look, removed ones as they were."""
        found: dict[int, Row] = {message["id"]: message for message in self.person.newest(self._seen)}
        self._removed = {}
        self.look()
        for message_id, removed in self._removed.items():
            if message_id > self._seen and _is_more(removed, found.get(message_id)):
                found[message_id] = removed
        self._seen = max([self._seen, *found])
        rows: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
        for _, row in sorted(found.items()):
            for delivery in row["deliveries"]:
                delivery["destination"] = partner_of(delivery["destination"])
            rows[row["channel"]][row["control_id"]].append(row)
        return rows

    def look(self) -> None:
        """Whether all that was removed was finished, and all that was open is there."""
        self._read_witness()
        still_open = self.person.open_messages()
        self._look_for(self._open - still_open)
        self._open = still_open

    def deliveries(self, message_id: int, destination: str) -> list[Row]:
        """A message's deliveries to one destination, in full."""
        found = self.person.deliveries(message_id)
        if found is None:
            self._read_witness()
            found = self._removed[message_id]["deliveries"] if message_id in self._removed else []
        return [delivery for delivery in found if partner_of(delivery["destination"]) == destination]

    def _read_witness(self) -> None:
        if not self.witness.exists():
            return
        with self.witness.open("rb") as file:
            file.seek(self._read)
            lines = file.read()
        lines = lines[: lines.rfind(b"\n") + 1]
        self._read += len(lines)
        for line in lines.splitlines():
            removed: Row = json.loads(line)
            if removed["id"] not in self._removed:
                self.removed += 1
            self._removed[removed["id"]] = removed
            if why := unfinished(removed):
                self.wrong.append(f"message {removed['id']} of {removed['channel']} was removed and {why}")

    def _look_for(self, gone: set[int]) -> None:
        """What was open and is not any more: it is finished in the store, or was removed after that."""
        for message_id in gone - set(self._removed):
            found = self.person.deliveries(message_id)
            if found is None:
                self._read_witness()
            if found is None and message_id not in self._removed:
                self.wrong.append(f"message {message_id} was not finished, and is gone")
