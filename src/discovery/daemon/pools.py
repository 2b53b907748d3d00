"""The gossip pools of this agent, with Consul's rules for who may be in one.

Source: the merge rules that Consul agents follow, and their texts.
"""

import random
from collections.abc import Callable, Sequence
from logging import getLogger
from pathlib import Path
from typing import Final

from discovery.config.options import Options
from discovery.model.agent import MemberInfo
from discovery.telemetry import Metrics
from discovery.transport.membership import Event, Member, Membership, MemberStatus, PoolOptions, RefusedMerge

from . import keyring
from .settings import gossip_tags, lan_profile, wan_profile

_log = getLogger(__name__)

_LAN_FILES: Final = ("serf/local.snapshot", "serf/local.keyring")
_WAN_FILES: Final = ("serf/remote.snapshot", "serf/remote.keyring")

OnEvent = Callable[[Event], None]


def lan_pool(
    options: Options, node_id: str, data_dir: Path | None, on_event: OnEvent, metrics: Metrics | None = None
) -> Membership:
    """The pool of this datacenter. Raises `KeyringError`."""
    rules = MergeRules(options.datacenter, options.node_name, node_id)
    snapshot, key_file = _files(options, data_dir, _LAN_FILES)
    pool = PoolOptions(
        name=options.node_name,
        bind_address=options.serf_lan or options.bind_addr,
        advertise_address=options.advertise_addr,
        port=options.ports.serf_lan,
        profile=lan_profile(options),
        tags=gossip_tags(options, node_id),
        keyring=keyring.load(key_file, options.encrypt),
        verify_incoming=options.encrypt_verify_incoming,
        verify_outgoing=options.encrypt_verify_outgoing,
        snapshot_path=snapshot,
        rejoin_after_leave=options.rejoin_after_leave,
        merge_check=rules.check_lan,
        reconnect_timeout=options.reconnect_timeout,
    )
    return Membership(pool, on_event=on_event, rng=random.SystemRandom(), log=getLogger("discovery.serf.lan"), metrics=metrics)


def wan_pool(
    options: Options, node_id: str, data_dir: Path | None, on_event: OnEvent, metrics: Metrics | None = None
) -> Membership:
    """The pool of the servers of all datacenters; names carry the datacenter. Raises `KeyringError`."""
    snapshot, key_file = _files(options, data_dir, _WAN_FILES)
    pool = PoolOptions(
        name=f"{options.node_name}.{options.datacenter}",
        bind_address=options.serf_wan or options.bind_addr,
        advertise_address=options.advertise_addr_wan or options.advertise_addr,
        port=options.ports.serf_wan,
        profile=wan_profile(options),
        tags=gossip_tags(options, node_id, wan=True),
        keyring=keyring.load(key_file, options.encrypt),
        verify_incoming=options.encrypt_verify_incoming,
        verify_outgoing=options.encrypt_verify_outgoing,
        snapshot_path=snapshot,
        rejoin_after_leave=options.rejoin_after_leave,
        merge_check=check_wan,
        reconnect_timeout=options.reconnect_timeout_wan,
    )
    return Membership(pool, on_event=on_event, rng=random.SystemRandom(), log=getLogger("discovery.serf.wan"), metrics=metrics)


def keyring_file(options: Options, data_dir: Path | None, *, wan: bool) -> Path | None:
    """Where a pool's keys are remembered; None: nowhere."""
    return _files(options, data_dir, _WAN_FILES if wan else _LAN_FILES)[1]


def _files(options: Options, data_dir: Path | None, names: tuple[str, str]) -> tuple[Path | None, Path | None]:
    if data_dir is None:
        return None, None
    snapshot, keys = names
    return data_dir / snapshot, None if options.disable_keyring_file else data_dir / keys


class MergeRules:
    """Who may be in the LAN pool with us."""

    def __init__(self, datacenter: str, node_name: str, node_id: str) -> None:
        self._datacenter = datacenter
        self._node_name = node_name
        self._node_id = node_id

    def check_lan(self, members: Sequence[Member]) -> None:
        """Raises `RefusedMerge`."""
        holders: dict[str, str] = {}
        for member in members:
            if member.status is MemberStatus.LEFT:
                continue
            self._check_place(member)
            self._check_id(member, holders)

    def _check_place(self, member: Member) -> None:
        datacenter, segment = member.tags.get("dc", ""), member.tags.get("segment", "")
        if datacenter != self._datacenter:
            raise RefusedMerge(f"Member '{member.name}' part of wrong datacenter '{datacenter}'")
        if segment:
            raise RefusedMerge(f"Member '{member.name}' part of wrong segment '{segment}' (expected '')")

    def _check_id(self, member: Member, holders: dict[str, str]) -> None:
        node_id = member.tags.get("id", "")
        if not node_id:
            return
        if node_id == self._node_id and member.name != self._node_name:
            raise RefusedMerge(f"Member '{member.name}' has conflicting node ID '{node_id}' with this agent's ID")
        holder = holders.setdefault(node_id, member.name)
        if holder != member.name:
            raise RefusedMerge(f"Member '{member.name}' has conflicting node ID '{node_id}' with member '{holder}'")


def check_wan(members: Sequence[Member]) -> None:
    """Only servers may be in the WAN pool; raises `RefusedMerge`."""
    for member in members:
        if member.tags.get("role") != "consul":
            raise RefusedMerge(f"Member '{member.name}' is not a server")


def shown(member: Member) -> MemberInfo:
    """A member as the API shows it."""
    return MemberInfo(
        name=member.name,
        addr=member.address,
        port=member.port,
        tags=member.tags,
        status=int(member.status),
        protocol_min=member.protocol_min,
        protocol_max=member.protocol_max,
        protocol_cur=member.protocol_cur,
        delegate_min=member.delegate_min,
        delegate_max=member.delegate_max,
        delegate_cur=member.delegate_cur,
    )
