"""Serf's rules: intents and their Lamport times, statuses, user events, queries, what is remembered and forgotten."""

import base64
import random
from dataclasses import replace
from typing import cast

import msgspec
import pytest

from discovery.gossip import keys, serf_messages
from discovery.gossip.codec import pack, unpack
from discovery.gossip.events import (
    Event,
    KeyringChanged,
    Member,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberReaped,
    MemberStatus,
    UserEvent,
)
from discovery.gossip.lamport import RING_SIZE, LamportClock, LamportRing
from discovery.gossip.members import ip_bytes
from discovery.gossip.messages import Dead, NodeState
from discovery.gossip.profile import LAN
from discovery.gossip.security import KeyRefused, Keyring
from discovery.gossip.serf import RefusedMerge, UnknownMember, UserEventTooLarge
from discovery.gossip.serf_messages import (
    ConflictResponse,
    EventsAt,
    JoinIntent,
    KeyResponse,
    LeaveIntent,
    Query,
    QueryResponse,
    RecentEvent,
    RelayAddress,
    RelayHeader,
    SerfKind,
    SerfState,
    TagFilter,
    TagsTooLarge,
    UserEventMessage,
)
from discovery.gossip.snapshot import Snapshot
from discovery.gossip.streams import PushPull, encode_push_pull

from .rig import ME, MY_ADDRESS, Rig, address_of, alive, record

ALONE = replace(LAN, probe_interval=1e6, push_pull_interval=1e6)
"""Nobody is probed, so that the nodes a test only claims to exist live on."""


def rig_with(*names: str, **changes: object) -> Rig:
    rig = Rig(profile=ALONE, **changes)  # type: ignore[arg-type]
    rig.hear(*(alive(name) for name in names))
    rig.run(10)
    rig.take_events()
    return rig


def sent_intents(rig: Rig, seconds: float = 10) -> list[bytes]:
    return [message for _, message in rig.run(seconds) if isinstance(message, bytes)]


def kinds(events: list[Event]) -> list[type]:
    return [type(event) for event in events]


# --- intents -------------------------------------------------------------------------------------------------------------


def test_a_leave_intent_makes_the_end_a_leave() -> None:
    rig = rig_with("n2", "n3")
    rig.hear_serf(LeaveIntent(5, "n2"))
    assert rig.status("n2") is MemberStatus.LEAVING
    rig.hear(Dead(1, "n2", "n3"), Dead(1, "n3", "n2"))
    assert (rig.status("n2"), rig.status("n3")) == (MemberStatus.LEFT, MemberStatus.FAILED)
    assert kinds(rig.take_events()) == [MemberLeft, MemberFailed]


def test_a_node_that_calls_itself_dead_has_left_even_without_an_intent() -> None:
    rig = rig_with("n2")
    rig.hear(Dead(1, "n2", "n2"))
    assert rig.status("n2") is MemberStatus.LEFT
    rig.hear_serf(LeaveIntent(5, "n2"))
    assert kinds(rig.take_events()) == [MemberLeft]


def test_a_leave_intent_about_a_failed_member_makes_it_left() -> None:
    rig = rig_with("n2")
    rig.hear(Dead(1, "n2", "n3"))
    rig.hear_serf(LeaveIntent(5, "n2"))
    assert kinds(rig.take_events()) == [MemberFailed, MemberLeft]
    rig.hear_serf(JoinIntent(6, "n2"))
    assert rig.status("n2") is MemberStatus.LEFT


def test_a_newer_join_intent_takes_a_leave_back_and_an_older_does_not() -> None:
    rig = rig_with("n2")
    rig.hear_serf(LeaveIntent(5, "n2"), JoinIntent(5, "n2"), JoinIntent(4, "n2"))
    assert rig.status("n2") is MemberStatus.LEAVING
    rig.hear_serf(JoinIntent(6, "n2"), LeaveIntent(6, "n2"))
    assert rig.status("n2") is MemberStatus.ALIVE


