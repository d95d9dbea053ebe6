"""``hl7engine audit`` against a real engine, and on the files of one that does not run."""

import json
import os
import re
import sqlite3
from pathlib import Path
from typing import Any

from engine.store.audit import Who

from .conftest import SAMPLES

Command = Any


def acts(hl7engine: Command, *words: str) -> list[str]:
    return [entry["act"] for entry in json.loads(hl7engine("audit", *words, "--json").stdout)["entries"]]


def test_what_the_command_line_did_is_listed_and_the_trail_is_whole(hl7engine: Command, start: Any) -> None:
    engine = start()
    sent = hl7engine("send", str(SAMPLES / "N1_SIU_S12_RIS_v23.hl7"), "--to", f"127.0.0.1:{engine.mllp_port}")
    assert sent.returncode == 0
    (row,) = json.loads(hl7engine("messages", "--json").stdout)["messages"]
    hl7engine("message", str(row["id"]), "--bodies")
    hl7engine("stop", "inbox")
    hl7engine("start", "inbox")
    assert acts(hl7engine) == ["channel.started", "channel.stopped", "bodies.viewed", "login", "config.changed"]
    assert acts(hl7engine, "--message", str(row["id"])) == ["bodies.viewed"]
    assert acts(hl7engine, "--act", "channel.stopped", "--who", Who.local(os.getuid()).text) == ["channel.stopped"]
    table = hl7engine("audit").stdout
    assert re.search(rf"bodies\.viewed +inbox message {row['id']} ", table)
    assert "channels/inbox.yaml, site.yaml" in table
    online = hl7engine("audit", "verify")
    assert (online.returncode, "seal     fits" in online.stdout) == (0, True)
    head = json.loads(hl7engine("audit", "verify", "--json").stdout)["head"]
    assert engine.end() == 0
    noted = [line["head"] for line in engine.log if line["event"] == "audit.head"]
    assert noted[-1] == head
    assert noted[0].startswith("1:")
    offline = hl7engine("audit", "verify", "--head", head)
    assert (offline.returncode, "seal     fits" in offline.stdout) == (0, True)


def test_a_trail_that_was_changed_ends_with_1(hl7engine: Command, start: Any, site: Path) -> None:
    start().end()
    with sqlite3.connect(site / "data" / "engine.db") as connection:
        connection.execute("DROP TRIGGER audit_update")
        connection.execute("UPDATE audit SET who = 'API key other' WHERE id = 1")
    connection.close()
    changed = hl7engine("audit", "verify")
    assert changed.returncode == 1
    assert "the audit trail is not whole: entry 1 does not fit" in changed.stderr


def test_without_the_key_the_seal_is_not_checked_and_said_so(hl7engine: Command, start: Any, site: Path) -> None:
    start().end()
    (site / ".env").unlink()
    checked = hl7engine("audit", "verify")
    assert (checked.returncode, "not checked: the store key is not at hand" in checked.stdout) == (0, True)


def test_without_an_engine_and_without_a_store_the_reason_is_told(hl7engine: Command) -> None:
    assert hl7engine("audit").returncode == 3
    nothing = hl7engine("audit", "verify")
    assert (nothing.returncode, "holds no store" in nothing.stderr) == (1, True)


def test_prune_counts_or_removes_what_is_old_enough(hl7engine: Command, start: Any, site: Path) -> None:
    with (site / "channels" / "inbox.yaml").open("a") as file:
        file.write("retention: {delivered: 1ms}\n")
    engine = start()
    hl7engine("send", str(SAMPLES / "N1_SIU_S12_RIS_v23.hl7"), "--to", f"127.0.0.1:{engine.mllp_port}")
    engine.until("delivery.delivered")
    counted = hl7engine("prune", "--dry-run")
    assert (counted.returncode, "inbox" in counted.stdout, "messages would go" in counted.stdout) == (0, True, True)
    assert len(json.loads(hl7engine("messages", "--json").stdout)["messages"]) == 1
    assert json.loads(hl7engine("prune", "--json").stdout)["pruned"] == [
        {"channel": "inbox", "kept_as": "delivered", "number": 1}
    ]
    assert json.loads(hl7engine("messages", "--json").stdout)["messages"] == []
    assert acts(hl7engine)[0] == "pruned"
    status = json.loads(hl7engine("status", "--json").stdout)
    last = status["pruning"]["last"]
    assert last["pruned"] == [{"channel": "inbox", "kept_as": "delivered", "number": 1}]
    assert (last["bytes"] > 100, last["ended_at"] < status["pruning"]["next_at"]) == (True, True)
    assert "1 messages and the contents of 0 removed" in hl7engine("status").stdout
