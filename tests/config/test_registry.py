from collections.abc import Mapping
from importlib.metadata import entry_points

import pytest

from engine.config import registry
from engine.errors import SpecError
from engine.sources.channel import ChannelSource


@pytest.mark.parametrize("kind", ["sources", "steps", "destinations"])
def test_the_built_in_words_are_entry_points_like_any_other(kind: registry.Kind) -> None:
    assert registry.words(kind) == tuple(sorted({entry.name for entry in entry_points(group=f"hl7engine.{kind}")}))
    assert "channel" in registry.words("sources")


def test_a_word_becomes_its_class() -> None:
    assert registry.component("sources", "channel") is ChannelSource


def test_only_the_words_that_are_used_are_imported(words: Mapping[str, object]) -> None:
    assert registry.component("steps", "set").word == "set"
    with pytest.raises(SpecError, match="cannot be imported: ImportError") as caught:
        registry.component("steps", "broken")
    assert "s3cret" not in str(caught.value)


def test_entry_points_are_read_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    first = registry.words("steps")
    monkeypatch.setattr(registry, "entry_points", lambda **_: pytest.fail("read again"))
    assert registry.words("steps") == first


def test_an_engine_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entries", lambda kind: {})
    with pytest.raises(SpecError) as caught:
        registry.component("sources", "mllp")
    assert caught.value.expected == "hl7engine to be installed, it registers none"
