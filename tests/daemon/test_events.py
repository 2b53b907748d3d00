"""User events: which of them concern this agent."""

import asyncio

import pytest

from discovery.daemon.events import PREFIX, ServiceView, UserEvents, decode, encode, new_event
from discovery.model.agent import UserEvent
from discovery.model.errors import RequestFailed


def received(event: UserEvent, *services: ServiceView) -> list[str]:
    events = UserEvents("node-1", lambda: services)
    events.receive(PREFIX + event.name, encode(event), 7)
    return [each.name for each in events.events()]


@pytest.mark.parametrize(
    ("event", "kept"),
    [
        (UserEvent(name="deploy"), True),
        (UserEvent(name="deploy", node_filter="^node-"), True),
        (UserEvent(name="deploy", node_filter="other"), False),
        (UserEvent(name="deploy", service_filter="we"), True),
        (UserEvent(name="deploy", service_filter="^db$"), False),
        (UserEvent(name="deploy", service_filter="web", tag_filter="v1"), True),
        (UserEvent(name="deploy", service_filter="web", tag_filter="v2"), False),
    ],
)
def test_filters_decide_on_node_service_and_tag(event: UserEvent, kept: bool) -> None:
    assert received(event, ServiceView(id="web", tags=["v1"])) == (["deploy"] if kept else [])


def test_what_is_no_event_of_ours_is_left() -> None:
    events = UserEvents("node-1", list)
    events.receive("consul:new-leader", b"s1", 1)
    events.receive(PREFIX + "x", b"\xc1garbage", 2)
    assert events.events() == []


def test_an_event_travels_whole_with_its_lamport_time() -> None:
    fired = new_event(UserEvent(name="deploy", payload=b"\x00\xff", node_filter="n"))
    assert decode(encode(fired)) == fired
    events = UserEvents("n", list)
    events.receive(PREFIX + "deploy", encode(fired), 42)
    assert events.events()[0].l_time == 42


def test_only_the_newest_256_are_kept() -> None:
    events = UserEvents("n", list)
    for number in range(300):
        events.receive(PREFIX + str(number), encode(UserEvent(name=str(number))), number)
    assert [events.events()[0].name, events.events()[-1].name, len(events.events())] == ["44", "299", 256]


def test_bad_filters_are_refused() -> None:
    with pytest.raises(RequestFailed, match="Cannot provide tag filter without service filter"):
        new_event(UserEvent(name="x", tag_filter="v1"))
    with pytest.raises(RequestFailed, match="Invalid node filter"):
        new_event(UserEvent(name="x", node_filter="("))


async def test_whoever_waits_is_told_of_the_next_event() -> None:
    events = UserEvents("n", list)
    waiting = [asyncio.create_task(events.arrived()) for _ in range(2)]
    await asyncio.sleep(0)
    events.receive(PREFIX + "x", encode(UserEvent(name="x")), 1)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