@pytest.mark.parametrize("status", [NodeState.ALIVE, NodeState.DEAD, NodeState.LEFT])
def test_an_intent_that_comes_a_thousand_times_is_passed_on_as_one(status: NodeState) -> None:
    """The status time is kept even where the status stays, or intents would go round for ever."""
    rig = rig_with("n2", "n3")
    if status is not NodeState.ALIVE:
        rig.hear(Dead(1, "n2", "n2" if status is NodeState.LEFT else "n3"))
    intent = LeaveIntent(9, "n2")
    for _ in range(1000):
        rig.hear_serf(intent)
    assert sent_intents(rig).count(serf_messages.encode(intent)) == rig.swim.retransmit_limit()
    rig.hear_serf(intent, LeaveIntent(8, "n2"))
    assert sent_intents(rig) == []


def test_intents_about_strangers_are_kept_for_when_they_come() -> None:
    rig = rig_with("n9")
    rig.hear_serf(JoinIntent(3, "n2"), LeaveIntent(4, "n2"), LeaveIntent(4, "n3"), JoinIntent(7, "n3"))
    assert len(set(sent_intents(rig))) == 4
    rig.hear(alive("n2"), alive("n3"))
    assert (rig.status("n2"), rig.status("n3")) == (MemberStatus.LEAVING, MemberStatus.ALIVE)
    rig.hear_serf(LeaveIntent(7, "n3"))
    assert rig.status("n3") is MemberStatus.ALIVE


def test_intents_about_strangers_are_forgotten_after_five_minutes() -> None:
    rig = rig_with("n9")
    rig.hear_serf(LeaveIntent(4, "n2"))
    rig.run(320)
    rig.hear(alive("n2"))
    assert rig.status("n2") is MemberStatus.ALIVE


def test_a_leave_about_ourselves_is_answered_with_a_newer_join() -> None:
    rig = rig_with("n2")
    rig.hear_serf(LeaveIntent(20, ME))
    assert rig.status(ME) is MemberStatus.ALIVE
    sent = sent_intents(rig)
    assert set(sent) == {serf_messages.encode(JoinIntent(21, ME))}


def test_intents_are_passed_on_byte_for_byte() -> None:
    rig = rig_with("n2", "n3")
    odd = bytes((SerfKind.JOIN,)) + b"\x83\xa4Node\xa2n3\xa5LTime\xcd\x00\x09\xa5Extra\xc0"
    rig.core.receive_message(odd, address_of("n2"), rig.now)
    assert set(sent_intents(rig)) == {odd}


# --- leaving -------------------------------------------------------------------------------------------------------------


def test_leaving_takes_its_steps() -> None:
    rig = rig_with("n2", leave_propagate_delay=3.0)
    rig.core.leave(rig.now)
    assert rig.status(ME) is MemberStatus.LEAVING
    messages = [message for _, message in rig.run(2.5)]
    intents = [place for place, message in enumerate(messages) if isinstance(message, bytes)]
    farewells = [place for place, message in enumerate(messages) if message == Dead(1, ME, ME)]
    assert len(intents) == len(farewells) == 4
    assert max(intents) < min(farewells)
    assert not rig.core.left
    rig.run(3.0)
    assert rig.core.left
    assert rig.status(ME) is MemberStatus.LEFT
    rig.hear(Dead(5, ME, "n2"), alive(ME, 9, at=MY_ADDRESS))
    assert rig.swim.me.incarnation == 1


def test_leaving_when_nobody_hears_ends_nevertheless() -> None:
    rig = Rig(profile=replace(ALONE, gossip_interval=1e6), leave_propagate_delay=1.0)
    rig.hear(alive("n2"))
    rig.core.leave(rig.now)
    rig.run(10.9)
    assert not rig.core.left
    rig.run(0.2)
    assert rig.core.left


# --- forced leaves, reaping, reconnecting --------------------------------------------------------------------------------


def test_force_leave_and_prune() -> None:
    rig = rig_with("n2", "n3")
    rig.hear(Dead(1, "n2", "n3"))
    rig.core.force_leave("n2", False, rig.now)
    assert rig.status("n2") is MemberStatus.LEFT
    rig.core.force_leave("n2", True, rig.now)
    assert rig.core.member("n2") is None
    assert kinds(rig.take_events()) == [MemberFailed, MemberLeft, MemberReaped]
    sent = {serf_messages.encode(LeaveIntent(time, "n2", prune)) for time, prune in ((1, False), (2, True))}
    assert set(sent_intents(rig)) == sent
    with pytest.raises(UnknownMember, match="No node found with name 'x'"):
        rig.core.force_leave("x", False, rig.now)


