"""Who may be in a gossip pool with us."""

from collections.abc import Mapping

import pytest

from discovery.daemon.pools import MergeRules, check_wan, shown
from discovery.transport.membership import Member, MemberStatus, RefusedMerge

OUR_ID = "11111111-1111-1111-1111-111111111111"
OTHER_ID = "22222222-2222-2222-2222-222222222222"
RULES = MergeRules("dc1", "ours", OUR_ID)


def member(name: str, tags: Mapping[str, str], status: MemberStatus = MemberStatus.ALIVE) -> Member:
    return Member(
        name=name,
        address="127.0.0.1",
        port=8301,
        tags={"role": "node", "dc": "dc1", "segment": "", **tags},
        status=status,
        protocol_min=1,
        protocol_max=5,
        protocol_cur=2,
        delegate_min=2,
        delegate_max=5,
        delegate_cur=4,
    )


def test_members_of_our_datacenter_are_welcome_and_so_are_we_ourselves() -> None:
    RULES.check_lan([member("ours", {"id": OUR_ID}), member("other", {"id": OTHER_ID}), member("old", {})])


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"dc": "dc2"}, "Member 'other' part of wrong datacenter 'dc2'"),
        ({"segment": "red"}, "Member 'other' part of wrong segment 'red' (expected '')"),
        ({"id": OUR_ID}, f"Member 'other' has conflicting node ID '{OUR_ID}' with this agent's ID"),
    ],
)
def test_strangers_are_refused_in_consuls_words(tags: dict[str, str], text: str) -> None:
    with pytest.raises(RefusedMerge) as refused:
        RULES.check_lan([member("other", tags)])
    assert str(refused.value) == text


def test_two_members_with_one_id_are_refused_unless_one_left() -> None:
    first, second = member("a", {"id": OTHER_ID}), member("b", {"id": OTHER_ID})
    with pytest.raises(RefusedMerge, match=f"Member 'b' has conflicting node ID '{OTHER_ID}' with member 'a'"):
        RULES.check_lan([first, second])
    RULES.check_lan([member("a", {"id": OTHER_ID}, MemberStatus.LEFT), second])


def test_only_servers_are_in_the_wan_pool() -> None:
    check_wan([member("s.dc1", {"role": "consul"}), member("s.dc2", {"role": "consul", "dc": "dc2"})])
    with pytest.raises(RefusedMerge, match=r"Member 'c\.dc1' is not a server"):
        check_wan([member("c.dc1", {})])


def test_a_member_is_shown_with_its_status_as_a_number() -> None:
    assert shown(member("a", {}, MemberStatus.FAILED)).status == 4
