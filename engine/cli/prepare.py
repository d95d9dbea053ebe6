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


def environment(site: Path) -> dict[str, str]:
    """The process's environment over the site's ``.env``; generates what is in neither. Raises ConfigError."""
    from engine.config.secrets import ensure_env
    from engine.config.site import secret_names

    return ensure_env(site, secret_names(site))


def prepare_data(site: Path, data: Path | None) -> Path:
    """The data folder, mode 0700, with the private CA's certificates in ``tls``; ends the command when it cannot be."""
    from engine.tls import ensure_certificates

    folder = data_folder(site, data)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
        ensure_certificates(folder / "tls")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fail(f"the data folder {folder} cannot be used: {why}", Exit.NEGATIVE)
    return folder


def load(site: Path, data: Path | None) -> SitePlan:
    """The site, compiled, with everything it needs. Raises ConfigError when site.yaml itself cannot be used."""
    from engine.config.site import load_site

    folder = site_folder(site)
    env = environment(folder)
    return load_site(folder, prepare_data(folder, data), env)
