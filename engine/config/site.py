"""A site's folder → SitePlan: site.yaml, every channel file, and the checks that need several files.

A channel that is wrong is in ``broken`` and the others load. Only a ``site.yaml`` that cannot be used raises. Files
that no channel uses are read too, so that ``check`` tells everything at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.config.compile import ChannelCompiler
from engine.config.files import SiteFiles, read_document
from engine.config.fingerprint import texts_in
from engine.config.hashes import hash_files
from engine.config.interpolate import Variables
from engine.config.models import NAME
from engine.config.patients import compile_patients
from engine.config.plan import ChannelPlan, SitePlan
from engine.config.problems import kind, nearest, of_validation
from engine.config.settings import PRIVATE, SiteSettings
from engine.config.words import Checked, check_words
from engine.config.yaml import Document, KeyPath, parse
from engine.errors import ConfigError, Problem

SITE = "site.yaml"


def load_site(folder: Path, data: Path | None, env: Mapping[str, str]) -> SitePlan:
    """Load the site in ``folder``; ``data`` overrides ``store.path``, ``env`` is what ``${VAR}`` reads.

    Raises ConfigError, with every problem of it, when site.yaml cannot be used.
    """
    folder = folder.resolve()
    hashes = hash_files(folder)
    variables = Variables(env, folder)
    site, settings, words = _settings(variables)
    data = (data or folder / settings.store.path).resolve()
    documents = {
        path.stem: read_document(folder, f"channels/{path.name}", variables) for path in _channel_files(folder)
    }
    names = {stem: _name(document, stem) for stem, document in documents.items()}
    values = {key: value for key, value in words.values.items() if key not in PRIVATE}
    files = SiteFiles(variables, values, frozenset(names.values()))
    compilers: dict[str, ChannelCompiler] = {}
    plans: dict[str, ChannelPlan | None] = {}
    patients = compile_patients(settings.patients, site.problem)
    for stem, document in documents.items():
        compilers[stem] = ChannelCompiler(document, names[stem], files, data, patients)
        plans[stem] = compilers[stem].compile()
    owners = _check_names(compilers)
    _check_claims(compilers, settings)
    _check_references(compilers, owners)
    broken = {
        compiler.name if owners[compiler.name] == stem else stem: _in_order(compiler.findings.problems.errors)
        for stem, compiler in compilers.items()
        if compiler.findings.problems.errors
    }
    channels = {
        plan.name: plan for stem, plan in plans.items() if plan and not compilers[stem].findings.problems.errors
    }
    problems = [*words.problems, *_site_notes(site, settings, files.channels), *_unused(files), *_strays(folder)]
    problems += _unread(site, settings, [*documents.values(), *files.documents.values()])
    problems += [problem for compiler in compilers.values() for problem in compiler.findings.problems.all]
    return SitePlan(folder, data, settings, channels, broken, _in_order(problems), dict(env), hashes)


def secret_names(folder: Path) -> tuple[str, ...]:
    """``secrets:`` of the site, which ``ensure_env`` generates before it is loaded. Empty when it cannot be read."""
    try:
        value = parse((folder / SITE).read_bytes(), SITE).value
    except OSError:
        return ()
    names = value.get("secrets") if isinstance(value, dict) else None
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


# -- site.yaml -----------------------------------------------------------------------------------------------------


def _settings(variables: Variables) -> tuple[Document, SiteSettings, Checked]:
    folder = variables.folder
    if not (folder / SITE).is_file():
        expected = "a folder with site.yaml, channels/, transforms/ and tables/"
        raise ConfigError([Problem(SITE, 0, "", f"there is no {SITE} in {folder}", expected)])
    document = read_document(folder, SITE, variables)
    problems = list(document.problems)
    if document.usable and not isinstance(document.value, dict):
        problems.append(
            document.problem((), f"found {kind(document.value)} instead of settings", expected="keys: rest, admin, …")
        )
    elif document.usable:
        try:
            settings = SiteSettings.model_validate(document.value)
        except ValidationError as error:
            problems += of_validation(error, SiteSettings, document, (), document.value)
        else:
            problems += _unsafe(document, settings)
            words = check_words(document, settings.words, variables)
            if not problems and all(problem.level == "note" for problem in words.problems):
                return document, settings, words
            problems += words.problems
    # From None: pydantic's own text would quote values, and some are keys.
    raise ConfigError(_in_order(problems)) from None


def _unsafe(document: Document, settings: SiteSettings) -> Iterator[Problem]:
    if settings.rest.port == settings.admin.port != 0 and settings.rest.host == settings.admin.host:
        yield document.problem(("admin", "port"), "the REST listener has the same port", expected="two ports")
    known: dict[str, str] = {}
    for name, caller in settings.api_keys.items():
        secret = caller.key.get_secret_value()
        if secret in known:
            message = f"the same key as `{known[secret]}`: callers could not be told apart"
            yield document.problem(("api_keys", name, "key"), message, expected="a key of its own")
        known.setdefault(secret, name)
    yield from _of_patients(document, settings)


def _of_patients(document: Document, settings: SiteSettings) -> list[Problem]:
    problems: list[Problem] = []

    def report(path: KeyPath, message: str, *, expected: str) -> None:
        problems.append(document.problem(("patients", *path), message, expected=expected))

    compile_patients(settings.patients, report)
    return problems


def _site_notes(document: Document, settings: SiteSettings, channels: frozenset[str]) -> Iterator[Problem]:
    """What does not keep the site from running."""
    for name, caller in settings.api_keys.items():
        for index, channel in enumerate(caller.channels):
            if channel not in channels:
                path = ("api_keys", name, "channels", index)
                near = nearest(channel, channels)
                yield document.problem(path, f"there is no channel `{channel}`", expected="a channel", nearest=near)
    own = list(SiteSettings.model_fields)
    for key in settings.model_extra or {}:
        near = nearest(key, own)
        if near and abs(len(near) - len(key)) <= 2:
            message = f"`{key}` is a value of this site's own, read as `$site.{key}`"
            yield document.problem((key,), message, nearest=near, level="note")


#: ``$site.cerner.version``, in a value or in a template.
_READ = re.compile(r"\bsite\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


def _unread(document: Document, settings: SiteSettings, files: Iterable[Document]) -> Iterator[Problem]:
    """Values of this site's own that nothing reads, where something else is read that is called nearly so."""
    read: dict[str, set[str]] = {}
    for file in files:
        for group, name in (found for text in texts_in(file.value) for found in _READ.findall(text)):
            read.setdefault(group, set()).add(name)
    for group, values in (settings.model_extra or {}).items():
        for name in values if isinstance(values, dict) else ():
            near = "" if name in read.get(group, ()) else nearest(name, read.get(group, ()))
            if near and near not in values:
                message = f"nothing reads `$site.{group}.{name}`"
                yield document.problem((group, name), message, nearest=near, level="note")


