"""Some worlds on the real log store: SQLite, opened anew after every crash with its last write torn."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from discovery.raft.messages import Entry, HardState
from discovery.storage.log import LogStore
from tests.simulation.__main__ import simulate_stored

STEPS = 2500


@pytest.mark.parametrize("seed", range(12))
def test_a_world_on_real_logs(seed: int) -> None:
    _, failure, events = simulate_stored(STEPS, seed)
    assert not failure, failure
    assert events["elections"]


def test_a_store_that_forgets_votes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    append = LogStore.append

    def forgetful(self: LogStore, entries: Sequence[Entry], hard_state: HardState | None) -> None:
        append(self, entries, HardState(hard_state.term, "") if hard_state else None)

    monkeypatch.setattr(LogStore, "append", forgetful)
    assert any("holds (HardState(" in simulate_stored(STEPS, seed)[1] for seed in range(12))
