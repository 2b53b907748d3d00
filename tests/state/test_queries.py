"""Prepared queries: names, sessions, templates (reference: HTTP API 13)."""

import pytest

from discovery.model import commands as c
from discovery.model import records as m
from discovery.model import requests as r
from discovery.model.errors import RequestFailed

from .stories import Story, query, session, uuid


@pytest.fixture
def story() -> Story:
    told = Story()
    told.register("n1")
    return told


def template(
    number: int, name: str, regexp: str = "", *, remove_empty_tags: bool = False, **service: object
) -> c.PreparedQueryChange:
    wanted = m.QueryService(**{"service": "web", **service})  # type: ignore[arg-type]
    form = m.QueryTemplate(type="name_prefix_match", regexp=regexp, remove_empty_tags=remove_empty_tags)
    given = m.PreparedQuery(id=uuid(number), name=name, template=form, service=wanted)
    return c.PreparedQueryChange(r.PreparedQueryRequest(op="create", query=given))


def resolved(story: Story, name: str, segment: str = "") -> m.PreparedQuery:
    found = story.store.query_resolve(name, segment).value
    assert found is not None
    return found


def test_life(story: Story) -> None:
    assert story.do(query(1, "Q")) == uuid(1)
    assert resolved(story, "q").id == resolved(story, uuid(1)).id == uuid(1)
    assert story.do(query(1, "other", op="update")) == uuid(1)
    found = story.store.query_get(uuid(1)).value
    assert found is not None
    assert (found.name, found.create_index, found.modify_index) == ("other", 2, 3)
    assert story.store.query_resolve("q").value is None
    assert story.do(query(1, "", op="delete")) == uuid(1)
    assert story.store.query_list().value == []
    assert story.store.query_resolve("").value is None


def test_ids_are_equal_in_any_case(story: Story) -> None:
    letters = "abcdef00-0000-0000-0000-000000000001"
    given = m.PreparedQuery(id=letters, name="q")
    story.do(c.PreparedQueryChange(r.PreparedQueryRequest(op="create", query=given)))
    assert story.store.query_get(letters.upper()).value is not None
    assert resolved(story, letters.upper()).id == letters


def test_list_is_sorted_by_id(story: Story) -> None:
    for number in (3, 1, 2):
        story.do(query(number, f"q{number}"))
    assert [found.id for found in story.store.query_list().value] == [uuid(1), uuid(2), uuid(3)]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (query(2, "Q1"), "name 'Q1' aliases an existing query name"),
        (template(2, "q1"), "name 'q1' aliases an existing query name"),
        (query(2, uuid(1)), f"name '{uuid(1)}' aliases an existing query ID"),
        (query(2, "x", session="short"), "failed session lookup: index error: UUID must be 36 characters"),
        (query(2, "x", session=uuid(9)), f'invalid session "{uuid(9)}"'),
        (query(2, "x", op="zap"), "Unknown prepared query operation: zap"),
        (query(2, "x", template=m.QueryTemplate(type="zap")), "failed compiling template: Bad Template.Type 'zap'"),
        (c.PreparedQueryChange(r.PreparedQueryRequest(op="create")), "missing query ID"),
        (
            template(2, "x", service="${nope}"),
            "failed compiling template: Bad evaluation for '${nope}' in Service.Service: 1:3: unknown variable accessed: nope",
        ),
    ],
)
def test_refusals(story: Story, command: c.Command, text: str) -> None:
    story.do(query(1, "q1"))
    assert story.refused(command) == text
    assert [found.id for found in story.store.query_list().value] == [uuid(1)]


def test_a_broken_regular_expression_is_refused(story: Story) -> None:
    assert (
        story.refused(template(2, "x", "("))
        == "failed compiling template: Bad Regexp: error parsing regexp: missing closing ): `(`"
    )


def test_a_name_may_look_like_an_id_that_nobody_has(story: Story) -> None:
    assert story.do(query(1, uuid(9))) == uuid(1)
    assert resolved(story, uuid(9)).id == uuid(1)


def test_a_query_may_keep_its_own_name(story: Story) -> None:
    story.do(query(1, "q1"))
    assert story.do(query(1, "Q1", op="update", service="db")) == uuid(1)


def test_there_is_one_template_for_all_names(story: Story) -> None:
    story.do(template(1, ""))
    assert story.refused(template(2, "")) == "a query template with an empty name already exists"
    assert story.do(template(1, "", service="other")) == uuid(1)


def test_a_query_goes_with_its_session_and_alone(story: Story) -> None:
    story.do(session(1))
    story.do(query(1, "bound", session=uuid(1)))
    story.do(query(2, "free"))
    story.destroy(uuid(1))
    assert [found.name for found in story.store.query_list().value] == ["free"]


# --- templates ---------------------------------------------------------------------------------------------------------


def test_the_longest_prefix_wins_and_an_exact_name_before_it(story: Story) -> None:
    story.do(template(1, "", service="all-${name.full}"))
    story.do(template(2, "geo-", service="geo-${name.suffix}"))
    story.do(template(3, "geo-db-", service="db-${name.suffix}"))
    story.do(query(4, "geo-db-exact", service="exact"))
    services = {name: resolved(story, name).service.service for name in ("x", "geo-web", "GEO-DB-1", "geo-db-exact", "geo")}
    assert services == {"x": "all-x", "geo-web": "geo-web", "GEO-DB-1": "db-1", "geo-db-exact": "exact", "geo": "all-geo"}


def test_a_template_is_not_asked_for_by_id(story: Story) -> None:
    story.do(template(1, "geo-"))
    with pytest.raises(RequestFailed, match="prepared query templates can only be resolved up by name, not by ID"):
        story.store.query_resolve(uuid(1))


def test_all_text_fields_are_filled(story: Story) -> None:
    story.do(
        template(
            1,
            "geo-",
            r"^geo-(.)-(.*)$",
            service="${match(2)}",
            near="${name.full}",
            tags=["${match(1)}", "$${x}", "${ name.prefix }"],
            node_meta={"a": "${name.suffix}"},
            service_meta={"b": "${agent.segment}"},
            ignore_check_ids=["${match(0)}"],
            failover=m.QueryFailover(nearest_n=2, datacenters=["dc-${match(1)}"]),
        )
    )
    assert resolved(story, "geo-x-Web", "seg").service == m.QueryService(
        service="Web",
        near="geo-x-Web",
        tags=["x", "${x}", "geo-"],
        node_meta={"a": "x-Web"},
        service_meta={"b": "seg"},
        ignore_check_ids=["geo-x-Web"],
        failover=m.QueryFailover(nearest_n=2, datacenters=["dc-x"]),
    )


def test_groups_that_are_not_there_are_empty(story: Story) -> None:
    story.do(template(1, "geo-", r"^geo-(a)?", service="x${match(1)}${match(7)}", tags=["${match(1)}", "t"]))
    assert resolved(story, "geo-b").service.service == "x"
    assert resolved(story, "geo-b").service.tags == ["", "t"]


def test_empty_tags_are_removed_if_wanted(story: Story) -> None:
    story.do(template(1, "geo-", r"^geo-(a)?", remove_empty_tags=True, tags=["${match(1)}", "t"]))
    assert resolved(story, "geo-b").service.tags == ["t"]
    assert resolved(story, "geo-a").service.tags == ["a", "t"]


def test_a_plain_query_is_not_filled(story: Story) -> None:
    story.do(query(1, "q", service="${name.full}"))
    assert resolved(story, "q").service.service == "${name.full}"