def test_a_living_member_that_is_pruned_gets_time_to_leave() -> None:
    rig = rig_with("n2")
    rig.hear_serf(LeaveIntent(4, "n2", True))
    rig.run(7.5)
    assert rig.status("n2") is MemberStatus.LEAVING
    rig.run(1)
    assert rig.core.member("n2") is None


def test_the_failed_and_the_left_are_forgotten_in_their_time() -> None:
    rig = rig_with("n2", "n3", reconnect_timeout=200.0, tombstone_timeout=100.0)
    rig.hear(Dead(1, "n2", ME), Dead(1, "n3", "n3"))
    rig.run(90)
    assert {member.name for member in rig.core.members()} == {ME, "n2", "n3"}
    rig.run(30)
    assert {member.name for member in rig.core.members()} == {ME, "n2"}
    rig.run(100)
    assert {member.name for member in rig.core.members()} == {ME}
    assert kinds(rig.take_events()) == [MemberFailed, MemberLeft, MemberReaped, MemberReaped]


def test_the_failed_are_looked_for() -> None:
    rig = rig_with("n2")
    rig.hear(Dead(1, "n2", ME))
    rig.run(31)
    exchanges = [exchange.destination for exchange in rig.core.take_exchanges()]
    assert exchanges == [address_of("n2")]


# --- exchanges -----------------------------------------------------------------------------------------------------------


def state(rig: Rig) -> SerfState:
    return unpack(rig.core.local_state(list(rig.core.swim.members))[1:], SerfState)


def test_the_left_and_the_joined_of_an_exchange() -> None:
    rig = rig_with("n2", "n3", "n4")
    rig.hear(Dead(1, "n2", ME))
    remote = SerfState(30, {"n2": 8, "n3": 12, "n5": 3}, ["n2"], 1, [], 1)
    rig.exchange(state=serf_messages.encode(remote))
    assert rig.status("n2") is MemberStatus.LEFT
    ours = state(rig)
    assert ours.l_time == 30
    assert (ours.status_l_times["n2"], ours.status_l_times["n3"]) == (9, 12)
    assert ours.left_members == ["n2"]
    rig.exchange(state=serf_messages.encode(remote))
    assert state(rig).status_l_times["n2"] == 9
    assert sent_intents(rig) == []


def test_members_that_are_leaving_are_not_told_as_joined() -> None:
    rig = rig_with("n2")
    rig.hear_serf(LeaveIntent(5, "n2"))
    assert "n2" not in state(rig).status_l_times
    rig.hear(Dead(1, "n2", "n2"))
    assert (state(rig).status_l_times["n2"], state(rig).left_members) == (5, ["n2"])


def test_events_of_an_exchange_are_heard_once_and_not_at_all_by_who_joins() -> None:
    events = [None, EventsAt(7, [RecentEvent("a", b"1"), RecentEvent("b", None)]), None]
    remote = serf_messages.encode(SerfState(1, {}, [], 8, events, 1))
    rig = rig_with("n2")
    for _ in range(2):
        rig.exchange(state=remote)
    assert rig.take_events() == [UserEvent("a", b"1", 7, False), UserEvent("b", b"", 7, False)]
    assert state(rig).events[7] == EventsAt(7, [RecentEvent("a", b"1"), RecentEvent("b", b"")])
    newcomer = rig_with("n2")
    exchange = newcomer.core.join(address_of("n2"))
    exchange.receive(encode_push_pull(PushPull(False, [record("n2")], remote)), newcomer.now)
    assert exchange.error is None
    assert newcomer.take_events() == []
    newcomer.hear_serf(UserEventMessage(8, "new"), UserEventMessage(7, "old"))
    assert newcomer.take_events() == [UserEvent("new", b"", 8, False)]


@pytest.mark.parametrize("raw", [b"\x02", b"\x02\x80", b"\x01\x80", b"\x02\x81\xa6Events\xc0", b"\x02\x81\xa6Events\x91\x05"])
def test_odd_user_states_do_no_harm(raw: bytes) -> None:
    rig = rig_with()
    rig.exchange(record("n2"), state=raw)
    assert rig.status("n2") is MemberStatus.ALIVE


