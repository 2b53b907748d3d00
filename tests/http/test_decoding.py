"""Bodies by Go's rules."""

import msgspec
import pytest

from discovery.http.decoding import PROXY_RULES, DecodeError, Decoder, Rules
from discovery.model.definitions import CheckSpec, ServiceSpec
from discovery.model.duration import Duration
from discovery.model.records import (
    CheckDefinition,
    Connect,
    Coordinate,
    DirEntry,
    Expose,
    ExposePath,
    HealthCheck,
    Proxy,
    ServiceAddress,
    Upstream,
    Weights,
)
from discovery.model.requests import RegisterRequest

register = Decoder(RegisterRequest)
service = Decoder(ServiceSpec)
check = Decoder(CheckSpec)


def test_names_match_in_any_case() -> None:
    body = register.decode(b'{"NODE":"n","address":"a","NodeMeta":{"K":"v"},"service":{"serviCE":"w","port":80}}')
    assert (body.node, body.address, body.node_meta) == ("n", "a", {"K": "v"})
    assert body.service is not None
    assert (body.service.service, body.service.port, body.service.tags) == ("w", 80, [])


def test_null_is_the_zero_value() -> None:
    body = service.decode(
        b'{"Name":null,"Tags":null,"Port":null,"Meta":null,"Check":null,"EnableTagOverride":null,"Weights":null}'
    )
    assert body == ServiceSpec()
    assert service.decode(b"null") == ServiceSpec()


def test_absent_parts_of_a_given_record_are_zero() -> None:
    assert service.decode(b'{"Weights":{"Passing":5}}').weights == Weights(passing=5, warning=0)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        (b'"10s"', 10**10),
        (b'"1.5h"', 5400 * 10**9),
        (b'"300ms"', 3 * 10**8),
        (b"5000", 5000),
        (b'""', 0),
        (b"null", 0),
        (b"1e9", 10**9),
    ],
)
def test_durations(text: bytes, nanoseconds: int) -> None:
    assert check.decode(b'{"Interval":%s}' % text).interval == Duration(nanoseconds)


def test_a_zero_duration_that_may_be_absent_is_absent() -> None:
    assert Decoder(CheckDefinition).decode(b'{"Interval":"0s"}').interval is None


def test_nested_records_lists_and_maps() -> None:
    body = service.decode(b'{"TaggedAddresses":{"lan":{"Address":"a","Port":1}},"Checks":[{"TTL":"1s"},null]}')
    assert body.tagged_addresses == {"lan": ServiceAddress("a", 1)}
    assert body.checks == [CheckSpec(ttl=Duration(10**9)), CheckSpec()]


def test_bytes_are_base64() -> None:
    assert Decoder(DirEntry).decode(b'{"Value":"aGVsbG8="}').value == b"hello"


def test_whole_numbers_may_be_floats() -> None:
    assert Decoder(Coordinate).decode(b'{"Vec":[1,0.5],"Error":1}') == Coordinate(vec=[1.0, 0.5], error=1.0)


def test_bytes_after_the_value_are_ignored() -> None:
    assert service.decode(b' {"Name":"w"} trailing').name == "w"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "EOF"),
        (b" \n", "EOF"),
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b'{"Name":', "unexpected EOF"),
        (b'{"Name"', "unexpected EOF"),
        (b'{"Name":"a",}', "invalid character '}' looking for beginning of object key string"),
        (b"{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
        (b'{"Name":"a" "b"}', "invalid character '\"' after object key:value pair"),
        (b"[]", "json: cannot unmarshal array into Go value of type ServiceSpec"),
        (b'{"Bogus":1}', 'json: unknown field "Bogus"'),
        (b'{"Check":{"Bogus":1}}', 'json: unknown field "Bogus"'),
        (b'{"Port":"80"}', "json: cannot unmarshal string into Go struct field .Port of type int"),
        (b'{"Port":80.5}', "json: cannot unmarshal number 80.5 into Go struct field .Port of type int"),
        (b'{"Port":true}', "json: cannot unmarshal bool into Go struct field .Port of type int"),
        (b'{"Name":1}', "json: cannot unmarshal number into Go struct field .Name of type string"),
        (b'{"Tags":"a"}', "json: cannot unmarshal string into Go struct field .Tags of type []string"),
        (b'{"Tags":[1]}', "json: cannot unmarshal number into Go struct field .Tags of type string"),
        (b'{"Meta":{"a":1}}', "json: cannot unmarshal number into Go struct field .Meta of type string"),
        (b'{"EnableTagOverride":"yes"}', "json: cannot unmarshal string into Go struct field .EnableTagOverride of type bool"),
        (b'{"Check":{"TTL":"x"}}', 'time: invalid duration "x"'),
        (b'{"Port":NaN}', "invalid character 'N' looking for beginning of value"),
        (b"[" * 100_000, "exceeded max depth"),
    ],
)
def test_refusals(body: bytes, text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        service.decode(body)
    assert str(caught.value) == text


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 10**4000])
def test_numbers_out_of_range(number: int) -> None:
    with pytest.raises(DecodeError, match="cannot unmarshal number"):
        service.decode(b'{"Port":1%s}' % (b"0" * 4000) if number == 10**4000 else b'{"Port":%d}' % number)


