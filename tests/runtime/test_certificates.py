"""What ends of a site's certificates is told once a day, whether anybody connects or not."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from engine.config.settings import RestSettings
from engine.tls import ensure_certificates
from tests.certificates import issue, revoke

from .conftest import Bench, Scripted, to


async def test_what_ends_is_told_every_day(bench: Bench, logged: Any, tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    ensure_certificates(folder)
    certificate, key = issue(folder, "engine", days=40)
    names = {"cert": certificate, "key": key, "client_ca": folder / "ca.pem", "crl": revoke(folder)}
    rest = RestSettings.model_validate({"tls": {key: str(path) for key, path in names.items()}})
    told = []
    async with bench.running(to(Scripted())) as supervisor:
        settings = supervisor.plan.settings.model_copy(update={"rest": rest})
        supervisor.plan = dataclasses.replace(supervisor.plan, settings=settings)
        for days in (0, 15, 41):
            logged.clear()
            bench.clock.at = time.time() + days * 86400.0
            await supervisor.housekeeping.daily()
            lines = [line for line in logged if line["event"].startswith("tls.")]
            told.append([(line["log_level"], line["event"], line["key"], line.get("days")) for line in lines])
    ends, ended = ("warning", "tls.certificate_ends"), ("error", "tls.certificate_ended")
    assert told == [
        [],
        [(*ends, "rest.tls.cert", 24), (*ended, "rest.tls.crl", None)],
        [(*ended, "rest.tls.cert", None), (*ended, "rest.tls.crl", None)],
    ]
