"""The loss of a majority: `operator recover` and `peers.json` on the directories of real servers."""

import asyncio
import io
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from discovery.cli.operator_recover import run
from discovery.raft.messages import Configuration, Server
from discovery.server.peers_file import INFO_FILE, PEERS_FILE, InvalidPeersFile, read_peers_file
from discovery.server.recovery import Plan, RecoveryRefused, Survivor, carry_out, plan, survey
from discovery.server.snapshotting import SnapshotPolicy
from tests.server.rig import Cluster, Node, cluster, until

OFTEN = SnapshotPolicy(threshold=20, interval=0.05, trailing=5)


def nobody(_server: Server) -> bool:
    return False


async def stopped_cluster(made: Cluster, size: int, writes: int = 30) -> list[Node]:
    """Servers that had a life together and are all stopped."""
    nodes = await made.bootstrap(size)
    for number in range(writes):
        await nodes[0].put(f"k{number}", str(number).encode())
    await made.settled()
    await asyncio.gather(*(node.stop() for node in nodes))
    for node in nodes:
        made.pool.reap(node.name)
    return nodes


async def check(made: Cluster, survivors: list[Node], writes: int = 30) -> None:
    """They serve what they had, take writes, and know who they are."""
    await asyncio.gather(*(node.start() for node in survivors))
    leader = await made.leader()
    for number in range(writes):
        assert await leader.get(f"k{number}", require_consistent=True) == str(number).encode()
    assert await leader.put("after", b"1") is True
    await made.settled()
    for node in survivors:
        assert await node.get("after", allow_stale=True) == b"1"
        assert set(node.server.replica.configuration.ids()) == {each.id for each in survivors}


# --- operator recover ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "surviving"), [(3, 1), (5, 2), (2, 1)])
async def test_survivors_go_on(tmp_path: Path, size: int, surviving: int) -> None:
    async with cluster(tmp_path) as made:
        survivors = (await stopped_cluster(made, size))[:surviving]
        status = await asyncio.to_thread(run, ["-yes", *(str(node.directory) for node in survivors)])
        assert status == 0
        await check(made, survivors)


async def test_survivors_with_snapshots_go_on(tmp_path: Path) -> None:
    async with cluster(tmp_path, snapshots=OFTEN) as made:
        survivors = (await stopped_cluster(made, 3, writes=100))[:1]
        assert survey(survivors[0].directory).snapshot_index > 20
        assert await asyncio.to_thread(run, ["-yes", str(survivors[0].directory)]) == 0
        await check(made, survivors, writes=100)


