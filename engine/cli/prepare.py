"""What a site needs before anything of it can run: secrets, a private data folder, certificates, its files compiled.

The first run makes what is missing; later runs find it. ``check`` does the same, so that it judges what ``run`` would.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli.exits import Exit
from engine.cli.options import data_folder, site_folder
from engine.cli.output import fail

if TYPE_CHECKING:
    from engine.config.plan import SitePlan


#: What shows that a folder is an engine's data folder.
OWN = frozenset({"engine.db", "engine.lock", "tls"})


def environment(site: Path) -> dict[str, str]:
    """The process's environment over the site's ``.env``; generates what is in neither. Raises ConfigError."""
    from engine.config.secrets import ensure_env
    from engine.config.site import secret_names

    return ensure_env(site, secret_names(site))


def prepare_data(site: Path, data: Path | None) -> Path:
    """The data folder, mode 0700, with the private CA's certificates in ``tls``; ends the command when it cannot be."""
    from engine.tls import ensure_certificates

    folder = data_folder(site, data)
    if is_somebody_elses(folder):
        fail(f"{folder} holds other things and others may read it; name a data folder of its own", Exit.USAGE)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
        ensure_certificates(folder / "tls")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fail(f"the data folder {folder} cannot be used: {why}", Exit.NEGATIVE)
    return folder


def is_somebody_elses(folder: Path) -> bool:
    """Whether making this folder private would take it away from something else (``--data /tmp``)."""
    if not folder.is_dir() or not folder.stat().st_mode & 0o077:
        return False
    found = {path.name for path in folder.iterdir()}
    return bool(found) and not found & OWN


def load(site: Path, data: Path | None) -> SitePlan:
    """The site, compiled, with everything it needs. Raises ConfigError when site.yaml itself cannot be used."""
    from engine.config.site import load_site

    folder = site_folder(site)
    env = environment(folder)
    return load_site(folder, prepare_data(folder, data), env)
