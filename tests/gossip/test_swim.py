"""SWIM's rules one by one: which claim wins, how a probe goes on, what is passed on how often."""

import random
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from discovery.gossip.broadcasts import Broadcasts
from discovery.gossip.codec import encode
from discovery.gossip.events import Member, MemberFailed, MemberJoined, MemberLeft, MemberUpdated, NameConflict
from discovery.gossip.members import Members, Node, ip_bytes, ip_text
from discovery.gossip.messages import Ack, Alive, Compressed, Dead, ErrorReply, IndirectPing, Nack, NodeState, Ping, Suspect
from discovery.gossip.packets import BUDGET
from discovery.gossip.profile import LAN
from discovery.gossip.serf import RefusedMerge
from discovery.gossip.streams import PushPull, StreamParser, encode_push_pull
from discovery.gossip.timers import Timers

from . import vectors
from .rig import ME, MY_ADDRESS, Rig, address_of, alive, of_kind, record

# Neither gossip nor exchanges disturb: what is sent is what the test is about.
QUIET = replace(LAN, gossip_interval=1e6, push_pull_interval=1e6)


# --- claims --------------------------------------------------------------------------------------------------------------


def test_an_alive_claim_introduces_a_node_and_a_newer_one_changes_it() -> None:
    rig = Rig()
    rig.hear(alive("n2", 3, {"v": "1"}))
    rig.hear(alive("n2", 3, {"v": "2"}), alive("n2", 2, {"v": "3"}))
    assert [type(event) for event in rig.take_events()] == [MemberJoined]
    rig.hear(alive("n2", 4, {"v": "4"}))
    (event,) = rig.take_events()
    assert isinstance(event, MemberUpdated)
    assert event.member.tags == {"v": "4"}
    rig.hear(alive("n2", 5, {"v": "4"}))
    assert rig.take_events() == []


@pytest.mark.parametrize("vsn", [b"", bytes(5), bytes((0, 5, 2, 2, 5, 4)), bytes((3, 2, 2, 2, 5, 4))])
def test_alive_claims_without_proper_versions_are_dropped(vsn: bytes) -> None:
    rig = Rig()
    claim = alive("n2")
    rig.hear(Alive(claim.incarnation, claim.node, claim.addr, claim.port, claim.meta, vsn))
    assert rig.swim.members.get("n2") is None
    assert rig.swim.counters["bad packets"] == 1


def test_suspicion_needs_a_known_living_node_and_no_older_incarnation() -> None:
    rig = Rig()
    rig.hear(Suspect(1, "n2", "n3"))
    assert rig.swim.members.get("n2") is None
    rig.hear(alive("n2", 3), Suspect(2, "n2", "n3"))
    assert rig.state("n2") is NodeState.ALIVE
    rig.hear(Suspect(3, "n2", "n3"))
    assert rig.state("n2") is NodeState.SUSPECT
    rig.hear(alive("n2", 3))
    assert rig.state("n2") is NodeState.SUSPECT
    rig.hear(alive("n2", 4))
    assert rig.state("n2") is NodeState.ALIVE
    rig.run(60)
    assert [type(event) for event in rig.take_events()][:1] == [MemberJoined]


def test_a_suspect_that_is_silent_is_dead_after_the_suspicion_time() -> None:
    rig = Rig(profile=replace(QUIET, probe_interval=1e6))
    rig.hear(alive("n2"), alive("n3"))
    rig.take_events()
    rig.hear(Suspect(1, "n2", "n3"))
    rig.run(4e6 - 1)
    assert rig.state("n2") is NodeState.SUSPECT
    rig.run(2)
    assert rig.state("n2") is NodeState.DEAD
    assert [type(event) for event in rig.take_events()] == [MemberFailed]


