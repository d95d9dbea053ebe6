"""Options that commands share, and the folders they name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

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


def store_keys(site: Path) -> dict[int, bytes]:
    """The ring of store keys where the site keeps it; empty when it is not at hand. Makes nothing."""
    from engine.config.files import read_document
    from engine.config.interpolate import Variables
    from engine.config.secrets import read_env
    from engine.config.settings import StoreSettings
    from engine.config.store_keys import StoreKeys
    from engine.errors import StoreError

    env_file = site / ".env"
    env = read_env(env_file.read_text(encoding="utf-8")) if env_file.is_file() else {}
    settings: Any = {}
    if (site / SITE_FILE).is_file():
        settings = read_document(site, SITE_FILE, Variables({**env, **os.environ}, site)).value
    store = settings.get("store", {}) if isinstance(settings, dict) else {}
    key_file = store.get("key_file") if isinstance(store, dict) else None
    known = StoreSettings(key_file=Path(key_file)) if isinstance(key_file, str) else StoreSettings()
    try:
        return StoreKeys(site, known).read()
    except (StoreError, KeyError):
        return {}