def test_what_is_never_negative() -> None:
    entry = Decoder(DirEntry)
    assert entry.decode(b'{"Flags":%d}' % (2**64 - 1)).flags == 2**64 - 1
    for body in (b'{"Flags":-1}', b'{"ModifyIndex":-1}', b'{"Flags":1.5}', b'{"Flags":%d}' % 2**64):
        with pytest.raises(DecodeError, match=r"cannot unmarshal number .* of type uint64"):
            entry.decode(body)


def test_managed_proxies_are_accepted_and_gone() -> None:
    body = Decoder(ServiceSpec, PROXY_RULES).decode(b'{"Connect":{"Native":true,"Proxy":{"Command":["x"]}}}')
    assert body.connect == Connect(native=True)


def test_opaque_values_are_what_can_be_stored_and_written_again() -> None:
    opaque = Decoder(Upstream)
    body = b'{"Config":{"a":[100000000000000000000,18446744073709551615,-1,0.5,null],"\\ud800":{"b":"\\udfff"}}}'
    assert opaque.decode(body).config == {"a": [1e20, 2**64 - 1, -1, 0.5, None], "\ufffd": {"b": "\ufffd"}}
    for number in (b"1e999", b"9" * 400):
        with pytest.raises(DecodeError, match=f"cannot unmarshal number {number[:20].decode()} into Go value of type float64"):
            opaque.decode(b'{"Config":{"a":%s}}' % number)


def test_bad_base64() -> None:
    with pytest.raises(DecodeError, match="illegal base64 data"):
        Decoder(DirEntry).decode(b'{"Value":"%%"}')


def test_text_that_utf8_cannot_spell() -> None:
    assert service.decode(b'{"Name":"a\\ud800b"}').name == "a�b"
    assert service.decode(b'{"Name":"a\xffb"}').name == "a�b"
    with pytest.raises(DecodeError, match='json: unknown field "a�b"'):
        service.decode(b'{"a\\ud800b":null}')


def test_rules() -> None:
    decoder = Decoder(CheckSpec, {CheckSpec: Rules(snake_case=("tls_skip_verify",), hidden=("id",))})
    assert decoder.decode(b'{"tls_skip_verify":true}').tls_skip_verify
    for body in (b'{"ID":"x"}', b'{"alias_service":"x"}'):
        with pytest.raises(DecodeError, match="unknown field"):
            decoder.decode(body)


def test_proxies_may_be_spelt_as_in_files() -> None:
    decoder = Decoder(ServiceSpec, PROXY_RULES)
    body = b"""{"Connect": {"sidecar_service": {}}, "Proxy": {"destination_service_name": "a", "local_service_port": 1,
        "Upstreams": [{"destination_name": "b", "local_bind_port": 2}], "Expose": {"Paths": [{"listener_port": 3}]}}}"""
    spec = decoder.decode(body)
    assert spec.connect == Connect(sidecar_service={})
    proxy = Proxy("a", local_service_port=1, upstreams=[Upstream(destination_name="b", local_bind_port=2)])
    assert spec.proxy == msgspec.structs.replace(proxy, expose=Expose(paths=[ExposePath(listener_port=3)]))
    with pytest.raises(DecodeError, match='unknown field "mesh_gateway"'):
        decoder.decode(b'{"Proxy": {"mesh_gateway": {}}}')


def test_what_is_left_out_when_empty_is_absent_when_empty() -> None:
    proxy = Decoder(Proxy).decode(b'{"Config": {}, "Upstreams": [{"Config": {}}], "Expose": {"Paths": []}}')
    assert (proxy.config, proxy.expose.paths, proxy.upstreams and proxy.upstreams[0].config) == (None, None, {})


def test_unknown_fields_may_be_ignored() -> None:
    assert Decoder(HealthCheck, {HealthCheck: Rules(ignore_unknown=True)}).decode(b'{"Bogus":{},"Name":"c"}').name == "c"