def test_accusers_count_once_and_shorten_the_suspicion() -> None:
    rig = Rig(profile=replace(QUIET, suspicion_mult=4))
    for number in range(2, 12):
        rig.hear(alive(f"n{number}"))
    rig.hear(Suspect(1, "n2", "n3"))
    node = rig.swim.members.get("n2")
    assert node is not None
    assert node.suspicion is not None
    deadlines = []
    for accuser in ("n3", "n4", "n4", "n5", "n6"):
        rig.hear(Suspect(1, "n2", accuser))
        deadlines.append(round(node.suspicion.deadline - rig.now, 2))
    shortest = 4 * 1.041
    assert deadlines == [pytest.approx(wanted, abs=0.01) for wanted in (24.984, 11.85, 11.85, shortest, shortest)]


def test_dead_beats_alive_of_the_same_incarnation_and_self_reported_is_left() -> None:
    rig = Rig()
    rig.hear(alive("n2"), alive("n3"))
    rig.hear(Dead(1, "n2", "n3"), Dead(1, "n3", "n3"), Dead(1, "n4", "n3"))
    assert (rig.state("n2"), rig.state("n3")) == (NodeState.DEAD, NodeState.LEFT)
    rig.hear(alive("n2", 1), Suspect(5, "n2", "n3"), Dead(9, "n3", "n2"))
    assert (rig.state("n2"), rig.state("n3")) == (NodeState.DEAD, NodeState.LEFT)
    assert [type(event) for event in rig.take_events()] == [MemberJoined, MemberJoined, MemberFailed, MemberLeft]
    rig.hear(alive("n2", 2))
    assert rig.state("n2") is NodeState.ALIVE


@pytest.mark.parametrize("claim", [Suspect(7, ME, "n2"), Dead(7, ME, "n2"), alive(ME, 7, {"other": "tags"}, at=MY_ADDRESS)])
def test_what_is_wrong_about_us_is_refuted_with_a_higher_incarnation(claim: Suspect | Dead | Alive) -> None:
    rig = Rig()
    rig.hear(alive("n2"))
    rig.hear(claim)
    assert rig.state(ME) is NodeState.ALIVE
    assert rig.swim.awareness.score == 1
    claims = [message for _, message in of_kind(rig.run(0.5), Alive) if message.node == ME]  # type: ignore[attr-defined]
    assert claims
    assert {message.incarnation for message in claims} == {8}  # type: ignore[attr-defined]


def test_old_news_and_echoes_about_us_are_not_refuted() -> None:
    rig = Rig()
    rig.hear(alive("n2"))
    rig.core.update_tags({"a": "b"}, rig.now)
    rig.hear(Suspect(1, ME, "n2"), Dead(0, ME, "n2"), alive(ME, 1, at=MY_ADDRESS), alive(ME, 2, {"a": "b"}, at=MY_ADDRESS))
    assert rig.swim.me.incarnation == 2
    assert rig.swim.awareness.score == 0


def test_one_name_at_two_addresses_is_a_conflict_until_the_first_has_left() -> None:
    rig = Rig()
    rig.hear(alive("n2"))
    rig.take_events()
    rig.hear(alive("n2", 9, at=("10.9.9.9", 1)))
    assert [type(event) for event in rig.take_events()] == [NameConflict]
    rig.hear(Dead(1, "n2", "n3"))
    rig.hear(alive("n2", 9, at=("10.9.9.9", 1)))
    assert [type(event) for event in rig.take_events()] == [MemberFailed, NameConflict]
    rig.hear(alive("n2", 10), Dead(10, "n2", "n2"), alive("n2", 1, at=("10.9.9.9", 1)))
    assert rig.core.member("n2").address == "10.9.9.9"  # type: ignore[union-attr]
    assert rig.state("n2") is NodeState.ALIVE


def test_the_name_of_the_long_dead_is_free() -> None:
    rig = Rig(profile=replace(QUIET, probe_interval=1e6))
    rig.hear(alive("n2"), Dead(1, "n2", "n3"))
    rig.run(29.0)
    rig.hear(alive("n2", at=("10.9.9.9", 1)))
    assert rig.core.member("n2").address == "10.0.0.2"  # type: ignore[union-attr]
    rig.run(1.1)
    rig.hear(alive("n2", at=("10.9.9.9", 1)))
    assert rig.state("n2") is NodeState.ALIVE
    assert rig.core.member("n2").address == "10.9.9.9"  # type: ignore[union-attr]


