"""A system that receives, in every mood: quick, slow, silent, negative, wrong, and gone after its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulation.ledger import Ledger, Taken, asks, frames, member
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
        #: Told MSA-2 and MSA-1 of an acknowledgement that came on a connection of its own.
        self.acknowledged: Callable[[str, str], None] = lambda _control_id, _code: None
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
                if self.port in self.ledger.ack_ports or not member(body, b"MSA", 1):
                    self._received(end, body)

        end.on_data = data

    def _mood(self) -> str:
        chance = self.random.random()
        for mood, probability in self.temper.moods:
            if chance < probability:
                self.world.counts[f"partner {mood}"] += 1
                return mood
            chance -= probability
        return "AA"

    def _received(self, end: End, body: bytes) -> None:
        mood = self._mood()
        took, answer = MOODS[mood]
        took = self.random.random() < 0.5 if took is None else took
        control_id, acknowledges = member(body, b"MSH", 10), (member(body, b"MSA", 1), member(body, b"MSA", 2))
        modes = member(body, b"MSH", 15), member(body, b"MSH", 16)
        codes = _codes(modes, answer) if answer else []
        self.ledger.taken.append(
            Taken(self.world.now, self.name, control_id, took, answer, self.ledger.life(), acknowledges)
        )
        self.world.note("taken", self.name, control_id, mood, took, *modes)
        if took and acknowledges[1]:
            self.acknowledged(acknowledges[1], acknowledges[0])
        delay = self.random.expovariate(1 / self.temper.pace)
        if mood == "slow":
            delay += self.timeout * self.random.random() * 0.9
        elif mood == "late":
            delay += self.timeout * (1.0 + self.random.random())
        if len(codes) == 2:
            self.world.at(delay * self.random.random(), self._send, end, codes.pop(0), control_id)
        self.world.at(delay, self._answer, end, mood, control_id, codes)

    def _answer(self, end: End, mood: str, control_id: str, codes: list[str]) -> None:
        if mood in ("silent", "closes before"):
            if mood == "closes before":
                end.close(reset=self.random.random() < 0.5)
            return
        if mood == "garbage":
            end.send(b"\x0bNOTHING OF THE KIND\x1c\r")
        elif mood == "foreign":
            self._send(end, "AA", "X" + control_id)
        elif mood == "late":
            self._send(end, "AA", control_id)
        for code in codes:
            self._send(end, code, control_id)
        if mood == "closes after":
            end.close()

    def _send(self, end: End, code: str, about: str) -> None:
        self._answers += 1
        answer = f"MSH|^~\\&|{self.name}||ENGINE||20260101||ACK|{self.name}{self._answers}|P|2.3\rMSA|{code}|{about}\r"
        end.send(b"\x0b" + answer.encode() + b"\x1c\r")


def _codes(modes: tuple[str, str], outcome: str) -> list[str]:
    """The acks that a message gets whose outcome is AA, AE or AR: those that MSH-15 and MSH-16 ask for."""
    if not any(modes):
        return [outcome]
    if outcome != "AA" and modes[1] != "AL":
        # Who asks for no word about the application hears no at the accept level, or nothing.
        refusal = "C" + outcome[1]
        return [refusal] if asks(modes, refusal) else []
    return [code for code in ("CA", outcome) if asks(modes, code)]
