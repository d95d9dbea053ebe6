"""This repository's own site: it loads without a word, and one slip in any of its files is told exactly."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.config import load_site, secret_names
from engine.config.plan import SitePlan

ROOT = Path(__file__).resolve().parents[2]
CHANNELS = {
    "radscheduler-available-slots",
    "radscheduler-book-appointment",
    "radscheduler-booked",
    "radscheduler-cancel",
    "radscheduler-locations",
    "ris-orders",
    "ris-oru-router",
    "ris-siu-router",
    "athena-rest",
    "athena-rest-slot",
    "twilio-status",
}
THEIRS = ("TWILIO_AUTH_TOKEN", "ATHENA_CLIENT_SECRET")
ENV = {name: f"s3cret-{name}" for name in ("RADSCHEDULER_API_KEY", "RADSCHEDULER_TOKEN", "PHONE_SALT", *THEIRS)}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> SitePlan:
    return load_site(ROOT, tmp_path_factory.mktemp("data"), ENV)


def test_it_loads_without_a_word(plan: SitePlan) -> None:
    assert [str(problem) for problem in plan.problems] == []
    assert set(plan.channels) == CHANNELS
    assert plan.broken == {}


def test_its_secrets_are_the_ones_that_are_generated(plan: SitePlan) -> None:
    assert set(secret_names(ROOT)) == set(ENV)
    assert plan.settings.api_keys["radscheduler"].key.get_secret_value() == ENV["RADSCHEDULER_API_KEY"]
    assert set(plan.settings.api_keys["radscheduler"].channels) < CHANNELS
    assert "s3cret" not in repr(plan)


def test_its_ports_and_zone_are_the_documented_ones(plan: SitePlan) -> None:
    assert (plan.settings.rest.host, plan.settings.rest.port) == ("127.0.0.1", 8080)
    assert (plan.settings.admin.host, plan.settings.admin.port) == ("127.0.0.1", 8090)
    assert plan.settings.timezone == "America/Chicago"
    claims = {name: channel.source.claims() for name, channel in plan.channels.items()}
    assert claims["ris-siu-router"] == ("tcp:2575",)
    assert claims["ris-orders"] == ("tcp:2577",)
    assert claims["ris-oru-router"] == ("tcp:2578",)
    assert claims["radscheduler-available-slots"] == ("http:GET /api/ris/available-slots",)
    assert claims["radscheduler-book-appointment"] == ("http:POST /api/ris/book-appointment",)
    assert claims["radscheduler-locations"] == ("http:GET /api/ris/locations",)
    assert claims["radscheduler-cancel"] == ()


def test_its_promises_are_those_of_the_design(plan: SitePlan) -> None:
    router = plan.channels["ris-siu-router"]
    assert (router.ack, router.on_error, router.reply) == ("received", "park", None)
    epic = next(destination for destination in router.destinations if destination.name == "epic")
    assert [(sorted(rule.ack | rule.condition), rule.then) for rule in epic.on_answer] == [
        (["207"], "retry"),
        (["AE"], "park"),
        (["AR"], "hold"),
    ]
    assert epic.where is not None
    assert epic.where.variables == {"emr": frozenset({"epic"})}
    booking = plan.channels["radscheduler-book-appointment"]
    assert booking.reply is not None
    assert booking.idempotency is not None
    assert (booking.reply.status, booking.idempotency.at_least) == (201, 86400.0)
    assert booking.destinations[0].on_unanswered == "unknown"
    assert booking.destinations[0].retry.attempts == 1, "the engine never repeats a booking by itself"
    assert plan.channels["radscheduler-available-slots"].destinations[0].retry.attempts == 2
    assert plan.channels["ris-orders"].ack == "routed"
    assert plan.channels["ris-orders"].destinations[0].retry.give_up == 86400.0


def test_every_code_that_callers_see_has_its_sentence(plan: SitePlan) -> None:
    reply = plan.channels["radscheduler-book-appointment"].reply
    assert reply is not None
    assert (reply.rows["slot_taken"].status, reply.rows["slot_taken"].message) == (
        409,
        "The slot is no longer available.",
    )
    assert (reply.rows["ris_unavailable"].status, reply.rows["ris_unavailable"].retry_after) == (503, 10.0)
    assert reply.rows["ris_timeout"].message == "The RIS did not answer in time; the booking may exist."
    assert reply.rows["unknown_order"].status == 404


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the site that a test may spoil."""
    site = tmp_path / "site"
    for folder in ("channels", "transforms", "tables"):
        shutil.copytree(ROOT / folder, site / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "site.yaml", site / "site.yaml")
    return site


