"""``validate``: files of HL7 messages against the standard of their version, and against a profile."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.exits import Exit
from engine.cli.options import Json
from engine.cli.output import console, fail, print_json
from engine.cli.send import numbered, read

if TYPE_CHECKING:
    from engine.hl7.findings import Finding, Levels
    from engine.hl7.profile import Profile

#: File, line in it, what was found there.
Found = tuple[str, int, "Finding"]


def validate(
    files: Annotated[list[str], typer.Argument(help="Files with one or several HL7 messages; - is stdin.")],
    levels: Annotated[str, typer.Option(help="default, strict or lenient.")] = "default",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="One check's level, such as lengths=ignore.", metavar="CHECK=LEVEL"),
    ] = None,
    profile: Annotated[Path | None, typer.Option(help="A conformance profile (YAML).", metavar="FILE")] = None,
    as_json: Json = False,
) -> None:
    """Tell what in HL7 messages does not keep to the standard of their version.

    Every finding has its file and line, a place and what was expected there, and never what stands there. Segments may
    end with CR, LF or CRLF; a file may hold several messages. Ends with 1 when something is an error.

    [dim]Examples:[/dim]

    hl7engine validate samples/hl7/N1_SIU_S12_RIS_*.hl7

    hl7engine validate --levels strict --set lengths=error --profile transforms/profiles/emr.yaml message.hl7
    """
    chosen = chosen_levels(levels, change or [])
    known = None if profile is None else profile_of(profile)
    found: list[Found] = []
    messages = 0
    bad = set[tuple[str, int]]()
    for file in files:
        for first, findings in checked(file, chosen, known):
            messages += 1
            found += [(file, line, finding) for line, finding in findings]
            if any(finding.level == "error" for _, finding in findings):
                bad.add((file, first))
    if as_json:
        listed = [{"file": file, **dataclasses.asdict(finding), "line": line} for file, line, finding in found]
        print_json({"ok": not bad, "messages": messages, "invalid": len(bad), "findings": listed})
    else:
        print_findings(found)
        typer.echo(summary(messages, len(bad), found))
    if bad:
        raise typer.Exit(Exit.NEGATIVE)


def chosen_levels(name: str, changes: Sequence[str]) -> Levels:
    """The levels that the options name; ends the command when they name none."""
    from engine.hl7.findings import PRESETS, Check, Level

    if name not in PRESETS:
        fail(f"{name} is no set of levels: {', '.join(PRESETS)}", Exit.USAGE)
    wanted: dict[str, Level] = {}
    for change in changes:
        check, _, level = change.partition("=")
        if check not in {item.value for item in Check} or level not in {item.value for item in Level}:
            checks, known = ", ".join(Check), ", ".join(Level)
            fail(f"--set {change}: a check ({checks}) and its level ({known}), such as lengths=warn", Exit.USAGE)
        wanted[check] = Level(level)
    return dataclasses.replace(PRESETS[name], **wanted)


def profile_of(path: Path) -> Profile:
    """The profile in a file. Raises ConfigError with the line of what is wrong."""
    from engine.config.files import read_document
    from engine.config.interpolate import Variables
    from engine.errors import ConfigError, SpecError
    from engine.transforms.base import Fragment
    from engine.transforms.validating.profile_file import read_profile

    document = read_document(path.parent, path.name, Variables({}, path.parent))
    if document.problems:
        raise ConfigError(document.problems)
    try:
        return read_profile(Fragment(path.stem, path.name, document.value))
    except SpecError as error:
        more = {"expected": error.expected, "nearest": error.nearest}
        raise ConfigError([document.problem(error.at, error.message, **more)]) from None


def checked(file: str, levels: Levels, profile: Profile | None) -> Iterator[tuple[int, list[tuple[int, Finding]]]]:
    """The first line of each message of a file, and its findings with their lines in the file."""
    from engine.errors import MalformedMessage
    from engine.hl7.findings import Check, Finding, Level
    from engine.hl7.message import Message
    from engine.hl7.validation import validate as findings_of

    messages = numbered(read(file))
    if not messages:
        yield 0, [(0, Finding(Level.ERROR, Check.STRUCTURE, "MSH", 1, "no HL7 message is in it", "MSH", "HL7"))]
    for lines, body in messages:
        try:
            findings = findings_of(Message.parse(body), levels, profile)
        except MalformedMessage as error:
            findings = (Finding(Level.ERROR, Check.STRUCTURE, "MSH", 1, error.reason, "", "HL7"),)
        yield lines[0], [(lines[finding.line - 1], finding) for finding in findings]


def print_findings(found: Sequence[Found]) -> None:
    """Findings below the file they are in, as ``FILE:LINE`` so that editors and terminals can jump there."""
    from itertools import groupby

    from rich.text import Text

    out = console()
    for file, items in groupby(found, key=lambda item: item[0]):
        out.print(Text(file, style="bold"))
        for _, line, finding in items:
            shown = Text("  ")
            shown.append(f"{file}:{line}", style="cyan")
            shown.append(f" {finding.path}", style="bold")
            shown.append(f" {finding.problem}", style="" if finding.level == "error" else "dim")
            out.print(shown)
            expected = f"expected {finding.expected} · " if finding.expected else ""
            out.print(Text(f"      {expected}{finding.level} of {finding.check} · {finding.source}", style="dim"))


def summary(messages: int, bad: int, found: Sequence[Found]) -> str:
    """One sentence about all of it."""
    counts = {level: sum(finding.level == level for _, _, finding in found) for level in ("error", "warn")}
    told = f"{_plural(counts['error'], 'error')}, {_plural(counts['warn'], 'warning')}"
    return f"{_plural(messages, 'message')}, {bad or 'none'} with errors: {told}."


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
