"""Versions compare by number and fall back to the nearest older one that has tables."""

from __future__ import annotations

import pytest

from engine.hl7.versions import SUPPORTED_VERSIONS, at_least, nearest_version


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_a_version_with_tables_is_itself(version: str) -> None:
    assert nearest_version(version) == version


@pytest.mark.parametrize(
    ("version", "nearest"),
    [
        ("2.7.1", "2.7"), ("2.9", "2.8.2"), ("2.10", "2.8.2"), ("3.0", "2.8.2"), ("2.3.2", "2.3.1"), ("2.0", "2.1"),
        ("", "2.3"), ("D", "2.3"), ("2.x", "2.3"), (" 2.4 ", "2.4"), ("99999.1", "2.3"), ("２.５", "2.3"),
    ],
)  # fmt: skip
def test_others_fall_back(version: str, nearest: str) -> None:
    assert nearest_version(version) == nearest


@pytest.mark.parametrize(
    ("version", "other", "holds"),
    [
        ("2.10", "2.9", True), ("2.3", "2.3.1", False), ("2.3.1", "2.3", True), ("2.5.1", "2.5", True),
        ("2.4", "2.5", False), ("", "2.3", True), ("", "2.3.1", False), ("2.7", "2.7", True),
    ],
)  # fmt: skip
def test_versions_compare_by_number(version: str, other: str, holds: bool) -> None:
    assert at_least(version, other) is holds