@pytest.mark.parametrize("state", [NodeState.ALIVE, NodeState.SUSPECT, NodeState.DEAD, NodeState.LEFT])
def test_who_joins_under_the_name_of_a_living_member_is_told_its_holder(state: NodeState) -> None:
    rig = Rig()
    exchange = rig.core.join(address_of("n2"))
    holder = msgspec.structs.replace(record(ME, state), addr=ip_bytes("10.9.9.9"))
    exchange.receive(encode_push_pull(PushPull(True, [record("n2"), holder], b"")), rig.now)
    if state in (NodeState.ALIVE, NodeState.SUSPECT):
        assert exchange.error is not None
        assert exchange.error.startswith(f"node name '{ME}' is already in use by the living member at 10.9.9.9:7946; give")
        assert rig.core.member("n2") is None
    else:
        assert exchange.error is None
        assert rig.core.local_member().address == MY_ADDRESS[0]
        # Said again once the others may believe it.
        rig.run(29.0)
        own = [claim for _, claim in of_kind(rig.run(5.0), Alive) if claim.node == ME]  # type: ignore[attr-defined]
        assert own


@pytest.mark.parametrize(
    "claim",
    [msgspec.structs.replace(alive("n2"), meta=bytes(600)), msgspec.structs.replace(alive("n2"), node="n" * 300)],
    ids=["meta", "name"],
)
def test_claims_that_would_fit_no_packet_are_dropped(claim: Alive) -> None:
    rig = Rig()
    rig.hear(claim)
    assert [member.name for member in rig.core.members()] == [ME]
    assert rig.swim.counters["bad packets"] == 1


# --- probing -------------------------------------------------------------------------------------------------------------


def probing_rig() -> tuple[Rig, Ping]:
    """A core that has just pinged n2, with n3 and n4 to help."""
    for seed in range(100):
        rig = Rig(profile=QUIET, seed=seed)
        for name in ("n2", "n3", "n4"):
            rig.hear(alive(name))
        first = of_kind(rig.run(1.0), Ping)[0]
        if first[0] == address_of("n2"):
            return rig, first[1]  # type: ignore[return-value]
    raise AssertionError("no seed probes n2 first")


def test_a_ping_names_its_target_and_its_source() -> None:
    _, ping = probing_rig()
    assert (ping.node, ping.source_addr, ping.source_port, ping.source_node) == ("n2", ip_bytes("10.0.0.1"), 7946, ME)


def test_an_ack_in_time_ends_the_probe_from_wherever_it_comes() -> None:
    rig, ping = probing_rig()
    rig.swim.awareness.add(2)
    rig.hear(Ack(ping.seq_no), source="n9")
    assert rig.swim.awareness.score == 1
    assert of_kind(rig.run(0.45), IndirectPing) == []
    assert rig.state("n2") is NodeState.ALIVE


def test_without_an_ack_others_are_asked_and_a_stream_is_tried() -> None:
    rig, ping = probing_rig()
    asked = of_kind(rig.run(0.6), IndirectPing)
    assert {destination for destination, _ in asked} == {address_of("n3"), address_of("n4")}
    request = asked[0][1]
    assert request == IndirectPing(
        ping.seq_no, ip_bytes("10.0.0.2"), 7946, "n2", True, ping.source_addr, ping.source_port, ping.source_node
    )
    (exchange,) = rig.core.take_exchanges()
    assert exchange.destination == address_of("n2")
    assert StreamParser(rig.protection).feed(exchange.request) == ping


def test_a_relayed_ack_is_as_good() -> None:
    rig, ping = probing_rig()
    rig.run(0.6)
    rig.hear(Ack(ping.seq_no), source="n3")
    rig.run(0.5)
    assert rig.state("n2") is NodeState.ALIVE


