"""The log in memory: a list, its base, and the watermarks over it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.raft.errors import InvariantViolated
from discovery.raft.log import ENTRY_OVERHEAD, RaftLog
from discovery.raft.membership import Membership
from discovery.raft.messages import Configuration, Entry, EntryKind, encode_configuration

from .rig import log_of, members, scenario


def log(terms: list[int], base: tuple[int, int] = (0, 0), *, committed: int | None = None) -> RaftLog:
    return RaftLog(
        *base,
        log_of(terms, base[0] + 1),
        committed=base[0] if committed is None else committed,
        membership=Membership(0, Configuration()),
    )


def terms_of(subject: RaftLog) -> list[int]:
    return [subject.entry(index).term for index in range(subject.first_index, subject.last_index + 1)]


@scenario(112)
@pytest.mark.parametrize(
    ("base", "terms", "first", "last", "last_term"),
    [((0, 0), [], 1, 0, 0), ((0, 0), [1, 2], 1, 2, 2), ((5, 3), [], 6, 5, 3), ((5, 3), [3, 4], 6, 7, 4)],
)
def test_where_it_begins_and_ends(base: tuple[int, int], terms: list[int], first: int, last: int, last_term: int) -> None:
    subject = log(terms, base)
    assert (subject.first_index, subject.last_index, subject.last_term) == (first, last, last_term)


@scenario(112)
def test_terms_are_known_from_the_base_on() -> None:
    subject = log([3, 4], (5, 2))
    assert [subject.term_at(index) for index in range(3, 10)] == [None, None, 2, 3, 4, None, None]


@scenario(112, 93)
@pytest.mark.parametrize(
    ("low", "high", "size", "indexes"),
    [
        (6, 8, 1 << 20, [6, 7, 8]),
        (6, 8, 1, [6]),
        (7, 8, 2 * (3 + ENTRY_OVERHEAD), [7, 8]),
        (7, 8, 2 * (3 + ENTRY_OVERHEAD) - 1, [7]),
        (8, 7, 100, []),
    ],
)
def test_slices_are_cut_by_size_but_not_to_nothing(low: int, high: int, size: int, indexes: list[int]) -> None:
    subject = log([1, 1, 1], (5, 1))
    assert [entry.index for entry in subject.slice(low, high, size)] == indexes


@scenario(112)
@pytest.mark.parametrize(("low", "high"), [(5, 6), (4, 5), (6, 9), (9, 9)])
def test_slices_beyond_the_log_are_a_fault(low: int, high: int) -> None:
    with pytest.raises(InvariantViolated, match="outside"):
        log([1, 1, 1], (5, 1)).slice(low, high, 100)


SORTED = st.lists(st.integers(1, 5), max_size=8).map(sorted)


@scenario(113)
@settings(deadline=None)
@given(terms=SORTED, base=st.integers(0, 4), index=st.integers(0, 14), term=st.integers(0, 6))
def test_a_hint_is_the_last_entry_that_can_agree(terms: list[int], base: int, index: int, term: int) -> None:
    """Against a search from the end; a term of 0 says that it would lie before the log."""
    base_term = min(terms, default=1)
    subject = log(terms, (base, base_term if base else 0))
    places = [(place, subject.term_at(place)) for place in range(base, min(index, subject.last_index) + 1)]
    fitting = [(place, known) for place, known in places if known is not None and known <= term]
    found = subject.hint(index, term)
    if fitting:
        assert found == fitting[-1]
    else:
        assert found[1] == 0
        assert found[0] <= max(index, base)


@scenario(113)
@settings(deadline=None)
@given(ours=SORTED, theirs=SORTED, start=st.integers(1, 9))
def test_the_first_conflict_is_where_terms_differ_or_the_log_ends(ours: list[int], theirs: list[int], start: int) -> None:
    subject, entries = log(ours), log_of(theirs, start)
    expected = len(entries)
    for place, entry in enumerate(entries):
        if entry.index > len(ours) or ours[entry.index - 1] != entry.term:
            expected = place
            break
    assert subject.first_conflict(entries) == expected


@scenario(59, 111)
@pytest.mark.parametrize(
    ("first", "terms", "log_after", "persisted"),
    [(4, [2], [1, 1, 1, 2], 3), (3, [2], [1, 1, 2], 2), (1, [2, 2], [2, 2], 0), (2, [1, 1, 1], [1, 1, 1, 1], 1)],
)
def test_an_append_replaces_what_follows(first: int, terms: list[int], log_after: list[int], persisted: int) -> None:
    subject = log([1, 1, 1])
    subject.append(log_of(terms, first))
    assert (terms_of(subject), subject.persisted, subject.written) == (log_after, persisted, persisted)


@scenario(111)
@pytest.mark.parametrize("first", [1, 2, 5])
def test_an_append_may_neither_touch_what_is_committed_nor_leave_a_gap(first: int) -> None:
    subject = log([1, 1, 1])
    subject.commit_to(2)
    with pytest.raises(InvariantViolated, match="rewrite or skip"):
        subject.append(log_of([2], first))


@scenario(111)
def test_writes_end_in_order_and_prove_only_what_still_stands() -> None:
    subject = log([1])
    subject.append(log_of([1, 1], 2))
    assert subject.has_unwritten()
    assert [entry.index for entry in subject.start_write(with_entries=True)] == [2, 3]
    assert not subject.has_unwritten()
    subject.append(log_of([2], 3))
    assert [entry.term for entry in subject.start_write(with_entries=True)] == [2]
    subject.append(log_of([2], 4))
    assert subject.start_write(with_entries=False) == ()
    for persisted in (2, 3, 3):
        subject.finish_write()
        assert subject.persisted == persisted
    assert subject.has_unwritten()


@scenario(111)
@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["append", "write", "finish"]), st.integers(0, 3), st.integers(1, 3)), max_size=30))
def test_what_counts_as_durable_is_on_the_disk(steps: list[tuple[str, int, int]]) -> None:
    """Against a disk that carries out the writes one after the other, while new terms replace entries."""
    subject, term = log([]), 1
    disk: dict[int, Entry] = {}
    under_way: list[tuple[Entry, ...]] = []
    for action, back, count in steps:
        if action == "append":
            term += back > 0
            first = max(1, subject.last_index + 1 - back)
            subject.append(log_of([term] * count, first))
        elif action == "write":
            under_way.append(subject.start_write(with_entries=True))
        elif under_way:
            entries = under_way.pop(0)
            if entries:
                disk = {index: entry for index, entry in disk.items() if index < entries[0].index}
                disk |= {entry.index: entry for entry in entries}
            subject.finish_write()
        for index in range(1, subject.persisted + 1):
            assert disk[index] == subject.entry(index)


@scenario(115)
def test_a_commit_goes_forward_only_and_never_beyond_the_log() -> None:
    subject = log([1, 1])
    subject.commit_to(1)
    subject.commit_to(0)
    assert subject.committed == 1
    with pytest.raises(InvariantViolated, match="damaged, truncated or lost"):
        subject.commit_to(3)


@scenario(115)
def test_applied_follows_what_was_handed_out() -> None:
    subject = log([1, 1, 1])
    subject.commit_to(2)
    assert [entry.index for entry in subject.next_committed(1 << 20)] == [1, 2]
    assert subject.next_committed(1 << 20) == ()
    subject.applied_to(1)
    for wrong in (0, 3):
        with pytest.raises(InvariantViolated, match="applied"):
            subject.applied_to(wrong)


@scenario(112, 116)
def test_compaction_keeps_the_term_of_the_last_entry_forgotten() -> None:
    subject = log([1, 1, 2, 3], committed=3)
    subject.compact(3)
    assert (subject.base_index, subject.base_term, terms_of(subject)) == (3, 2, [3])
    subject.compact(2)
    assert subject.base_index == 3
    with pytest.raises(InvariantViolated, match="beyond applied"):
        subject.compact(4)


@scenario(111, 116)
def test_a_restored_log_begins_after_the_snapshot() -> None:
    subject = log([1, 1, 2])
    subject.append(log_of([2], 4))
    subject.start_write(with_entries=True)
    subject.restore(9, 4, Membership(7, members(("a",))))
    marks = (subject.committed, subject.applied, subject.handed, subject.persisted, subject.written)
    assert (subject.base_index, subject.base_term, subject.last_index, marks) == (9, 4, 9, (9, 9, 9, 9, 9))
    subject.finish_write()
    assert subject.persisted == 9
    assert subject.membership.index == 7


# the configurations in it


def configuration_entry(index: int, *voters: str) -> Entry:
    return Entry(index, 1, EntryKind.CONFIGURATION, encode_configuration(members(voters)))


def test_a_configuration_is_in_force_when_appended() -> None:
    subject = log([1, 1])
    subject.append([configuration_entry(3, "a", "b")])
    assert subject.membership.index == 3
    assert subject.membership.voters == {"a", "b"}
    assert subject.membership.voters_before == frozenset()


@scenario(156)
def test_a_configuration_falls_with_its_entry() -> None:
    subject = log([1, 1])
    subject.append([configuration_entry(3, "a")])
    subject.append([configuration_entry(4, "a", "b"), configuration_entry(5, "a", "b", "c")])
    assert subject.membership.voters_before == {"a", "b"}
    subject.append(log_of([2], 4))
    assert subject.membership.index == 3
    assert subject.membership.voters == {"a"}


def test_older_configurations_are_known_until_forgotten() -> None:
    subject = Membership(0, members(()))
    subject.append([configuration_entry(index, *"abc"[:count]) for count, index in enumerate((2, 5, 9), 1)])
    assert [subject.at(index)[0] for index in (0, 1, 2, 4, 5, 8, 9, 50)] == [0, 0, 2, 2, 5, 5, 9, 9]
    subject.forget_before(6)
    assert [subject.at(index)[0] for index in (5, 8, 9)] == [5, 5, 9]
    with pytest.raises(InvariantViolated, match="forgotten"):
        subject.at(4)
    assert subject.ever_named() == {"a", "b", "c"}


@scenario(113)
def test_hints_of_all_pairs_of_short_logs_lead_to_the_last_agreement() -> None:
    """One exchange, brute force: where the leader goes on is never beyond the true agreement by more than the entries of the
    terms that both have, and never before what a search entry by entry would pass."""
    for ours, theirs in itertools.product(itertools.combinations_with_replacement(range(1, 4), 3), repeat=2):
        follower, leader = log(list(ours)), log(list(theirs))
        index, term = follower.hint(leader.last_index, leader.last_term)
        following = leader.hint(index, term)[0] if term else index
        agreement = 0
        while agreement < 3 and ours[agreement] == theirs[agreement]:
            agreement += 1
        assert agreement <= following <= 3
