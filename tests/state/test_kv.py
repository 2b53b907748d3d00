"""Keys, conditions, trees and their indexes (reference: HTTP API 2, 1.9)."""

import pytest

from discovery.model import commands as c
from discovery.state.tables import NEVER

from .stories import Story


@pytest.fixture
def story() -> Story:
    return Story()


def test_every_command_takes_an_index_even_if_it_changes_nothing(story: Story) -> None:
    story.set("a")
    story.set("a")
    story.delete("missing")
    assert story.store.index == 3
    assert (story.entry("a").create_index, story.entry("a").modify_index) == (1, 1)


def test_commands_of_one_block_have_indexes_of_their_own(story: Story) -> None:
    assert story.store.apply([c.KV("set", "a", b"1"), c.KV("set", "b", b"1"), c.KV("set", "a", b"2")]) == [True, True, True]
    assert (story.entry("a").create_index, story.entry("a").modify_index, story.entry("b").modify_index) == (1, 3, 2)


def test_set_replaces_flags_and_keeps_create_index(story: Story) -> None:
    story.set("a", b"1", 7)
    story.set("a", b"1")
    entry = story.entry("a")
    assert (entry.flags, entry.create_index, entry.modify_index) == (0, 1, 2)


def test_a_key_written_again_after_deletion_is_new(story: Story) -> None:
    story.set("a")
    story.delete("a")
    story.set("a")
    assert story.entry("a").create_index == 3


@pytest.mark.parametrize(
    ("existing", "index", "held"), [(False, 0, True), (False, 5, False), (True, 0, False), (True, 1, True), (True, 2, False)]
)
def test_cas(story: Story, existing: bool, index: int, held: bool) -> None:
    if existing:
        story.set("a", b"old")
    assert story.do(c.KV("cas", "a", b"new", index=index)) is held
    found = story.store.kv_get("a").value
    assert (found.value if found else None) == (b"new" if held else b"old" if existing else None)


@pytest.mark.parametrize(
    ("existing", "index", "held"), [(False, 0, True), (False, 5, True), (True, 0, False), (True, 1, True), (True, 9, False)]
)
def test_delete_cas(story: Story, existing: bool, index: int, held: bool) -> None:
    if existing:
        story.set("a")
    assert story.do(c.KV("delete-cas", "a", index=index)) is held
    assert (story.store.kv_get("a").value is None) == (held or not existing)


def test_cas_with_identical_content_holds_and_changes_nothing(story: Story) -> None:
    story.set("a", b"1")
    assert story.do(c.KV("cas", "a", b"1", index=1)) is True
    assert story.entry("a").modify_index == 1


def test_unknown_operation_is_refused(story: Story) -> None:
    assert story.refused(c.KV("zap", "a")) == "Invalid KVS operation 'zap'"


def test_list_is_by_text_prefix_in_bytewise_order(story: Story) -> None:
    keys = ["b", "a/é", "a/z", "a", "a0", "a/\U0001f600", "a/\uffff", "a/A", "a/\U0010ffff", "a/\U0010ffffx"]
    for key in keys:
        story.set(key)
    expected = sorted((key for key in keys if key.startswith("a/")), key=lambda key: key.encode())
    assert [entry.key for entry in story.store.kv_list("a/").value] == expected
    assert story.store.kv_keys("a/", "").value == expected
    assert [entry.key for entry in story.store.kv_list("a/\U0010ffff").value] == ["a/\U0010ffff", "a/\U0010ffffx"]
    assert len(story.store.kv_list("").value) == len(keys)


