"""The wheel, installed where this repository is not on the path, writes a site and runs it."""

import shutil
import site as python_site
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

REPOSITORY = Path(__file__).parents[2]


def run(*words: Any, cwd: Path) -> str:
    """A command's output; AssertionError with it when the command fails."""
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=REPOSITORY)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; its dependencies are those of the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python),
        *("install", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", wheel),
        cwd=folder,
    )
    # A line in a .pth file adds a folder without reading the .pth files in it, so the repository stays unseen.
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in python_site.getsitepackages()))
    return folder


def files_below(folder: Path, name: str) -> set[str]:
    """Every file below, as the wheel names it when it calls the folder ``name``."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {f"{name}/{path.relative_to(folder)}" for path in paths}


def test_the_wheel_holds_the_engine_and_its_example_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"engine", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    wanted = files_below(REPOSITORY / "engine", "engine") | {"engine/sites/radscheduler/site.yaml"}
    for part in ("channels", "tables", "transforms", "samples"):
        wanted |= files_below(REPOSITORY / part, f"engine/sites/radscheduler/{part}")
    assert wanted == {name for name in names if name.startswith("engine/")}


def test_the_wheel_writes_a_site_and_runs_it(
    installed: Path, new_site: Callable[..., Any], booking: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    where = run(installed / "bin" / "python", "-c", "import engine; print(engine.__file__)", cwd=installed)
    assert Path(where.strip()).is_relative_to(installed)
    site = new_site(program=[str(installed / "bin" / "hl7engine")], options=["--simulators"])
    shutil.rmtree(site.folder)
    made = site.run("init", str(site.folder), "--example", "radscheduler")
    assert made.returncode == 0, made.stderr
    checked = site.run("check", str(site.folder), "--data", str(site.data))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    number = len(list((REPOSITORY / "channels").glob("*.yaml")))
    assert f"{number} channels can run: no problems." in checked.stdout
    site.start(simulators=False)
    wait_for(lambda: "Stop with Ctrl-C." in site.told(), "the simulators")
    assert site.locations().status == 200
    assert site.book(booking(), "wheel").status == 201
    assert site.terminate() == 0
