"""The key that is suggested for one that is not known."""

import pytest

from discovery.config import schema
from discovery.config.nearest import nearest


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("node-name", "node_name"),
        ("nodename", "node_name"),
        ("datacentre", "datacenter"),
        ("serverr", "server"),
        ("retryjoin", "retry_join"),
        ("retry_joins", "retry_join"),
        ("dns", "dns_config"),
        ("perf", "performance"),
        ("max_stale", "dns_config.max_stale"),
        ("raft_multiplier", "performance.raft_multiplier"),
        ("bootstrap_expects", "bootstrap_expect"),
        ("recursor", "recursors"),
        ("x", ""),
        ("something_else_altogether", ""),
    ],
)
def test_of_the_top_level(written: str, meant: str) -> None:
    assert nearest(written, sorted(schema.objects()[""]), schema.known_keys()) == meant


def test_a_name_that_stands_in_several_places_is_not_guessed() -> None:
    assert nearest("port", ["host"], ["a.port", "b.port"]) == ""


def test_nothing_is_near_nothing() -> None:
    assert nearest("a", []) == ""
