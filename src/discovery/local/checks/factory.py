"""From a definition to what runs it."""

import asyncio
import random
from typing import Final

import msgspec

from discovery.model.definitions import CheckSpec
from discovery.model.delegate import Delegate
from discovery.model.duration import Duration

from ..definitions import is_script, type_of
from ..entries import Runner
from .alias import Checks, LocalAlias, RemoteAlias
from .damping import Damping
from .docker import DockerProbe
from .grpc import GrpcProbe
from .h2ping import H2PingProbe
from .http import HttpClient, HttpProbe
from .os_service import OsServiceProbe
from .periodic import Periodic, Schedule
from .result import Probe, Publish, Spawn
from .script import ScriptProbe
from .tcp import TcpProbe
from .tls import TlsContexts
from .ttl import TtlCheck
from .udp import UdpProbe

_TIMEOUT: Final = Duration.from_seconds(10)
_SCRIPT_TIMEOUT: Final = Duration.from_seconds(30)


class Surroundings(msgspec.Struct):
    """What checks need beside their definition; `delegate` asks servers for aliases of other nodes."""

    node_name: str
    datacenter: str
    output_limit: int
    checks: Checks
    delegate: Delegate
    rng: random.Random
    http: HttpClient
    tls: TlsContexts
    spawn: Spawn


def make_runner(spec: CheckSpec, output: str, publish: Publish, around: Surroundings) -> Runner:
    """`output` is what the check said last."""
    kind = type_of(spec)
    limit = min(spec.output_max_size or around.output_limit, around.output_limit)
    if kind == "ttl":
        return TtlCheck(spec.ttl.seconds, limit, publish, output)
    if kind == "alias":
        return _alias(spec, limit, publish, around)
    probe = _probe(kind, spec, limit, around)
    schedule = Schedule(spec.interval.seconds, spec.initial_delay.seconds)
    damping = Damping(spec, asyncio.get_running_loop().time)
    return Periodic(probe, schedule, damping.filter, publish, around.rng, around.spawn)


def _alias(spec: CheckSpec, limit: int, publish: Publish, around: Surroundings) -> Runner:
    if spec.alias_node in ("", around.node_name):
        return LocalAlias(spec.alias_service, spec.check_id, around.checks, limit, publish)
    return RemoteAlias(
        spec.alias_service,
        spec.alias_node,
        datacenter=around.datacenter,
        token=spec.token,
        delegate=around.delegate,
        publish=publish,
        rng=around.rng,
        spawn=around.spawn,
    )


def _probe(kind: str, spec: CheckSpec, limit: int, around: Surroundings) -> Probe:
    allowed = spec.timeout if spec.timeout > 0 else _SCRIPT_TIMEOUT if is_script(spec) else _TIMEOUT
    timeout, args = allowed.seconds, spec.args or spec.script_args or []
    match kind:
        case "http":
            # Plain HTTP may be redirected to HTTPS.
            return HttpProbe(spec, around.http, timeout, limit, around.tls.context(spec))
        case "tcp":
            return TcpProbe(spec.tcp, timeout, around.tls.context(spec) if spec.tcp_use_tls else None, spec.tls_server_name)
        case "udp":
            return UdpProbe(spec.udp, timeout)
        case "grpc":
            context = around.tls.context(spec, http2=True) if spec.grpc_use_tls else None
            return GrpcProbe(spec.grpc, timeout, context, spec.tls_server_name)
        case "h2ping":
            context = around.tls.context(spec, http2=True) if spec.h2ping_use_tls else None
            return H2PingProbe(spec.h2ping, timeout, context, spec.tls_server_name)
        case "docker":
            return DockerProbe(spec.docker_container_id, args, timeout, limit)
        case "script":
            return ScriptProbe(args, timeout, str(allowed), limit)
        case "os_service":
            return OsServiceProbe(spec.os_service, timeout)
        case _:
            raise AssertionError(f"check {spec.check_id!r} has passed validation with type {kind!r}")
