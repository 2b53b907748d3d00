"""Templates of prepared queries: one definition that answers for every name with a prefix.

Text fields of the query's service may say `${name.full}`, `${name.prefix}`, `${name.suffix}`, `${agent.segment}` and, with a
regular expression over the name, `${match(N)}`; `$${` is a plain `${`. Source: Consul's documentation of prepared queries.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from discovery.model.errors import RequestFailed
from discovery.model.patterns import InvalidPattern, compile_pattern
from discovery.model.records import PreparedQuery, QueryFailover, QueryService

NAME_PREFIX_MATCH: Final = "name_prefix_match"

_VARIABLE: Final = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_MATCH: Final = re.compile(r"match\((\d+)\)")
_NAMES: Final = frozenset({"name.full", "name.prefix", "name.suffix", "agent.segment"})


def is_template(query: PreparedQuery) -> bool:
    return bool(query.template.type)


def check_template(query: PreparedQuery) -> None:
    """Refuse a template that could never be rendered."""
    template = query.template
    if template.type != NAME_PREFIX_MATCH:
        raise RequestFailed(f"Bad Template.Type '{template.type}'")
    try:
        compile_pattern(template.regexp)
    except InvalidPattern as error:
        raise RequestFailed(f"Bad Regexp: {error}") from None
    for text in _texts(msgspec.to_builtins(query.service)):
        for variable in _VARIABLE.findall(text):
            if variable and variable.strip() not in _NAMES and not _MATCH.fullmatch(variable.strip()):
                raise RequestFailed(f"Bad format '{text}': unknown variable '{variable}'")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def render(query: PreparedQuery, name: str, segment: str) -> PreparedQuery:
    """The query that the template `query` stands for when asked by `name`, from an agent in `segment`."""
    values = {
        "name.full": name,
        "name.prefix": query.name,
        "name.suffix": name[len(query.name) :],
        "agent.segment": segment,
    }
    found = compile_pattern(query.template.regexp).search(name) if query.template.regexp else None
    groups = (found.group(0), *found.groups("")) if found is not None else ()

    def value(variable: str) -> str:
        numbered = _MATCH.fullmatch(variable)
        if numbered is None:
            return values[variable]
        number = int(numbered[1])
        return groups[number] if number < len(groups) else ""

    def fill(text: str) -> str:
        return _VARIABLE.sub(lambda match: "${" if match[1] is None else value(match[1].strip()), text)

    service = _filled(query.service, fill)
    if query.template.remove_empty_tags and service.tags is not None:
        service = replace(service, tags=[tag for tag in service.tags if tag])
    return replace(query, service=service)


def _filled(service: QueryService, fill: Callable[[str], str]) -> QueryService:
    def fill_list(texts: list[str] | None) -> list[str] | None:
        return None if texts is None else [fill(text) for text in texts]

    def fill_values(pairs: dict[str, str] | None) -> dict[str, str] | None:
        return None if pairs is None else {key: fill(text) for key, text in pairs.items()}

    failover = service.failover
    return replace(
        service,
        service=fill(service.service),
        failover=QueryFailover(nearest_n=failover.nearest_n, datacenters=fill_list(failover.datacenters)),
        ignore_check_ids=fill_list(service.ignore_check_ids),
        near=fill(service.near),
        tags=fill_list(service.tags),
        node_meta=fill_values(service.node_meta),
        service_meta=fill_values(service.service_meta),
    )
