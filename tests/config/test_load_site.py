"""A folder becomes a SitePlan; what needs several files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.config import load_site, secret_names
from engine.config.settings import SiteSettings
from engine.errors import ConfigError

TO = "destinations: [{name: a, to: {mllp: {port: 2601}}}]\n"


def source(port: int = 2575) -> str:
    return f"source: {{mllp: {{port: {port}}}}}\n"


def lines(site: Any) -> list[str]:
    return [str(problem) for problem in site.load().problems]


def refused(site: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        site.load()
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return [str(problem) for problem in caught.value.problems]


# -- site.yaml -----------------------------------------------------------------------------------------------------


def test_settings_have_safe_defaults_and_the_sites_own_values(site: Callable[..., Any]) -> None:
    made = site({"site.yaml": "ris: {version: '2.3', rooms: [1, 2]}\n", "channels/x.yaml": source() + TO})
    plan = made.load()
    settings = plan.settings
    assert (settings.rest.host, settings.rest.port, settings.rest.tls) == ("127.0.0.1", 8080, None)
    assert (settings.admin.host, settings.admin.port) == ("127.0.0.1", 8090)
    assert (settings.api_keys, settings.timezone, settings.secrets) == ({}, None, [])
    assert settings.model_extra == {"ris": {"version": "2.3", "rooms": [1, 2]}}
    assert (plan.folder, plan.data) == (made.folder, made.folder / "data")


def test_the_data_folder_is_the_commands_else_the_files(site: Callable[..., Any], tmp_path: Path) -> None:
    made = site({"site.yaml": "store: {path: var/store}\n", "channels/x.yaml": source() + TO})
    assert made.load().data == made.folder / "var/store"
    elsewhere = tmp_path / "elsewhere"
    plan = load_site(made.folder, elsewhere, {})
    assert plan.data == elsewhere
    assert plan.channels["x"].source.building.data == elsewhere


def test_no_secret_is_in_a_repr(site: Callable[..., Any]) -> None:
    made = site(
        {
            "site.yaml": "api_keys: {one: {key: '${KEY}', channels: [x]}}\nsalt: ${SALT}\n",
            "channels/x.yaml": source() + TO,
        },
        KEY="s3cret-key",
        SALT="s3cret-salt",
    )
    plan = made.load()
    assert plan.settings.api_keys["one"].key.get_secret_value() == "s3cret-key"
    assert plan.channels["x"].name == "x"
    assert plan.env["SALT"] == "s3cret-salt"
    assert "s3cret" not in repr(plan)
    assert "s3cret" not in str(plan.settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "rest: {prot: 1}\n",
            [
                "1: rest.prot: unknown key `prot`; expected one of host, port, tls,"
                " max_connections, max_connections_per_address, max_memory; did you mean 'port'?"
            ],
        ),
        ("rest: {port: 99999}\n", ["1: rest.port: out of range; expected a number of at most 65535"]),
        ("rest: {port: '${KEY}'}\n", ["1: rest.port: found text; expected a whole number"]),
        ("store:\n  writing_process: perhaps\n", ["2: store.writing_process: found text; expected true or false"]),
        (
            "store: {writing_proces: false}\n",
            [
                "1: store.writing_proces: unknown key `writing_proces`; expected one of path, encrypt, writing_process,"
                " key_file; did you mean 'writing_process'?"
            ],
        ),
        (
            "rest: {port: 8090}\n",
            ["1: admin.port: the REST listener has the same port; expected two ports"],
        ),
        (
            "timezone: America/Chicgo\n",
            ["1: timezone: no time zone of that name; expected a name such as America/Chicago or UTC"],
        ),
        ("api_keys: {a: {key: ''}}\n", ["1: api_keys.a.key: not valid; expected text of at least 1 characters"]),
        (
            "api_keys:\n  a: {key: same-s3cret}\n  b: {key: same-s3cret}\n",
            ["3: api_keys.b.key: the same key as `a`: callers could not be told apart; expected a key of its own"],
        ),
        (
            "patients:\n  - PID-3.1\n  - PID\n",
            [
                "3: patients[1]: `PID` is a whole segment; expected a path such as PID-3.1, or a member of a request"
                " such as $body.patient.mrn or $query.mrn",
            ],
        ),
        ("api_keys: {a: s3cret}\n", ["1: api_keys.a: found text; expected keys with values"]),
        ("secrets: [a b]\n", ["1: secrets[0]: not valid; expected text of the form ^[A-Z_][A-Z0-9_]*$"]),
        ("- 1\n", ["1: found a list instead of settings; expected keys: rest, admin, …"]),
        ("", [" the file is empty"]),
        (
            "rest: {host: '${NONE}'}\nadmin: {prot: 1}\n",
            [
                "1: rest.host: the environment has no `NONE`; expected a value there, or a default: ${NAME:-default}",
                "2: admin.prot: unknown key `prot`; expected one of host, port, tls; did you mean 'port'?",
            ],
        ),
    ],
)
def test_a_site_file_that_cannot_be_used_is_refused_with_all_its_faults(
    site: Callable[..., Any], text: str, expected: list[str]
) -> None:
    found = refused(site({"site.yaml": text}, KEY="s3cret"))
    assert found == [f"site.yaml:{line}" for line in expected]
    assert "s3cret" not in "".join(found)


def test_a_folder_without_site_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no site\.yaml in "):
        load_site(tmp_path / "nowhere", None, {})


def test_a_value_that_is_nearly_a_setting_is_noted_and_does_not_stop_anything(site: Callable[..., Any]) -> None:
    made = site({"site.yaml": "api_key: {}\nris: 1\n", "channels/x.yaml": source() + TO})
    plan = made.load()
    assert [str(problem) for problem in plan.problems] == [
        "site.yaml:1: api_key: `api_key` is a value of this site's own, read as `$site.api_key`;"
        " did you mean 'api_keys'?"
    ]
    assert plan.problems[0].level == "note"
    assert list(plan.channels) == ["x"]


def test_a_value_that_nothing_reads_is_noted_where_one_is_read_that_is_called_nearly_so(
    site: Callable[..., Any],
) -> None:
    made = site(
        {
            "site.yaml": "cerner:\n  verison: '2.5'\n  owner: us\n",
            "transforms/emr/cerner.yaml": "- set: {a: {from: $site.cerner.version, default: x}}\n",
            "channels/x.yaml": source() + TO,
        }
    )
    assert [(problem.level, str(problem)) for problem in made.load().problems] == [
        ("note", "site.yaml:2: cerner.verison: nothing reads `$site.cerner.verison`; did you mean 'version'?")
    ]


def test_an_api_key_for_a_channel_that_does_not_exist_is_told_and_the_channels_run(site: Callable[..., Any]) -> None:
    made = site(
        {
            "site.yaml": "api_keys:\n  a:\n    key: k\n    channels: [lab-order, broken]\n",
            "channels/lab-orders.yaml": source() + TO,
            "channels/broken.yaml": "source: 1\n" + TO,
        }
    )
    plan = made.load()
    assert [str(problem) for problem in plan.problems if problem.file == "site.yaml"] == [
        "site.yaml:4: api_keys.a.channels[0]: there is no channel `lab-order`; expected a channel;"
        " did you mean 'lab-orders'?"
    ]
    assert list(plan.channels) == ["lab-orders"]


def test_the_secrets_that_a_site_wants_are_known_before_it_is_loaded(tmp_path: Path) -> None:
    assert secret_names(tmp_path) == ()
    (tmp_path / "site.yaml").write_text("secrets: [A_KEY, B_TOKEN]\nrest: {host: '${A_KEY}'}\n")
    assert secret_names(tmp_path) == ("A_KEY", "B_TOKEN")
    (tmp_path / "site.yaml").write_text("secrets: [\n")
    assert secret_names(tmp_path) == ()
    (tmp_path / "site.yaml").write_text("secrets: {a: b}\n")
    assert secret_names(tmp_path) == ()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        SiteSettings().timezone = "UTC"  # type: ignore[misc]


# -- channels ------------------------------------------------------------------------------------------------------


def test_a_broken_channel_does_not_keep_the_others_from_loading(site: Callable[..., Any]) -> None:
    made = site(
        {
            "channels/a.yaml": source(1) + TO,
            "channels/b.yaml": "source: {mlpp: {}}\n" + TO,
            "channels/c.yaml": "a: [\n",
            "channels/d.yaml": source(4) + TO,
        }
    )
    plan = made.load()
    assert list(plan.channels) == ["a", "d"]
    assert list(plan.broken) == ["b", "c"]
    assert [problem.line for problem in plan.broken["b"]] == [1]
    assert plan.problems == plan.broken["b"] + plan.broken["c"]


def test_problems_come_by_file_and_line(site: Callable[..., Any]) -> None:
    made = site(
        {
            "channels/b.yaml": source(1) + TO + "x: 1\nack: no\n",
            "channels/a.yaml": "reply: {}\n" + source(2) + "y: 1\n",
            "tables/t.csv": "",
        }
    )
    assert [(problem.file, problem.line) for problem in made.load().problems] == [
        ("channels/a.yaml", 1),
        ("channels/a.yaml", 1),
        ("channels/a.yaml", 1),
        ("channels/a.yaml", 3),
        ("channels/b.yaml", 3),
        ("channels/b.yaml", 4),
        ("tables/t.csv", 0),
    ]


def test_a_name_that_differs_from_its_file_is_a_note(site: Callable[..., Any]) -> None:
    made = site({"channels/a.yaml": "name: other\n" + source() + TO})
    plan = made.load()
    assert [(problem.level, str(problem)) for problem in plan.problems] == [
        ("note", "channels/a.yaml:1: name: the file is called a.yaml; commands and other files say `other`")
    ]
    assert list(plan.channels) == ["other"]
    assert plan.broken == {}


def test_two_channels_of_one_name_are_told_with_both_files(site: Callable[..., Any]) -> None:
    made = site(
        {
            "channels/a.yaml": source(1) + "name: b\n" + TO,
            "channels/b.yaml": "name: b\n" + source(2) + TO,
            "channels/c.yaml": source(3) + TO + "name: b\n",
        }
    )
    plan = made.load()
    assert [str(problem) for problem in plan.problems] == [
        "channels/a.yaml:2: name: `b` is the channel of channels/b.yaml too; expected another name",
        "channels/c.yaml:3: name: `b` is the channel of channels/b.yaml too; expected another name",
    ]
    assert plan.channels["b"].file == "channels/b.yaml", "the file that is called so keeps the name"
    assert sorted(plan.broken) == ["a", "c"]


def test_a_port_belongs_to_one_channel(site: Callable[..., Any]) -> None:
    made = site({f"channels/{name}.yaml": source(port) + TO for name, port in (("a", 1), ("b", 2), ("c", 1))})
    made.write({"channels/d.yaml": source(8090) + TO, "channels/e.yaml": source(8080) + TO})
    plan = made.load()
    assert [str(problem) for problem in plan.problems] == [
        "channels/c.yaml:1: source: port 1 belongs to channels/a.yaml; expected one channel for each",
        "channels/d.yaml:1: source: port 8090 belongs to site.yaml (admin); expected one channel for each",
        "channels/e.yaml:1: source: port 8080 belongs to site.yaml (rest); expected one channel for each",
    ]
    assert list(plan.channels) == ["a", "b"]


def test_a_port_is_told_even_when_its_first_channel_is_broken(site: Callable[..., Any]) -> None:
    made = site({"channels/a.yaml": source(1) + TO + "x: 1\n", "channels/b.yaml": source(1) + TO})
    assert sorted(made.load().broken) == ["a", "b"], "the sender of one must not reach the other"


def test_a_method_and_path_belong_to_one_channel(site: Callable[..., Any]) -> None:
    call = "source: {rest: {path: /api/x, method: %s}}\n" + TO + "reply: {from: a}\n"
    made = site({f"channels/{name}.yaml": call % method for name, method in (("a", "GET"), ("b", "PUT"), ("c", "GET"))})
    assert lines(made) == [
        "channels/c.yaml:1: source: GET /api/x belongs to channels/a.yaml; expected one channel for each"
    ]


def feed(*targets: str, port: int = 0) -> str:
    to = "".join(f"  - {{name: {name}, to: {{channel: {{path: {name}}}}}}}\n" for name in targets)
    return (source(port) if port else "source: {channel: {}}\n") + "destinations:\n" + to.replace("path:", "name:")


@pytest.fixture
def fed(site: Callable[..., Any], words: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A site whose `to: {channel: …}` is the real one."""
    from engine.destinations.channel import ChannelDestination

    entry = words["destinations"]["channel"][0]
    words["destinations"]["channel"] = (type(entry)("channel", ChannelDestination),)
    return site


