"""Where Consul writes `null` for an empty list of tags: transactions, prepared queries and the UI's endpoints."""

from msgspec.structs import replace

from discovery.model.records import CheckServiceNode, HealthCheck, NodeService


def bare_service(service: NodeService) -> NodeService:
    return service if service.tags else replace(service, tags=None)


def bare_check(check: HealthCheck) -> HealthCheck:
    return check if check.service_tags else replace(check, service_tags=None)


def bare_instance(item: CheckServiceNode) -> CheckServiceNode:
    return replace(item, service=bare_service(item.service), checks=[bare_check(check) for check in item.checks])
