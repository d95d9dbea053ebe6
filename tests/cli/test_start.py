"""What a start costs, counted and not timed: what the process loads, and what the collector looks through."""

import gc
import subprocess
import sys

from engine.cli.serve import collect_what_is_new

#: What some channels, partners or commands need. Each takes up to a tenth of a second and several megabytes.
ON_DEMAND = {"aiohttp", "hl7", "hl7apy", "jinja2", "jsonschema", "phonenumbers", "engine.simulators", "engine.testing"}
LOADED = """\
import sys, engine.cli.logs, engine.cli.check, engine.cli.partners, engine.cli.prepare, engine.cli.serve
import engine.sources.mllp, engine.destinations.mllp, engine.transforms.set, engine.transforms.lookup
print(*sys.modules)
"""


def test_a_start_loads_only_what_its_channels_need() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert sorted(ON_DEMAND & set(done.stdout.split())) == []


def test_the_collector_goes_on_after_the_start_and_leaves_what_it_made_alone() -> None:
    before = gc.get_threshold()
    gc.disable()
    try:
        collect_what_is_new()
        assert gc.get_threshold()[0] >= 10_000
        assert gc.isenabled()
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
        gc.enable()