def test_channels_feed_each_other(fed: Callable[..., Any]) -> None:
    made = fed(
        {"channels/a.yaml": feed("b", "c", port=1), "channels/b.yaml": feed("c"), "channels/c.yaml": source(3) + TO}
    )
    made.write({"channels/c.yaml": "source: {channel: {}}\n" + TO})
    assert lines(made) == []


def test_a_circle_of_channels_is_told_where_it_closes(fed: Callable[..., Any]) -> None:
    made = fed({"channels/a.yaml": feed("b"), "channels/b.yaml": feed("c"), "channels/c.yaml": feed("a")})
    assert lines(made) == [
        "channels/c.yaml:3: destinations[0].to.channel: a circle: `a` leads back to `c`; expected an end to it"
    ]


def test_a_channel_that_is_fed_must_take_messages_in(fed: Callable[..., Any]) -> None:
    made = fed({"channels/a.yaml": feed("b", port=1), "channels/b.yaml": source(2) + TO})
    assert lines(made) == [
        "channels/a.yaml:3: destinations[0].to.channel: the channel `b` takes nothing from other channels;"
        " expected `source: {channel: {}}` there"
    ]


def test_a_channel_that_does_not_exist_is_told_by_its_destination(fed: Callable[..., Any]) -> None:
    made = fed({"channels/a.yaml": feed("lab-order", port=1), "channels/lab-orders.yaml": feed("lab-order")})
    found = lines(made)
    assert [line.split(";")[0] for line in found] == [
        "channels/a.yaml:3: destinations[0].to.channel.name: there is no channel 'lab-order'",
        "channels/lab-orders.yaml:3: destinations[0].to.channel.name: there is no channel 'lab-order'",
    ]
    assert all(line.endswith("did you mean 'lab-orders'?") for line in found)


