"""The years that are stored before something is measured beside them are such as an engine stores."""

from __future__ import annotations

from pathlib import Path

from benchmarks import years
from engine.store import SqliteStore
from engine.store.base import Find

KEY = bytes(32)


async def test_a_message_of_years_is_found_by_its_correlation_id_as_one_of_the_engine_is(tmp_path: Path) -> None:
    async for _ in years.fill(tmp_path, KEY, [20]):
        pass
    years.multiply(tmp_path, 20)
    store = SqliteStore(tmp_path, KEY)
    await store.open()
    rows = store.find(Find(limit=500))
    assert len(rows) == 200
    assert {int(row.correlation_id[-12:]) - row.message_id for row in rows} == {0}
    assert all(store.trace(row.correlation_id)[0] == [row] for row in rows)
    await store.close()