# -- channel files -------------------------------------------------------------------------------------------------


def _channel_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "channels").glob("*.yaml") if not path.name.startswith("."))


def _name(document: Document, stem: str) -> str:
    name = document.value.get("name") if isinstance(document.value, dict) else None
    return name if isinstance(name, str) and name else stem


def _check_names(compilers: Mapping[str, ChannelCompiler]) -> dict[str, str]:
    """Name → the file (stem) that has it: the one that is called so, else the first. The others are wrong."""
    owners: dict[str, str] = {}
    for stem, compiler in compilers.items():
        if stem == compiler.name or compiler.name not in owners:
            owners[compiler.name] = stem
    for stem, compiler in compilers.items():
        if owners[compiler.name] != stem:
            other = compilers[owners[compiler.name]].document.file
            compiler.place.report(
                ("name",), f"`{compiler.name}` is the channel of {other} too", expected="another name"
            )
        elif stem != compiler.name and re.fullmatch(NAME, compiler.name):
            message = f"the file is called {stem}.yaml; commands and other files say `{compiler.name}`"
            compiler.place.report(("name",), message, level="note")
    return owners


def _check_claims(compilers: Mapping[str, ChannelCompiler], settings: SiteSettings) -> None:
    """No two channels take messages in at the same place."""
    taken = {f"tcp:{settings.admin.port}": "site.yaml (admin)", f"tcp:{settings.rest.port}": "site.yaml (rest)"}
    for compiler in compilers.values():
        for claim in compiler.source.claims() if compiler.source is not None else ():
            if claim in taken:
                message = f"{_claimed(claim)} belongs to {taken[claim]}"
                compiler.place.report(("source",), message, expected="one channel for each")
            else:
                taken[claim] = compiler.document.file