def test_a_merge_check_sees_members_and_its_words_are_the_reason() -> None:
    seen: list[Member] = []

    def check(members: object) -> None:
        seen.extend(cast(list[Member], members))
        raise RefusedMerge("Member 'n2' part of wrong datacenter 'dc2'")

    rig = Rig(merge_check=check)
    rig.exchange(record("n2"), record("n3", NodeState.LEFT), join=True)
    assert [(member.name, member.status) for member in seen] == [("n2", MemberStatus.NONE), ("n3", MemberStatus.LEFT)]
    rig.hear(alive("n2"))
    assert rig.core.member("n2") is None
    assert all("Member 'n2' part of wrong datacenter 'dc2'" in note for note in rig.core.take_notes())


# --- user events ---------------------------------------------------------------------------------------------------------


def test_a_user_event_is_told_here_and_spread() -> None:
    rig = rig_with("n2", "n3")
    rig.core.user_event("deploy", b"v1", True, rig.now)
    rig.core.user_event("deploy", b"v1", True, rig.now)
    assert rig.take_events() == [UserEvent("deploy", b"v1", 1, True), UserEvent("deploy", b"v1", 2, True)]
    sent = sent_intents(rig)
    assert sent.count(serf_messages.encode(UserEventMessage(1, "deploy", b"v1", True))) == 4


def test_user_events_are_news_once() -> None:
    rig = rig_with("n2")
    first, other = UserEventMessage(600, "a", b"x"), UserEventMessage(600, "a", b"y")
    rig.hear_serf(first, other, first, other)
    assert [cast(UserEvent, event).payload for event in rig.take_events()] == [b"x", b"y"]
    rig.hear_serf(UserEventMessage(600 - RING_SIZE, "old"), UserEventMessage(601 - RING_SIZE, "just in time"))
    assert [cast(UserEvent, event).name for event in rig.take_events()] == ["just in time"]


def test_user_events_have_a_limit_before_and_after_encoding() -> None:
    rig = rig_with()
    with pytest.raises(UserEventTooLarge, match="limit of 512 bytes before encoding"):
        rig.core.user_event("name", bytes(509), False, rig.now)
    with pytest.raises(UserEventTooLarge, match="limit of 512 bytes after encoding"):
        rig.core.user_event("name", bytes(508), False, rig.now)
    rig.core.user_event("name", bytes(450), False, rig.now)


# --- queries -------------------------------------------------------------------------------------------------------------


def query(name: str, payload: bytes = b"", **changes: object) -> Query:
    base = Query(5, 99, ip_bytes("10.0.0.2"), 7946, "n2", None, 0, 0, 10**9, name, payload)
    return msgspec.structs.replace(base, **changes)


def responses(rig: Rig) -> list[QueryResponse]:
    """What went straight to the asker, n2."""
    found = []
    for destination, message in rig.sent():
        if destination == address_of("n2") and isinstance(message, bytes) and message[0] == SerfKind.QUERY_RESPONSE:
            found.append(unpack(message[1:], QueryResponse))
    return found


def test_a_query_is_passed_on_once_and_acknowledged_if_wanted() -> None:
    rig = rig_with("n2", "n3")
    asked = query("deploy?", flags=1)
    rig.hear_serf(asked)
    rig.hear_serf(asked)
    assert responses(rig) == [QueryResponse(5, 99, ME, 1, None)]
    assert sent_intents(rig).count(serf_messages.encode(asked)) == 4
    rig.hear_serf(query("quiet", id=100, flags=2))
    assert sent_intents(rig) == []
    assert rig.take_events() == []


def test_query_filters() -> None:
    rig = rig_with("n2", tags={"role": "web-7"})
    by_name = [bytes((0,)) + b"\x92\xa2me\xa2n9", bytes((0,)) + b"\x91\xa2n9"]
    by_tag = [bytes((1,)) + pack(TagFilter("role", "^web-[0-9]$")), bytes((1,)) + pack(TagFilter("role", "^db"))]
    cases = [([by_name[0], by_tag[0]], 1), ([by_name[1]], 0), ([by_name[0], by_tag[1]], 0), ([], 1)]
    for number, (filters, answers) in enumerate(cases):
        rig.hear_serf(query("any", id=number, flags=1, filters=filters))
        assert len(responses(rig)) == answers
    before = rig.swim.counters["bad packets"]
    for number, broken in enumerate(
        [b"", b"\x09", b"\x01" + pack(TagFilter("role", "(")), b"\x01" + pack(TagFilter("a", "x" * 999))]
    ):
        rig.hear_serf(query("any", id=50 + number, flags=1, filters=[broken]))
    assert responses(rig) == []
    assert rig.swim.counters["bad packets"] == before + 4


