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
    for place, text in _texts("Service", msgspec.to_builtins(query.service)):
        for found in _VARIABLE.finditer(text):
            variable = (found[1] or "").strip()
            if variable and variable not in _NAMES and not _MATCH.fullmatch(variable):
                where = f"1:{found.start(1) + 1}"
                raise RequestFailed(f"Bad evaluation for '{text}' in {place}: {where}: unknown variable accessed: {variable}")


def _texts(place: str, value: Any) -> Iterator[tuple[str, str]]:
    """All texts in a document, and where they stand."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(f"{place}.{key}", item)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(f"{place}[{number}]", item)


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
    if query.template.remove_empty_tags:
        service = replace(service, tags=[tag for tag in service.tags or () if tag])
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