def _claimed(claim: str) -> str:
    """``tcp:2575`` → ``port 2575``."""
    scheme, _, rest = claim.partition(":")
    return f"port {rest}" if scheme == "tcp" else rest


def _check_references(compilers: Mapping[str, ChannelCompiler], owners: Mapping[str, str]) -> None:
    """Channels that are asked give replies, channels that are fed take messages in, and none feeds itself."""
    by_name = {name: compilers[stem] for name, stem in owners.items()}
    feeds: dict[str, list[str]] = {}
    for compiler in compilers.values():
        for name, file, path in compiler.findings.asked:
            if name in by_name and by_name[name].raw and "reply" not in by_name[name].raw:
                document = compiler.document if file == compiler.document.file else compiler.files.documents[file]
                message = f"the channel `{name}` gives no reply"
                compiler.findings.problems.add(document.problem(path, message, expected="a channel with `reply:`"))
        for index, name in _fed(compiler.raw):
            path = ("destinations", index, "to", "channel")
            source = by_name[name].raw.get("source") if name in by_name else None
            if isinstance(source, dict) and "channel" not in source:
                message = f"the channel `{name}` takes nothing from other channels"
                compiler.place.report(path, message, expected="`source: {channel: {}}` there")
            elif name != compiler.name and compiler.name in _reached(name, feeds):
                circle = f"`{name}` leads back to `{compiler.name}`"
                compiler.place.report(path, f"a circle: {circle}", expected="an end to it")
            else:
                feeds.setdefault(compiler.name, []).append(name)


def _fed(raw: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Destinations ``to: {channel: …}`` by index, with the name of the channel."""
    items = raw.get("destinations")
    for index, item in enumerate(items if isinstance(items, list) else []):
        to = item.get("to") if isinstance(item, dict) else None
        target = to.get("channel") if isinstance(to, dict) else None
        name = target.get("name") if isinstance(target, dict) else target
        if isinstance(name, str):
            yield index, name


def _reached(start: str, feeds: Mapping[str, list[str]]) -> set[str]:
    """Every channel that messages of ``start`` can reach."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += feeds.get(name, [])
    return seen


# -- the rest ------------------------------------------------------------------------------------------------------


def _unused(files: SiteFiles) -> Iterator[Problem]:
    """Faults of files that no channel uses, or that only broken ones would."""
    for name in files.names("transforms", ".yaml"):
        yield from files.fragment(name).problems
    for name in files.names("tables", ".csv"):
        yield from files.table(name)[1]


def _strays(folder: Path) -> Iterator[Problem]:
    """Files that look as if they should count and do not."""
    found = (*folder.glob("channels/*"), *folder.glob("transforms/**/*"))
    for path in sorted(each for each in found if each.suffix != ".yaml" and each.suffix.lower() in (".yml", ".yaml")):
        file = path.relative_to(folder).as_posix()
        yield Problem(file, 0, "", "the file is not read", "the ending .yaml", level="note")
    if not _channel_files(folder):
        yield Problem(
            "channels", 0, "", "there are no channels", "files such as channels/lab-orders.yaml", level="note"
        )


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Each once, site.yaml first, then by file and line."""
    return tuple(
        sorted(dict.fromkeys(problems), key=lambda problem: (problem.file != SITE, problem.file, problem.line))
    )