def key_answer(rig: Rig, operation: str, payload: bytes, number: int) -> KeyResponse:
    rig.hear_serf(query(operation, payload, id=number))
    (response,) = responses(rig)
    assert response.payload is not None
    assert response.payload[0] == SerfKind.KEY_RESPONSE
    return unpack(response.payload[1:], KeyResponse)


def test_keys_are_changed_by_queries() -> None:
    rig = rig_with("n2")
    old, new = bytes(16), bytes(range(32))
    request = serf_messages.encode(serf_messages.KeyRequest(new))
    assert key_answer(rig, keys.LIST, b"", 1) == KeyResponse(message="Keyring is empty (encryption not enabled)")
    assert key_answer(rig, keys.USE, request, 2) == KeyResponse(message="No keyring to modify (encryption not enabled)")
    rig.protection.keyring, rig.protection.verify_incoming, rig.protection.verify_outgoing = Keyring([old]), False, False
    assert key_answer(rig, keys.USE, request, 3).message == "requested key is not in the keyring"
    assert key_answer(rig, keys.INSTALL, request, 4) == KeyResponse(result=True)
    assert key_answer(rig, keys.USE, request, 5) == KeyResponse(result=True)
    shown = key_answer(rig, keys.LIST, b"", 6)
    texts = [base64.b64encode(key).decode() for key in (new, old)]
    assert (shown.keys, shown.primary_key) == (texts, texts[0])
    assert rig.take_events() == [KeyringChanged([old, new]), KeyringChanged([new, old])]
    assert not key_answer(rig, keys.INSTALL, b"nonsense", 7).result


def test_long_lists_of_keys_are_cut_to_fit_an_answer() -> None:
    many = KeyResponse(result=True, keys=[base64.b64encode(random.Random(i).randbytes(32)).decode() for i in range(50)])
    encoded = keys.encode_within(many, 900)
    assert len(encoded) <= 900
    cut = unpack(encoded[1:], KeyResponse)
    assert cut.message == f"truncated key list response, showing first {len(cut.keys or [])} of 50 keys"
    assert len(cut.keys or []) > 10


def test_who_holds_a_name_is_answered() -> None:
    rig = rig_with("n2", "n3")
    rig.hear_serf(query("_serf_conflict", b"n3"))
    (response,) = responses(rig)
    assert response.payload is not None
    told = unpack(response.payload[1:], ConflictResponse)
    assert (told.name, told.addr, told.status) == ("n3", ip_bytes("10.0.0.3"), 1)
    for number, name in enumerate((b"nobody", ME.encode())):
        rig.hear_serf(query("_serf_conflict", name, id=number))
    assert responses(rig) == []


def test_our_own_query_ends_when_all_have_answered_or_time_is_up() -> None:
    rig = rig_with("n2", "n3")
    rig.protection.keyring, rig.protection.verify_incoming, rig.protection.verify_outgoing = Keyring([bytes(16)]), False, False
    results: list[keys.KeyResult] = []
    rig.core.key_operation(keys.LIST, b"", results.append, rig.now)
    asked = next(unpack(message[1:], Query) for message in sent_intents(rig, 1.0))
    text = base64.b64encode(bytes(16)).decode()
    answer = serf_messages.encode(KeyResponse(result=True, keys=[text], primary_key=text))
    refusal = serf_messages.encode(KeyResponse(result=False, message="no"))
    rig.hear_serf(QueryResponse(asked.l_time, asked.id, "n2", 0, answer), QueryResponse(asked.l_time, asked.id, "n2", 0, refusal))
    assert results == []
    rig.run(1.0)
    rig.hear_serf(QueryResponse(asked.l_time, asked.id, "n3", 0, refusal))
    (result,) = results
    assert (result.nodes, result.responses, result.errors, result.messages) == (3, 3, 1, {"n3": "no"})
    assert (result.keys, result.primary_keys) == ({text: 2}, {text: 2})
    rig.core.key_operation(keys.LIST, b"", results.append, rig.now)
    rig.run(3.1)
    assert len(results) == 1
    rig.run(0.2)
    assert results[1].responses == 1


