"""What is left on the disk after a round: the data folder of the engine that was stopped, and the round's backups.

A backup that stands under its name is whole, also when the engine died while it was made. What stands under the name
of a draft is not taken for one, unless it is whole as well.
"""

import shutil
from pathlib import Path

from engine.errors import StoreError
from engine.store.backup import MANIFEST, verify, verify_backup

from .errands import Errands

DRAFT = ".part"


def look_at_disk(data: Path, errands: Errands) -> list[str]:
    """What is wrong. Backups that were looked at are removed, and store keys that nothing needs taken out."""
    errands.note_keys()
    found = [f"the data folder is not whole: {fault}" for fault in verify(data, errands.keys)]
    for name, made in errands.made.items():
        found += [f"{name}: {fault}" for fault in _backup(errands.backups / name, made, errands.keys)]
    for place in errands.backups.iterdir():
        shutil.rmtree(place)
    for name in errands.made:
        errands.made[name] = False
    return found


def _backup(place: Path, made: bool, keys: dict[int, bytes]) -> list[str]:
    if place.exists():
        return verify_backup(place, keys)
    found = ["the engine said that it is made, and it is not there"] if made else []
    draft = place.with_name(place.name + DRAFT)
    if draft.exists() and not (draft / MANIFEST).exists() and not _faults(draft, keys):
        found.append("was broken off, and its draft is taken for a backup")
    return found


def _faults(place: Path, keys: dict[int, bytes]) -> list[str]:
    try:
        return verify_backup(place, keys)
    except StoreError as error:
        return [str(error)]
