"""Commands, links, paths and tests that the documentation names exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer.main

from engine.cli import app
from engine.simulators import Control
from engine.testing import load_for_tests

#: Name → command, as typer made it.
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
#: Options of other programs in the examples.
FOREIGN = {"--insecure", "--seconds", "--connections", "--parts", "--rows", "--scale", "--turns"}


def options(command: Any) -> set[str]:
    """The long options of a command that people are told of."""
    return {
        name
        for parameter in command.params
        if parameter.param_type_name == "option" and not parameter.hidden
        for name in parameter.opts
        if name.startswith("--") and name != "--help"
    }


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_told_with_all_its_options(pages: dict[str, Any], name: str) -> None:
    section = pages["docs/operating.md"].section(f"### `hl7engine {name}`")
    assert set(re.findall(r"--[a-z][a-z-]+", section)) - FOREIGN == options(COMMANDS[name])
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "argument":
            assert (parameter.metavar or parameter.name or "").upper() in section


def test_there_is_no_section_for_a_command_that_does_not_exist(pages: dict[str, Any]) -> None:
    told = re.findall(r"^### `hl7engine ([a-z-]+)`$", pages["docs/operating.md"].text, re.MULTILINE)
    assert sorted(told) == sorted(COMMANDS)


def command_lines(page: Any) -> list[list[str]]:
    """Every line of a shell block and every piece of code in the prose that calls `hl7engine`."""
    lines = [line.removeprefix("$ ") for block in page.blocks if block.language == "sh" for line in joined(block.text)]
    lines += re.findall(r"`((?:\.venv/bin/)?hl7engine [^`]+)`", page.prose)
    found = []
    for line in lines:
        parts = shlex.split(line, comments=True)
        if parts and parts[0].endswith("hl7engine"):
            found.append(parts[1:])
    return found


def joined(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


def test_commands_in_the_text_exist(page: Any) -> None:
    for words in command_lines(page):
        if words[0].startswith("-"):
            continue
        assert words[0] in COMMANDS, f"{page.name}: hl7engine {words[0]}"
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= options(COMMANDS[words[0]]) | {"--help"}, f"{page.name}: {words}"


def test_options_in_the_text_exist(page: Any) -> None:
    known = {"--version", "--help", *FOREIGN, *(name for command in COMMANDS.values() for name in options(command))}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.prose)) <= known


def test_make_targets_in_the_text_exist(page: Any, root: Path) -> None:
    known = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"^(?:\$ )?make ([a-z]+)", "\n".join(b.text for b in page.blocks if b.language == "sh"), re.M)
    named += re.findall(r"`make ([a-z]+)", page.prose)
    assert set(named) <= known


def test_addresses_that_are_called_exist(page: Any, root: Path) -> None:
    """Every curl of a page leads to a route of the reference site, of the simulators or of the admin API."""
    lines = [line for block in page.blocks if block.language == "sh" for line in joined(block.text) if "curl" in line]
    for line in lines:
        parts = shlex.split(line, comments=True)
        parts = parts[parts.index("curl") :] if "curl" in parts else []
        urls = [part for part in parts if part.startswith("http")]
        method = parts[parts.index("-X") + 1] if "-X" in parts else "POST" if "-d" in parts else "GET"
        for url in urls:
            where = urlsplit(url)
            assert is_served(root, where.port, method, where.path or "/"), f"{page.name}: {method} {url}"


def is_served(root: Path, port: int | None, method: str, path: str) -> bool:
    if port == 8071:
        return any(
            route.method == method and matches(route.resource, path) for route in Control().app().router.routes()
        )
    if port == 8080:
        return f"{method} {path}" in {plan.source.address for plan in load_for_tests(root).channels.values()}
    if port == 8090:
        source = "".join(file.read_text() for file in (root / "engine" / "admin").glob("*.py"))
        routes_of = re.findall(r'@router\.(get|post)\("([^"]+)"\)', source)
        return any(
            verb.upper() == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", known), path)
            for verb, known in routes_of
        )
    return False


def matches(resource: Any, path: str) -> bool:
    """Whether a route of aiohttp serves this path."""
    known = resource.get_info() if resource is not None else {}
    return known.get("path") == path or ("pattern" in known and known["pattern"].fullmatch(path) is not None)


def test_links_lead_somewhere(page: Any) -> None:
    for target in LINK.findall(page.prose) + re.findall(r'(?:src|href)="([^"]+)"', page.text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}"


def anchors(path: Path) -> set[str]:
    """What headings are called in addresses."""
    found = set()
    for title in re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", title.lower())
        found.add(plain.replace(" ", "-"))
    return found


def test_every_page_can_be_reached_from_the_readme(pages: dict[str, Any], root: Path) -> None:
    seen: set[str] = set()
    waiting = ["README.md"]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in pages:
            continue
        seen.add(name)
        folder = pages[name].path.parent
        for target in LINK.findall(pages[name].prose):
            path = (folder / target.partition("#")[0]).resolve()
            if path.is_relative_to(root):
                waiting.append(path.relative_to(root).as_posix())
    assert seen == {name for name in pages if not name.startswith("engine/sites/")}  # those go into new sites


def test_tests_that_prove_a_promise_exist(pages: dict[str, Any], root: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", pages["docs/promises.md"].text)
    assert len(named) > 20
    for file, test in named:
        assert re.search(rf"^\s*(?:async )?def {test}\(", (root / file).read_text(), re.MULTILINE), f"{file}::{test}"


def test_files_that_the_text_names_exist(page: Any, root: Path) -> None:
    """Files of the reference site and of the engine, as far as a page names them by their full path."""
    pattern = r"`((?:channels|transforms|tables|samples|engine|benchmarks|tests)/[\w./-]+\.(?:yaml|csv|py|json|hl7))`"
    shown = {block.role for block in page.blocks}
    folders = (root, page.path.parent)  # the README of a new site names files of that site
    for name in re.findall(pattern, page.prose):
        meant = name in shown or re.search("NAME|FILE", name) or any((folder / name).exists() for folder in folders)
        assert meant, f"{page.name}: {name}"
    for block in page.blocks:
        if block.language == "sh":
            for name in re.findall(r"(?:samples|tables|channels|transforms|benchmarks)/[\w./-]+\.\w+", block.text):
                there = [folder / name.removesuffix(".bak") for folder in folders]
                assert any(path.exists() for path in there), f"{page.name}: {name}"
