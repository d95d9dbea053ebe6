"""``init``: a new site that runs, written into an empty folder.

What it writes stands in ``engine/sites/``. The RadScheduler site's files are this repository's own; a wheel holds them
beside the rest of the example (``hatch_build.py``), so that they exist once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.exits import Exit
from engine.cli.output import fail

SITES = Path(__file__).parents[1] / "sites"
EMPTY = "empty"
#: Examples that the command line knows, beside the empty site.
EXAMPLES = ("radscheduler",)
#: What of a repository is its site.
PARTS = ("site.yaml", "channels", "transforms", "tables", "samples")
#: What is no file of a site wherever it lies.
LEFT_OUT = frozenset({"__pycache__", ".DS_Store"})
IGNORED = """\
# Secrets, and what the engine keeps. Neither belongs into version control.
.env
data/
__pycache__/
"""


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the new site; made when it is not there.")],
    example: Annotated[
        str | None, typer.Option(help=f"Start from an example instead of an empty site: {', '.join(EXAMPLES)}.")
    ] = None,
) -> None:
    """Write a new site that runs.

    An empty one has one channel, MLLP in and files out, and a README that says what to try next. The folder must be
    empty or new; a folder with anything in it is left as it is. Secrets are made for this site alone, in .env.

    [dim]Examples:[/dim]

    hl7engine init /srv/lab

    hl7engine init /srv/radscheduler --example radscheduler
    """
    files = dict(found(example_named(example)))
    where = folder.absolute()
    refuse_unless_empty(where)
    try:
        write(where, files)
    except OSError as error:
        named = f" ({error.filename})" if error.filename else ""
        fail(f"{where} cannot be written: {error.strerror or type(error).__name__}{named}", Exit.NEGATIVE)
    typer.echo(f"{where} is a site now: {', '.join(sorted({name.partition('/')[0] for name in files}))}.")
    for line in what_next(where, example):
        typer.echo(line)


def example_named(name: str | None) -> str:
    """The folder of ``engine/sites/`` that was asked for."""
    if name is None:
        return EMPTY
    if name not in EXAMPLES:
        nearest = get_close_matches(name.lower(), EXAMPLES, 1)
        meant = f"; did you mean {nearest[0]}?" if nearest else ""
        fail(f"there is no example {name!r} (there are: {', '.join(EXAMPLES)}){meant}", Exit.USAGE)
    return name


def found(example: str) -> Iterator[tuple[str, bytes]]:
    """Every file of a new site with its content, by its path below the site."""
    yield ".gitignore", IGNORED.encode()
    yield from files_below(SITES / example)
    if example != EMPTY and not (SITES / example / "site.yaml").is_file():
        repository = SITES.parents[1]  # not a wheel: the site is where the engine was installed from
        for part in PARTS:
            yield from files_below(repository / part, part)


def files_below(path: Path, name: str = "") -> Iterator[tuple[str, bytes]]:
    """Files at and below ``path``, which a new site calls ``name``."""
    if path.is_dir():
        for below in sorted(path.iterdir()):
            if below.name not in LEFT_OUT:
                yield from files_below(below, f"{name}/{below.name}" if name else below.name)
    else:
        yield name, path.read_bytes()


def refuse_unless_empty(folder: Path) -> None:
    """End the command when anything is there, or when there can be no folder."""
    try:
        there = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        fail(f"{folder} cannot be a site: {error.strerror or type(error).__name__}", Exit.USAGE)
    if there:
        shown = ", ".join(there[:3]) + (", …" if len(there) > 3 else "")
        fail(f"{folder} is not empty (it holds {shown}); nothing was written. Name a new folder", Exit.USAGE)


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write all files and the secrets, or nothing. Raises OSError, and ConfigError when ``.env`` cannot be written."""
    from engine.config.secrets import ensure_env
    from engine.config.site import secret_names

    made = missing((folder, *folder.parents))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = folder / name
            made += missing(path.parents)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                made.append(path)
                file.write(content)
        made.append(folder / ".env")
        # All of them, also what the environment has today: the site is to run tomorrow as well.
        ensure_env(folder, secret_names(folder), environ={})
    except BaseException:  # whatever ends it: half a site does not stay
        for path in reversed(made):
            with contextlib.suppress(OSError):  # somebody else has put something there
                path.rmdir() if path.is_dir() else path.unlink()
        raise


def missing(folders: Iterable[Path]) -> list[Path]:
    """Those that are not there yet, the outermost first."""
    return [folder for folder in folders if not folder.exists()][::-1]


def what_next(folder: Path, example: str | None) -> Iterator[str]:
    """What to say next, from where the reader stands."""
    import shlex

    here = Path.cwd()
    shown = shlex.quote(os.path.relpath(folder) if folder.is_relative_to(here) else str(folder))
    simulators = " --simulators" if example else ""
    yield "Next:"
    yield f"  hl7engine check {shown}"
    yield f"  hl7engine run {shown}{simulators}"
    yield f"{shown}/README.md says what to try then."
