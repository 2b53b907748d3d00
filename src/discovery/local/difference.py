"""What has to be done so that the catalog says of this node what the agent says: pure comparison, no I/O.

| here | in the catalog | to do |
|---|---|---|
| present | missing, or different | register |
| missing | present | deregister, but never service `consul` and check `serfHealth`, which the leader keeps |
| present, `enable_tag_override` | other tags | nothing: the catalog's tags are adopted here |
| node id, tagged addresses or meta | different | register the node |

Source: Consul documentation, "anti-entropy".
"""

from collections.abc import Collection, Mapping

import msgspec

from discovery.model.records import (
    CONSUL_SERVICE,
    DEFAULT_WEIGHTS,
    SERF_CHECK_ID,
    CheckDefinition,
    HealthCheck,
    Node,
    NodeService,
)

from .entries import CheckEntry, ServiceEntry


class Identity(msgspec.Struct, frozen=True):
    """This node as the catalog should have it."""

    name: str
    id: str
    address: str
    datacenter: str
    tagged_addresses: dict[str, str]
    meta: dict[str, str]


class Belief(msgspec.Struct):
    """What the catalog says of this node, as far as we know: from the last full read and what was pushed since.

    None in place of a record: it may be anything, because a push has failed half-way. The records are canonical.
    """

    node: Node | None = None
    services: dict[str, NodeService | None] = {}
    checks: dict[str, HealthCheck | None] = {}


class Plan(msgspec.Struct, frozen=True):
    """Ids of what is to be pushed."""

    register_services: list[str]
    deregister_services: list[str]
    register_checks: list[str]
    deregister_checks: list[str]
    register_node: bool

    def __bool__(self) -> bool:
        return bool(
            self.register_services
            or self.deregister_services
            or self.register_checks
            or self.deregister_checks
            or self.register_node
        )


def difference(
    identity: Identity,
    services: Mapping[str, ServiceEntry],
    checks: Mapping[str, CheckEntry],
    belief: Belief,
    deferred: Collection[str] = (),
) -> Plan:
    """`deferred`: checks whose output may stay as the catalog has it for now."""
    gone = [key for key in belief.services if key not in services and key != CONSUL_SERVICE]
    return Plan(
        register_services=[key for key, entry in services.items() if belief.services.get(key) != entry.service],
        deregister_services=gone,
        register_checks=[
            key for key, entry in checks.items() if not _same_check(entry.check, belief.checks.get(key), key in deferred)
        ],
        deregister_checks=[
            key
            for key, check in belief.checks.items()
            if key not in checks and key != SERF_CHECK_ID and (check is None or check.service_id not in gone)
        ],
        register_node=not same_node(identity, belief.node),
    )


def _same_check(ours: HealthCheck, theirs: HealthCheck | None, any_output: bool) -> bool:
    if any_output and theirs is not None:
        theirs = msgspec.structs.replace(theirs, output=ours.output)
    return ours == theirs


def same_node(identity: Identity, node: Node | None) -> bool:
    return (
        node is not None
        and node.id == identity.id
        and (node.tagged_addresses or {}) == identity.tagged_addresses
        and (node.meta or {}) == identity.meta
    )


def overridden_tags(services: Mapping[str, ServiceEntry], belief: Belief) -> dict[str, list[str]]:
    """By service id, the catalog's tags that are to be adopted."""
    found: dict[str, list[str]] = {}
    for key, entry in services.items():
        theirs = belief.services.get(key)
        if entry.service.enable_tag_override and theirs is not None and theirs.tags != entry.service.tags:
            found[key] = theirs.tags
    return found


def canonical_service(service: NodeService) -> NodeService:
    """The one way to write a service down, so that equal ones are equal."""
    return msgspec.structs.replace(
        service,
        tags=service.tags or [],
        meta=service.meta or None,
        tagged_addresses=service.tagged_addresses or None,
        weights=service.weights or DEFAULT_WEIGHTS,
        locally_registered_as_sidecar=False,
        create_index=0,
        modify_index=0,
    )


def canonical_check(check: HealthCheck) -> HealthCheck:
    """The one way to write a check down. Agents' checks have no definition, so what the catalog has there doesn't matter."""
    return msgspec.structs.replace(
        check, service_tags=check.service_tags or [], definition=CheckDefinition(), create_index=0, modify_index=0
    )
