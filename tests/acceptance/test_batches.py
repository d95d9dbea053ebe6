"""A batch, and an engine that is killed in the middle of it: what its sender repeats is neither lost nor doubled."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from .peers import Partner, Sender, ack, channel, frame, is_idle, siu, told

Site = Any
WaitFor = Callable[..., Any]

NUMBER = 400
IN = """\
name: batches
source:
  mllp: {port: %d}
batch: {answer: one}
destinations:
  - name: folder
    to: {file: {path: "batches/{control_id}.{message_id}.hl7"}}
    order: none
    connections: 16
"""
OUT = """\
name: batches
source:
  mllp: {port: %d}
destinations:
  - name: registry
    to: {mllp: {host: 127.0.0.1, port: %d}}
    batch: {count: 10, seconds: 200ms}
    retry: {backoff: [100ms]}
"""


def batch(number: int) -> bytes:
    members = b"".join(siu(f"M{at}", "DTI") for at in range(number))
    return b"BHS|^~\\&|RIS|DTI|ENGINE|HERE|20270101||||NIGHTLY\r" + members + b"BTS|%d\r" % number


def test_killed_in_the_middle_of_a_batch_and_sent_it_again(new_site: Callable[..., Site], wait_for: WaitFor) -> None:
    site = new_site()
    (site.folder / "channels" / "batches.yaml").write_text(IN % site.port("SIMULATOR_CONTROL"))
    site.start(simulators=False)
    folder = site.data / "batches"
    with Sender(site.port("SIMULATOR_CONTROL")) as sender:
        sender.write(frame(batch(NUMBER)))
        wait_for(lambda: folder.is_dir() and len(list(folder.iterdir())) > 3, "some are delivered")
        site.kill()
        assert sender.ends(), "it was answered before it was taken"
    site.start(simulators=False)
    with Sender(site.port("SIMULATOR_CONTROL")) as sender:
        sender.write(frame(batch(NUMBER)))
        assert told(sender.receive(60)) == ("AA", "NIGHTLY")
    wait_for(lambda: is_idle(site, "batches"), "everything delivered", 60)
    ids = Counter(path.name.split(".")[0] for path in folder.glob("CM*"))
    assert ids == Counter(f"CM{at}S12" for at in range(NUMBER))
    assert channel(site, "batches")["duplicates_since_start"] > 0


def test_killed_while_a_batch_goes_out(new_site: Callable[..., Site], wait_for: WaitFor) -> None:
    """The partner has it and does not answer in time: its members are there after the kill, and go again."""
    site = new_site()
    silent = [True]

    def answer(message: bytes, _number: int) -> list[bytes]:
        number = message.split(b"\r")[0].split(b"|")[10]
        return [] if silent[0] else [ack(b"MSH|^~\\&|A|B|C|D|20270101||SIU^S12|%b|P|2.3\r" % number)]

    def control_ids() -> list[list[str]]:
        frames = [message for _, message in partner.received]
        return [[line.split(b"|")[9].decode() for line in body.split(b"\r") if line[:3] == b"MSH"] for body in frames]

    with Partner(site.port("ATHENA"), answer) as partner:
        file = OUT % (site.port("SIMULATOR_CONTROL"), site.port("ATHENA"))
        (site.folder / "channels" / "batches.yaml").write_text(file)
        site.start(simulators=False)
        with Sender(site.port("SIMULATOR_CONTROL")) as sender:
            for at in range(10):
                assert told(sender.ask(siu(f"M{at}", "DTI"))) == ("AA", f"CM{at}S12")
        wait_for(lambda: partner.received, "the batch has come")
        site.kill()
        silent[0] = False
        site.start(simulators=False)
        wait_for(lambda: len(partner.received) > 1 and is_idle(site, "batches"), "everything delivered")
        first, *again = control_ids()
    assert first == [f"CM{at}S12" for at in range(len(first))]
    assert [control_id for each in again for control_id in each] == [f"CM{at}S12" for at in range(10)]
