"""``keys``, ``rotate-key`` and ``messages --patient`` on a running engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.cli.exits import Exit
from engine.config.secrets import STORE_KEY, read_env

Command = Callable[..., Any]
Start = Callable[..., Any]

ADT = "MSH|^~\\&|A|B|C|D|20260101||SIU^S12|{id}|P|2.3\rPID|1||{patient}^^^DTI||Doe^Planted\r"


def port(hl7engine: Command) -> str:
    [channel] = json.loads(hl7engine("channels", "--json").stdout)
    return str(channel["source"]).rpartition(":")[2]


def send(hl7engine: Command, control_id: str, patient: str) -> None:
    sent = hl7engine("send", "--to", f"127.0.0.1:{port(hl7engine)}", stdin=ADT.format(id=control_id, patient=patient))
    assert sent.returncode == 0, sent.stderr


def found(hl7engine: Command, patient: str, stdin: str = "") -> list[str]:
    shown = hl7engine("messages", "--patient", patient, "--json", stdin=stdin)
    return [message["control_id"] for message in json.loads(shown.stdout)["messages"]]


def test_a_key_is_rotated_while_the_engine_runs_and_everything_is_read_after_it(
    hl7engine: Command, start: Start, site: Path
) -> None:
    engine = start()
    send(hl7engine, "IN1", "MRN1")
    [first] = json.loads(hl7engine("keys", "--json").stdout)["keys"]
    assert (first["number"], first["in_use"]) == (1, True)
    before = read_env((site / ".env").read_text())[STORE_KEY]
    rotated = hl7engine("rotate-key")
    assert rotated.returncode == Exit.OK, rotated.stderr
    after = read_env((site / ".env").read_text())[STORE_KEY]
    assert after.startswith(f"1:{before},2:")
    engine.until("store.resealed")
    states = {key["number"]: key["retired_at"] for key in json.loads(hl7engine("keys", "--json").stdout)["keys"]}
    assert states[1] is not None
    assert states[2] is None
    assert "no longer needed" in hl7engine("keys").stdout
    send(hl7engine, "IN2", "MRN1")
    assert engine.end() == 0
    (site / ".env").write_text((site / ".env").read_text().replace(after, after.partition(",")[2]))
    start()
    assert found(hl7engine, "MRN1") == ["IN2", "IN1"]
    [number] = [row["id"] for row in json.loads(hl7engine("messages", "--json").stdout)["messages"]][-1:]
    assert "Doe^Planted" in hl7engine("message", str(number), "--bodies").stdout


def test_messages_are_found_by_patient_and_the_id_is_in_no_log_line(hl7engine: Command, start: Start) -> None:
    engine = start("--log-level", "debug")
    send(hl7engine, "IN1", "PLANTED77")
    send(hl7engine, "IN2", "OTHER")
    assert found(hl7engine, "PLANTED77") == ["IN1"]
    assert found(hl7engine, "-", stdin="PLANTED77\n") == ["IN1"]
    assert found(hl7engine, "PLANTED") == []
    assert engine.end() == 0
    assert "PLANTED77" not in json.dumps(engine.log)


def test_a_key_that_is_lost_is_told_at_the_start(hl7engine: Command, start: Start, site: Path) -> None:
    assert start().end() == 0
    text = (site / ".env").read_text()
    key = read_env(text)[STORE_KEY]
    (site / ".env").write_text(text.replace(key, f"2:{key}"))
    refused = hl7engine("run")
    assert refused.returncode == Exit.NEGATIVE
    assert "sealed with store key 1, which is not given" in refused.stderr


def test_a_key_file_is_read_and_extended(hl7engine: Command, start: Start, site: Path) -> None:
    (site / "site.yaml").write_text((site / "site.yaml").read_text() + "store: {key_file: keys}\n")
    missing = hl7engine("run")
    assert (missing.returncode, "no such file" in missing.stderr) == (Exit.NEGATIVE, True)
    (site / "keys").write_text("A" * 43 + "=")
    start()
    assert hl7engine("rotate-key").returncode == Exit.OK
    assert (site / "keys").read_text().startswith("1:" + "A" * 43)
