"""A destination that is renamed with messages in its lane: what `check`, `run` and `channels` say, and the way out."""

import json
import socket
from pathlib import Path
from typing import Any

from engine.cli.exits import Exit
from engine.store import look

Command = Any
Start = Any

LAB = """\
name: lab
source:
  mllp: {port: 0}
destinations:
  - name: epic
    to:
      mllp: {host: 127.0.0.1, port: %d}
"""
MESSAGE = b"MSH|^~\\&|LAB|A|E|S|20250101||ORU^R01|L1|P|2.3\rPID|1||P1\r"


def test_a_renamed_destination_is_told_before_and_after_and_can_be_renamed_in_the_store(
    hl7engine: Command, start: Start, site: Path
) -> None:
    lab = site / "channels" / "lab.yaml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there: messages wait
        lab.write_text(LAB % taken.getsockname()[1])
        engine = start()
        assert look.open_counts(site / "data") == {}
        ports = {line["channel"]: line["address"] for line in engine.log if line["event"] == "mllp.listening"}
        assert hl7engine("send", "-", "--to", ports["lab"].removeprefix("mllp://"), stdin=MESSAGE).returncode == Exit.OK
        engine.until("delivery.queued")
        engine.end()
        lab.write_text(lab.read_text().replace("epic", "epic2"))

        wanted = "channels/lab.yaml:4 destinations `epic` is not among them, and 1 waits (1 queued) for it"
        stopped = hl7engine("check")
        assert (stopped.returncode, wanted in stopped.stdout) == (Exit.NEGATIVE, True)
        assert "1 channel can run, 1 cannot (lab): 1 problem." in stopped.stdout
        assert "hl7engine rename-destination lab epic epic2" in stopped.stdout

        engine = start()
        running = hl7engine("check", "--json")
        found = json.loads(running.stdout)
        assert (running.returncode, found["channels"]) == (Exit.NEGATIVE, {"inbox": "valid", "lab": "broken"})
        assert wanted.split(" ", 2)[2] in found["problems"][0]["message"]
        states = {channel["name"]: channel["state"] for channel in json.loads(hl7engine("channels", "--json").stdout)}
        assert states == {"inbox": "running", "lab": "refused"}

        assert "1 moved from epic to epic2" in hl7engine("rename-destination", "lab", "epic", "epic2").stdout
        assert hl7engine("check").returncode == Exit.OK
        engine.end()
        lab.unlink()
        gone = hl7engine("check")
        assert (gone.returncode, "channels/lab.yaml the file is gone" in gone.stdout) == (Exit.NEGATIVE, True)
