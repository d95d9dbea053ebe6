"""What must be true of every acknowledgement: asked for, given once, never twice differently, wherever it goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from simulation.ledger import POSITIVE, Ledger, Message
from simulation.process import Shown
from simulation.workload import Channel, Workload


def acks(work: Workload, ledger: Ledger, shown: Shown) -> Iterator[str]:
    """Everything that is wrong with the acknowledgements of a run that is over."""
    channels = {channel.name: channel for channel in work.channels}
    rows: dict[str, list[int]] = defaultdict(list)
    for row_id, row in sorted(shown.messages.items()):
        if row.is_taken:
            rows[row.control_id].append(row_id)
    for message in ledger.messages.values():
        channel = channels[message.channel]
        yield from _asked_for(ledger, message, channel)
        if channel.duplicates and channel.keep is None:
            yield from _the_same(ledger, message, len(rows[message.control_id]))
        if channel.acks is not None and message.modes[1] not in ("", "NE") and channel.keep is None:
            yield from _elsewhere(ledger, shown, message, channel, rows[message.control_id])


def _asked_for(ledger: Ledger, message: Message, channel: Channel) -> Iterator[str]:
    """On the connection of the message: what MSH-15 and MSH-16 ask for, once for each time it came."""
    codes, attempts = ledger.acknowledged[message.control_id], len(ledger.attempts[message.control_id])
    here = "CA" if channel.acks is not None and any(message.modes) else "CAAA"
    for code in codes:
        stopped = code in ("AR", "AE") and message.asks(code)  # it was not taken: nothing will follow elsewhere
        if not message.asks(code) or (code[0] not in here[::2] and not stopped):
            yield f"{message.control_id} ({'/'.join(message.modes)}) was answered {code}, which was not asked for"
    for level in "AC":
        if sum(code[0] == level for code in codes) > attempts:
            yield f"{message.control_id} came {attempts} times and was answered {' '.join(codes)}"


def _the_same(ledger: Ledger, message: Message, taken: int) -> Iterator[str]:
    """Whatever was said of a message is said again. AR and CR say that it cannot be told at present, nothing else."""
    for level in "AC":
        said = [code for code in ledger.acknowledged[message.control_id] if code[0] == level and code[1] != "R"]
        yes = next((at for at, code in enumerate(said) if code in POSITIVE), len(said))
        if any(code not in POSITIVE for code in said[yes:]) or (0 < yes < len(said) and taken == 1):
            yield f"{message.control_id} was acknowledged twice differently: {' '.join(said)}"


def _elsewhere(ledger: Ledger, shown: Shown, message: Message, channel: Channel, rows: list[int]) -> Iterator[str]:
    """On a connection of its own: one for each time that the message was taken, and always the same one."""
    for row_id in rows:
        owed = [row for row in shown.deliveries.values() if (row.message_id, row.destination) == (row_id, "acks")]
        word = shown.messages[row_id].ack
        expected = int(word in ("AA", "AE", "AR"))
        if word in ("", "owed"):
            yield f"the acknowledgement of {message.control_id} was never decided"
        elif len(owed) != expected:
            yield f"{message.control_id} was answered {word} and is owed {len(owed)} acknowledgements"
        elif expected and not message.asks(word):
            yield f"{message.control_id} ({'/'.join(message.modes)}) is owed {word}, which was not asked for"
        for row in owed:
            said = {item.acknowledges for item in ledger.taken if item.control_id == row.control_id}
            if said - {(word, message.control_id)}:
                yield f"{message.control_id} was answered {word} and its sender heard {sorted(said)}"
            if row.state == "delivered" and not said:
                yield f"the acknowledgement of {message.control_id} counts as delivered, and nobody has it"
