"""Kept answers over the real store: whatever changes, a kept answer is what a fresh lookup would give."""

import asyncio
from typing import Any

import dns.message
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.dns.options import DnsOptions
from discovery.dns.server import DnsServer
from discovery.model.commands import Command, Deregister, Register
from discovery.model.records import HealthCheck, NodeService
from discovery.model.requests import DeregisterRequest, QueryMeta, RegisterRequest
from discovery.server.reads import STORE_READS
from discovery.state.store import StateStore
from tests.dns.catalog import FakeAnswer
from tests.dns.rig import make_server

NODES = ["n1", "n2", "N3"]
SERVICES = ["web", "API"]
QUESTIONS = [
    (name, kind)
    for name in ("web.service.consul", "api.service.consul", "blue.web.service.consul", "n1.node.consul", "n3.node.consul")
    for kind in ("A", "SRV", "TXT")
]


class StoreDelegate:
    """The part of a server's answers that needs nothing but its store."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def leads(self) -> bool:
        return True

    async def call(self, method: str, request: Any) -> Any:
        return (await self.ask(method, request)).reply

    async def ask(self, method: str, request: Any) -> FakeAnswer:
        read = STORE_READS[method]
        result = read.ask(self._store, request)
        reply = read.reply_type(index=result.index, **{read.field: result.value})
        return FakeAnswer(reply, self._store.watches.watch(result.topics))

    async def save_snapshot(self, *, datacenter: str, token: str, stale: bool) -> tuple[bytes, QueryMeta]:
        raise NotImplementedError

    async def restore_snapshot(self, archive: bytes, *, datacenter: str, token: str) -> None:
        raise NotImplementedError


@st.composite
def registrations(draw: st.DrawFn) -> Register:
    node = draw(st.sampled_from(NODES))
    request = RegisterRequest(
        node=node,
        address=draw(st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1"])),
        node_meta=draw(st.none() | st.just({"k": "v"})),
    )
    if draw(st.booleans()):
        service = draw(st.sampled_from(SERVICES))
        tags = draw(st.sampled_from([[], ["blue"], ["BLUE", "x"]]))
        port, address = draw(st.integers(1, 3)), draw(st.sampled_from(["", "10.9.9.9"]))
        request = msgspec.structs.replace(
            request, service=NodeService(id=service, service=service, tags=tags, port=port, address=address)
        )
    if draw(st.booleans()):
        status = draw(st.sampled_from(["passing", "warning", "critical"]))
        service_id = request.service.id if request.service is not None and draw(st.booleans()) else ""
        check = HealthCheck(node=node, check_id=f"c-{service_id}", name="c", status=status, service_id=service_id)
        request = msgspec.structs.replace(request, checks=[check])
    return Register(request)


deregistrations = st.builds(
    lambda node, service, check: Deregister(DeregisterRequest(node=node, service_id=service, check_id=check)),
    st.sampled_from(NODES),
    st.sampled_from(["", *SERVICES]),
    st.sampled_from(["", "", "c-", "c-web"]),
)


async def answer(server: DnsServer, name: str, kind: str) -> tuple[int, list[str]]:
    packet = dns.message.make_query(name, kind, use_edns=0, payload=4096).to_wire()
    found = server.ready(packet, asyncio.get_running_loop().time(), tcp=False)
    if found is None:
        taken: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        server.take(packet, "127.0.0.1", taken.set_result, tcp=False)
        found = await taken
    message = dns.message.from_wire(found, one_rr_per_rrset=True)
    records = sorted(str(record) for section in (message.answer, message.additional) for record in section)
    return int(message.rcode()), records


async def compare_after_each(changes: list[Command]) -> None:
    store = StateStore()
    delegate = StoreDelegate(store)
    keeping = make_server(delegate, DnsOptions())
    fresh = make_server(delegate, DnsOptions(kept_answers=0))
    for change in changes:
        store.apply([change])
        for name, kind in QUESTIONS:
            assert await answer(keeping, name, kind) == await answer(fresh, name, kind), (change, name, kind)
    assert fresh.hits == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(registrations() | deregistrations, min_size=1, max_size=8))
def test_kept_answers_follow_every_change(changes: list[Command]) -> None:
    asyncio.run(compare_after_each(changes))


async def test_changes_elsewhere_leave_kept_answers_alone() -> None:
    store = StateStore()
    server = make_server(StoreDelegate(store), DnsOptions())
    service = NodeService(id="web", service="web", port=80)
    store.apply([Register(RegisterRequest(node="n1", address="10.0.0.1", service=service))])
    first = await answer(server, "web.service.consul", "A")
    other = NodeService(id="api", service="api", port=80)
    store.apply([Register(RegisterRequest(node="n2", address="10.0.0.2", service=other))])
    assert await answer(server, "web.service.consul", "A") == first
    assert server.hits == 1
