"""Puts the site of this repository into the wheel, where ``hl7engine init`` finds it.

The files stand once, here; only a wheel holds them under ``engine/``. An installation for development reads them here.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

EXAMPLE = "engine/sites/radscheduler"
SITE = ("site.yaml", "channels", "tables", "transforms", "samples")


class SiteFiles(BuildHookInterface[Any]):
    """Called by hatchling for each wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the site's files, unless the wheel is an editable one."""
        if version == "standard":
            build_data["force_include"].update({name: f"{EXAMPLE}/{name}" for name in SITE})