async def test_the_survivor_with_the_newest_log_is_kept(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        nodes = await made.bootstrap(5)
        leader = await made.leader()
        behind, *others = [node for node in nodes if node is not leader]
        await made.settled()
        await behind.stop()
        await leader.put("late", b"1")
        await made.settled()
        await asyncio.gather(*(node.stop() for node in (leader, *others)))
        for node in nodes:
            made.pool.reap(node.name)
        survivors = [behind, others[0]]
        planned = plan([survey(node.directory) for node in survivors], answers=nobody)
        assert planned.best.id == others[0].id
        carry_out(planned, datetime.now(UTC))
        await check(made, survivors, writes=0)
        assert await survivors[0].get("late") == b"1"


async def test_the_others_cannot_elect_one_of_themselves_before(tmp_path: Path) -> None:
    """They are not touched, so until the best one is there they are still part of a cluster without a majority."""
    async with cluster(tmp_path) as made:
        nodes = await stopped_cluster(made, 5)
        best, other = nodes[:2]
        carry_out(plan([survey(best.directory), survey(other.directory)], answers=nobody), datetime.now(UTC))
        await other.start()
        await asyncio.sleep(1.5)
        assert not other.server.replica.is_leader
        assert other.server.replica.is_virgin is False
        await best.start()
        leader = await made.leader()
        assert leader is best
        await until(lambda: other.server.replica.configuration == best.server.replica.configuration, "the other to learn of it")


async def test_refused_while_a_quorum_survives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with cluster(tmp_path) as made:
        nodes = await stopped_cluster(made, 3)
        before = [survey(node.directory) for node in nodes]
        assert await asyncio.to_thread(run, ["-yes", *(str(node.directory) for node in nodes[:2])]) == 1
        assert "2 of 3 voters survive, which is a quorum" in capsys.readouterr().err
        assert [survey(node.directory) for node in nodes] == before


async def test_refused_while_the_others_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with cluster(tmp_path) as made:
        nodes = await made.bootstrap(3)
        await nodes[0].stop()
        assert await asyncio.to_thread(run, ["-yes", str(nodes[0].directory)]) == 1
        said = capsys.readouterr().err
        assert "these answer: " in said
        assert nodes[1].address in said


async def test_refused_while_the_server_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with cluster(tmp_path, 3) as made:
        assert await asyncio.to_thread(run, ["-yes", str(made.nodes[0].directory)]) == 1
        assert "is in use by process" in capsys.readouterr().err


def test_refused_without_a_server_s_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-yes", str(tmp_path)]) == 1
    assert f"{tmp_path}: there is no raft/raft.db" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert run([]) == 1
    assert "At least one data directory" in capsys.readouterr().err


async def test_a_copy_of_what_was_is_kept(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        (survivor, *_) = await stopped_cluster(made, 3)
        before = survey(survivor.directory)
        copy = carry_out(plan([before], answers=nobody), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
        assert copy.name == "before-recovery-20260102T030405Z"
        (copy / "raft").mkdir()
        kept = survey(copy)
        assert (kept.id, kept.order, kept.term, kept.terms) == (before.id, before.order, before.term, before.terms)
        assert kept.configuration == before.configuration
        after = survey(survivor.directory)
        assert after.last_index == before.last_index + 1
        assert after.configuration == Configuration((Server(survivor.id, survivor.address),))


async def test_doing_it_twice_changes_nothing_more(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        (survivor, *_) = await stopped_cluster(made, 3)
        planned = plan([survey(survivor.directory)], answers=nobody)
        carry_out(planned, datetime.now(UTC))
        with pytest.raises(RecoveryRefused, match="has changed meanwhile"):
            carry_out(planned, datetime.now(UTC))
        with pytest.raises(RecoveryRefused, match="1 of 1 voters survive, which is a quorum"):
            plan([survey(survivor.directory)], answers=nobody)
        await check(made, [survivor])


@pytest.mark.parametrize(("answer", "status"), [("yes\n", 0), ("no\n", 1), ("\n", 1)])
async def test_it_shows_and_asks(
    tmp_path: Path, answer: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with cluster(tmp_path) as made:
        nodes = await stopped_cluster(made, 3)
        before = survey(nodes[0].directory)
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert await asyncio.to_thread(run, [str(nodes[0].directory)]) == status
        shown = capsys.readouterr()
        assert f"{before.last_term}/{before.last_index}" in shown.out
        assert f"What they acknowledged after entry {before.last_index} of term {before.last_term} is lost" in shown.out
        assert all(node.id in shown.out for node in nodes)
        changed = survey(nodes[0].directory) != before
        assert changed == (status == 0)
        assert ("Nothing was changed" in shown.err) == (status == 1)


async def test_as_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with cluster(tmp_path) as made:
        nodes = await stopped_cluster(made, 3)
        before = survey(nodes[0].directory)
        directory = str(nodes[0].directory)
        assert await asyncio.to_thread(run, ["-format=json", directory]) == 1
        capsys.readouterr()
        for flags, done in ((["-dry-run"], False), (["-yes"], True)):
            assert await asyncio.to_thread(run, ["-format=json", *flags, directory]) == 0
            document = json.loads(capsys.readouterr().out)
            assert document["Done"] is done
            assert document["Kept"] == nodes[0].id
            assert {each["ID"] for each in document["Lost"]} == {nodes[1].id, nodes[2].id}
            assert document["Survivors"][0]["LastIndex"] == before.last_index
        assert survey(nodes[0].directory).last_index == before.last_index + 1


async def test_survivors_on_other_machines_and_new_addresses(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        nodes = await stopped_cluster(made, 5)
        best, other = nodes[:2]
        other.host = "127.0.22.240"
        flags = ["-yes", "-survivor", other.id, "-address", f"{other.id}={other.address}", str(best.directory)]
        assert await asyncio.to_thread(run, flags) == 0
        await check(made, [best, other])


# --- plans -----------------------------------------------------------------------------------------------------------

FIVE = Configuration(tuple(Server(name, f"10.0.0.{number}:8300") for number, name in enumerate("abcde", 1)))


def survivor(name: str, *terms: int, first: int = 1, snapshot: tuple[int, int] = (0, 0), **fields: Any) -> Survivor:
    """`terms` of the entries of its log; `snapshot` is (term, index)."""
    last_index = first - 1 + len(terms)
    return Survivor(
        directory=Path(name),
        id=name,
        term=max((*terms, snapshot[0])),
        last_term=terms[-1] if terms else snapshot[0],
        last_index=last_index if terms else snapshot[1],
        snapshot_term=snapshot[0],
        snapshot_index=snapshot[1],
        first_index=first,
        terms=terms,
        configuration=FIVE,
        **fields,
    )


def planned(*survivors: Survivor, **options: Any) -> Plan:
    return plan(survivors, answers=options.pop("answers", nobody), **options)


@pytest.mark.parametrize(
    ("first", "second", "best", "dropped"),
    [
        (survivor("a", 1, 1, 2), survivor("b", 1, 1, 2, 2), "b", ()),
        (survivor("a", 1, 1, 1, 1, 1), survivor("b", 1, 1, 3), "b", (("a", 3),)),
        (survivor("a", 1, 1, 2, 2), survivor("b", 1, 1, 2), "a", ()),
        (survivor("a", 3, 3, first=20, snapshot=(3, 19)), survivor("b", 3, first=21, snapshot=(3, 20)), "a", ()),
        (survivor("a", 2, 2, 2), survivor("b", snapshot=(2, 3), first=4), "a", ()),
    ],
)
def test_who_is_kept_and_what_is_dropped(
    first: Survivor, second: Survivor, best: str, dropped: tuple[tuple[str, int], ...]
) -> None:
    found = planned(first, second)
    assert (found.best.id, found.dropped) == (best, dropped)
    assert [server.id for server in found.lost] == ["c", "d", "e"]


def test_snapshots_that_contradict_the_newest_log_are_refused() -> None:
    with pytest.raises(RecoveryRefused, match="has applied up to 5, which is not in the newest log"):
        planned(survivor("a", 1, 1, 9), survivor("b", snapshot=(2, 5), first=6))
    with pytest.raises(RecoveryRefused, match="has applied up to 2"):
        planned(survivor("a", 1, 1, 9), survivor("b", snapshot=(2, 2), first=3))


def test_the_same_server_twice_is_refused() -> None:
    with pytest.raises(RecoveryRefused, match="belong to the same server"):
        planned(survivor("a", 1), survivor("a", 1))


def test_a_stranger_is_refused() -> None:
    with pytest.raises(RecoveryRefused, match="server x is not in the configuration of a"):
        planned(survivor("a", 1), elsewhere=["x"])


def test_a_quorum_of_survivors_and_those_that_answer_is_refused() -> None:
    alive = {"c"}
    with pytest.raises(RecoveryRefused, match="these answer: c"):
        planned(survivor("a", 1), survivor("b", 1), answers=lambda server: server.id in alive)
    assert planned(survivor("a", 1), answers=lambda server: server.id in alive).best.id == "a"


def test_the_kept_server_votes_even_if_it_did_not_before() -> None:
    former = Configuration((Server("a", "x:1", voter=False), Server("b", "x:2"), Server("c", "x:3"), Server("d", "x:4")))
    first = survivor("a", 5)
    found = planned(Survivor(**{name: getattr(first, name) for name in first.__struct_fields__} | {"configuration": former}))
    assert found.configuration == Configuration((Server("a", "x:1", voter=True),))


# --- peers.json ------------------------------------------------------------------------------------------------------


def write_peers(node: Node, content: object) -> Path:
    path = node.directory / PEERS_FILE
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


async def test_peers_json_on_every_survivor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with cluster(tmp_path) as made:
        survivors = (await stopped_cluster(made, 5))[:2]
        peers = [{"id": node.id, "address": node.address, "non_voter": False} for node in survivors]
        paths = [write_peers(node, peers if node is survivors[0] else peers[::-1]) for node in survivors]
        with caplog.at_level(logging.INFO):
            await check(made, survivors)
        assert "found peers.json file, recovering Raft configuration..." in caplog.text
        assert "deleted peers.json file after successful recovery" in caplog.text
        assert not any(path.exists() for path in paths)
        await survivors[0].restart()
        assert await (await made.leader()).get("after") == b"1"


async def test_addresses_alone_will_do(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        (only, *_) = await stopped_cluster(made, 3)
        write_peers(only, [only.address])
        await check(made, [only])


async def test_a_non_voter_stays_one(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        first, second, _ = await stopped_cluster(made, 3)
        peers = [{"id": first.id, "address": first.address}, {"id": second.id, "address": second.address, "non_voter": True}]
        for node in (first, second):
            write_peers(node, peers)
        second.tags = {"read_replica": "1"}
        await check(made, [first, second])
        assert first.voters() == {first.id}


async def test_a_file_that_is_wrong_stops_the_start_and_stays(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        (only, *_) = await stopped_cluster(made, 3)
        before = survey(only.directory)
        path = write_peers(only, "[{")
        with pytest.raises(InvalidPeersFile, match=r"peers\.json"):
            await only.start()
        assert path.exists()
        path.rename(path.with_suffix(".bad"))
        assert survey(only.directory) == before


async def test_a_file_that_was_there_before_the_first_start_is_thrown_away(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        node = made.node(expect=1)
        node.directory.mkdir()
        path = write_peers(node, [{"id": node.id, "address": node.address}])
        await node.start()
        await made.leader()
        assert not path.exists()
        assert "non_voter" in (node.directory / INFO_FILE).read_text()


async def test_a_server_without_a_past_has_nothing_to_recover(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        node = await made.node(expect=3).start()
        await node.stop()
        write_peers(node, [{"id": node.id, "address": node.address}])
        with pytest.raises(InvalidPeersFile, match="never part of a cluster"):
            await node.start()
        (node.directory / PEERS_FILE).unlink()


KNOWN = Configuration((Server("a", "x:1"), Server("b", "x:2")))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "Input data was truncated"),
        ("{}", "Expected `array`"),
        ("[]", "at least one voter"),
        ('[{"id": "a", "address": "x:1", "non_voter": true}]', "at least one voter"),
        ('[{"id": "a"}]', "missing required field `address`"),
        ('[{"id": "a", "address": 7}]', "Expected `str`"),
        ('[{"id": "", "address": "x:1"}]', "ids must be given"),
        ('[{"id": "a", "address": "x:1"}, {"id": "a", "address": "x:2"}]', "unique"),
        ('[{"id": "a", "address": "x:1"}, {"id": "b", "address": "x:1"}]', "unique"),
        ('["x:3"]', "no server is known at x:3"),
    ],
)
def test_what_is_wrong_with_it(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / PEERS_FILE
    path.write_text(content)
    with pytest.raises(InvalidPeersFile, match=problem):
        read_peers_file(path, KNOWN)


def test_both_forms(tmp_path: Path) -> None:
    path = tmp_path / PEERS_FILE
    path.write_text('[{"id": "b", "address": "y:2", "non_voter": true}, {"id": "a", "address": "y:1"}]')
    assert read_peers_file(path, KNOWN) == Configuration((Server("a", "y:1"), Server("b", "y:2", voter=False)))
    path.write_text('["x:2", "x:1"]')
    assert read_peers_file(path, KNOWN) == KNOWN
