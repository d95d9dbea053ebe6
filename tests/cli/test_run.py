"""The engine as people start and stop it: a process, its signals, its exit codes, what it leaves behind."""

import json
import os
import re
import signal
import socket
import stat
from pathlib import Path
from typing import Any

from engine.cli.exits import Exit

Command = Any
Start = Any
Engine = Any

SIU = (
    "MSH|^~\\&|SYNAPSE|DTI|RADSCHED|RADORDERPAD|20250115083203||SIU^S12|{id}|P|2.3\r"
    "PID|1||MRN123456||Planted^Person\rRGS|1|A\r"
)


def send(hl7engine: Command, engine: Engine, message: str) -> Any:
    return hl7engine("send", "--to", f"127.0.0.1:{engine.mllp_port}", stdin=message)


def test_a_message_goes_through_and_every_command_sees_it(hl7engine: Command, engine: Engine, site: Path) -> None:
    sent = send(hl7engine, engine, SIU.format(id="IN1"))
    assert (sent.returncode, sent.stdout.split()[:2]) == (Exit.OK, ["AA", "IN1"])
    [message] = json.loads(hl7engine("messages", "--control-id", "IN1", "--json").stdout)["messages"]
    assert (message["channel"], message["type"], message["source"]) == ("inbox", "SIU^S12", "mllp")

    trace = wait_for_delivery(hl7engine, message["correlation_id"])
    hops = [hop["what"] for hop in trace if hop["what"] != "acknowledged"]
    assert hops == ["received", "routed", "sent", "delivered"]
    shown = hl7engine("message", str(message["id"]), "--bodies")
    assert "Planted^Person" in shown.stdout
    assert "Planted" not in hl7engine("message", str(message["id"])).stdout
    assert (site / "data" / "out" / "IN1.hl7").read_bytes() == SIU.format(id="IN1").encode()
    assert "folder delivered" in hl7engine("messages", "--since", "1h").stdout
    [channel] = json.loads(hl7engine("channels", "--json").stdout)
    assert (channel["state"], channel["received_since_start"]) == ("running", 1)

    assert engine.end() == 0
    assert "Planted" not in json.dumps(engine.log)
    viewed = [line for line in engine.log if line["event"] == "admin.bodies_viewed"]
    assert [line["message_id"] for line in viewed] == [message["id"]]


def wait_for_delivery(hl7engine: Command, correlation_id: str) -> list[dict[str, Any]]:
    for _ in range(50):
        hops: list[dict[str, Any]] = json.loads(hl7engine("trace", correlation_id, "--json").stdout)["hops"]
        if hops[-1]["what"] == "delivered":
            return hops
    raise AssertionError(hops)


def test_a_channel_is_stopped_and_started(hl7engine: Command, engine: Engine) -> None:
    port = engine.mllp_port
    assert hl7engine("stop", "inbox").returncode == Exit.OK
    assert hl7engine("send", "--to", f"127.0.0.1:{port}", stdin=SIU.format(id="IN1")).returncode == Exit.USAGE
    assert "running" in hl7engine("start", "inbox").stdout
    unknown = hl7engine("start", "outbox")
    assert (unknown.returncode, unknown.stdout) == (Exit.NEGATIVE, "")


