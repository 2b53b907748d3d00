"""The tables of keys agree with each other, with the options, and with what the agent does with them."""

import re
from pathlib import Path

import pytest

from discovery.config import schema
from discovery.config.kinds import Kind
from discovery.config.options import Options
from discovery.config.schema import Effect

from .rig import BASE, by_key, loaded

DAEMON = Path(__file__).parents[2] / "src" / "discovery" / "daemon"

SETTLED = {
    "advertise_addr_ipv4", "advertise_addr_ipv6", "advertise_addr_wan_ipv4", "advertise_addr_wan_ipv6", "bootstrap",
    "client_addr", "raft_protocol",
}  # fmt: skip
"""Keys that have done their work once the options are settled: others follow from them."""


def test_every_option_has_a_key_of_its_kind() -> None:
    keys = schema.known_keys()
    options = by_key(Options())
    assert options.keys() - {"dev_mode"} <= keys.keys()
    for path, default in options.items():
        if path != "dev_mode":
            assert keys[path].default == default
    assert keys["ports.http"].kind is Kind.INT
    assert keys["dns_config.max_stale"].kind is Kind.DURATION
    assert keys["dns_config.service_ttl"].kind is Kind.DURATIONS
    assert keys["recursors"].kind is Kind.HOSTS
    assert keys["services"].kind is Kind.SERVICES


def test_no_key_stands_in_two_tables() -> None:
    fields = list(by_key(Options()))
    tables = (schema._NO_EFFECT_YET, schema._ENTERPRISE, schema._MOOT)
    listed = [path for table in tables for paths in table.values() for path in paths.split()]
    everywhere = [*fields, *listed, *schema.ALIASES, *schema.LEGACY]
    assert sorted(everywhere) == sorted(set(everywhere))


def test_tables_name_keys_that_exist() -> None:
    keys = schema.known_keys()
    for path in (*schema.ALIASES.values(), *schema.LEGACY.values(), *schema.FORMER.values(), *schema._OPTIONS_WITHOUT_EFFECT_YET):
        assert path in keys or path in schema.objects()
    assert not schema.FORMER.keys() & (keys.keys() | schema.ALIASES.keys())
    for path in schema._RELOADABLE:
        assert path in keys or any(key.startswith(path) for key in keys)


def test_a_name_with_a_dot_is_one_name() -> None:
    assert "disable_compat_1.9" in schema.objects()["telemetry"]
    assert "telemetry.disable_compat_1" not in schema.objects()


@pytest.mark.parametrize("path", [key.path for key in schema.known_keys().values() if key.effect is Effect.APPLIED])
def test_every_option_with_an_effect_is_read_by_the_agent(path: str) -> None:
    """By its name, or with the whole object that it stands in."""
    if path in SETTLED | schema.LEGACY.keys():
        return
    source = "\n".join(file.read_text() for file in DAEMON.glob("*.py"))
    section, _, name = path.rpartition(".")
    whole = section and re.search(rf"\.{section.rpartition('.')[2]}\b(?!\.\w)", source)
    assert re.search(rf"\.{name}\b", source) or whole


@pytest.mark.parametrize("path", sorted(schema._OPTIONS_WITHOUT_EFFECT_YET))
def test_no_option_without_effect_is_read_by_the_agent(path: str) -> None:
    source = "\n".join(file.read_text() for file in DAEMON.glob("*.py"))
    assert not re.search(rf"\boptions\.{re.escape(path)}\b", source), f"{path} has an effect: take it out of the table"


_SAMPLES = {
    Kind.BOOL: "true",
    Kind.INT: "7",
    Kind.FLOAT: "7.5",
    Kind.TEXT: '"x"',
    Kind.DURATION: '"7s"',
    Kind.ADDRESS: '"127.0.0.7"',
    Kind.ADDRESSES: '"127.0.0.7"',
    Kind.HOSTS: '["127.0.0.7"]',
    Kind.TEXTS: '["x"]',
    Kind.MAP: '{ x = "y" }',
    Kind.DURATIONS: '{ x = "7s" }',
    Kind.OBJECT: "{ x = 1 }",
    Kind.OBJECTS: "[{ x = 1 }]",
}


def _written(path: str, value: str) -> str:
    section, _, name = path.partition(".") if path.endswith(".9") else path.rpartition(".")
    text = f"{name} = {value}"
    for outer in reversed(section.split(".") if section else []):
        text = f"{outer} {{ {text} }}"
    return text


@pytest.mark.parametrize(
    "key",
    [key for key in schema.known_keys().values() if key.effect in (Effect.NONE, Effect.ENTERPRISE)],
    ids=lambda key: key.path,
)
def test_every_option_without_effect_is_read_and_named_in_one_warning(key: schema.Key) -> None:
    value = "false" if key.default is True else _SAMPLES[key.kind]
    if key.path == "ui_content_path":
        value = '"/x/"'
    shown = schema.LEGACY.get(key.path, key.path)
    # These two are also refused in one of the two modes of an agent.
    mode = "server = true " if key.path == "auto_encrypt.allow_tls" else ""
    warnings = loaded(BASE, mode + _written(key.path, value)).warnings
    assert [warning for warning in warnings if "no effect" in warning and re.search(rf'^"?{re.escape(shown)}"? ', warning)]
    assert len([warning for warning in warnings if "no effect" in warning]) == 1


@pytest.mark.parametrize(
    "key",
    [key for key in schema.known_keys().values() if key.effect is Effect.MOOT and key.path != "segment"],
    ids=lambda key: key.path,
)
def test_every_moot_option_is_read_in_silence(key: schema.Key) -> None:
    warnings = loaded(BASE, _written(key.path, _SAMPLES[key.kind])).warnings
    assert [warning for warning in warnings if "deprecated" not in warning] == []