def test_answers_also_take_the_detours_that_the_asker_wants() -> None:
    rig = rig_with("n2", "n3", "n4")
    rig.hear_serf(query("any", flags=1, relay_factor=2))
    straight = serf_messages.encode(QueryResponse(5, 99, ME, 1, None))
    sent = [(to, message) for to, message in rig.sent() if message[:1] != bytes((SerfKind.QUERY,))]  # type: ignore[index]
    assert (address_of("n2"), straight) in sent
    header = pack(RelayHeader(RelayAddress(ip_bytes("10.0.0.2"), 7946), "n2"))
    relayed = [(to, message) for to, message in sent if message != straight]
    assert len({to for to, _ in relayed}) == 2
    assert {message for _, message in relayed} == {bytes((SerfKind.RELAY,)) + header + straight}
    # In a group hardly larger than that nothing is gained.
    rig.hear_serf(query("any", id=100, flags=1, relay_factor=4))
    assert [message[0] for _, message in rig.sent() if message[0] == SerfKind.RELAY] == []  # type: ignore[index]


def test_we_ask_for_detours_and_count_each_answer_once() -> None:
    rig = rig_with("n2", "n3")
    rig.protection.keyring, rig.protection.verify_incoming, rig.protection.verify_outgoing = Keyring([bytes(16)]), False, False
    results: list[keys.KeyResult] = []
    rig.core.key_operation(keys.LIST, b"", results.append, rig.now, relay_factor=3)
    asked = next(unpack(message[1:], Query) for message in sent_intents(rig, 1.0))
    assert asked.relay_factor == 3


def test_a_key_of_a_wrong_length_is_refused_before_anybody_is_asked() -> None:
    rig = rig_with("n2")
    rig.protection.keyring = Keyring([bytes(16)])
    with pytest.raises(KeyRefused, match="key size must be 16, 24 or 32 bytes"):
        rig.core.key_operation(keys.INSTALL, bytes(15), lambda result: None, rig.now)
    assert sent_intents(rig) == []
    assert rig.protection.keyring.keys == [bytes(16)]


def test_expressions_that_are_made_to_take_for_ever_do_not() -> None:
    rig = rig_with("n2", tags={"role": "a" * 400})
    rig.hear_serf(query("any", flags=1, filters=[bytes((1,)) + pack(TagFilter("role", "(a|a)*(a+)+(.*.*.*)*b$"))]))
    assert responses(rig) == []


def test_messages_that_fit_no_packet_go_no_further() -> None:
    rig = rig_with("n2")
    large = UserEventMessage(5, "large", bytes(2000))
    rig.hear_serf(large)
    assert [event.name for event in rig.take_events() if isinstance(event, UserEvent)] == ["large"]
    assert sent_intents(rig) == []
    assert rig.swim.counters["oversized messages"] == 1


def heard(rig: Rig) -> list[tuple[str, bytes]]:
    return [(event.name, event.payload) for event in rig.take_events() if isinstance(event, UserEvent)]


def test_of_events_that_coalesce_only_the_newest_is_told() -> None:
    rig = rig_with("n2", coalesce_period=3.0, quiescent_period=1.0)
    rig.hear_serf(UserEventMessage(5, "deploy", b"1", True), UserEventMessage(7, "deploy", b"3", True))
    rig.hear_serf(UserEventMessage(6, "deploy", b"2", True), UserEventMessage(7, "deploy", b"also 3", True))
    rig.hear_serf(UserEventMessage(8, "other", b"", True), UserEventMessage(9, "plain", b"", False))
    assert heard(rig) == [("plain", b"")]
    rig.run(0.9)
    assert heard(rig) == []
    rig.run(0.2)
    assert heard(rig) == [("deploy", b"3"), ("deploy", b"also 3"), ("other", b"")]
    rig.run(5)
    assert heard(rig) == []


def test_events_that_keep_coming_are_told_at_the_end_of_the_coalesce_period() -> None:
    rig = rig_with("n2", coalesce_period=3.0, quiescent_period=1.0)
    for number in range(5, 12):
        rig.hear_serf(UserEventMessage(number, "deploy", bytes((number,)), True))
        rig.run(0.5)
    assert heard(rig) == [("deploy", bytes((10,)))]


