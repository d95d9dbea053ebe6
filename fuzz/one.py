"""Fuzzes one target in this process, with libFuzzer's own arguments: ``python -m fuzz.one TARGET [-runs=N …] DIR…``."""

from __future__ import annotations

import importlib
import sys

import atheris


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, *arguments = sys.argv[1:]
    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=["engine"]):
        target = importlib.import_module(f"fuzz.targets.{name}")
    atheris.Setup([sys.argv[0], *arguments], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
