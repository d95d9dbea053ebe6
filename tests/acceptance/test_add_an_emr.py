"""The how-to of a new EMR, followed to the letter: its files, its two rows, the engine, and an EMR that is strict."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.hl7.message import Message
from engine.hl7.validation import Level, Levels, validate
from engine.simulators import Emr
from engine.simulators.profiles import BASE, NOTHING, STATUS, Profile, numbers
from engine.testing import load_for_tests
from tests.docs.conftest import Page, read_page

from .conftest import free_ports
from .peers import Sender, sample, siu, told, value

Site = Any
WaitFor = Callable[..., Any]

PAGE = Path(__file__).parents[2] / "docs" / "add-an-emr.md"
#: The guide of Lakeside's EMR, as its simulator takes it.
LAKESIDE = Profile(
    "lakeside",
    "LK",
    ("2.4",),
    "LAKESIDE",
    "LKS",
    {**BASE, "SCH": BASE["SCH"] - {26, 27}, "AIP": NOTHING, "AIS": numbers("1 2 3 4 7 8 10")},
    charsets=("8859/1",),
    structure_named="always",
    digits=12,
    bare_mrn=True,
    required=("SCH-8",),
    codes={"SCH-25": STATUS},
    events=frozenset({"S12", "S13", "S14", "S15", "S26"}),
)
LEVELS = Levels(extra=Level.ERROR, withdrawn=Level.ERROR, tables=Level.ERROR)


@pytest.fixture(scope="module")
def page() -> Page:
    return read_page(PAGE)


def follow(page: Page, site: Site, *, without: str = "", port: int = 2610) -> None:
    """Put the page's files into the site; rows go below those of a table that is there."""
    for block in page.blocks:
        if block.role == without or not block.role.startswith(("transforms/", "tables/")):
            continue
        path = site.folder / block.role
        text = block.text.replace("2610", str(port))
        if path.suffix == ".csv":
            head, rows = text.split("\n", 1)
            there = path.read_text()
            assert there.startswith(f"{head}\n"), f"{block.role} has other columns than the page says"
            text = there + rows
        path.write_text(text)


@contextmanager
def simulated(profile: Profile, port: int) -> Iterator[Emr]:
    """A simulated EMR in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    emr = Emr(profile, port=port)
    asyncio.run_coroutine_threadsafe(emr.start(), loop).result(20)
    try:
        yield emr
    finally:
        asyncio.run_coroutine_threadsafe(emr.stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def test_one_file_and_two_rows_are_a_new_emr(page: Page, new_site: Callable[..., Site], wait_for: WaitFor) -> None:
    site = new_site()
    (port,) = free_ports(1)
    written = [block.role for block in page.blocks if block.role]
    assert written == ["transforms/emr/lakeside.yaml", "tables/emrs.csv", "tables/facility_emr.csv"]
    follow(page, site, port=port)
    checked = site.run("check", str(site.folder), "--data", str(site.data))
    assert (checked.returncode, checked.stdout.strip().endswith("no problems.")) == (0, True), checked.stdout
    assert "no destination takes" not in checked.stdout
    with simulated(LAKESIDE, port) as emr:
        site.start(simulators=False)
        latin = [("|P|2.3\r", "|P|2.3||||||8859/1\r"), ("Doe^John", "M\xfcller^Eva")]
        sent = [
            siu("L1", "WSI"),
            siu("L1", "WSI", "S15"),
            siu("L2", "WSI", version="v251"),
            siu("L3", "WSI", replace=latin, control_id="LATIN").decode().encode("latin-1"),
            siu("L4", "DTI"),
        ]
        with Sender(site.port("SIU")) as ris:
            assert [told(ris.ask(message))[0] for message in sent] == ["AA"] * len(sent)
        result = sample("O2_ORU_critical_v251").replace(b"DTI", b"WSI")
        with Sender(site.port("ORU")) as ris:
            assert told(ris.ask(result))[0] == "AA"
        wait_for(lambda: len(emr.received) >= 4, "four messages at Lakeside")
        assert site.messages(control_id=value(result, "MSH-10"), state="routed"), "the other EMRs hear of results"
        assert [(entry.appointment_id, entry.kind[-3:], entry.answers) for entry in emr.received] == [
            ("L1", "S12", ["AA"]),
            ("L1", "S15", ["AA"]),
            ("L2", "S12", ["AA"]),
            ("L3", "S12", ["AA"]),
        ]
        assert emr.violations == []
        for entry in emr.received:
            found = validate(Message.parse(entry.body), LEVELS)
            assert [str(each) for each in found if each.level is Level.ERROR] == []
        assert b"|M\xfcller^Eva|" in emr.received[3].body
        assert value(emr.received[0].body, "PID-3") == "MRN123456"


#: What the page's table says is missing → what is done to the site that followed the page.
MISSING: dict[str, Callable[[Any], None]] = {
    "The file": lambda site: (site.folder / "transforms/emr/lakeside.yaml").unlink(),
    "The row of `tables/emrs.csv`": lambda site: site.edit("tables/emrs.csv", "lakeside,127.0.0.1,2610,,none\n", ""),
    "`version:` in the profile": lambda site: site.edit("transforms/emr/lakeside.yaml", '    version: "2.4"\n', ""),
    "A field that the version requires: with `without: [AIL-3]` at 2.3": lambda site: (
        site.edit("transforms/emr/lakeside.yaml", "without: [AIP]", "without: [AIL-3]"),
        site.edit("transforms/emr/lakeside.yaml", '"2.4"', '"2.3"'),
    )[0],
    "A segment that the message cannot do without: with `without: [RGS]`": lambda site: site.edit(
        "transforms/emr/lakeside.yaml", "without: [AIP]", "without: [RGS]"
    ),
    "A table that a `map:` names": lambda site: site.edit(
        "transforms/emr/lakeside.yaml", "SCH-8: {from: AIS-3}", "SCH-8: {from: AIS-3, map: lakeside_department}"
    ),
    "A setting: `version: $site.lakeside.version`": lambda site: site.edit(
        "transforms/emr/lakeside.yaml", '"2.4"', "$site.lakeside.version"
    ),
}


def test_check_says_what_is_missing_as_the_page_tells(page: Page, new_site: Callable[..., Site]) -> None:
    rows = {row[0]: row[1].strip("`") for row in page.rows("Missing")}
    assert rows.keys() == MISSING.keys()
    for what, damage in MISSING.items():
        site = new_site()
        follow(page, site)
        damage(site)
        problems = check(site)
        assert any(rows[what] in problem.replace("`", "") for problem in problems), (what, problems)


def check(site: Site) -> list[str]:
    """What ``hl7engine check`` finds, without a process for each."""
    return [str(problem) for problem in load_for_tests(site.folder, site.environment()).problems]
