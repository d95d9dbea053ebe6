"""``send``: what goes out, what is told of each ack, and how it ends."""

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine import tls
from engine.cli import app
from engine.cli.exits import Exit
from engine.cli.send import split

Answers = Callable[[bytes], list[bytes]]

MESSAGE = "MSH|^~\\&|A|B|C|D|20250101||ADT^A01|{id}|P|2.5.1{more}\rPID|1||M1||Planted\r"


def message(control_id: str = "M1", more: str = "") -> str:
    return MESSAGE.format(id=control_id, more=more)


def ack(code: str, control_id: str, more: str = "") -> bytes:
    return f"MSH|^~\\&|C|D|A|B|20250101||ACK|K1|P|2.5.1\rMSA|{code}|{control_id}\r{more}".encode()


def accepted(body: bytes) -> list[bytes]:
    return [ack("AA", body.split(b"|")[9].decode())]


@dataclass
class Partner:
    """An MLLP server of this test's own: one connection, framed by hand."""

    port: int
    answers: Answers = accepted
    received: list[bytes] = field(default_factory=list)

    def serve(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        try:
            link, _ = listener.accept()
            with context.wrap_socket(link, server_side=True) if context else link as stream:
                self.talk(stream)
        except OSError:
            return  # the client refused, or the test is over

    def talk(self, stream: socket.socket) -> None:
        pending = b""
        while data := stream.recv(65536):
            *frames, pending = (pending + data).split(b"\x1c\r")
            for frame in frames:
                self.received.append(frame.removeprefix(b"\x0b"))
                for answer in self.answers(self.received[-1]):
                    stream.sendall(b"\x0b" + answer + b"\x1c\r")


@pytest.fixture
def partner_with() -> Iterator[Callable[..., Partner]]:
    started: list[tuple[socket.socket, threading.Thread]] = []

    def start(answers: Answers = accepted, context: ssl.SSLContext | None = None) -> Partner:
        listener = socket.create_server(("127.0.0.1", 0))
        partner = Partner(listener.getsockname()[1], answers)
        thread = threading.Thread(target=partner.serve, args=(listener, context))
        thread.start()
        started.append((listener, thread))
        return partner

    yield start
    for listener, thread in started:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
        assert not thread.is_alive()


def send(partner: Partner, content: str, *words: str, file: str = "-") -> Any:
    arguments = ["send", file, "--to", f"127.0.0.1:{partner.port}", *words]
    return CliRunner().invoke(app, arguments, input=content)


def test_a_positive_ack_ends_well(partner_with: Any) -> None:
    result = send(partner_with(), message())
    assert result.exit_code == Exit.OK
    assert re.fullmatch(r"AA  M1  \d+ ms\n", result.stdout)


def test_every_message_of_a_file_goes_over_one_connection(partner_with: Any, tmp_path: Path) -> None:
    partner = partner_with()
    path = tmp_path / "messages.hl7"
    path.write_bytes(
        f"FHS|^~\\&\nBHS|^~\\&\n{message('M1')}\n\n{message('M2')}BTS|2\nFTS|1\n".replace("\r", "\n").encode()
    )
    result = send(partner, "", file=str(path))
    assert partner.received == [message("M1").encode(), message("M2").encode()]
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["M1", "M2"]


def test_a_negative_ack_ends_negative_and_shows_its_codes(partner_with: Any) -> None:
    error = "ERR||PID^1^3|204^Unknown key identifier^HL70357|E\r"
    result = send(partner_with(lambda _: [ack("AE", "M1", error)]), message() + message("M1"))
    assert result.exit_code == Exit.NEGATIVE
    assert re.search(r"AE  M1  \d+ ms  204 PID-3", result.stdout)
    assert len(result.stdout.splitlines()) == 2


def test_no_answer_ends_with_2(partner_with: Any) -> None:
    result = send(partner_with(lambda _: []), message(), "--timeout", "0.1")
    assert (result.exit_code, "timed out" in result.stderr) == (Exit.USAGE, True)


@pytest.mark.parametrize("answer", [ack("AA", "OTHER"), b"no message", b"MSH|^~\\&|C|D|A|B|20250101||ACK|K1|P|2.3\r"])
def test_an_answer_that_acknowledges_something_else_is_no_answer(partner_with: Any, answer: bytes) -> None:
    assert send(partner_with(lambda _: [answer]), message()).exit_code == Exit.USAGE


def test_nobody_listening_ends_with_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = send(Partner(port), message())
    assert (result.exit_code, "refused" in result.stderr.lower()) == (Exit.USAGE, True)


def test_what_was_answered_before_a_silence_is_told(partner_with: Any) -> None:
    partner = partner_with(lambda body: accepted(body) if b"|M1|P" in body else [])
    result = send(partner, message("M1") + message("M2"), "--timeout", "0.1", "--json")
    assert result.exit_code == Exit.USAGE
    assert [sent["control_id"] for sent in json.loads(result.stdout)] == ["M1"]
    assert "message 2 of 2" in result.stderr


def test_enhanced_mode_waits_for_both_acks(partner_with: Any) -> None:
    both = partner_with(lambda _: [ack("CA", "M1"), ack("AA", "M1")])
    result = send(both, message(more="|||AL|AL"), "--json")
    assert [answer["code"] for answer in json.loads(result.stdout)[0]["acks"]] == ["CA", "AA"]


def test_enhanced_mode_without_an_application_ack_is_content_with_the_first(partner_with: Any) -> None:
    result = send(partner_with(lambda _: [ack("CA", "M1")]), message(more="|||AL|NE"))
    assert (result.exit_code, result.stdout[:2]) == (Exit.OK, "CA")


def test_a_message_that_asks_for_no_ack_is_sent_and_that_is_all(partner_with: Any) -> None:
    partner = partner_with(lambda _: [])
    result = send(partner, message(more="|||NE|NE"))
    assert (result.exit_code, result.stdout) == (Exit.OK, "sent  M1  it asks for no ack\n")


def test_the_words_of_a_refusal_stay_on_one_line(partner_with: Any) -> None:
    refusal = ack("AE", "M1", "ERR||PID^1^3|204|E||||Unknown\\.br\\patient\r")
    assert len(send(partner_with(lambda _: [refusal]), message()).stdout.splitlines()) == 1


def test_raw_shows_the_ack_as_it_came(partner_with: Any) -> None:
    result = send(partner_with(lambda _: [ack("AA", "M1", "ZZZ|\x1b[2J\r")]), message(), "--raw")
    assert result.stdout.splitlines()[1:] == ["MSA|AA|M1", "ZZZ|\\x1b[2J"]


def test_tls_trusts_the_authority_it_is_given(partner_with: Any, tmp_path: Path) -> None:
    tls.ensure_certificates(tmp_path)
    context = tls.server_context(tmp_path / "server.pem", tmp_path / "server.key")
    partner = partner_with(context=context)
    assert send(partner, message(), "--ca", str(tmp_path / "ca.pem")).exit_code == Exit.OK


def test_tls_refuses_a_stranger(partner_with: Any, tmp_path: Path) -> None:
    tls.ensure_certificates(tmp_path)
    context = tls.server_context(tmp_path / "server.pem", tmp_path / "server.key")
    result = send(partner_with(context=context), message(), "--tls")
    assert (result.exit_code, "certificate was not accepted" in result.stderr) == (Exit.USAGE, True)


@pytest.mark.parametrize("to", ["here", "here:", ":2575", "here:port", "here:0", "here:70000"])
def test_an_address_that_is_none_is_wrong_usage(to: str) -> None:
    assert CliRunner().invoke(app, ["send", "--to", to], input=message()).exit_code == Exit.USAGE


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    arguments = ["send", str(tmp_path / "none"), "--to", "h:1"]
    assert CliRunner().invoke(app, arguments).exit_code == Exit.USAGE


def test_a_file_without_a_message_is_wrong_usage() -> None:
    result = CliRunner().invoke(app, ["send", "--to", "h:1"], input="nothing")
    assert (result.exit_code, "begins with MSH" in result.stderr) == (Exit.USAGE, True)


@pytest.mark.parametrize(
    "content",
    [
        b"MSH|1\rPID|1\r",
        b"MSH|1\nPID|1",
        b"MSH|1\r\nPID|1\r\n\r\n",
        b"\x0bMSH|1\rPID|1\r\x1c\r",
        b"\xef\xbb\xbfMSH|1\nPID|1\n",
        b"junk\nMSH|1\nPID|1\n",
    ],
)
def test_a_message_leaves_with_cr_however_the_file_was_written(content: bytes) -> None:
    assert split(content) == [b"MSH|1\rPID|1\r"]


def test_bytes_leave_as_they_were() -> None:
    assert split(b"MSH|1\nPID|M\xfcller\n") == [b"MSH|1\rPID|M\xfcller\r"]


BATCH = f"FHS|^~\\&\nBHS|^~\\&|||||||||B1\n{message('M1')}\n{message('M2')}BTS|2\nFTS|1\n"


def batch_of(*acks: bytes) -> bytes:
    return b"BHS|^~\\&|||||||||K1|B1\r" + b"".join(acks) + b"BTS|%d\r" % len(acks)


def test_a_batch_goes_in_one_frame_and_each_ack_of_its_answer_is_told(partner_with: Any) -> None:
    partner = partner_with(lambda _: [batch_of(ack("AA", "M1"), ack("AE", "M2"))])
    result = send(partner, BATCH, "--batch")
    assert partner.received == [BATCH.replace("\r\n", "\r").replace("\n", "\r").encode()]
    assert result.exit_code == Exit.NEGATIVE
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [["AA", "M1"], ["AE", "M2"]]


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (ack("AA", "B1"), Exit.OK, r"AA  B1  \d+ ms"),
        (ack("AR", "B1"), Exit.NEGATIVE, r"AR  B1  \d+ ms"),
        (batch_of(), Exit.OK, "an empty batch answers B1: nothing was refused"),
        (ack("AA", "M1"), Exit.USAGE, "the answer acknowledges another message"),
        (b"nothing", Exit.USAGE, "the answer is no HL7 acknowledgement"),
    ],
)
def test_or_one_for_all(partner_with: Any, answer: bytes, code: int, said: str) -> None:
    result = send(partner_with(lambda _: [answer]), BATCH, "--batch")
    assert result.exit_code == code
    assert re.search(said, result.stdout + result.stderr)


def test_what_is_no_batch_is_told_before_anything_is_sent() -> None:
    result = CliRunner().invoke(app, ["send", "-", "--batch", "--to", "127.0.0.1:1"], input=message())
    assert (result.exit_code, "begins with FHS or BHS" in result.stderr) == (Exit.USAGE, True)
