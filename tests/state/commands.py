"""Any command over a small world, for tests that want all of them."""

from typing import Any

from hypothesis import strategies as st

from discovery.model import commands as c
from discovery.model import records as m
from discovery.model import requests as r

from .stories import uuid

NODES = ["a", "B", "c"]
SERVICES = ["web", "Web", "db"]
SERVICE_IDS = ["", "web", "WEB", "x"]
CHECKS = ["c1", "C1", "c2", m.SERF_CHECK_ID]
STATUSES = [m.PASSING, m.WARNING, m.CRITICAL, ""]
KEYS = ["", "d", "d/", "d/a", "d/b", "e/", "é", "\U0010ffff"]
SESSIONS = [uuid(number) for number in range(1, 5)]

nodes = st.sampled_from(NODES)
node_ids = st.sampled_from(["", "", uuid(0xA1), uuid(0xA2)])
keys = st.sampled_from(KEYS)
values = st.sampled_from([None, b"", b"1", b"2"])
sessions = st.sampled_from([*SESSIONS, "", "short"])
small = st.integers(0, 40)


def _optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


metas = st.sampled_from([None, {}, {"rack": "1"}, {"rack": "2"}])
proxies = st.sampled_from([m.NO_PROXY, m.Proxy(destination_service_name="web", config={"a": [1, None]})])

services = st.builds(
    lambda kind, **fields: m.NodeService(kind=kind if fields["proxy"].destination_service_name else "", **fields),
    kind=st.sampled_from(["", "connect-proxy"]),
    id=st.sampled_from(SERVICE_IDS),
    service=st.sampled_from(SERVICES),
    tags=st.lists(st.sampled_from(["t", "T", "u"]), max_size=2),
    meta=st.sampled_from([None, {}, {"v": "1"}]),
    port=st.integers(1, 2),
    weights=st.sampled_from([None, m.Weights(1, 1), m.Weights(2, 0)]),
    proxy=proxies,
    connect=st.sampled_from([m.NO_CONNECT, m.Connect(native=True)]),
)

checks = st.builds(
    m.HealthCheck,
    check_id=st.sampled_from(CHECKS),
    status=st.sampled_from(STATUSES),
    output=st.sampled_from(["", "o"]),
    service_id=st.sampled_from(["", *SERVICE_IDS]),
    definition=st.sampled_from([m.NO_DEFINITION, m.CheckDefinition(http="x", interval=m.Duration(1))]),
)

registrations = st.builds(
    r.RegisterRequest,
    datacenter=st.just("dc1"),
    id=node_ids,
    node=nodes,
    address=st.sampled_from(["1", "2"]),
    node_meta=metas,
    service=_optional(services),
    check=_optional(checks),
    checks=_optional(st.lists(checks, max_size=2)),
    skip_node_update=st.booleans(),
)

deregistrations = st.builds(
    r.DeregisterRequest,
    node=nodes,
    service_id=st.sampled_from(["", "", *SERVICE_IDS[1:]]),
    check_id=st.sampled_from(["", "", *CHECKS]),
)

kv_commands = st.builds(
    c.KV,
    op=st.sampled_from(["set", "set", "cas", "lock", "lock", "unlock", "delete", "delete-cas", "delete-tree", "zap"]),
    key=keys,
    value=values,
    flags=st.integers(0, 1),
    index=small,
    session=sessions,
)

new_sessions = st.builds(
    m.Session,
    id=st.sampled_from(SESSIONS),
    node=nodes,
    behavior=st.sampled_from(["release", "delete"]),
    lock_delay=st.sampled_from([0, 5, 7]),
    ttl=st.sampled_from(["", "10s"]),
    node_checks=st.sampled_from([[], ["c1"], [m.SERF_CHECK_ID]]),
    service_checks=st.sampled_from([None, [m.ServiceCheckRef(id="c2")]]),
)

session_changes = st.one_of(
    st.builds(r.SessionRequest, op=st.just("create"), session=new_sessions),
    st.builds(r.SessionRequest, op=st.just("destroy"), session=st.builds(m.Session, id=sessions)),
)