def test_an_answer_over_tcp_alone_is_good_too() -> None:
    rig, ping = probing_rig()
    rig.run(0.6)
    (exchange,) = rig.core.take_exchanges()
    exchange.receive(encode(Ack(ping.seq_no)), rig.now)
    assert exchange.error is None
    rig.run(0.5)
    assert rig.state("n2") is NodeState.ALIVE
    assert any("over TCP but not over UDP" in note for note in rig.core.take_notes())


@pytest.mark.parametrize(("nacks", "score"), [(0, 2), (1, 1), (2, 0), (5, 0)])
def test_a_failed_probe_makes_a_suspect_and_missing_nacks_make_us_doubt_ourselves(nacks: int, score: int) -> None:
    rig, ping = probing_rig()
    rig.run(0.6)
    for _ in range(nacks):
        rig.hear(Nack(ping.seq_no), source="n3")
    rig.run(0.41)
    assert rig.state("n2") is NodeState.SUSPECT
    assert rig.swim.awareness.score == score


def test_ill_health_stretches_the_probe() -> None:
    rig = Rig(profile=QUIET)
    rig.hear(alive("n2"))
    rig.swim.awareness.add(2)
    of_kind(rig.run(1.0), Ping)
    rig.run(2.0)
    assert rig.state("n2") is NodeState.ALIVE
    rig.run(1.0)
    assert rig.state("n2") is NodeState.SUSPECT


def test_a_suspect_is_told_so_in_the_packet_of_its_ping() -> None:
    rig = Rig(profile=QUIET)
    rig.hear(alive("n2"), Suspect(1, "n2", "n3"))
    sent = rig.run(1.0)
    assert [type(message) for _, message in sent] == [Ping, Suspect]
    assert sent[1][1] == Suspect(1, "n2", ME)


def test_pings_are_answered_where_they_ask_for_it() -> None:
    rig = Rig(profile=QUIET)
    rig.hear(Ping(5, ME, ip_bytes("10.0.0.7"), 99, "n7"), source="n2")
    rig.hear(Ping(6, ME), source="n2")
    rig.hear(Ping(7), source="n2")
    rig.hear(Ping(8, "another"), source="n2")
    acks = of_kind(rig.sent(), Ack)
    assert [(where, ack.seq_no) for where, ack in acks] == [  # type: ignore[attr-defined]
        (("10.0.0.7", 99), 5), (address_of("n2"), 6), (address_of("n2"), 7),
    ]  # fmt: skip
    assert rig.swim.counters["bad packets"] == 1


def test_we_ping_for_others_and_pass_the_ack_on() -> None:
    rig = Rig(profile=QUIET)
    request = IndirectPing(50, ip_bytes("10.0.0.3"), 7946, "n3", True, ip_bytes("10.0.0.2"), 7946, "n2")
    rig.hear(request)
    ((destination, ping),) = of_kind(rig.sent(), Ping)
    assert destination == address_of("n3")
    rig.hear(Ack(ping.seq_no, b"payload"), source="n3")  # type: ignore[attr-defined]
    assert of_kind(rig.run(1.0), Ack) == [(address_of("n2"), Ack(50, None))]


@pytest.mark.parametrize("wanted", [True, False])
def test_what_we_could_not_reach_for_others_is_a_nack_if_wanted_and_late_acks_are_nothing(wanted: bool) -> None:
    rig = Rig(profile=QUIET)
    rig.hear(IndirectPing(50, ip_bytes("10.0.0.3"), 7946, "n3", wanted, ip_bytes("10.0.0.2"), 7946, "n2"))
    ((_, ping),) = of_kind(rig.sent(), Ping)
    # Early enough to arrive before the one that asked makes its judgement.
    assert of_kind(rig.run(LAN.probe_timeout * 0.79), Nack) == []
    assert of_kind(rig.run(LAN.probe_timeout * 0.02), Nack) == ([(address_of("n2"), Nack(50))] if wanted else [])
    rig.run(LAN.probe_timeout * 0.2)
    rig.hear(Ack(ping.seq_no), source="n3")  # type: ignore[attr-defined]
    assert of_kind(rig.run(1.0), Ack) == []


