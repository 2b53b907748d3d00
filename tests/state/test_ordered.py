"""Ordered rows against a plain dict, with very short runs so that everything happens often."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from discovery.state import ordered
from discovery.state.ordered import OrderedRows, View, after_prefix

names = st.text("ab\0\U0010ffff", max_size=4)


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "_RUN", 3)


class Rows(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.rows: OrderedRows[int] = OrderedRows()
        self.model: dict[str, int] = {}
        self.views: list[tuple[View[int], list[tuple[str, int]], Iterator[tuple[str, int]], list[tuple[str, int]]]] = []

    @initialize(names=st.sets(names))
    def load(self, names: set[str]) -> None:
        self.model = {name: number for number, name in enumerate(sorted(names))}
        self.rows.load(self.model.items())

    @rule(name=names, row=st.integers())
    def put(self, name: str, row: int) -> None:
        self.rows.put(name, row)
        self.model[name] = row

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.model:
            name = data.draw(st.sampled_from(sorted(self.model)))
            self.rows.remove(name)
            del self.model[name]

    @rule(prefix=names)
    def remove_under(self, prefix: str) -> None:
        expected = [(name, self.model[name]) for name in sorted(self.model) if name.startswith(prefix)]
        assert self.rows.remove_under(prefix) == [row for _, row in expected]
        for name, _ in expected:
            del self.model[name]

    @rule(prefix=names)
    def read(self, prefix: str) -> None:
        expected = sorted(name for name in self.model if name.startswith(prefix))
        assert list(self.rows.under(prefix)) == expected
        assert self.rows.rows_under(prefix) == [self.model[name] for name in expected]
        assert self.rows.first_from(prefix) == min((name for name in self.model if name >= prefix), default=None)

    @rule(prefix=names | st.just(""))
    def take_view(self, prefix: str) -> None:
        view = self.rows.view(prefix)
        expected = sorted(item for item in self.model.items() if item[0].startswith(prefix))
        self.views.append((view, expected, view.items(), []))

    @rule(data=st.data())
    def read_on_in_a_view(self, data: st.DataObject) -> None:
        if self.views:
            _, expected, items, taken = data.draw(st.sampled_from(self.views))
            taken += [item for item in [next(items, None)] if item is not None]
            assert taken == expected[: len(taken)]

    @rule(data=st.data())
    def drop_a_view(self, data: st.DataObject) -> None:
        if self.views:
            self.views.pop(data.draw(st.integers(0, len(self.views) - 1)))

    @invariant()
    def all_is_there_in_order(self) -> None:
        assert list(self.rows) == sorted(self.model)
        assert self.rows.rows == self.model
        assert len(self.rows) == len(self.model)

    @invariant()
    def views_stay(self) -> None:
        for view, expected, _, _ in self.views:
            assert list(view.items()) == expected
            assert list(view.rows()) == [row for _, row in expected]
            pieces = list(view.pieces(4))
            assert [row for piece in pieces for row in piece] == [row for _, row in expected]
            assert all(len(piece) == 4 for piece in pieces[:-1])
            assert len(view) == len(expected)


TestRows = Rows.TestCase
TestRows.settings = settings(stateful_step_count=40, deadline=None)


def test_loading_what_does_not_ascend_is_refused() -> None:
    rows: OrderedRows[int] = OrderedRows()
    rows.load([("a", 1), ("b", 2)])
    for name in ("b", "a", ""):
        with pytest.raises(ValueError, match="is not above"):
            rows.load([(name, 3)])


def test_a_view_is_forgotten_once_it_is_dropped() -> None:
    rows: OrderedRows[int] = OrderedRows()
    rows.put("a", 1)
    view = rows.view()
    rows.put("a", 2)
    assert view.saved == {"a": 1}
    del view
    rows.put("a", 3)
    assert rows._views == []


@pytest.mark.parametrize(
    ("prefix", "after"), [("a", "b"), ("a\U0010ffff", "b"), ("\U0010ffff", None), ("", None), ("a\ud7ff", "a\ud800")]
)
def test_after_prefix(prefix: str, after: str | None) -> None:
    assert after_prefix(prefix) == after
