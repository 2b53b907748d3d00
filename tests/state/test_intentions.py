"""Intentions: precedence, matching, refusals (reference: HTTP API 16.3)."""

import pytest

from discovery.model import commands as c
from discovery.model import requests as r
from discovery.model.records import Intention

from .stories import Story, intention, uuid


@pytest.fixture
def story() -> Story:
    return Story()


def pairs(found: list[Intention]) -> list[str]:
    return [f"{one.source_name}>{one.destination_name}" for one in found]


def tell(story: Story, *given: str, **fields: str) -> None:
    """Each as "source>destination"."""
    for number, pair in enumerate(given, start=1):
        source, destination = pair.split(">")
        assert story.do(intention(number, source, destination, **fields)) == uuid(number)


def test_what_is_not_given_is_filled_in(story: Story) -> None:
    story.do(intention(1, "a", "b", created_at="t1", updated_at="t1"))
    found = story.store.intention_get(uuid(1)).value
    assert found is not None
    assert (found.source_ns, found.destination_ns, found.source_type, found.precedence) == ("default", "default", "consul", 9)
    assert (found.create_index, found.modify_index, len(found.hash)) == (1, 1, 32)


def test_update_keeps_when_it_was_made(story: Story) -> None:
    story.do(intention(1, "a", "b", created_at="t1", updated_at="t1"))
    story.do(intention(1, "a", "c", op="update", created_at="t2", updated_at="t2", action="deny"))
    found = story.store.intention_get(uuid(1)).value
    assert found is not None
    assert (found.destination_name, found.action, found.created_at, found.updated_at) == ("c", "deny", "t1", "t2")
    assert (found.create_index, found.modify_index) == (1, 2)


def test_the_hash_tells_contents_apart(story: Story) -> None:
    tell(story, "a>b", "a>c")
    story.do(intention(1, "a", "b", op="update", created_at="later", updated_at="later"))
    hashes = [found.hash for found in story.store.intention_list().value]
    assert len(set(hashes)) == 2
    story.do(intention(1, "a", "b", op="update", description="x"))
    assert story.store.intention_list().value[0].hash not in hashes


@pytest.mark.parametrize(
    ("source", "destination", "precedence"),
    [
        (("default", "a"), ("default", "b"), 9),
        (("default", "*"), ("default", "b"), 8),
        (("*", "*"), ("default", "b"), 7),
        (("default", "a"), ("default", "*"), 6),
        (("default", "*"), ("default", "*"), 5),
        (("*", "*"), ("default", "*"), 4),
        (("default", "a"), ("*", "*"), 3),
        (("default", "*"), ("*", "*"), 2),
        (("*", "*"), ("*", "*"), 1),
    ],
)
def test_precedence(story: Story, source: tuple[str, str], destination: tuple[str, str], precedence: int) -> None:
    story.do(intention(1, source[1], destination[1], source_ns=source[0], destination_ns=destination[0]))
    assert story.store.intention_list().value[0].precedence == precedence


def test_lists_have_the_deciding_ones_first(story: Story) -> None:
    tell(story, "*>*", "a>*", "*>b", "b>a", "a>b", "a>a")
    expected = ["a>a", "a>b", "b>a", "*>b", "a>*", "*>*"]
    assert pairs(story.store.intention_list().value) == expected


def service(name: str) -> tuple[str, str]:
    return ("default", name)


def allowed(story: Story, source: str, destination: str) -> bool | None:
    return story.store.intention_allows(service(source), service(destination))


def test_match_gives_those_that_apply_for_each_name(story: Story) -> None:
    tell(story, "*>*", "a>*", "*>b", "a>b", "c>d")
    by_source = story.store.intention_match("source", [service("a"), service("x")]).value
    assert [pairs(found) for found in by_source] == [["a>b", "*>b", "a>*", "*>*"], ["*>b", "*>*"]]
    by_destination = story.store.intention_match("destination", [service(name) for name in "bdx"]).value
    assert [pairs(found) for found in by_destination] == [["a>b", "*>b", "a>*", "*>*"], ["c>d", "a>*", "*>*"], ["a>*", "*>*"]]