@pytest.mark.parametrize("accuser", ["n4", "n3"], ids=["failed", "left"])
@pytest.mark.parametrize("port", [7946, 1], ids=["it", "another of its name"])
def test_who_looks_for_the_dead_is_told_with_the_nack(accuser: str, port: int) -> None:
    rig = Rig(profile=replace(QUIET, probe_interval=1e6))
    rig.hear(alive("n2"), alive("n3"), Dead(1, "n3", accuser))
    # Until the news that the group gets anyway has left.
    for number in range(10):
        rig.hear(Ping(number, ME), source="n4")
    rig.sent()
    rig.hear(IndirectPing(50, ip_bytes("10.0.0.3"), port, "n3", True, ip_bytes("10.0.0.2"), 7946, "n2"))
    told = [message for destination, message in rig.run(1.0) if destination == address_of("n2")]
    news = [Dead(1, "n3", ME if accuser == "n4" else "n3")] if port == 7946 else []
    assert told == [Nack(50), *news]


def test_an_ack_after_the_nack_is_still_passed_on() -> None:
    rig = Rig(profile=QUIET)
    rig.hear(IndirectPing(50, ip_bytes("10.0.0.3"), 7946, "n3", True, ip_bytes("10.0.0.2"), 7946, "n2"))
    ((_, ping),) = of_kind(rig.sent(), Ping)
    rig.run(LAN.probe_timeout * 0.9)
    rig.hear(Ack(ping.seq_no), source="n3")  # type: ignore[attr-defined]
    assert of_kind(rig.sent(), Ack) == [(address_of("n2"), Ack(50))]


def answered_pings(rig: Rig, seconds: float) -> int:
    """How many nodes are probed in a time in which all of them answer."""
    pings = 0
    end = rig.now + seconds
    while rig.now < end:
        for _, ping in of_kind(rig.run(0.05), Ping):
            pings += 1
            rig.hear(Ack(ping.seq_no))  # type: ignore[attr-defined]
    return pings


def test_after_a_suspicion_more_nodes_are_probed_for_a_while_unless_we_are_ill() -> None:
    for score, least, most in ((0, 24, 33), (3, 0, 4)):
        rig = Rig(profile=QUIET)
        rig.hear(*(alive(f"n{number}") for number in range(2, 40)))
        assert answered_pings(rig, 10.0) in (9, 10, 11)
        rig.hear(Suspect(1, "n2", "n3"))
        rig.swim.awareness.add(score)
        rig.swim.awareness.add = lambda delta: None  # type: ignore[method-assign]
        assert least <= answered_pings(rig, 3.0) <= most
        rig.hear(alive("n2", 2))
        assert answered_pings(rig, 10.0) in (9, 10, 11)


def test_a_destination_without_a_way_is_asked_for_indirectly_at_once() -> None:
    rig, _ = probing_rig()
    rig.core.send_failed(address_of("n3"), rig.now)
    assert of_kind(rig.sent(), IndirectPing) == []
    rig.core.send_failed(address_of("n2"), rig.now)
    assert len(of_kind(rig.sent(), IndirectPing)) == 2


def test_a_tick_that_comes_late_moves_all_deadlines_and_is_no_burst() -> None:
    rig = Rig(profile=replace(LAN, push_pull_interval=1e6))
    for number in range(2, 8):
        rig.hear(alive(f"n{number}"))
    rig.hear(Suspect(1, "n2", "n3"))
    rig.run(2.0)
    rig.sent()
    rig.now += 500
    rig.core.tick(rig.now)
    assert len(of_kind(rig.sent(), Ping)) <= 1
    assert rig.swim.counters["stalls"] == 1
    assert rig.state("n2") is NodeState.SUSPECT