verbs = ["set", "cas", "get", "delete", "delete-cas"]
kv_verbs = [*verbs, "lock", "unlock", "get-tree", "delete-tree", "check-index", "check-session", "check-not-exists"]
entries = st.builds(m.DirEntry, key=keys, value=values, modify_index=small, session=sessions)


def _node_op(verb: str, node: str, address: str, index: int) -> r.TxnOp:
    return r.TxnOp(node=r.TxnNodeOp(verb, m.Node(node=node, address=address, modify_index=index)))


def _check_op(verb: str, node: str, given: m.HealthCheck) -> r.TxnOp:
    return r.TxnOp(check=r.TxnCheckOp(verb, m.HealthCheck(node=node, check_id=given.check_id, status=given.status)))


txn_ops = st.one_of(
    st.builds(lambda verb, entry: r.TxnOp(kv=r.TxnKVOp(verb, entry)), st.sampled_from(kv_verbs), entries),
    st.builds(_node_op, st.sampled_from(verbs), nodes, st.sampled_from(["1", "2"]), small),
    st.builds(
        lambda verb, node, given: r.TxnOp(service=r.TxnServiceOp(verb, node, given)), st.sampled_from(verbs), nodes, services
    ),
    st.builds(_check_op, st.sampled_from(verbs), nodes, checks),
)

queries = st.builds(
    m.PreparedQuery,
    id=st.sampled_from([uuid(51), uuid(52)]),
    name=st.sampled_from(["", "q", "Q2"]),
    session=st.sampled_from(["", "", *SESSIONS]),
    template=st.sampled_from([m.QueryTemplate(), m.QueryTemplate(type="name_prefix_match", regexp="^(.*)$")]),
)

intentions = st.builds(
    m.Intention,
    id=st.sampled_from([uuid(61), uuid(62)]),
    source_name=st.sampled_from(["a", "*", ""]),
    destination_name=st.sampled_from(["b", "*"]),
    action=st.sampled_from(["allow", "deny"]),
)

documents = st.builds(
    r.ConfigEntryRequest,
    datacenter=st.just("dc1"),
    op=st.sampled_from(["upsert", "upsert", "upsert-cas", "delete"]),
    kind=st.sampled_from(["service-defaults", "service-router", "service-resolver", "mesh"]),
    name=st.sampled_from(["web", "db"]),
    cas=small,
    entry=st.sampled_from([{}, {"Protocol": "http"}, {"Redirect": {"Service": "db"}}, {"Routes": [], "X": {"y": [1.5, None]}}]),
)

coordinates = st.builds(
    lambda node, segment, height: c.CoordinateBatch([(node, segment, m.Coordinate(vec=[0.5] * 8, height=height))]),
    nodes, st.sampled_from(["", "s"]), st.sampled_from([0.25, 0.5]),
)  # fmt: skip

catalog_commands: st.SearchStrategy[c.Command] = st.one_of(
    st.builds(c.Register, registrations), st.builds(c.Register, registrations), st.builds(c.Deregister, deregistrations)
)

ops = ["create", "update", "delete"]

commands: st.SearchStrategy[c.Command] = st.one_of(
    kv_commands,
    catalog_commands,
    st.builds(c.SessionChange, session_changes),
    st.builds(c.RegisterMany, st.lists(registrations, max_size=3)),
    st.builds(lambda ops: c.Txn(r.TxnRequest(datacenter="dc1", ops=ops)), st.lists(txn_ops, max_size=4)),
    st.builds(lambda op, query: c.PreparedQueryChange(r.PreparedQueryRequest(op=op, query=query)), st.sampled_from(ops), queries),
    st.builds(lambda op, given: c.IntentionChange(r.IntentionRequest(op=op, intention=given)), st.sampled_from(ops), intentions),
    st.builds(c.ConfigEntryChange, documents),
    coordinates,
    st.builds(lambda quorum, cas: c.AutopilotChange(m.AutopilotConfig(min_quorum=quorum), cas), small, st.booleans()),
    st.builds(c.ReapTombstones, small),
)
"""Every sort, but for restores. Sessions are made with ids of their own, so some are made twice."""
