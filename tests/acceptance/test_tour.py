"""``hl7engine run --simulators``: what it prints works when it is pasted, and nothing of it outlives the engine."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

Site = Any
NewSite = Callable[..., Any]
WaitFor = Callable[..., Any]


def words_of(line: str, site: Site) -> list[str]:
    """What the shell makes of a line."""
    script = f"set -- {line}\nprintf '%s\\0' \"$@\""
    done = subprocess.run(["sh", "-c", script], cwd=site.folder.parent, capture_output=True, text=True, check=True)
    return done.stdout.rstrip("\0").split("\0")


def curl(line: str, site: Site) -> Any:
    """The answer to a printed curl line."""
    program, *words = words_of(line, site)
    assert program == "curl"
    headers, body, method, url = {}, None, "", ""
    while words:
        word = words.pop(0)
        if word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = words.pop(0).encode()
        elif word == "-X":
            method = words.pop(0)
        elif word != "-s":
            url = word
    address, _, path = url.removeprefix("http://127.0.0.1:").partition("/")
    names = [name for name in ("REST", "SIMULATOR_CONTROL") if site.env[f"{name}_PORT"] == address]
    assert names, f"{url} is no address of this site"
    return site.call(names[0], method or ("POST" if body else "GET"), f"/{path}", body, headers)


def test_the_printed_lines_work(new_site: NewSite, wait_for: WaitFor) -> None:
    site = new_site(options=["--simulators"])
    site.start(simulators=False)
    text = wait_for(lambda: "Stop with Ctrl-C." in site.told() and site.told(), "the tour")
    assert site.secret("RADSCHEDULER_API_KEY") not in text
    assert site.secret("RADSCHEDULER_TOKEN") not in text
    lines = [line.strip().partition("   #")[0] for line in text.splitlines()]
    calls = [line for line in lines if line.startswith("curl ") and "X-API-Key" in line]
    locations, slots, booking = (curl(call, site) for call in calls)
    assert [location["id"] for location in locations.json["locations"]] == ["DTI", "NSI"]
    assert slots.json["slots"]
    assert (booking.status, booking.json["confirmationNumber"]) == (201, "ACC778899")

    commands = [words_of(line, site) for line in lines if line.partition(" ")[0].endswith("hl7engine")]
    assert len(commands) == 3
    for command in commands:
        done = site.run(*command[1:])
        assert done.returncode == 0, done.stderr
    [trace] = [command for command in commands if command[1] == "trace"]
    hops = json.loads(site.run(*trace[1:], "--json").stdout)["hops"]
    assert "radscheduler-book-appointment" in {hop["channel"] for hop in hops}

    faults = [line for line in lines if line.startswith("curl ") and "X-API-Key" not in line]
    assert all(curl(line, site).status < 300 for line in faults)
    assert f"simulator{' ' * 3}" in text


def test_simulators_end_with_the_engine_however_it_ends(new_site: NewSite, wait_for: WaitFor) -> None:
    for end in ("kill", "terminate"):
        site = new_site(options=["--simulators"])
        site.start(simulators=False)
        wait_for(lambda site=site: "Stop with Ctrl-C." in site.told(), "the tour")
        assert site.is_listening("SIMULATOR_CONTROL")
        getattr(site, end)()
        wait_for(lambda site=site: not site.is_listening("SIMULATOR_CONTROL"), "the simulators have ended")
        assert not site.is_listening("RIS")
