"""Options that commands share, and the folders they name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.exits import Exit
from engine.cli.output import fail

SITE_FILE = "site.yaml"

SiteArgument = Annotated[Path, typer.Argument(help="Folder of the site (it holds site.yaml).", show_default="here")]
Site = Annotated[Path, typer.Option(help="Folder of the site whose engine is meant.", show_default="here")]
Data = Annotated[
    Path | None, typer.Option(help="Data folder of the engine.", metavar="DIR", show_default="as site.yaml says")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def site_folder(site: Path) -> Path:
    """The site's folder, absolute; ends the command when it is none."""
    if not (site / SITE_FILE).is_file():
        fail(f"{site.absolute()} is no site: it has no {SITE_FILE}", Exit.USAGE)
    return site.resolve()


def data_folder(site: Path, data: Path | None) -> Path:
    """Where the engine of ``site`` keeps its data, without loading the whole site: ``--data``, else ``store.path``."""
    if data is not None:
        return data.resolve()
    folder = site_folder(site)
    from engine.config.files import read_document
    from engine.config.interpolate import Variables
    from engine.config.secrets import read_env

    env_file = folder / ".env"
    env = read_env(env_file.read_text(encoding="utf-8")) if env_file.is_file() else {}
    settings = read_document(folder, SITE_FILE, Variables({**env, **os.environ}, folder)).value
    store = settings.get("store") if isinstance(settings, dict) else None
    path = store.get("path") if isinstance(store, dict) else None
    return (folder / path if isinstance(path, str) else folder / "data").resolve()