def test_a_channel_that_is_asked_must_give_a_reply(site: Callable[..., Any]) -> None:
    made = site({"transforms/f.yaml": "- ask: {channel: b, into: x}\n"})
    made.write(
        {
            "channels/a.yaml": source(1) + TO + "transform: [{include: f}]\n",
            "channels/b.yaml": "source: {rest: {path: /b}}\n" + TO,
        }
    )
    assert lines(made) == [
        "transforms/f.yaml:1: [0].ask.channel: the channel `b` gives no reply; expected a channel with `reply:`"
    ]
    made.write({"channels/b.yaml": "source: {rest: {path: /b}}\n" + TO + "reply: {from: a}\n"})
    assert lines(made) == []


def test_files_that_no_channel_uses_are_checked_and_break_nothing(site: Callable[..., Any]) -> None:
    made = site(
        {
            "channels/x.yaml": source() + TO,
            "transforms/old.yaml": "a: 1\na: 2\n",
            "transforms/new.yaml": "- set: ${NONE}\n",
            "tables/t.csv": "a,a\n",
        }
    )
    plan = made.load()
    assert [(problem.file, problem.line) for problem in plan.problems] == [
        ("tables/t.csv", 1),
        ("transforms/new.yaml", 1),
        ("transforms/old.yaml", 2),
    ]
    assert list(plan.channels) == ["x"]
    assert plan.broken == {}