def test_by_default_every_event_is_told_at_once() -> None:
    rig = rig_with("n2")
    rig.hear_serf(UserEventMessage(5, "deploy", b"1", True), UserEventMessage(6, "deploy", b"2", True))
    assert heard(rig) == [("deploy", b"1"), ("deploy", b"2")]


def test_messages_are_relayed_as_they_are() -> None:
    rig = rig_with("n2", "n3")
    inner = serf_messages.encode(QueryResponse(1, 2, "n2"))
    header = RelayHeader(RelayAddress(ip_bytes("10.0.0.3"), 7946), "n3")
    rig.core.receive_message(bytes((SerfKind.RELAY,)) + pack(header) + inner, address_of("n2"), rig.now)
    assert rig.sent() == [(address_of("n3"), inner)]


# --- clocks, snapshots, the rest -----------------------------------------------------------------------------------------


def test_lamport_clocks() -> None:
    clock = LamportClock()
    assert (clock.tick(), clock.tick(), clock.time) == (1, 2, 3)
    clock.witness(2)
    assert clock.time == 3
    clock.witness(10)
    assert clock.time == 11


def test_a_ring_forgets_by_time_and_not_before() -> None:
    ring: LamportRing[str] = LamportRing()
    for time in range(1, 2 * RING_SIZE):
        assert ring.admit(time, "x")
        assert not ring.admit(time, "x")
    slots = ring.slots()
    assert [slot[0] for slot in slots if slot] == [time or RING_SIZE for time in [*range(RING_SIZE, 2 * RING_SIZE)]]
    ring.floor = 3 * RING_SIZE
    assert not ring.admit(3 * RING_SIZE - 1, "y")
    assert ring.admit(3 * RING_SIZE, "y")


def test_a_snapshot_remembers_who_was_alive() -> None:
    snapshot = Snapshot()
    member = rig_with("n2").core.member("n2")
    assert member is not None
    spaced = Member(**{**{field: getattr(member, field) for field in member.__struct_fields__}, "name": "a b", "address": "::1"})
    lines = [*snapshot.record(MemberJoined(member)), *snapshot.record(MemberJoined(spaced)), *snapshot.record_clocks((3, 0, 1))]
    assert lines == ["alive: n2 10.0.0.2:7946\n", "alive: a b [::1]:7946\n", "clock: 3\n", "query-clock: 1\n"]
    lines += snapshot.record(MemberFailed(member))
    lines += snapshot.record(MemberReaped(member))
    assert lines[4:] == ["not-alive: n2\n"]
    again = Snapshot()
    again.read([*lines, "coordinate: {}\n", "# comment\n", "alive: cut of", "clock: x\n", "\n"])
    assert again.nodes == snapshot.nodes == {"a b": ("::1", 7946)}
    assert list(again.clocks.values()) == [3, 0, 1]
    fresh = Snapshot()
    fresh.read(snapshot.lines())
    assert (fresh.nodes, fresh.clocks) == (again.nodes, again.clocks)


def test_a_leave_wipes_a_snapshot_unless_it_shall_not() -> None:
    lines = ["alive: a 10.0.0.1:1\n", "clock: 7\n", "leave\n"]
    forgetting, keeping = Snapshot(), Snapshot(keep_on_leave=True)
    forgetting.read(lines)
    keeping.read(lines)
    assert (forgetting.nodes, forgetting.clocks["clock"]) == ({}, 0)
    assert (keeping.nodes, keeping.clocks["clock"]) == ({"a": ("10.0.0.1", 1)}, 7)


def test_after_a_restart_old_events_are_no_news_and_clocks_go_on() -> None:
    snapshot = Snapshot()
    snapshot.read(["clock: 10\n", "event-clock: 20\n", "query-clock: 30\n"])
    rig = Rig(profile=ALONE)
    rig.core.restore(snapshot)
    rig.hear_serf(UserEventMessage(20, "old"), UserEventMessage(21, "new"))
    assert rig.take_events() == [UserEvent("new", b"", 21, False)]
    stats = rig.core.stats()
    assert (stats["member_time"], stats["event_time"], stats["query_time"]) == ("11", "22", "31")


def test_tags_that_are_too_large_are_refused_and_change_nothing() -> None:
    rig = rig_with()
    with pytest.raises(TagsTooLarge):
        rig.core.update_tags({"a": "x" * 600}, rig.now)
    assert rig.core.local_member().tags == {}
    assert rig.swim.me.incarnation == 1