# --- exchanges -----------------------------------------------------------------------------------------------------------


def test_dead_in_an_exchange_is_only_suspect_and_left_is_left() -> None:
    rig = Rig()
    rig.hear(alive("n3"), alive("n4"))
    rig.exchange(record("n2"), record("n3", NodeState.DEAD), record("n4", NodeState.LEFT), record("n5", NodeState.DEAD))
    states = {node.name: node.state for node in rig.swim.members if node.name != ME}
    assert states == {"n2": NodeState.ALIVE, "n3": NodeState.SUSPECT, "n4": NodeState.LEFT}


def test_the_answer_of_an_exchange_is_what_we_knew_before() -> None:
    rig = Rig()
    reply = rig.exchange(record("n2"), join=True)
    assert isinstance(reply, PushPull)
    assert [node.name for node in reply.nodes] == [ME]
    reply = rig.exchange(join=False)
    assert isinstance(reply, PushPull)
    assert {node.name for node in reply.nodes} == {ME, "n2"}


def test_versions_that_do_not_go_together_are_refused() -> None:
    rig = Rig()
    stranger = record("n2")
    newer = type(stranger)(
        stranger.name, stranger.addr, stranger.port, stranger.meta, 1, NodeState.ALIVE, bytes((3, 6, 5, 2, 5, 4))
    )
    rig.exchange(newer, join=True)
    assert rig.swim.members.get("n2") is None
    assert any("Node 'me' protocol version (2) is incompatible: [3, 5]" in note for note in rig.core.take_notes())


def test_errors_of_the_other_side_fail_the_exchange() -> None:
    rig = Rig()
    exchange = rig.core.join(address_of("n2"))
    exchange.receive(encode(ErrorReply("go away")), rig.now)
    assert (exchange.finished, exchange.error) == (True, "remote error: go away")
    exchange = rig.core.join(address_of("n2"))
    exchange.receive(encode(Ack(1)), rig.now)
    assert exchange.error == "Ack instead of a push/pull"


def test_streams_are_answered_by_kind() -> None:
    rig = Rig()

    def answer(data: bytes) -> object:
        stream = rig.core.serve(address_of("n2"))
        reply = stream.receive(data, rig.now)
        assert stream.finished
        return StreamParser(rig.protection).feed(reply) if reply else None

    assert answer(encode(Ping(77, ME))) == Ack(77)
    assert answer(encode(Ping(77, "another"))) is None
    assert answer(bytes.fromhex("0982a4416c676f05a3427566a178")) == ErrorReply("Cannot decompress unknown algorithm 5")
    assert answer(b"\x63") == ErrorReply("Received invalid msgType (99)")


# --- what is passed on ---------------------------------------------------------------------------------------------------


def test_what_is_wrong_on_a_stream_is_answered_counted_and_told_now_and_then() -> None:
    rig = Rig()
    for number in range(50):
        stream = rig.core.serve(address_of(f"n{number % 20 + 2}"))
        assert stream.receive(bytes((99, number)), rig.now)
        assert stream.finished
    half = rig.core.serve(address_of("n50"))
    half.receive(vectors.PUSH_PULL[:100], rig.now)
    half.cut_off(rig.now)
    silent = rig.core.serve(address_of("n51"))
    silent.cut_off(rig.now)
    assert rig.swim.counters["bad streams"] == 51
    (line,) = [note for note in rig.core.take_notes() if "bad stream" in note]
    assert line == "bad stream: from=10.0.0.2:7946 error=Received invalid msgType (99) total=1"
    rig.run(11)
    rig.core.serve(address_of("n2")).receive(b"\x63", rig.now)
    assert "total=52" in rig.core.take_notes()[-1]
    assert rig.swim.strangers.recent(rig.now)["10.0.0.50"] == "the stream ended before its message did"
    rig.run(61)
    assert rig.swim.strangers.recent(rig.now) == {}