def test_files_that_look_as_if_they_counted_are_noted(site: Callable[..., Any]) -> None:
    made = site(
        {
            "channels/x.yml": source() + TO,
            "transforms/emr/y.yml": "[]",
            "channels/z.YAML": "",
            "channels/.#x.yaml": "lock",
        }
    )
    plan = made.load()
    assert [(problem.level, str(problem)) for problem in plan.problems] == [
        (
            "note",
            "channels: there are no channels; expected files such as channels/lab-orders.yaml",
        ),
        ("note", "channels/x.yml: the file is not read; expected the ending .yaml"),
        ("note", "channels/z.YAML: the file is not read; expected the ending .yaml"),
        ("note", "transforms/emr/y.yml: the file is not read; expected the ending .yaml"),
    ]
    assert (dict(plan.channels), plan.broken) == ({}, {})


def test_what_fifty_channels_share_is_read_as_often_as_what_one_has(
    site: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = site({"transforms/base.yaml": "- set: {PID-3: x}\n" * 20, "tables/emr.csv": "a,b\n1,2\n"})
    steps = "transform:\n" + "  - include: base\n  - lookup: {table: emr, key: MSH-4, into: emr}\n" * 3
    reads: Counter[str] = Counter()
    read = Path.read_bytes

    def counting(path: Path) -> bytes:
        reads[path.name] += 1
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counting)
    found = []
    for channels in (1, 50):
        made.write({f"channels/c{number}.yaml": source(3000 + number) + TO + steps for number in range(channels)})
        reads.clear()
        assert len(made.load().channels) == channels
        found.append((reads["base.yaml"], reads["emr.csv"], reads["c0.yaml"]))
    assert found[0] == found[1]
    assert min(found[0]) > 0