def test_sigterm_and_sigint_end_in_order(start: Start, site: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        engine = start()
        assert engine.end(number) == 0
        assert [line["event"] for line in engine.log][-1] == "engine.stopped"
        assert not (site / "data" / "engine.sock").exists()


def test_a_killed_engine_starts_again(hl7engine: Command, start: Start, site: Path) -> None:
    killed = start()
    assert send(hl7engine, killed, SIU.format(id="IN1")).returncode == 0
    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    assert (site / "data" / "engine.sock").exists()
    assert hl7engine("channels").returncode == Exit.NOT_RUNNING
    start()
    [message] = json.loads(hl7engine("messages", "--json").stdout)["messages"]
    assert message["control_id"] == "IN1"


#: In the process of an engine: its disk takes no entry of the audit trail while the file of that name is there.
REFUSING = """
import asyncio, pathlib
from engine.errors import StoreError
from engine.store.base import Audit
from engine.store.sqlite import SqliteStore
real = SqliteStore.submit
def submit(self, *operations):
    if not pathlib.Path("{refuses}").exists() or not any(isinstance(one, Audit) for one in operations):
        return real(self, *operations)
    future = asyncio.get_running_loop().create_future()
    future.set_exception(StoreError("the disk is full"))
    return future
SqliteStore.submit = submit
"""


def test_an_engine_whose_disk_refuses_its_first_entry_waits_and_goes_on_by_itself(
    hl7engine: Command, start: Start, tmp_path: Path
) -> None:
    refuses = tmp_path / "refuses"
    refuses.touch()
    (tmp_path / "sitecustomize.py").write_text(REFUSING.format(refuses=refuses))
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    stopped = start(env=env, ready=False)
    stopped.until("engine.waits_for_the_disk")
    assert stopped.end() == 0, "a signal ends the wait"
    waiting = start(env=env, ready=False)
    waiting.until("engine.waits_for_the_disk")
    assert not any(line["event"] == "mllp.listening" for line in waiting.log)
    refuses.unlink()
    waiting.until("engine.started")
    assert send(hl7engine, waiting, SIU.format(id="IN1")).returncode == 0
    assert hl7engine("audit", "verify").returncode == 0


def test_a_second_engine_on_the_data_folder_is_refused(hl7engine: Command, engine: Engine) -> None:
    second = hl7engine("run")
    assert second.returncode == Exit.IN_USE
    assert "in use by another engine" in second.stderr
    assert hl7engine("channels").returncode == Exit.OK


def test_the_first_run_makes_secrets_and_a_private_data_folder(engine: Engine, site: Path) -> None:
    env_file, data = site / ".env", site / "data"
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in (env_file, data, data / "engine.sock")} == {
        env_file: 0o600,
        data: 0o700,
        data / "engine.sock": 0o600,
    }
    assert "HL7ENGINE_STORE_KEY=" in env_file.read_text()
    assert (data / "tls" / "ca.pem").is_file()


def test_data_lies_where_it_is_told(hl7engine: Command, start: Start, site: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    start("--data", str(elsewhere))
    assert (elsewhere / "engine.sock").exists()
    assert hl7engine("channels").returncode == Exit.NOT_RUNNING
    assert hl7engine("channels", "--data", str(elsewhere)).returncode == Exit.OK


def test_a_broken_channel_is_told_and_the_others_run(
    hl7engine: Command, start: Start, site: Path, tmp_path: Path
) -> None:
    (site / "channels" / "bad.yaml").write_text("name: bad\nsource:\n  mlpp: {port: 0}\n")
    start()
    assert "channels/bad.yaml:3" in (tmp_path / "stdout-0").read_text()
    states = {item["name"]: item["state"] for item in json.loads(hl7engine("channels", "--json").stdout)}
    assert states == {"inbox": "running", "bad": "broken"}
    refused = hl7engine("start", "bad")
    assert (refused.returncode, "hl7engine check" in refused.stderr) == (Exit.NEGATIVE, True)


def test_an_unusable_site_file_starts_nothing(hl7engine: Command, site: Path) -> None:
    (site / "site.yaml").write_text("rest: {port: many}\n")
    result = hl7engine("run")
    assert result.returncode == Exit.NEGATIVE
    assert "site.yaml:1" in result.stdout
    assert not (site / "data" / "engine.sock").exists()


def test_a_folder_that_is_no_site_is_wrong_usage(hl7engine: Command, tmp_path: Path) -> None:
    result = hl7engine("run", str(tmp_path))
    assert (result.returncode, "no site.yaml" in result.stderr) == (Exit.USAGE, True)
    assert not (tmp_path / ".env").exists()


def test_a_taken_port_is_told(hl7engine: Command, site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for listener, other in (("admin", "rest"), ("rest", "admin")):
            (site / "site.yaml").write_text(f"{other}: {{port: 0}}\n{listener}: {{port: {port}}}\n")
            result = hl7engine("run")
            assert result.returncode == Exit.NEGATIVE
            assert re.search(
                f"cannot start the {listener}.* on 127.0.0.1:{port}: .*in use", result.stderr, re.IGNORECASE
            )
            assert not (site / "data" / "engine.sock").exists()


def test_a_folder_of_others_is_not_taken_as_the_data_folder(hl7engine: Command, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    (shared / "letter.txt").touch()
    assert hl7engine("run", "--data", str(shared)).returncode == Exit.USAGE
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    assert {path.name for path in shared.iterdir()} == {"letter.txt"}


def test_a_store_key_that_is_none_starts_nothing(hl7engine: Command) -> None:
    result = hl7engine("run", env={"HL7ENGINE_STORE_KEY": "c2hvcnQ="})
    assert (result.returncode, "32 bytes" in result.stderr) == (Exit.NEGATIVE, True)
    assert "c2hvcnQ=" not in result.stderr + result.stdout


def test_the_log_level_is_checked(hl7engine: Command) -> None:
    assert hl7engine("run", "--log-level", "loud").returncode == Exit.USAGE