#: File, what stands there, the slip → what is told, after file and line.
SLIPS = [
    (
        "channels/ris-siu-router.yaml",
        "mllp: {port:",
        "mlpp: {port:",
        "source.mlpp: no source is called `mlpp`; expected one of channel, mllp, rest; did you mean 'mllp'?",
    ),
    (
        "channels/ris-siu-router.yaml",
        "destinations:",
        "detsinations:",
        "detsinations: unknown key `detsinations`; expected one of name, description, source, ack, ack_deadline,"
        " duplicates, batch, order,"
        " patients, on_error, charset, transform, destinations, reply, idempotency, breaker, retention;"
        " did you mean 'destinations'?",
    ),
    (
        "channels/ris-siu-router.yaml",
        "ack: received",
        "ack: recieved",
        "ack: `recieved` is not known here; expected one of received, routed, delivered or keys with"
        " values; did you mean 'received'?",
    ),
    (
        "channels/ris-siu-router.yaml",
        "{$emr: athena}",
        "{$erm: athena}",
        "destinations[1].where.$erm: no step sets `$erm`; expected ",
    ),
    (
        "channels/ris-siu-router.yaml",
        "table: facility_emr",
        "table: facilty_emr",
        "transform[4].lookup.table: there is no table tables/facilty_emr.csv;"
        " expected the name of a file in tables/, without ending; did you mean 'facility_emr'?",
    ),
    (
        "channels/ris-siu-router.yaml",
        "include: emr/epic",
        "include: emr/epik",
        "destinations[0].transform[0].include: there is no file transforms/emr/epik.yaml;"
        " expected the name of a file in transforms/, without ending; did you mean 'emr/epic'?",
    ),
    (
        "channels/radscheduler-book-appointment.yaml",
        "missing: {error: unknown_order}",
        "missing: {error: unknown_ordr}",
        "transform[1].recall.missing.error: no error is called `unknown_ordr`;"
        " expected a code of the file of `reply.errors`; did you mean 'unknown_order'?",
    ),
    (
        "channels/radscheduler-book-appointment.yaml",
        "python: radscheduler:confirmation",
        "python: radscheduler:confirm",
        "reply.transform[0].python: `confirm` does not exist in transforms/radscheduler.py; expected ",
    ),
    (
        "channels/radscheduler-book-appointment.yaml",
        "from: ris ",
        "from: riss ",
        "reply.from: no destination of this channel is called `riss`; expected ris; did you mean 'ris'?",
    ),
    (
        "transforms/ris/booking_errors.yaml",
        "{condition: 206}",
        "{conditon: 206}",
        "[4].when.conditon: unknown key `conditon`; expected one of ack, condition, location, application_error,"
        " unavailable, unanswered, bad_response, response, text; did you mean 'condition'?",
    ),
    (
        "transforms/emr/epic.yaml",
        "map: epic_visit_type",
        "map: epic_visit_typ",
        "[1].build.fields.SCH-8.map: there is no table tables/epic_visit_typ.csv;"
        " expected the name of a file in tables/, without ending; did you mean 'epic_visit_type'?",
    ),
    (
        "transforms/emr/epic.yaml",
        "$site.epic.version",
        "$site.epic.verson",
        "[1].build.version: site.yaml has no epic.verson; expected ",
    ),
    ("transforms/emr/epic.yaml", "- build:", "- biuld:", "[1].biuld: no step is called `biuld`; expected one of "),
    (
        "tables/facility_emr.csv",
        "DTI,athena",
        "DTI",
        "values: 1, columns of the table: 2; expected as many; a value with a comma in quotes",
    ),
]


@pytest.mark.parametrize(("file", "stands", "slip", "told"), SLIPS, ids=[slip for _, _, slip, _ in SLIPS])
def test_one_slip_is_told_once_with_its_line_and_the_other_channels_load(
    copy: Path, file: str, stands: str, slip: str, told: str
) -> None:
    text = (copy / file).read_text()
    assert stands in text
    line = text[: text.index(stands)].count("\n") + 1
    (copy / file).write_text(text.replace(stands, slip, 1))
    plan = load_site(copy, None, ENV)
    lines = {str(problem) for problem in plan.problems if problem.level == "error"}
    assert len(lines) == 1
    assert lines.pop().startswith(f"{file}:{line}: {told}")
    assert plan.broken, "the channel that needs it does not run half"
    assert set(plan.channels) | set(plan.broken) == CHANNELS
    assert len(plan.channels) >= len(CHANNELS) - 2, "no more than share a table"
    assert not set(plan.channels) & set(plan.broken)


def test_without_its_secrets_the_site_says_which_ones(copy: Path) -> None:
    from engine.errors import ConfigError

    with pytest.raises(ConfigError, match="the environment has no `RADSCHEDULER_API_KEY`"):
        load_site(copy, None, {})