def test_a_channel_reads_patients_where_the_site_says_unless_it_says_so_itself(site: Callable[..., Any]) -> None:
    made = site({"channels/x.yaml": source() + TO, "channels/y.yaml": source(2600) + TO + "patients: [PID-2.1]\n"})

    def paths(plan: Any) -> dict[str, list[str]]:
        return {name: [str(path) for path, _ in channel.patients.paths] for name, channel in plan.channels.items()}

    before = made.load()
    assert paths(before) == {"x": ["PID-3.1", "MRG-1.1"], "y": ["PID-2.1"]}
    made.write({"site.yaml": "patients: [PID-18.1, $body.mrn]\n"})
    after = made.load()
    assert paths(after) == {"x": ["PID-18.1"], "y": ["PID-2.1"]}
    assert (after.channels["x"].patients.members, after.channels["y"].patients.members) == ((("body", "mrn"),), ())
    same = {name for name, plan in after.channels.items() if plan.fingerprint == before.channels[name].fingerprint}
    assert same == {"y"}, "a reload restarts those alone that take the site's word"
    made.write({"site.yaml": "patients: []\n"})
    assert paths(made.load()) == {"x": [], "y": ["PID-2.1"]}


def test_retention_says_never_a_time_for_all_contents_or_one_for_each_word(site: Callable[..., Any]) -> None:
    made = site({"channels/x.yaml": source() + TO + "retention: {failed: never, bodies: {filtered: 1d}}\n"})
    made.write({"site.yaml": "retention: {delivered: 30d, refused: never, bodies: 2d}\n"})
    plan = made.load()
    assert plan.settings.retention.words == {"delivered": 30 * 86400.0, "refused": None}
    assert set(plan.settings.retention.bodies.model_dump().values()) == {2 * 86400.0}
    assert (plan.channels["x"].retention, plan.channels["x"].bodies) == ({"failed": None}, {"filtered": 86400.0})
    for text, told in (
        ("bodies: soon", "retention.bodies: not valid; expected a time such as 500ms, 30s, 5m, 2h or 30d, or never"),
        ("bodies: {failed: 0}", "retention.bodies.failed: out of range; expected a number above 0"),
        ("bodies: {faild: 1d}", "retention.bodies.faild: unknown key `faild`"),
    ):
        assert told in refused(site({"site.yaml": f"retention: {{{text}}}\n"}))[0]
