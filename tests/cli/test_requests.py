"""What each command asks, exactly, and what it prints for the answer. Expected texts are those of Consul 1.8.7."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .programs import PretendedAgent, Result, run

SELF = {"Config": {"NodeName": "node1", "Datacenter": "dc1"}, "Stats": {"b": {"z": "1", "a": ""}, "a": {"k": "v"}}}
PAIR = {"LockIndex": 0, "Key": "a/b", "Flags": 42, "Value": "b25l", "CreateIndex": 15, "ModifyIndex": 16}
DETAILED = """\
CreateIndex      15
Flags            42
Key              a/b
LockIndex        0
ModifyIndex      16
Session          -
Value            one
"""
MEMBERS = [
    {
        "Name": "web7",
        "Addr": "::7",
        "Port": 8301,
        "Status": 4,
        "Tags": {"role": "node", "dc": "dc1", "build": "1.8.7:", "vsn": "2", "segment": ""},
    },
    {
        "Name": "node1",
        "Addr": "127.0.0.1",
        "Port": 8301,
        "Status": 1,
        "Tags": {"role": "consul", "dc": "dc1", "build": "1.8.7:abc", "vsn": "2", "segment": ""},
    },
]
NODES = [
    {
        "ID": "1156230d-ba28-5490-2a4c-f777add70ad5",
        "Node": "node1",
        "Address": "127.0.0.1",
        "Datacenter": "dc1",
        "TaggedAddresses": {"wan": "127.0.0.1", "lan": "127.0.0.2"},
        "Meta": {"segment": ""},
    },
    {"ID": "", "Node": "ext", "Address": "10.0.0.1", "Datacenter": "dc1", "TaggedAddresses": None, "Meta": None},
]
PEERS = {
    "Servers": [
        {"ID": "115", "Node": "node1", "Address": "1.1.1.1:8300", "Leader": True, "ProtocolVersion": "3", "Voter": True},
        {"ID": "22", "Node": "(unknown)", "Address": "1.1.1.2:8300", "Leader": False, "ProtocolVersion": "", "Voter": False},
    ],
    "Index": 5,
}
AUTOPILOT = {
    "CleanupDeadServers": True,
    "LastContactThreshold": "200ms",
    "MaxTrailingLogs": 250,
    "MinQuorum": 0,
    "ServerStabilizationTime": "10s",
    "RedundancyZoneTag": "",
    "DisableUpgradeMigration": False,
    "UpgradeVersionTag": "",
    "CreateIndex": 4,
    "ModifyIndex": 37,
}
AUTOPILOT_TEXT = """\
CleanupDeadServers = true
LastContactThreshold = 200ms
MaxTrailingLogs = 250
MinQuorum = 0
ServerStabilizationTime = 10s
RedundancyZoneTag = ""
DisableUpgradeMigration = false
UpgradeVersionTag = ""
"""
INTENTION = {
    "ID": "0bbbc513-e1bd-a322-f704-eac3cadb8056",
    "Description": "",
    "SourceName": "web",
    "DestinationName": "db",
    "Action": "deny",
    "Meta": {"c": "d", "a": "b"},
    "CreatedAt": "2026-11-26T20:49:00.837464946Z",
}
KEYS = [
    {"WAN": True, "Datacenter": "dc1", "Segment": "", "Keys": {"b": 2, "a": 3}, "PrimaryKeys": {"a": 3}, "NumNodes": 3},
    {"WAN": False, "Datacenter": "dc1", "Segment": "", "Keys": {"a": 3}, "PrimaryKeys": {"a": 3}, "NumNodes": 3},
]
COORDINATES = [
    {"Node": "node1", "Coord": {"Vec": [0.0, 0.003], "Error": 1.5, "Adjustment": 0.0, "Height": 1e-05}},
    {"Node": "node2", "Coord": {"Vec": [0.004, 0.0], "Error": 1.5, "Adjustment": 0.0, "Height": 1e-05}},
]
CHECKS = {
    "web": {"CheckID": "web", "Notes": ""},
    "_service_maintenance:web1": {"CheckID": "_service_maintenance:web1", "Notes": "patching"},
    "_node_maintenance": {"CheckID": "_node_maintenance", "Notes": "because"},
}
NOTHING = b""


class Case(NamedTuple):
    arguments: str
    """Separated by spaces."""
    answers: dict[str, Any]
    """By request; all of them are made, in this order."""
    out: str = ""
    err: str = ""
    code: int = 0


CASES = [
    Case(
        "members",
        {"GET /v1/agent/members?segment=_all": MEMBERS},
        "Node   Address         Status  Type    Build  Protocol  DC   Segment\n"
        "node1  127.0.0.1:8301  alive   server  1.8.7  2         dc1  <all>\n"
        "web7   [::7]:8301      failed  client  1.8.7  2         dc1  <default>\n",
    ),
    Case(
        "members -detailed -status=ali -wan",
        {"GET /v1/agent/members?segment=_all&wan=1": MEMBERS},
        "Node   Address         Status  Tags\n"
        "node1  127.0.0.1:8301  alive   build=1.8.7:abc,dc=dc1,role=consul,segment=<all>,vsn=2\n",
    ),
    Case("members -status=left", {"GET /v1/agent/members?segment=_all": MEMBERS}, code=2),
    Case("info", {"GET /v1/agent/self": SELF}, "a:\n\tk = v\nb:\n\ta = \n\tz = 1\n"),
    Case("reload", {"PUT /v1/agent/reload": NOTHING}, "Configuration reload triggered\n"),
    Case("leave", {"PUT /v1/agent/leave": NOTHING}, "Graceful leave complete\n"),
    Case(
        "join -wan 10.0.0.1 10.0.0.2:99",
        {"PUT /v1/agent/join/10.0.0.1?wan=1": NOTHING, "PUT /v1/agent/join/10.0.0.2:99?wan=1": NOTHING},
        "Successfully joined cluster by contacting 2 nodes.\n",
    ),
    Case("force-leave x", {"PUT /v1/agent/force-leave/x": NOTHING}),
    Case("force-leave -prune x", {"PUT /v1/agent/force-leave/x?prune=1": NOTHING}),
    Case("kv get a/b", {"GET /v1/kv/a/b": [PAIR]}, "one\n"),
    Case("kv get /a/b", {"GET /v1/kv/a/b": [PAIR]}, "one\n"),
    Case("kv get -base64 a/b", {"GET /v1/kv/a/b": [PAIR]}, "b25l\n"),
    Case("kv get -detailed a/b", {"GET /v1/kv/a/b": [PAIR]}, DETAILED),
    Case(
        "kv get -stale -datacenter=dc2 -namespace=n -partition=p a/b",
        {"GET /v1/kv/a/b?dc=dc2&ns=n&partition=p&stale=": [PAIR]},
        "one\n",
    ),
    Case("kv get -recurse", {"GET /v1/kv/?recurse=": [PAIR, {**PAIR, "Key": "c", "Value": None}]}, "a/b:one\nc:\n"),
    Case("kv get -recurse -base64 a", {"GET /v1/kv/a?recurse=": [PAIR]}, "a/b:b25l\n"),
    Case(
        "kv get -recurse -detailed a",
        {"GET /v1/kv/a?recurse=": [PAIR, {**PAIR, "Value": None, "Session": "s1"}]},
        f"{DETAILED}\n{DETAILED.replace('-', 's1').replace('Value            one', 'Value')}",
    ),
    Case("kv get -keys", {"GET /v1/kv/?keys=&separator=%2F": ["a", "i/"]}, "a\ni/\n"),
    Case("kv get -keys -separator=- x", {"GET /v1/kv/x?keys=&separator=-": ["a"]}, "a\n"),
    Case("kv get -keys -separator= x", {"GET /v1/kv/x?keys=": ["a"]}, "a\n"),
    Case("kv get x/y%zé?b", {"GET /v1/kv/x/y%25z%C3%A9%3Fb": [PAIR]}, "one\n"),
    Case("kv put a 1", {"PUT /v1/kv/a": True}, "Success! Data written to: a\n"),
    Case("kv put -stale -datacenter=dc2 a 1", {"PUT /v1/kv/a?dc=dc2": True}, "Success! Data written to: a\n"),
    Case("kv put -cas -modify-index=16 -flags=3 a b", {"PUT /v1/kv/a?cas=16&flags=3": True}, "Success! Data written to: a\n"),
    Case("kv put -acquire -session=s -flags=3 a", {"PUT /v1/kv/a?acquire=s&flags=3": True}, "Success! Lock acquired on: a\n"),
    Case("kv put -release -session=s a", {"PUT /v1/kv/a?release=s": True}, "Success! Lock released on: a\n"),
    Case("kv delete a/b", {"DELETE /v1/kv/a/b": True}, "Success! Deleted key: a/b\n"),
    Case("kv delete -cas -modify-index=16 a", {"DELETE /v1/kv/a?cas=16": True}, "Success! Deleted key: a\n"),
    Case("kv delete -recurse a", {"DELETE /v1/kv/a?recurse=": True}, "Success! Deleted keys with prefix: a\n"),
    Case(
        "kv export a",
        {"GET /v1/kv/a?recurse=": [PAIR, {**PAIR, "Key": "c", "Value": None}]},
        '[\n\t{\n\t\t"key": "a/b",\n\t\t"flags": 42,\n\t\t"value": "b25l"\n\t},\n'
        '\t{\n\t\t"key": "c",\n\t\t"flags": 42,\n\t\t"value": ""\n\t}\n]\n',
    ),
    Case("catalog datacenters", {"GET /v1/catalog/datacenters": ["dc2", "dc1"]}, "dc2\ndc1\n"),
    Case(
        "catalog nodes",
        {"GET /v1/catalog/nodes": NODES},
        "Node   ID        Address    DC\nnode1  1156230d  127.0.0.1  dc1\next              10.0.0.1   dc1\n",
    ),
    Case(
        "catalog nodes -detailed",
        {"GET /v1/catalog/nodes": NODES},
        "Node   ID                                    Address    DC   TaggedAddresses               Meta\n"
        "node1  1156230d-ba28-5490-2a4c-f777add70ad5  127.0.0.1  dc1  lan=127.0.0.2, wan=127.0.0.1  segment=\n"
        "ext                                          10.0.0.1   dc1                                \n",
    ),
    Case(
        "catalog nodes -near=_agent -node-meta=a=b -node-meta=c=d -filter=Node==x",
        {"GET /v1/catalog/nodes?filter=Node%3D%3Dx&near=_agent&node-meta=a%3Ab&node-meta=c%3Ad": []},
        err="No nodes match the given query - try expanding your search.\n",
    ),
    Case(
        "catalog nodes -service=web -detailed",
        {"GET /v1/catalog/service/web": [{**NODES[0], "NodeMeta": {"n": "m"}}]},
        "Node   ID                                    Address    DC   TaggedAddresses               Meta\n"
        "node1  1156230d-ba28-5490-2a4c-f777add70ad5  127.0.0.1  dc1  lan=127.0.0.2, wan=127.0.0.1  n=m\n",
    ),
    Case("catalog services", {"GET /v1/catalog/services": {"web": ["v1"], "consul": []}}, "consul\nweb\n"),
    Case(
        "catalog services -tags",
        {"GET /v1/catalog/services": {"web": ["v2", "v1"], "consul": [], "x": []}},
        "consul      \nweb         v1,v2\nx\n",
    ),
    Case(
        "catalog services -node-meta=a=b",
        {"GET /v1/catalog/services?node-meta=a%3Ab": {}},
        err="No services match the given query - try expanding your search.\n",
    ),
    Case(
        "catalog services -node=node1 -tags",
        {
            "GET /v1/catalog/node/node1": {
                "Services": {"w1": {"Service": "web", "Tags": ["b"]}, "w2": {"Service": "web", "Tags": ["a", "b"]}}
            }
        },
        "web      a,b\n",
    ),
    Case(
        "catalog services -node=zz",
        {"GET /v1/catalog/node/zz": None},
        err="No services match the given query - try expanding your search.\n",
    ),
    Case("services deregister -id=web/1", {"PUT /v1/agent/service/deregister/web/1": NOTHING}, "Deregistered service: web/1\n"),
    Case(
        "event -name=deploy -node=n -service=s -tag=t hello",
        {"PUT /v1/event/fire/deploy?node=n&service=s&tag=t": {"ID": "9aac", "Name": "deploy"}},
        "Event ID: 9aac\n",
    ),
    Case(
        "rtt node1 node2",
        {"GET /v1/coordinate/nodes": COORDINATES},
        "Estimated node1 <-> node2 rtt: 5.020 ms (using LAN coordinates)\n",
    ),
    Case(
        "rtt -wan node2.dc1",
        {
            "GET /v1/agent/self": SELF,
            "GET /v1/coordinate/datacenters": [{"Datacenter": "dc1", "AreaID": "WAN", "Coordinates": COORDINATES}],
        },
        "Estimated node2.dc1 <-> node1.dc1 rtt: 5.020 ms (using WAN coordinates)\n",
    ),
    Case(
        "operator raft list-peers -stale",
        {"GET /v1/operator/raft/configuration?stale=": PEERS},
        "Node       ID   Address       State     Voter  RaftProtocol\n"
        "node1      115  1.1.1.1:8300  leader    true   3\n"
        "(unknown)  22   1.1.1.2:8300  follower  false  <=1\n",
    ),
    Case(
        "operator raft remove-peer -address=1.2.3.4:8300",
        {"DELETE /v1/operator/raft/peer?address=1.2.3.4%3A8300": NOTHING},
        'Removed peer with address "1.2.3.4:8300"\n',
    ),
    Case("operator raft remove-peer -id=zz", {"DELETE /v1/operator/raft/peer?id=zz": NOTHING}, 'Removed peer with id "zz"\n'),
    Case(
        "operator raft transfer-leader -id=zz", {"POST /v1/operator/raft/transfer-leader?id=zz": {"Success": True}}, "Success\n"
    ),
    Case("operator autopilot get-config", {"GET /v1/operator/autopilot/configuration": AUTOPILOT}, AUTOPILOT_TEXT),
    Case(
        "operator autopilot set-config -max-trailing-logs=99 -last-contact-threshold=1m -cleanup-dead-servers=false",
        {"GET /v1/operator/autopilot/configuration": AUTOPILOT, "PUT /v1/operator/autopilot/configuration?cas=37": True},
        "Configuration updated!\n",
    ),
    Case(
        "operator autopilot set-config -min-quorum=3",
        {"GET /v1/operator/autopilot/configuration": AUTOPILOT, "PUT /v1/operator/autopilot/configuration?cas=37": False},
        err="Configuration could not be atomically updated, please try again\n",
        code=1,
    ),
    Case(
        "maint -enable -reason=a",
        {"PUT /v1/agent/maintenance?enable=true&reason=a": NOTHING},
        "Node maintenance is now enabled\n",
    ),
    Case("maint -disable", {"PUT /v1/agent/maintenance?enable=false": NOTHING}, "Node maintenance is now disabled\n"),
    Case(
        "maint -enable -service=w2",
        {"PUT /v1/agent/service/maintenance/w2?enable=true": NOTHING},
        'Service maintenance is now enabled for "w2"\n',
    ),
    Case(
        "maint",
        {"GET /v1/agent/self": SELF, "GET /v1/agent/checks": CHECKS},
        "Node:\n  Name:   node1\n  Reason: because\n\nService:\n  ID:     web1\n  Reason: patching\n\n",
    ),
    Case("maint", {"GET /v1/agent/self": SELF, "GET /v1/agent/checks": {}}),
    Case(
        "keyring -list -relay-factor=2",
        {"GET /v1/operator/keyring?relay-factor=2": KEYS},
        "==> Gathering installed encryption keys...\n\nWAN:\n  a [3/3]\n  b [2/3]\n\ndc1 (LAN):\n  a [3/3]\n",
    ),
    Case(
        "keyring -list-primary -local-only",
        {"GET /v1/operator/keyring?local-only=true": KEYS[1:]},
        "==> Gathering installed primary encryption keys...\n\ndc1 (LAN):\n  a [3/3]\n",
    ),
    Case("keyring -install=abc", {"POST /v1/operator/keyring": NOTHING}, "==> Installing new gossip encryption key...\n"),
    Case("keyring -use=abc", {"PUT /v1/operator/keyring": NOTHING}, "==> Changing primary gossip encryption key...\n"),
    Case("keyring -remove=abc", {"DELETE /v1/operator/keyring": NOTHING}, "==> Removing gossip encryption key...\n"),
    Case(
        "config read -kind=service-defaults -name=web",
        {"GET /v1/config/service-defaults/web": {"Kind": "service-defaults", "Name": "web"}},
        '{\n    "Kind": "service-defaults",\n    "Name": "web"\n}\n',
    ),
    Case("config list -kind=k", {"GET /v1/config/k": [{"Name": "a"}, {"Name": "b"}]}, "a\nb\n"),
    Case("config list -kind=k", {"GET /v1/config/k": None}),
    Case("config delete -kind=k -name=n", {"DELETE /v1/config/k/n": {}}, "Config entry deleted: k/n\n"),
    Case("intention create web db", {"POST /v1/connect/intentions": {"ID": "1"}}, "Created: web => db (allow)\n"),
    Case(
        "intention create -replace -deny web db",
        {"GET /v1/connect/intentions": [INTENTION], f"PUT /v1/connect/intentions/{INTENTION['ID']}": {"ID": INTENTION["ID"]}},
    ),
    Case(
        "intention check q r",
        {"GET /v1/connect/intentions/check?destination=r&source=q&source-type=consul": {"Allowed": True}},
        "Allowed\n",
    ),
    Case(
        "intention check q r",
        {"GET /v1/connect/intentions/check?destination=r&source=q&source-type=consul": {"Allowed": False}},
        "Denied\n",
        code=1,
    ),
    Case(
        "intention match -source web",
        {"GET /v1/connect/intentions/match?by=source&name=web": {"web": [INTENTION]}},
        "web => db (deny)\n",
    ),
    Case("intention match db", {"GET /v1/connect/intentions/match?by=destination&name=db": {"db": []}}),
    Case(
        "intention get default/web db",
        {"GET /v1/connect/intentions": [INTENTION], f"GET /v1/connect/intentions/{INTENTION['ID']}": INTENTION},
        "Source:       web\nDestination:  db\nAction:       deny\nID:           0bbbc513-e1bd-a322-f704-eac3cadb8056\n"
        "Meta[a]:      b\nMeta[c]:      d\nCreated At:   Thursday, 26-Nov-26 20:49:00 UTC\n",
    ),
    Case(
        "intention delete web db",
        {"GET /v1/connect/intentions": [INTENTION], f"DELETE /v1/connect/intentions/{INTENTION['ID']}": True},
        "Intention deleted.\n",
    ),
    Case("acl token list", {"GET /v1/acl/tokens": []}, "[]\n"),
    Case("acl token delete -id=t", {"DELETE /v1/acl/token/t": True}, 'Token "t" deleted successfully\n'),
    Case(
        "acl policy delete -name=p",
        {"GET /v1/acl/policy/name/p": {"ID": "77"}, "DELETE /v1/acl/policy/77": True},
        'Policy "77" deleted successfully\n',
    ),
    Case(
        "acl set-agent-token default s",
        {"PUT /v1/agent/token/default": NOTHING},
        'ACL token "default" set successfully\n',
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.arguments)
def test_request_and_result(case: Case, pretended: PretendedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    for line, body in case.answers.items():
        pretended.answer(line, body)
    assert pretended.run(*case.arguments.split(" ")) == Result(case.code, case.out, case.err)
    assert pretended.lines == list(case.answers)


JSON_CASES = [
    ("members", "GET /v1/agent/members?segment=_all", MEMBERS[1:], None),
    ("info", "GET /v1/agent/self", SELF, SELF["Stats"]),
    ("kv get a", "GET /v1/kv/a", [PAIR], PAIR),
    ("kv get -recurse a", "GET /v1/kv/a?recurse=", [PAIR], [PAIR]),
    ("kv get -keys a", "GET /v1/kv/a?keys=&separator=%2F", ["a"], ["a"]),
    ("kv put a 1", "PUT /v1/kv/a", True, {"Key": "a"}),
    ("kv delete a", "DELETE /v1/kv/a", True, {"Key": "a"}),
    ("catalog datacenters", "GET /v1/catalog/datacenters", ["dc1"], ["dc1"]),
    ("catalog nodes", "GET /v1/catalog/nodes", NODES, NODES),
    ("catalog nodes", "GET /v1/catalog/nodes", [], []),
    ("catalog services", "GET /v1/catalog/services", {"w": ["b", "a"]}, {"w": ["a", "b"]}),
    ("services deregister -id=w", "PUT /v1/agent/service/deregister/w", NOTHING, [{"ID": "w"}]),
    ("services register -name=w", "PUT /v1/agent/service/register", NOTHING, [{"ID": "w", "Service": "w"}]),
    ("operator raft list-peers", "GET /v1/operator/raft/configuration", PEERS, PEERS),
    ("operator autopilot get-config", "GET /v1/operator/autopilot/configuration", AUTOPILOT, AUTOPILOT),
    ("keyring -list", "GET /v1/operator/keyring", KEYS, KEYS),
    ("config list -kind=k", "GET /v1/config/k", [{"Name": "a"}], [{"Name": "a"}]),
    ("config read -kind=k -name=n", "GET /v1/config/k/n", {"Name": "n"}, {"Name": "n"}),
    ("intention match d", "GET /v1/connect/intentions/match?by=destination&name=d", {"d": [INTENTION]}, [INTENTION]),
    ("intention list", "GET /v1/connect/intentions", [INTENTION], [INTENTION]),
    ("reload", "PUT /v1/agent/reload", NOTHING, {"Reloaded": True}),
    ("leave", "PUT /v1/agent/leave", NOTHING, {"Left": True}),
    ("join a", "PUT /v1/agent/join/a", NOTHING, {"Joined": ["a"]}),
    ("force-leave a", "PUT /v1/agent/force-leave/a", NOTHING, {"Node": "a"}),
    ("event -name=d", "PUT /v1/event/fire/d", {"ID": "9"}, {"ID": "9"}),
    (
        "rtt node1 node2",
        "GET /v1/coordinate/nodes",
        COORDINATES,
        {"Nodes": ["node1", "node2"], "Milliseconds": 5.02, "WAN": False},
    ),
]


@pytest.mark.parametrize(("arguments", "line", "answer", "expected"), JSON_CASES, ids=lambda value: str(value)[:40])
def test_every_result_as_json(arguments: str, line: str, answer: Any, expected: Any, pretended: PretendedAgent) -> None:
    pretended.answer(line, answer)
    words = arguments.split(" ")
    flagged = next((at for at, word in enumerate(words) if word.startswith("-")), None)
    at = flagged if flagged is not None else _words_of_command(words)
    result = pretended.run(*words[:at], "-format=json", *words[at:])
    assert (result.code, result.err) == (0, "")
    if expected is None:
        expected = [{**one, "Tags": {**one["Tags"], "segment": "<all>"}} for one in answer]
    assert json.loads(result.out) == expected


def _words_of_command(words: list[str]) -> int:
    return {"catalog": 2, "kv": 2, "operator": 3, "intention": 2, "config": 2}.get(words[0], 1)


def test_an_unknown_format_is_refused_before_anything_is_done(pretended: PretendedAgent) -> None:
    assert pretended.run("kv", "put", "-format=yaml", "a", "1") == (1, "", "Unknown format: yaml\n")
    assert pretended.lines == []


# --- bodies ---------------------------------------------------------------------------------------------------------


def body_of(pretended: PretendedAgent, at: int = -1) -> Any:
    return json.loads(pretended.asked[at].body)


def test_values_come_from_arguments_files_and_stdin(pretended: PretendedAgent, tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_bytes(b"\x00\xff\n")
    pretended.answer("PUT /v1/kv/a", True)
    for argument, stdin, expected in (
        (("a", "text"), "", b"text"),
        (("a",), "", b""),
        (("a", "-"), "from stdin\n", b"from stdin\n"),
        (("a", f"@{file}"), "", b"\x00\xff\n"),
        (("a", "-bogus"), "", b"-bogus"),
        (("-base64", "a", "aGVsbG8="), "", b"hello"),
    ):
        assert pretended.run("kv", "put", *argument, stdin=stdin).code == 0
        assert pretended.asked[-1].body == expected


def test_import_writes_every_key_with_its_flags(pretended: PretendedAgent) -> None:
    for line in ("PUT /v1/kv/imp/1?flags=3", "PUT /v1/kv/imp/2", "PUT /v1/kv/p/x"):
        pretended.answer(line, True)
    data = '[{"key":"imp/1","flags":3,"value":"aGk="},{"key":"imp/2","flags":0,"value":""}]'
    assert pretended.run("kv", "import", "-", stdin=data) == (0, "Imported: imp/1\nImported: imp/2\n", "")
    assert [one.body for one in pretended.asked] == [b"hi", b""]
    assert pretended.run("kv", "import", "-prefix=p", '[{"key":"x","flags":0,"value":""}]').out == "Imported: p/x\n"


def test_import_checks_everything_before_it_writes_anything(pretended: PretendedAgent) -> None:
    good = '{"key":"a","flags":0,"value":"aGk="}'
    for bad in ('{"key":"b","value":"!"}', '{"value":""}', '"b"', '{"key":"b","flags":"x"}', '{"key":"b","value":3}'):
        result = pretended.run("kv", "import", f"[{good},{bad}]")
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("Cannot unmarshal data: entry 1")
    assert pretended.lines == []


def test_services_register_by_flags(pretended: PretendedAgent) -> None:
    pretended.answer("PUT /v1/agent/service/register", b"")
    flags = "-name=web -id=web1 -port=80 -tag=v1 -tag=v2 -meta=a=b -address=1.2.3.4 -tagged-address=lan=1.1.1.1:99"
    result = pretended.run("services", "register", *flags.split(), "-tagged-address", "six=[::1]:5", "-kind=connect-proxy")
    assert result == (0, "Registered service: web\n", "")
    assert body_of(pretended) == {
        "Kind": "connect-proxy",
        "ID": "web1",
        "Name": "web",
        "Tags": ["v1", "v2"],
        "Port": 80,
        "Address": "1.2.3.4",
        "TaggedAddresses": {"lan": {"Address": "1.1.1.1", "Port": 99}, "six": {"Address": "::1", "Port": 5}},
        "Meta": {"a": "b"},
    }


def test_services_of_files_in_both_syntaxes_and_of_directories(pretended: PretendedAgent, tmp_path: Path) -> None:
    hcl = 'service { name = "cache" port = 6379 tags = ["a"] check { ttl = "10s" } }\n'
    two = '{"services":[{"name":"s1","id":"s1-a","port":1},{"name":"s2"}]}'
    (tmp_path / "cache.hcl").write_text(hcl)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "two.json").write_text(two)
    (tmp_path / "more" / "notes.txt").write_text("not a definition")
    pretended.answer("PUT /v1/agent/service/register", b"")
    for service in ("cache", "s1-a", "s2"):
        pretended.answer(f"PUT /v1/agent/service/deregister/{service}", b"")
    result = pretended.run("services", "register", "cache.hcl", "more", folder=tmp_path)
    assert result == (0, "Registered service: cache\nRegistered service: s1\nRegistered service: s2\n", "")
    assert body_of(pretended, 0) == {"Name": "cache", "Port": 6379, "Tags": ["a"], "Check": {"TTL": "10s"}}
    assert body_of(pretended, 1) == {"Name": "s1", "ID": "s1-a", "Port": 1}
    result = pretended.run("services", "deregister", "cache.hcl", "more", folder=tmp_path)
    assert result.out == "Deregistered service: cache\nDeregistered service: s1-a\nDeregistered service: s2\n"


def test_a_broken_file_registers_nothing_of_the_others(pretended: PretendedAgent, tmp_path: Path) -> None:
    (tmp_path / "good.hcl").write_text('service { name = "good" }')
    (tmp_path / "bad.hcl").write_text('service { nam = "x" }')
    result = pretended.run("services", "register", "good.hcl", "bad.hcl", folder=tmp_path)
    assert (result.code, result.out, pretended.lines) == (1, "", [])
    assert result.err.startswith("Error: failed to parse bad.hcl: 1 error occurred:\n\t* invalid config key service.nam")


def test_a_file_of_another_kind_is_named_and_left_out(pretended: PretendedAgent, tmp_path: Path) -> None:
    (tmp_path / "svc.conf").write_text('service { name = "x" }')
    result = pretended.run("services", "register", "svc.conf", folder=tmp_path)
    assert result == (0, "", "skipping file svc.conf, extension must be .hcl or .json\n")


def test_autopilot_changes_only_what_is_given(pretended: PretendedAgent) -> None:
    pretended.answer("GET /v1/operator/autopilot/configuration", AUTOPILOT)
    pretended.answer("PUT /v1/operator/autopilot/configuration?cas=37", True)
    flags = "-cleanup-dead-servers=false -last-contact-threshold=300ms -max-trailing-logs=99 -server-stabilization-time=1m"
    assert pretended.run("operator", "autopilot", "set-config", *flags.split()).code == 0
    assert body_of(pretended) == {
        **AUTOPILOT,
        "CleanupDeadServers": False,
        "LastContactThreshold": "300ms",
        "MaxTrailingLogs": 99,
        "ServerStabilizationTime": "1m0s",
    }


@pytest.mark.parametrize(("action", "method"), [("install", "POST"), ("use", "PUT"), ("remove", "DELETE")])
def test_keys_are_sent_in_the_body(action: str, method: str, pretended: PretendedAgent) -> None:
    pretended.answer(f"{method} /v1/operator/keyring", b"")
    assert pretended.run("keyring", f"-{action}=abc").code == 0
    assert body_of(pretended) == {"Key": "abc"}


def test_config_entries_in_both_syntaxes(pretended: PretendedAgent, tmp_path: Path) -> None:
    entry = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}
    (tmp_path / "e.hcl").write_text('Kind = "service-defaults"\nName = "web"\nProtocol = "http"\n')
    pretended.answer("PUT /v1/config", True)
    pretended.answer("PUT /v1/config?cas=3", False)
    for arguments, stdin in ((["e.hcl"], ""), (["-"], json.dumps(entry))):
        result = pretended.run("config", "write", *arguments, stdin=stdin, folder=tmp_path)
        assert result == (0, "Config entry written: service-defaults/web\n", "")
        assert body_of(pretended) == entry
    result = pretended.run("config", "write", "-cas", "-modify-index=3", "e.hcl", folder=tmp_path)
    assert result == (1, "", "Config entry not updated: service-defaults/web\n")


def test_intentions_from_flags_and_files(pretended: PretendedAgent, tmp_path: Path) -> None:
    pretended.answer("POST /v1/connect/intentions", {"ID": "1"})
    assert pretended.run("intention", "create", "-deny", "-meta=a=b", "x", "default/y").out == "Created: x => y (deny)\n"
    assert body_of(pretended) == {
        "SourceName": "x",
        "DestinationName": "y",
        "SourceType": "consul",
        "Action": "deny",
        "Meta": {"a": "b"},
    }
    (tmp_path / "i.json").write_text('{"SourceName":"f1","DestinationName":"f2","Action":"allow"}')
    assert pretended.run("intention", "create", "-file", "i.json", folder=tmp_path).out == "Created: f1 => f2 (allow)\n"
    assert body_of(pretended)["SourceName"] == "f1"


def test_keygen_makes_32_fresh_bytes() -> None:
    import base64

    keys = {run("keygen").out for _ in range(2)}
    assert len(keys) == 2
    assert all(len(base64.b64decode(key)) == 32 for key in keys)
