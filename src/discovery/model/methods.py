"""Every RPC method: its name, what it takes, what it answers. Servers serve this table, clients forward by it."""

from typing import Any, Final

import msgspec

from . import requests as r
from .records import AutopilotConfig, Record


class Method(msgspec.Struct, frozen=True):
    """`reply_type` is a Struct, or a bare type for methods that answer one value. `write`: goes through the log."""

    name: str
    request_type: type[Record]
    reply_type: Any
    write: bool = False


def _table(*methods: Method) -> dict[str, Method]:
    return {method.name: method for method in methods}


METHODS: Final[dict[str, Method]] = _table(
    Method("Status.Ping", r.Empty, r.Empty),
    Method("Status.Leader", r.DCSpecificRequest, str),
    Method("Status.Peers", r.DCSpecificRequest, list[str]),
    Method("Status.RaftStats", r.Empty, r.RaftStatsReply),
    Method("Status.Bootstrap", r.BootstrapRequest, r.BootstrapReply),
    Method("Catalog.Register", r.RegisterRequest, r.Empty, write=True),
    Method("Catalog.RegisterMany", r.RegisterManyRequest, r.RegisterManyResponse, write=True),
    Method("Catalog.Deregister", r.DeregisterRequest, r.Empty, write=True),
    Method("Catalog.ListDatacenters", r.QueryOptions, list[str]),
    Method("Catalog.ListNodes", r.DCSpecificRequest, r.IndexedNodes),
    Method("Catalog.ListServices", r.DCSpecificRequest, r.IndexedServices),
    Method("Catalog.ServiceNodes", r.ServiceSpecificRequest, r.IndexedServiceNodes),
    Method("Catalog.NodeServices", r.NodeSpecificRequest, r.IndexedNodeServices),
    Method("Catalog.NodeServiceList", r.NodeSpecificRequest, r.IndexedNodeServiceList),
    Method("Health.ChecksInState", r.ChecksInStateRequest, r.IndexedHealthChecks),
    Method("Health.NodeChecks", r.NodeSpecificRequest, r.IndexedHealthChecks),
    Method("Health.ServiceChecks", r.ServiceSpecificRequest, r.IndexedHealthChecks),
    Method("Health.ServiceNodes", r.ServiceSpecificRequest, r.IndexedCheckServiceNodes),
    Method("Internal.NodeInfo", r.NodeSpecificRequest, r.IndexedNodeDump),
    Method("Internal.NodeDump", r.DCSpecificRequest, r.IndexedNodeDump),
    Method("Internal.ServiceDump", r.ServiceDumpRequest, r.IndexedCheckServiceNodes),
    Method("Internal.Changes", r.ChangesRequest, r.ChangesReply),
    Method("Internal.EventFire", r.EventFireRequest, r.QueryMeta),
    Method("Internal.KeyringOperation", r.KeyringRequest, r.KeyringResponses),
    Method("KVS.Apply", r.KVSRequest, bool, write=True),
    Method("KVS.Get", r.KeyRequest, r.IndexedDirEntries),
    Method("KVS.List", r.KeyRequest, r.IndexedDirEntries),
    Method("KVS.ListKeys", r.KeyListRequest, r.IndexedKeyList),
    Method("Session.Apply", r.SessionRequest, str, write=True),
    Method("Session.Get", r.SessionSpecificRequest, r.IndexedSessions),
    Method("Session.List", r.DCSpecificRequest, r.IndexedSessions),
    Method("Session.NodeSessions", r.NodeSpecificRequest, r.IndexedSessions),
    Method("Session.Renew", r.SessionSpecificRequest, r.IndexedSessions),
    Method("Txn.Apply", r.TxnRequest, r.TxnResponse, write=True),
    Method("Txn.Read", r.TxnReadRequest, r.TxnReadResponse),
    Method("Coordinate.Update", r.CoordinateUpdateRequest, r.Empty, write=True),
    Method("Coordinate.ListNodes", r.DCSpecificRequest, r.IndexedCoordinates),
    Method("Coordinate.Node", r.NodeSpecificRequest, r.IndexedCoordinates),
    Method("Coordinate.ListDatacenters", r.Empty, list[r.DatacenterMap]),
    Method("PreparedQuery.Apply", r.PreparedQueryRequest, str, write=True),
    Method("PreparedQuery.Get", r.PreparedQuerySpecificRequest, r.IndexedPreparedQueries),
    Method("PreparedQuery.List", r.DCSpecificRequest, r.IndexedPreparedQueries),
    Method("PreparedQuery.Execute", r.PreparedQueryExecuteRequest, r.PreparedQueryExecuteResponse),
    Method("PreparedQuery.ExecuteRemote", r.PreparedQueryExecuteRemoteRequest, r.PreparedQueryExecuteResponse),
    Method("PreparedQuery.Explain", r.PreparedQueryExecuteRequest, r.PreparedQueryExplainResponse),
    Method("ConfigEntry.Apply", r.ConfigEntryRequest, bool, write=True),
    Method("ConfigEntry.Get", r.ConfigEntryQuery, r.IndexedConfigEntries),
    Method("ConfigEntry.List", r.ConfigEntryQuery, r.IndexedConfigEntries),
    Method("DiscoveryChain.Get", r.DiscoveryChainRequest, r.DiscoveryChainResponse),
    Method("Intention.Apply", r.IntentionRequest, str, write=True),
    Method("Intention.Get", r.IntentionQueryRequest, r.IndexedIntentions),
    Method("Intention.List", r.DCSpecificRequest, r.IndexedIntentions),
    Method("Intention.Match", r.IntentionQueryRequest, r.IndexedIntentionMatches),
    Method("Intention.Check", r.IntentionQueryRequest, r.IntentionCheckResponse),
    Method("Operator.RaftGetConfiguration", r.DCSpecificRequest, r.RaftConfigurationResponse),
    Method("Operator.RaftRemovePeerByAddress", r.RaftRemovePeerRequest, r.Empty, write=True),
    Method("Operator.RaftRemovePeerByID", r.RaftRemovePeerRequest, r.Empty, write=True),
    Method("Operator.AutopilotGetConfiguration", r.DCSpecificRequest, AutopilotConfig),
    Method("Operator.AutopilotSetConfiguration", r.AutopilotSetRequest, bool, write=True),
    Method("Operator.AutopilotState", r.DCSpecificRequest, r.AutopilotState),
    Method("Operator.TransferLeader", r.TransferLeaderRequest, r.TransferLeaderResponse, write=True),
    Method("Operator.ServerHealth", r.DCSpecificRequest, r.OperatorHealthReply),
)
