"""A system that receives, in every mood: quick, slow, silent, negative, wrong, and gone after its answer."""

from __future__ import annotations

from dataclasses import dataclass

from simulation.ledger import Ledger, Taken, frames, member
from simulation.network import End, Network
from simulation.world import World

#: Mood → whether the partner acts on the message (None: either), and what it answers.
MOODS: dict[str, tuple[bool | None, str]] = {
    "AA": (True, "AA"),
    "slow": (True, "AA"),
    "late": (True, ""),
    "silent": (None, ""),
    "AE": (False, "AE"),
    "AR": (False, "AR"),
    "garbage": (True, ""),
    "foreign": (True, ""),
    "closes after": (True, "AA"),
    "closes before": (None, ""),
}


@dataclass(frozen=True)
class Temper:
    """How often a partner is in each mood; the rest is ``AA``."""

    moods: tuple[tuple[str, float], ...] = ()
    #: Seconds it takes to answer, on average.
    pace: float = 0.005


CALM = Temper()


class Partner:
    """One receiving system; it may be down for a while."""

    def __init__(
        self, world: World, network: Network, ledger: Ledger, name: str, port: int, temper: Temper, timeout: float
    ) -> None:
        self.world, self.network, self.ledger = world, network, ledger
        self.name, self.port, self.temper, self.timeout = name, port, temper, timeout
        self.random = world.random(f"partner {name}")
        self._ends: list[End] = []
        self._answers = 0
        self.up()

    def up(self) -> None:
        """Listen."""
        self.network.partners[self.port] = self._called

    def down(self) -> None:
        """Let nobody in, and drop who is there."""
        self.network.partners.pop(self.port, None)
        for end in self._ends:
            end.close(reset=True)
        self._ends.clear()

    def _called(self, end: End) -> None:
        self._ends.append(end)
        buffer = b""

        def data(piece: bytes) -> None:
            nonlocal buffer
            buffer += piece
            whole, separator, buffer = buffer.rpartition(b"\x1c\r")
            for body in frames(whole + separator) if separator else ():
                self._received(end, body)

        end.on_data = data

    def _mood(self) -> str:
        chance = self.random.random()
        for mood, probability in self.temper.moods:
            if chance < probability:
                return mood
            chance -= probability
        return "AA"

    def _received(self, end: End, body: bytes) -> None:
        mood = self._mood()
        took, answer = MOODS[mood]
        took = self.random.random() < 0.5 if took is None else took
        control_id = member(body, b"MSH", 10)
        self.ledger.taken.append(Taken(self.world.now, self.name, control_id, took, answer, self.ledger.life()))
        self.world.note("taken", self.name, control_id, mood, took)
        delay = self.random.expovariate(1 / self.temper.pace)
        if mood == "slow":
            delay += self.timeout * self.random.random() * 0.9
        elif mood == "late":
            delay += self.timeout * (1.0 + self.random.random())
        self.world.at(delay, self._answer, end, mood, control_id)

    def _answer(self, end: End, mood: str, control_id: str) -> None:
        self._answers += 1
        if mood in ("silent", "closes before"):
            if mood == "closes before":
                end.close(reset=self.random.random() < 0.5)
            return
        code = mood if mood in ("AE", "AR") else "AA"
        about = "X" + control_id if mood == "foreign" else control_id
        answer = f"MSH|^~\\&|{self.name}||ENGINE||20260101||ACK|{self.name}{self._answers}|P|2.3\rMSA|{code}|{about}\r"
        end.send(b"\x0bNOTHING OF THE KIND\x1c\r" if mood == "garbage" else b"\x0b" + answer.encode() + b"\x1c\r")
        if mood == "closes after":
            end.close()
