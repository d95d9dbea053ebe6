"""``words:`` of site.yaml: which values the site's own members may have, and which do not go together.

The engine knows no RIS and no EMR. A site whose channels choose by ``$site.ris.booking`` declares the possible words in
a file of ``transforms/``, and a slip in site.yaml is told there, with the nearest word, instead of as a file that no
channel finds.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from engine.config.files import read_document
from engine.config.interpolate import Variables
from engine.config.problems import kind, nearest, of_validation, one_of
from engine.config.yaml import Document, KeyPath
from engine.errors import Problem


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WordPart(_Part):
    """One member of site.yaml."""

    one_of: list[str] = Field(min_length=1, description="The values it may have.")
    same: dict[str, str] = Field({}, description="Other words for them: what is written → what it is taken for.")
    refused: dict[str, str] = Field({}, description="Values that cannot be: value → why not.")


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Values = Annotated[list[str], BeforeValidator(_listed)]


class RulePart(_Part):
    """Values that do not go together, or that a person should know something about."""

    when: dict[str, Values] = Field(min_length=1, description="Member → its values; all must be so.")
    because: str = Field(description="Why not, as a sentence without its stop.")
    level: Literal["error", "note"] = Field("error", description="note: it is said, and runs all the same.")


class WordsPart(_Part):
    """A file of words."""

    words: dict[str, WordPart] = Field(description="Member of site.yaml (`ris.version`) → what it may be.")
    rules: list[RulePart] = []


@dataclass(frozen=True, slots=True)
class Checked:
    """site.yaml held to its words: the values with other words replaced, and what is wrong or worth knowing."""

    values: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()


def check_words(site: Document, name: str | None, variables: Variables) -> Checked:
    """Hold ``site`` to the words of ``transforms/NAME.yaml``; without a name nothing is asked."""
    if name is None:
        return Checked(site.value)
    document = _read(site, name, variables)
    if isinstance(document, Problem):
        return Checked(site.value, (document,))
    problems = list(document.problems)
    if not document.usable:
        return Checked(site.value, tuple(problems))
    try:
        part = WordsPart.model_validate(document.value)
    except ValidationError as error:
        return Checked(site.value, (*problems, *of_validation(error, WordsPart, document, (), document.value)))
    problems += _own_faults(part, document)
    values = copy.deepcopy(site.value)
    said: dict[str, str] = {}
    for member, word in part.words.items():
        found = _take(values, member, word, site, said)
        problems += [found] if found else []
    problems += _together(part, site, said)
    return Checked(values, tuple(problems))


def _read(site: Document, name: str, variables: Variables) -> Document | Problem:
    folder = variables.folder / "transforms"
    known = sorted(path.relative_to(folder).as_posix().removesuffix(".yaml") for path in folder.rglob("*.yaml"))
    if name not in known:
        expected = "the name of a file in transforms/, without ending"
        message = f"there is no file transforms/{name}.yaml"
        return site.problem(("words",), message, expected=expected, nearest=nearest(name, known))
    return read_document(variables.folder, f"transforms/{name}.yaml", variables)


def _own_faults(part: WordsPart, document: Document) -> Iterator[Problem]:
    """What the file of words itself says that cannot be."""
    for member, word in part.words.items():
        for other, meant in word.same.items():
            if meant not in word.one_of:
                path: KeyPath = ("words", member, "same", other)
                near = nearest(meant, word.one_of)
                yield document.problem(path, "this is no value of it", expected=one_of(word.one_of), nearest=near)
    for index, rule in enumerate(part.rules):
        for member, values in rule.when.items():
            path = ("rules", index, "when", member)
            if member not in part.words:
                near = nearest(member, part.words)
                yield document.problem(path, "this member has no words", expected=one_of([*part.words]), nearest=near)
                continue
            known = [*part.words[member].one_of, *part.words[member].same]
            for value in values:
                if value not in known:
                    near = nearest(value, known)
                    yield document.problem(path, "this is no value of it", expected=one_of(known), nearest=near)


def _take(values: dict[str, Any], member: str, word: WordPart, site: Document, said: dict[str, str]) -> Problem | None:
    """Note what ``member`` says, by the word that it is taken for; the problem when it is none."""
    path = tuple(member.split("."))
    holder: Any = values
    for key in path[:-1]:
        holder = holder.get(key) if isinstance(holder, dict) else None
    value = holder.get(path[-1]) if isinstance(holder, dict) else None
    if site.spoiled(path):
        return None
    if value is None:
        return site.problem(path, f"`{member}` is missing", expected=one_of(word.one_of))
    if isinstance(value, dict | list | bool):
        return site.problem(path, f"found {kind(value)}", expected=one_of(word.one_of))
    text = str(value)
    if text in word.same:
        holder[path[-1]] = said[member] = word.same[text]
        return site.problem(path, f"`{text}` is taken for `{word.same[text]}`", level="note")
    if text in word.one_of:
        holder[path[-1]] = said[member] = text
        return None
    # What a variable filled in is not quoted: it may be a secret in the wrong place.
    shown = f"`{site.written(path)}`"
    if text in word.refused:
        return site.problem(path, f"{shown} cannot be: {word.refused[text]}", expected=one_of(word.one_of))
    near = nearest(text, [*word.one_of, *word.same])
    return site.problem(path, f"{shown} is not known here", expected=one_of(word.one_of), nearest=near)


def _together(part: WordsPart, site: Document, said: Mapping[str, str]) -> Iterator[Problem]:
    for rule in part.rules:
        if all(said.get(member) in values for member, values in rule.when.items()):
            # It is told at the member that the rule names last: the one to change.
            *others, last = rule.when
            beside = f" with {' and '.join(f'{member} {said[member]}' for member in others)}" if others else ""
            cannot = " cannot be" if rule.level == "error" else ""
            message = f"`{said[last]}`{beside}{cannot}: {rule.because}"
            yield site.problem(tuple(last.split(".")), message, level=rule.level)
