"""What a partner says back: the header turned round, acknowledgements, errors by version, accept and application level.

Below 2.5 an error stands in MSA-3, MSA-6 and ERR-1, from 2.5 in ERR-2 to ERR-8 (systems.md C.1, D.1 to D.5). The
texts name patients on purpose, as real systems do: whoever passes them on has leaked. Which error is due is decided in
`checks.py` and by the partner itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from engine.simulators.wire import Message, at_least, components, encode, escape, line, stamp

#: HL7 table 0357.
CONDITIONS = {
    100: "Segment sequence error",
    101: "Required field missing",
    102: "Data type error",
    103: "Table value not found",
    200: "Unsupported message type",
    201: "Unsupported event code",
    202: "Unsupported processing id",
    203: "Unsupported version id",
    204: "Unknown key identifier",
    205: "Duplicate key identifier",
    206: "Application record locked",
    207: "Application internal error",
}


class Refused(Exception):
    """The partner says no. Only codes and the location are in the exception's own text.

    `location` is `segment^sequence^field`; `text` is what a person at the partner reads, and may name a patient;
    `code` and `reason` are the application error of ERR-5. `condition` None leaves all codes out.
    """

    def __init__(
        self, ack: str, condition: int | None, location: str = "", text: str = "", code: str = "", reason: str = ""
    ) -> None:
        self.ack, self.condition, self.location = ack, condition, location
        self.text, self.code, self.reason = text, code, reason
        super().__init__(" ".join(str(part) for part in (ack, condition, location) if part))


def at(path: str) -> str:
    """`QRD-10` or `AIL-3.1` as the location of an error: `QRD^1^10`, `AIL^1^3`."""
    segment, _, field = path.partition("-")
    return f"{segment}^1^{field.partition('.')[0]}"


@dataclass(frozen=True, slots=True)
class Voice:
    """How one partner writes headers: its clock, its own MSH-10, and the way it writes MSH-7."""

    now: Callable[[], datetime]
    next_control_id: Callable[[], str]
    write_time: Callable[[datetime, str], str] = stamp

    def header(self, request: Message, kind: str, structure: str = "") -> str:
        """MSH of an answer: sender and receiver change places; MSH-11, MSH-12 and MSH-18 are copied."""
        version = request.raw("MSH-12")
        named = f"{kind}^{structure}" if structure and at_least(version, "2.3.1") else kind
        fields = {3: request.raw("MSH-5"), 4: request.raw("MSH-6"), 5: request.raw("MSH-3"), 6: request.raw("MSH-4")}
        fields |= {7: self.write_time(self.now(), version), 9: named, 10: self.next_control_id()}
        return line("MSH", fields | {11: request.raw("MSH-11"), 12: version, 18: request.raw("MSH-18")})

    def ack_header(self, request: Message) -> str:
        if at_least(request.version, "2.3.1"):
            return self.header(request, components("ACK", request.text("MSH-9.2")), "ACK")
        return self.header(request, "ACK")

    def ack(self, request: Message, code: str, text: str = "") -> bytes:
        """A plain acknowledgement (AA or CA)."""
        return self.encoded(request, [self.ack_header(request), accepted(request, code, text)])

    def refusal(self, request: Message, refused: Refused, kind: str = "", structure: str = "") -> bytes:
        """A refusal as ACK, or as the answer `kind` that the request's own exchange has (ORR^O02 …)."""
        header = self.header(request, kind, structure) if kind else self.ack_header(request)
        return self.encoded(request, [header, *refusal_lines(request, refused)])

    @staticmethod
    def encoded(request: Message, lines: list[str]) -> bytes:
        return encode(lines, request.raw("MSH-18"))


def accepted(request: Message, code: str = "AA", text: str = "") -> str:
    return line("MSA", {1: code, 2: request.raw("MSH-10"), 3: escape(text)})


def refusal_lines(request: Message, refused: Refused) -> list[str]:
    """MSA and ERR of a refusal, by version."""
    if at_least(request.version, "2.5"):
        return refusal_lines_from_25(request, refused)
    msa = {1: refused.ack, 2: request.raw("MSH-10"), 3: escape(refused.text or words(refused.condition))}
    if refused.condition is None:
        return [line("MSA", msa)]
    msa[6] = coded(refused.condition)
    # B5: a message that is rejected as a whole gets no ERR at 2.3; MSA-6 says it all.
    if refused.ack.endswith("R"):
        return [line("MSA", msa)]
    where = refused.location or "MSH^1^1"
    err = f"{where}^{refused.condition}&{words(refused.condition)}&HL70357"
    return [line("MSA", msa), line("ERR", {1: err})]


def refusal_lines_from_25(request: Message, refused: Refused) -> list[str]:
    msa = {1: refused.ack, 2: request.raw("MSH-10")}
    if refused.condition is None:
        return [line("MSA", msa), line("ERR", {4: "E", 8: escape(refused.text)})]
    own = components(escape(refused.code), escape(refused.reason), "99SYN") if refused.code else ""
    err = {2: refused.location, 3: coded(refused.condition), 4: "E", 5: own, 8: escape(refused.text)}
    return [line("MSA", msa), line("ERR", err)]


def coded(condition: int) -> str:
    return f"{condition}^{words(condition)}^HL70357"


def words(condition: int | None) -> str:
    return CONDITIONS.get(condition or 0, "Application error")


def in_mode(request: Message, voice: Voice, answer: bytes, refused: Refused | None) -> list[bytes]:
    """The answers that MSH-15 and MSH-16 ask for: both empty is original mode, else accept and application level.

    Header faults refuse at accept level already, so no application answer follows them.
    """
    accept, application = request.text("MSH-15"), request.text("MSH-16")
    if not accept and not application:
        return [answer]
    answers = []
    header_fault = refused is not None and (refused.ack == "AR" or refused.location.startswith("MSH"))
    only_level = application in ("", "NE")
    level_no = refused if refused is not None and (header_fault or only_level) else None
    if is_wanted(accept, level_no is None):
        if level_no is None:
            answers.append(voice.ack(request, "CA"))
        else:
            low = Refused("C" + level_no.ack[1:], level_no.condition, level_no.location)
            answers.append(voice.refusal(request, low))
    if not header_fault and is_wanted(application, refused is None):
        answers.append(answer)
    return answers


def is_wanted(condition: str, positive: bool) -> bool:
    """HL7 table 0155: AL always, NE never, ER on errors only, SU on success only; empty is never."""
    return {"AL": True, "ER": not positive, "SU": positive}.get(condition, False)