def test_the_most_precise_decides(story: Story) -> None:
    assert allowed(story, "a", "b") is None
    story.do(intention(1, "*", "*", action="deny"))
    story.do(intention(2, "a", "*", action="allow"))
    story.do(intention(3, "*", "b", action="deny"))
    verdicts = {pair: allowed(story, *pair) for pair in (("a", "b"), ("a", "c"), ("c", "c"))}
    assert verdicts == {("a", "b"): False, ("a", "c"): True, ("c", "c"): False}
    story.do(intention(4, "a", "b", action="allow"))
    assert allowed(story, "a", "b") is True


def test_the_case_of_a_name_matters_to_sources_that_are_checked_alone(story: Story) -> None:
    story.do(intention(1, "Cap", "Dest", action="deny"))
    (found,) = story.store.intention_match("destination", [service("dest")]).value
    assert pairs(found) == ["Cap>Dest"]
    assert allowed(story, "Cap", "dest") is False
    assert allowed(story, "cap", "Dest") is None


def test_another_namespace_is_another_service(story: Story) -> None:
    story.do(intention(1, "a", "b", action="deny", source_ns="other"))
    story.do(intention(2, "*", "b", action="allow"))
    assert allowed(story, "a", "b") is True
    assert story.store.intention_allows(("other", "a"), service("b")) is False
    (found,) = story.store.intention_match("source", [("other", "a")]).value
    assert [each.source_ns for each in found] == ["other"]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (
            intention(2, "", "", action=""),
            "3 errors occurred:\n\t* SourceName must be set\n\t* DestinationName must be set\n"
            "\t* Action must be set to 'allow' or 'deny'\n\n",
        ),
        (
            intention(2, "a*", "b"),
            "1 error occurred:\n\t* SourceName: wildcard character '*' cannot be used with partial values\n\n",
        ),
        (
            intention(2, "a", "b", source_ns="*"),
            "1 error occurred:\n\t* SourceName: exact value cannot follow wildcard namespace\n\n",
        ),
        (intention(2, "a", "c", source_type="x"), "1 error occurred:\n\t* SourceType must be set to 'consul'\n\n"),
        (
            intention(2, "a", "b", action="deny"),
            f"duplicate intention found: ALLOW default/a => default/b (ID: {uuid(1)}, Precedence: 9)",
        ),
        (
            intention(2, "A", "B", action="deny"),
            f"duplicate intention found: ALLOW default/a => default/b (ID: {uuid(1)}, Precedence: 9)",
        ),
        (intention(2, "a", "c", description="\u00fc" * 257), "1 error occurred:\n\t* Description exceeds maximum length 512\n\n"),
        (
            intention(2, "a", "c", meta={"k" * 129: "v" * 513}),
            f'2 errors occurred:\n\t* Meta key "{"k" * 129}" exceeds maximum length 128\n'
            f'\t* Meta value for key "{"k" * 129}" exceeds maximum length 512\n\n',
        ),
        (
            intention(2, "a", "c", meta={str(number): "" for number in range(65)}),
            "1 error occurred:\n\t* Meta exceeds maximum element count 64\n\n",
        ),
        (intention(9, "a", "b", op="update"), f"Cannot modify non-existent intention: '{uuid(9)}'"),
        (intention(9, "a", "b", op="delete"), f"Cannot delete non-existent intention: '{uuid(9)}'"),
        (
            intention(9, "a", "b", op="delete", id="x"),
            "Intention lookup failed: failed intention lookup: index error: UUID must be 36 characters",
        ),
        (intention(9, "a", "c", op="zap"), "Unknown intention operation: zap"),
        (c.IntentionChange(r.IntentionRequest(op="create")), "Must provide an intention"),
    ],
)
def test_refusals(story: Story, command: c.Command, text: str) -> None:
    tell(story, "a>b")
    known = story.store.intention_list()
    assert story.refused(command) == text
    assert story.store.intention_list() == known