@pytest.mark.parametrize(
    ("prefix", "separator", "names"),
    [
        ("web/", "/", ["web/a/", "web/b"]),
        ("web", "/", ["web/", "web2/"]),
        ("web/", "", ["web/a/1", "web/a/2", "web/b"]),
        ("", "/", ["other", "web/", "web2/"]),
        ("web/", "a/", ["web/a/", "web/b"]),
        ("web/a/", "/", ["web/a/1", "web/a/2"]),
        ("nothing", "/", []),
    ],
)
def test_keys_are_cut_after_the_first_separator_behind_the_prefix(
    story: Story, prefix: str, separator: str, names: list[str]
) -> None:
    for key in ("web/a/1", "web/a/2", "web/b", "web2/x", "other"):
        story.set(key)
    assert story.store.kv_keys(prefix, separator).value == names


def test_index_of_a_key_is_its_own(story: Story) -> None:
    story.set("a")
    story.set("b")
    assert story.store.kv_get("a").index == 1


def test_index_of_a_key_that_never_was_stays_the_lowest(story: Story) -> None:
    assert story.store.kv_get("never").index == NEVER
    story.set("a")
    story.delete("a")
    story.set("b")
    assert story.store.kv_get("never").index == story.store.kv_list("never").index == NEVER


def test_index_of_a_deleted_key_is_that_of_its_deletion(story: Story) -> None:
    story.set("a")
    story.delete("a")
    story.set("b")
    assert story.store.kv_get("a").index == 2


def test_index_of_a_key_deleted_with_its_tree(story: Story) -> None:
    story.set("d/a")
    story.delete("d/a")
    story.set("d/a")
    story.delete_tree("d/")
    story.set("b")
    assert story.store.kv_get("d/a").index == 4


def test_index_of_a_prefix_is_the_newest_below_it_deletions_included(story: Story) -> None:
    story.set("d/a")
    story.set("d/b")
    story.set("e")
    assert story.store.kv_list("d/").index == 2
    story.delete("d/a")
    story.set("e", b"2")
    assert story.store.kv_list("d/").index == story.store.kv_keys("d/", "/").index == 4
    assert story.store.kv_list("x").index == NEVER
    assert story.store.kv_list("").index == 5


def test_a_longer_prefix_sees_the_deletion_of_the_tree_around_it(story: Story) -> None:
    """An older tombstone within must not hide it: a watcher would sleep for ever."""
    story.set("d/e/x")
    story.delete("d/e/x")
    story.set("d/e/y")
    before = story.store.kv_list("d/e/").index
    story.delete_tree("d/")
    assert story.store.kv_list("d/e/").index > before


def test_delete_tree_takes_what_has_the_prefix_and_only_that(story: Story) -> None:
    for key in ("a", "a/1", "a/2", "b"):
        story.set(key)
    story.delete_tree("a/")
    assert story.store.kv_keys("", "").value == ["a", "b"]
    story.delete_tree("")
    assert story.store.kv_keys("", "").value == []


def test_deleting_nothing_moves_no_index(story: Story) -> None:
    story.set("a")
    story.delete("b")
    story.delete_tree("b")
    assert story.store.kv_list("").index == 1
    assert story.store.kv_get("b").index == NEVER
    assert not story.store.has_tombstones(story.store.index)


def test_a_key_that_is_back_has_no_tombstone(story: Story) -> None:
    story.set("a")
    story.delete("a")
    story.set("a")
    assert not story.store.has_tombstones(story.store.index)


def test_tombstones_are_reaped_up_to_an_index(story: Story) -> None:
    for key in ("d/a", "d/b", "e"):
        story.set(key)
    story.delete("d/a")
    story.delete("d/b")
    story.delete_tree("e")
    assert not story.store.has_tombstones(3)
    assert story.store.has_tombstones(4)
    assert story.do(c.ReapTombstones(4)) is None
    assert story.store.has_tombstones(5)
    assert story.store.kv_list("d/").index == 5
    assert story.do(c.ReapTombstones(6)) is None
    assert not story.store.has_tombstones(story.store.index)
    assert story.store.kv_list("d/").index == story.store.kv_get("d/a").index == NEVER
    assert story.store.kv_list("").index == 6