def test_who_may_not_be_with_us_is_a_stranger_with_a_reason() -> None:
    def check(members: Sequence[Member]) -> None:
        if any(member.tags.get("dc") == "dc2" for member in members):
            raise RefusedMerge("part of wrong datacenter 'dc2'")

    rig = Rig(merge_check=check)
    rig.hear(alive("n2", tags={"dc": "dc2"}))
    assert rig.swim.strangers.recent(rig.now) == {"10.0.0.2": "part of wrong datacenter 'dc2'"}
    for number in range(200):
        rig.swim.strangers.met(f"10.1.0.{number}", "?", rig.now)
    assert len(rig.swim.strangers.recent(rig.now)) == 64


def test_a_bomb_of_compression_on_a_stream_is_refused_before_it_goes_off() -> None:
    rig = Rig()
    stream = rig.core.serve(address_of("n2"))
    stream.receive(encode(Compressed(0, bytes(5 << 20))), rig.now)
    assert stream.finished
    assert "compressed bytes" in rig.swim.strangers.recent(rig.now)["10.0.0.2"]


def test_each_claim_leaves_as_often_as_the_group_is_large_and_no_more() -> None:
    rig = Rig(profile=replace(LAN, probe_interval=1e6, push_pull_interval=1e6))
    rig.hear(alive("n2"), alive("n3"))
    sent = of_kind(rig.run(20), Alive)
    about = [message.node for _, message in sent]  # type: ignore[attr-defined]
    assert {name: about.count(name) for name in about} == {ME: 4, "n2": 4, "n3": 4}


def test_packets_stay_within_their_budget() -> None:
    rig = Rig()
    for number in range(2, 99):
        rig.hear(alive(f"n{number}", tags={"padding": "x" * 100}))
    rig.core.user_event("event", bytes(400), False, rig.now)
    for _ in range(50):
        rig.now = rig.core.deadline()
        rig.core.tick(rig.now)
        for packet in rig.core.take_packets():
            assert len(packet.data) <= BUDGET + 5


def test_the_queue_prefers_the_least_sent_then_the_larger_then_the_newer() -> None:
    queue = Broadcasts(lambda: 3)
    for message in (b"aaa", b"bbb", b"cccc"):
        queue.add(message, 0.0)
    assert queue.take(100, 2, 0.0) == [b"cccc", b"bbb", b"aaa"]
    queue.add(b"new", 0.0)
    assert queue.take(5, 2, 0.0) == [b"new"]
    assert queue.take(11, 2, 0.0) == [b"cccc", b"new"]


def test_a_newer_claim_about_a_node_replaces_the_older_and_what_is_over_is_told() -> None:
    queue, told = Broadcasts(lambda: 2), []
    queue.add(b"old", 0.0, name="a", finished=lambda now: told.append(("old", now)))
    queue.add(b"other", 0.0, name="b")
    queue.add(b"new", 1.0, name="a", finished=lambda now: told.append(("new", now)))
    assert told == [("old", 1.0)]
    assert queue.take(100, 2, 2.0) == [b"other", b"new"]
    queue.take(100, 2, 3.0)
    assert told == [("old", 1.0), ("new", 3.0)]
    assert len(queue) == 0


def test_a_full_queue_forgets_what_was_sent_most() -> None:
    queue = Broadcasts(lambda: 10, capacity=2)
    queue.add(b"1", 0.0)
    queue.take(100, 2, 0.0)
    queue.add(b"2", 0.0)
    queue.add(b"3", 0.0)
    assert len(queue) == 2
    assert queue.take(100, 2, 0.0) == [b"3", b"2"]


# --- the table -----------------------------------------------------------------------------------------------------------


