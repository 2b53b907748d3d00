"""Where Consul writes `null` for an empty list of tags or checks: transactions, prepared queries and the UI's endpoints."""

from msgspec.structs import replace

from discovery.model.records import CheckServiceNode, HealthCheck, Node, NodeService, Record


def bare_service(service: NodeService) -> NodeService:
    return service if service.tags else replace(service, tags=None)


def bare_check(check: HealthCheck) -> HealthCheck:
    return check if check.service_tags else replace(check, service_tags=None)


class BareInstance(Record, frozen=True):
    node: Node
    service: NodeService
    checks: list[HealthCheck] | None


def bare_instance(item: CheckServiceNode) -> BareInstance:
    return BareInstance(item.node, bare_service(item.service), [bare_check(check) for check in item.checks] or None)
