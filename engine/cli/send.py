"""``send``: HL7 messages from a file or stdin to any MLLP address, one after the other, each ack printed."""

from __future__ import annotations

import re
import socket
import ssl
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.exits import Exit
from engine.cli.options import Json
from engine.cli.output import complain, fail, print_json, printable

if TYPE_CHECKING:
    from engine.hl7.answer import AckRead

#: Frame marks and batch headers: a file of messages may hold them, a message does not.
MARKS = b"\x0b\x1c"
BATCH = (b"FHS", b"BHS", b"BTS", b"FTS")
READ_SIZE = 65536
LARGEST_ACK = 16 * 1024 * 1024


def send(
    to: Annotated[str, typer.Option(help="Where to.", metavar="HOST:PORT", show_default=False)],
    file: Annotated[str, typer.Argument(help="File with one or several HL7 messages; - is stdin.")] = "-",
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS.")] = False,
    ca: Annotated[
        Path | None, typer.Option(help="Trust this authority instead of the system's (implies --tls).")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait to connect and for each ack.")] = 10.0,
    raw: Annotated[bool, typer.Option("--raw", help="Print the acks as they came, a segment per line.")] = False,
    batch: Annotated[bool, typer.Option("--batch", help="Send a batch (FHS, BHS) as it is, in one frame.")] = False,
    as_json: Json = False,
) -> None:
    """Send HL7 messages over MLLP and print each ack.

    Segments may end with CR, LF or CRLF; a file may hold several messages. Ends with 1 when an ack is negative, with 2
    when there is no valid answer.

    [dim]Examples:[/dim]

    hl7engine send samples/hl7/N1_SIU_S12_RIS_v23.hl7 --to 127.0.0.1:2575

    hl7engine send - --to epic.example:2602 --ca data/tls/ca.pem < message.hl7

    hl7engine send nightly.hl7 --batch --to 127.0.0.1:2594 --timeout 300
    """
    host, port = address(to)
    content = read(file)
    messages = [whole(content)] if batch else split(content)
    if not messages:
        fail("no HL7 message found (a message begins with MSH)", Exit.USAGE)
    tls_context = context(ca) if tls or ca else None
    sent: list[Result] = []
    silence = ""
    try:
        with Link(host, port, timeout, tls_context) as link:
            for message in messages:
                if batch:
                    sent += exchange_batch(link, message, raw, as_json)
                else:
                    sent.append(exchange(link, message, raw, as_json))
    except OSError as error:
        silence = f"no answer from {to} to message {len(sent) + 1} of {len(messages)}: {reason(error)}"
    if as_json:
        print_json([result.view() for result in sent])
    if silence:
        fail(silence, Exit.USAGE)
    if not all(result.positive for result in sent):
        raise typer.Exit(Exit.NEGATIVE)


@dataclass(slots=True)
class Result:
    """One message and what it was answered."""

    control_id: str
    milliseconds: float
    acks: list[AckRead] = field(default_factory=list)

    @property
    def positive(self) -> bool:
        """Whether every ack said yes."""
        return all(ack.code.positive for ack in self.acks)

    def view(self) -> dict[str, Any]:
        """As JSON."""
        names = ("control_id", "condition", "location", "application_error", "text")
        return {
            "control_id": self.control_id,
            "ms": round(self.milliseconds, 1),
            "acks": [
                {"code": str(ack.code), **{name: getattr(ack, name) for name in names if getattr(ack, name)}}
                for ack in self.acks
            ],
        }


class Link:
    """One MLLP connection; everything that goes wrong on it is an OSError."""

    def __init__(self, host: str, port: int, timeout: float, tls: ssl.SSLContext | None) -> None:
        from engine.hl7.mllp import Framer

        self.framer, self.timeout = Framer(LARGEST_ACK), timeout
        self.waiting: list[bytes] = []
        self.socket = socket.create_connection((host, port), timeout)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def write(self, body: bytes) -> None:
        """Send one message."""
        from engine.hl7.mllp import frame

        self.socket.sendall(frame(body))

    def read(self) -> bytes:
        """The next message that comes back, whole within the time-out."""
        deadline = time.monotonic() + self.timeout
        while not self.waiting:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self.socket.recv(READ_SIZE)
            if not data:
                raise ConnectionResetError("the connection was closed")
            self.waiting += map(bytes, self.framer.feed(data))
        return self.waiting.pop(0)


def exchange(link: Link, body: bytes, raw: bool, quiet: bool) -> Result:
    """Send one message and wait for the acks it asks for. Raises OSError."""
    from engine.errors import MalformedMessage
    from engine.hl7.answer import read_ack
    from engine.hl7.message import Message

    message = Message.parse(body)
    wants = message.header.wanted
    started = time.perf_counter()
    link.write(body)
    result = Result(message.control_id, 0.0)
    if not (wants.accept_ack(positive=True) or wants.application_ack(positive=True)):
        if not quiet:
            typer.echo(f"sent  {printable(message.control_id)}  it asks for no ack")
        return result
    while True:
        answer = link.read()
        result.milliseconds = (time.perf_counter() - started) * 1000
        try:
            ack = read_ack(answer)
        except MalformedMessage:
            raise ConnectionError("the answer is no HL7 acknowledgement") from None
        if ack.control_id != message.control_id:
            raise ConnectionError("the answer acknowledges another message")
        result.acks.append(ack)
        if not quiet:
            show(ack, answer, result, raw)
        # Enhanced mode: after a positive accept ack comes the application ack, if the message asks for one.
        if str(ack.code) != "CA" or not wants.application_ack(positive=True):
            return result


def exchange_batch(link: Link, body: bytes, raw: bool, quiet: bool) -> list[Result]:
    """Send a batch and wait for its answer: an ack of each message that it names, or one for all. Raises OSError."""
    from engine.errors import MalformedMessage
    from engine.hl7 import batch
    from engine.hl7.answer import read_ack
    from engine.hl7.batch_answers import read_answer, request_of

    control_id = request_of(batch.split(body), body).control_id
    started = time.perf_counter()
    link.write(body)
    answer = link.read()
    milliseconds = (time.perf_counter() - started) * 1000
    try:
        found = read_answer(answer)
        acks = [read_ack(message) for message in ([answer] if found is None else found.acks.values())]
    except MalformedMessage:
        raise ConnectionError("the answer is no HL7 acknowledgement") from None
    if found is None and acks[0].control_id != control_id:
        raise ConnectionError("the answer acknowledges another message")
    results = [Result(ack.control_id, milliseconds, [ack]) for ack in acks]
    if not results and not quiet:
        typer.echo(f"an empty batch answers {printable(control_id)}: nothing was refused")
    for result in [] if quiet else results:
        show(result.acks[0], answer if found is None else found.acks[result.control_id], result, raw)
    return results


def whole(content: bytes) -> bytes:
    """A batch in one piece, segments ended by CR."""
    from engine.hl7.batch import is_batch

    body = re.sub(rb"\r\n|\n", b"\r", content.translate(None, MARKS).removeprefix(b"\xef\xbb\xbf")).strip(b"\r") + b"\r"
    if not is_batch(body):
        fail("no batch found (a batch begins with FHS or BHS)", Exit.USAGE)
    return body


def show(ack: AckRead, answer: bytes, result: Result, raw: bool) -> None:
    """One ack on the terminal."""
    if raw:
        typer.echo("\n".join(printable(line) for line in answer.decode("utf-8", "replace").strip("\r").split("\r")))
        return
    text = " / ".join((ack.text or "").splitlines())
    codes = " ".join(part for part in (ack.condition, ack.location, ack.application_error, text) if part)
    line = f"{ack.code}  {result.control_id}  {result.milliseconds:.0f} ms  {codes}"
    typer.echo(printable(line.rstrip()))


def split(content: bytes) -> list[bytes]:
    """The messages of a file, segments ended by CR."""
    return [message for _, message in numbered(content)]


def numbered(content: bytes) -> list[tuple[list[int], bytes]]:
    """The messages of a file with the number of each segment's line, segments ended by CR."""
    lines = re.split(rb"\r\n|\r|\n", content.translate(None, MARKS).removeprefix(b"\xef\xbb\xbf"))
    messages: list[tuple[list[int], list[bytes]]] = []
    for number, line in enumerate(lines, 1):
        if line.startswith(b"MSH"):
            messages.append(([], []))
        if line.strip() and not line.startswith(BATCH) and messages:
            messages[-1][0].append(number)
            messages[-1][1].append(line)
    return [(numbers, b"\r".join(segments) + b"\r") for numbers, segments in messages]


def read(file: str) -> bytes:
    """The bytes of a file or of stdin."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None


def address(to: str) -> tuple[str, int]:
    """``HOST:PORT``, IPv6 in brackets."""
    host, _, port = to.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise typer.BadParameter("--to wants HOST:PORT, such as 127.0.0.1:2575")
    return host, int(port)


def context(ca: Path | None) -> ssl.SSLContext:
    from engine.tls import client_context

    try:
        return client_context(ca)
    except OSError as error:
        complain(str(error))
        raise typer.BadParameter(f"{ca}: no usable authority") from None


def reason(error: OSError) -> str:
    """Why there was no answer, in words."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted ({error.verify_message})"
    return error.strerror or str(error) or type(error).__name__
