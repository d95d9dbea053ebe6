"""What a person does under load beside looking after messages: renames a destination, pauses one, rotates the store
key, prunes, backs the store up, sets the machine's clock.

Any of it may be broken off by a kill at any step. So a person does what the pages of the engine say: looks at what is
there and does it again.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.config.secrets import STORE_KEY, set_variable
from engine.config.settings import StoreSettings
from engine.config.store_keys import StoreKeys, write_ring

from .person import SECONDS, Person
from .site import MOVER, Site

#: Of so many errands each has its share.
SHARES = {"rename": 4, "pause": 4, "rotate": 1, "prune": 3, "back_up": 2, "set_clock_ahead": 1, "set_clock_back": 1}
#: Seconds that the clock goes ahead by: audit entries are kept for a day.
AHEAD = 36 * 3600
#: Seconds that it is set back by.
BACK = 600
#: (channel, destination) that a person may pause.
PAUSED = (("notes", "steady"), ("notes", "cautious"), ("second", "second"), ("orders", "slow"), ("later", "late"))

Status = Mapping[str, Any]


class Errands:
    """Blocking; the harness calls it in a thread. Raises what ``Person.tell`` raises when there is no engine."""

    def __init__(self, site: Site, person: Person, backups: Path, turn_clock: Callable[[int], None] | None) -> None:
        """``turn_clock`` takes seconds, negative ones too; None where the clock cannot be turned."""
        self.site, self.person, self.backups, self._turn = site, person, backups, turn_clock
        #: The errand that a kill waits for; else chance decides.
        self.wanted = ""
        #: What was begun, by errand.
        self.begun: Counter[str] = Counter()
        #: Backups that were begun → whether the engine said that they are made.
        self.made: dict[str, bool] = {}
        #: Every key that ever sealed something: a backup of that time needs it.
        self.keys: dict[int, bytes] = {}
        self._chosen = random.Random("errands")
        #: Errands of this run.
        self.shares = {name: share for name, share in SHARES.items() if turn_clock or "clock" not in name}
        backups.mkdir()

    def look(self) -> None:
        """Mend what was broken off, then one errand."""
        self.mend()
        name = self.wanted or self._chosen.choices(list(self.shares), list(self.shares.values()))[0]
        self.begun[name] += 1
        getattr(self, name)()

    def mend(self, everything: bool = False) -> None:
        """End a renaming that was broken off; resume some destinations that are paused, or all of them."""
        for channel in self.person.channels():
            if channel["name"] == "moving":
                self._mend_renaming(channel)
            for destination in channel["destinations"]:
                if destination["paused_since"] and (everything or self._chosen.random() < 0.5):
                    self._destination(channel["name"], destination["name"], "resume")

    def _mend_renaming(self, channel: Status) -> None:
        names = [destination["name"] for destination in channel["destinations"]]
        if channel["state"] == "refused" or self.site.mover not in names:
            self._rename()

    def rename(self) -> None:
        """The file says the other name, then the command."""
        self.site.rename_mover(self._other_name())
        self._rename()

    def _rename(self) -> None:
        names = {"from": self._other_name(), "to": self.site.mover}
        status, _ = self.person.tell("POST", "/api/channels/moving/rename", names)
        if status != 200:  # nothing waits: then the file alone is enough
            self.person.tell("POST", "/api/reload", {"channels": ["moving"]})

    def _other_name(self) -> str:
        return MOVER[1 - MOVER.index(self.site.mover)]

    def pause(self) -> None:
        """Pause one destination, and resume it at once or at some later look."""
        channel, destination = self._chosen.choice((*PAUSED, ("moving", self.site.mover)))
        self._destination(channel, destination, "pause")
        if self.wanted or self._chosen.random() < 0.3:
            self._destination(channel, destination, "resume")

    def _destination(self, channel: str, destination: str, verb: str) -> None:
        self.person.tell("POST", f"/api/channels/{channel}/destinations/{destination}/{verb}")

    def rotate(self) -> None:
        """A further store key."""
        self.person.tell("POST", "/api/store/rotate-key")

    def prune(self) -> None:
        """Remove what is old now. It may take its time, as long as something becomes of it: TimeoutError says what."""
        with suppress(TimeoutError):
            self.person.tell("POST", "/api/prune", {})
            return
        first = before = self._last_pruning()
        since = time.monotonic()
        # The next one begins after a second: it is not waited for.
        while first and (run := self._last_pruning())["began_at"] == first["began_at"] and run["ended_at"] is None:
            if run != before:
                before, since = run, time.monotonic()
            elif time.monotonic() - since > SECONDS:
                raise TimeoutError(f"of the pruning under way nothing has come in {SECONDS} s: {run}")
            time.sleep(0.1)  # nobody announces its end

    def _last_pruning(self) -> Any:
        return self.person.ask("GET", "/api/status")["pruning"]["last"]

    def back_up(self) -> None:
        """A backup under a new name."""
        name = f"backup-{len(self.made) + 1}"
        self.made[name] = False
        status, _ = self.person.tell("POST", "/api/backup", {"to": str(self.backups / name)})
        self.made[name] = status == 200

    def set_clock_ahead(self) -> None:
        """Everything that is finished, and most of the audit trail, is old then."""
        if self._turn is not None:
            self._turn(AHEAD)

    def set_clock_back(self) -> None:
        """Nothing may wait for the time to come round again."""
        if self._turn is not None:
            self._turn(-BACK)

    # -- the store keys --------------------------------------------------------------------------------------------

    def retired(self) -> list[int]:
        """Keys that no stored value needs any more, as the engine says."""
        found = self.person.ask("GET", "/api/store/keys")["keys"]
        return [key["number"] for key in found if key["retired_at"] is not None]

    def note_keys(self) -> dict[int, bytes]:
        """The ring as it is; all of it is remembered."""
        ring = self._place().read()
        self.keys |= ring
        return ring

    def take_out(self, numbers: list[int]) -> None:
        """Take keys out of the ring of an engine that does not run."""
        ring = {number: key for number, key in self.note_keys().items() if number not in numbers}
        set_variable(self.site.folder, STORE_KEY, write_ring(ring))

    def _place(self) -> StoreKeys:
        return StoreKeys(self.site.folder, StoreSettings(), {})