def test_every_node_is_probed_once_a_round_and_the_long_dead_are_forgotten() -> None:
    rng = random.Random(3)
    me = Node(ME, MY_ADDRESS, b"", bytes(6), 1, NodeState.ALIVE, 0.0, 0.0)
    members = Members(me, rng)
    for number in range(2, 12):
        members.add(Node(f"n{number}", address_of(f"n{number}"), b"", bytes(6), 1, NodeState.ALIVE, 0.0, 0.0))
    dead = members.get("n5")
    assert dead is not None
    dead.state = NodeState.DEAD
    probed = [members.next_to_probe(10.0, 30.0) for _ in range(9)]
    second = [members.next_to_probe(10.0, 30.0) for _ in range(9)]
    wanted = {f"n{number}" for number in range(2, 12) if number != 5}
    assert {node.name for node in probed if node} == {node.name for node in second if node} == wanted
    assert members.get("n5") is dead
    for _ in range(10):
        members.next_to_probe(31.0, 30.0)
    assert members.get("n5") is None
    assert len(members) == 10


@pytest.mark.parametrize("size", [1, 4, 8, 60])
def test_samples_are_different_nodes_that_fit(size: int) -> None:
    rng = random.Random(size)
    me = Node(ME, MY_ADDRESS, b"", bytes(6), 1, NodeState.ALIVE, 0.0, 0.0)
    members = Members(me, rng)
    for number in range(2, size + 2):
        members.add(Node(f"n{number}", address_of(f"n{number}"), b"", bytes(6), 1, NodeState.ALIVE, 0.0, 0.0))
    for _ in range(50):
        sample = members.sample(3, lambda node: node is not me)
        assert len({node.name for node in sample}) == len(sample) == min(3, size)
        assert me not in sample


def test_news_are_always_told_and_of_the_rest_a_part_that_is_another_each_time() -> None:
    rng = random.Random(5)
    me = Node(ME, MY_ADDRESS, b"", bytes(6), 1, NodeState.ALIVE, 0.0, 0.0)
    members = Members(me, rng)
    for number in range(2, 102):
        news_at = 50.0 if number < 7 else 5.0
        members.add(Node(f"n{number}", address_of(f"n{number}"), b"", bytes(6), 1, NodeState.ALIVE, 0.0, news_at))
    told = [{node.name for node in members.worth_telling(40.0, 10)} for _ in range(200)]
    assert all(len(names) == 10 and {ME, "n2", "n3", "n4", "n5", "n6"} <= names for names in told)
    assert len(set().union(*told)) == 101
    assert len(members.worth_telling(0.0, 10)) == 101


def test_exchanges_tell_all_on_joining_and_later_no_more_in_a_larger_group() -> None:
    def told(size: int, *, join: bool, later: float) -> int:
        rig = Rig(profile=replace(QUIET, push_pull_interval=30.0, probe_interval=1e6))
        for number in range(2, size + 1):
            rig.hear(alive(f"n{number}"))
        rig.now += later
        answer = rig.exchange(join=join)
        assert isinstance(answer, PushPull)
        return len(answer.nodes)

    assert [told(size, join=True, later=1000.0) for size in (10, 30, 100)] == [10, 30, 100]
    assert [told(size, join=False, later=59.0) for size in (10, 30, 100)] == [10, 30, 100]
    assert [told(size, join=False, later=61.0) for size in (10, 30, 100)] == [10, 10, 10]


def test_addresses() -> None:
    assert ip_text(ip_bytes("10.1.2.3")) == "10.1.2.3"
    assert ip_text(ip_bytes("fe80::1")) == "fe80::1"
    assert ip_text(bytes(10) + b"\xff\xff" + ip_bytes("10.1.2.3")) == "10.1.2.3"


def test_timers_run_in_order_and_once() -> None:
    timers, ran = Timers(), []
    for when in (3.0, 1.0, 2.0):
        timers.at(when, lambda now, when=when: ran.append((when, now)))  # type: ignore[misc]
    timers.at(1.5, lambda now: ran.append((1.5, now))).cancel()
    timers.run_due(2.5)
    timers.postpone(10)
    assert timers.earliest() == 13.0
    timers.run_due(13.0)
    assert ran == [(1.0, 2.5), (2.0, 2.5), (3.0, 13.0)]
