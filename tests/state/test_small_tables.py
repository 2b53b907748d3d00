"""Coordinates (reference: HTTP API 9) and autopilot's settings (11)."""

import pytest

from discovery.model import commands as c
from discovery.model.records import AutopilotConfig, Coordinate

from .stories import Story, coordinates


@pytest.fixture
def story() -> Story:
    told = Story()
    told.register("N1")
    told.register("n2", "10.0.0.2")
    return told


def heights(story: Story) -> dict[str, float]:
    return {row.node: row.coord.height for row in story.store.coordinates().value}


def test_coordinates_of_known_nodes_are_kept(story: Story) -> None:
    story.do(coordinates(n2=2.0, n1=1.0, stranger=3.0))
    assert heights(story) == {"n1": 1.0, "n2": 2.0}
    assert list(heights(story)) == ["n1", "n2"]
    story.do(coordinates(n1=5.0))
    assert heights(story) == {"n1": 5.0, "n2": 2.0}
    assert [row.coord.height for row in story.store.coordinate("N1").value] == [5.0]
    assert story.store.coordinate("stranger").value == []


def test_a_node_has_a_coordinate_in_every_segment(story: Story) -> None:
    story.do(c.CoordinateBatch([("n1", "b", Coordinate(height=1.0)), ("n1", "a", Coordinate(height=2.0))]))
    assert [(row.segment, row.coord.height) for row in story.store.coordinate("n1").value] == [("a", 2.0), ("b", 1.0)]


def test_coordinates_go_with_their_node(story: Story) -> None:
    story.do(coordinates(n1=1.0, n2=2.0))
    story.deregister("n1")
    assert heights(story) == {"n2": 2.0}
    story.register("n1")
    assert heights(story) == {"n2": 2.0}


def test_autopilot_settings(story: Story) -> None:
    assert story.store.autopilot_config().value is None
    assert story.do(c.AutopilotChange(AutopilotConfig(min_quorum=3, modify_index=77), cas=True)) is False
    assert story.do(c.AutopilotChange(AutopilotConfig(min_quorum=3))) is True
    found = story.store.autopilot_config().value
    assert found is not None
    assert (found.min_quorum, found.create_index, found.modify_index) == (3, 4, 4)
    assert story.do(c.AutopilotChange(AutopilotConfig(min_quorum=5, modify_index=3), cas=True)) is False
    assert story.do(c.AutopilotChange(AutopilotConfig(min_quorum=5, modify_index=4), cas=True)) is True
    found = story.store.autopilot_config().value
    assert found is not None
    assert (found.min_quorum, found.create_index, found.modify_index) == (5, 4, 6)
