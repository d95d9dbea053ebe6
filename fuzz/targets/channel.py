"""The whole compile of a site: whatever a channel file says, there is a plan or there are Problems.

Input: what the file is (a channel, a transform, site.yaml), then its text. Everything else is this repository's site.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from engine.config import load_site
from engine.errors import ConfigError
from fuzz.data import ROOT, Input

_KINDS = ("channels/fuzzed.yaml", "transforms/fuzzed.yaml", "site.yaml")
_USES = "name: user\nsource: {mllp: {port: 0}}\ntransform: [{include: fuzzed}]\ndestinations: [{name: a, to: {discard: {}}}]\n"
_ENVIRONMENT = {
    "STORE_KEY": "A" * 43 + "=",
    "RADSCHEDULER_API_KEY": "key",
    "RADSCHEDULER_TOKEN": "token",
    "PHONE_SALT": "salt",
}


def _site() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hl7engine-fuzz-"))
    shutil.copy(ROOT / "site.yaml", folder)
    for name in ("channels", "transforms", "tables"):
        shutil.copytree(ROOT / name, folder / name)
    # One channel beside the fuzzed one is enough: what several do to each other is its own business.
    for path in sorted((folder / "channels").glob("*.yaml")):
        if path.stem != "ris-orders":
            path.unlink()
    (folder / "channels" / "user.yaml").write_text(_USES)
    (folder / "transforms" / "fuzzed.yaml").write_text("[]\n")
    return folder


_SITE = _site()
_ORIGINALS = {kind: (_SITE / kind).read_bytes() for kind in _KINDS[1:]}


def seeds() -> list[bytes]:
    """This site's own channels, transforms and settings, and every step with the others beside it."""
    channels = [b"\x00" + path.read_bytes() for path in sorted((ROOT / "channels").glob("*.yaml"))]
    transforms = [b"\x01" + path.read_bytes() for path in sorted((ROOT / "transforms").rglob("*.yaml"))]
    small = (
        b"\x00name: x\nsource: {mllp: {port: 2600, tls: true, max_size: 1MiB, idle_timeout: 10m}}\nack: delivered\n"
        b"order: {key: PID-3.1}\ntransform:\n- keep: {MSH-9.1: [SIU, ADT]}\n- set: {PID-3.1: $x, PV1-2: \"{{ message['PID-5.1'] | upper }}\"}\n"
        b"- lookup: {table: locations, key: PV1-3, into: y, missing: error}\n- python: radscheduler:slots\n- drop: {}\n"
        b"destinations:\n- name: a\n  where: {$y: z}\n  to: {mllp: {host: h, port: 1}}\n  retry: {backoff: [1s, 5s], give_up: never}\n"
        b"  on_answer: [{ack: AE, then: park}, {text: '(?i)queued', then: hold}]\n",
        b"\x00name: x\nsource: {rest: {method: POST, path: /x, body: {schema: ris/booking_request}, query: {a: {pattern: '(', format: date, from: 9d}}}}\n"
        b"transform: [{template: {a: '{{ body.a }}'}}]\ndestinations: [{name: a, to: {rest: {url: 'http://h', auth: {bearer: x}}}}]\nreply: {from: a, errors: ris/errors}\n",
    )
    return [*channels, *transforms, *small, b"\x02" + (ROOT / "site.yaml").read_bytes()]


def check(data: bytes) -> None:
    """Write the file and load the site."""
    given = Input(data)
    kind = given.choose(_KINDS)
    path = _SITE / kind
    path.write_bytes(given.rest())
    try:
        plan = load_site(_SITE, _SITE / "data", _ENVIRONMENT)
    except ConfigError as error:
        assert kind == "site.yaml", "a channel file has stopped the whole site"
        assert error.problems
        return
    finally:
        if kind in _ORIGINALS:
            path.write_bytes(_ORIGINALS[kind])
        else:
            path.unlink()
    for name, problems in plan.broken.items():
        assert problems, f"{name} is broken and nobody is told why"
    for problem in plan.problems:
        assert problem.message
        assert problem.file
        str(problem)
    for channel in plan.channels.values():
        assert channel.source.address
