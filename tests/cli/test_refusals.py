"""Mistakes, missing agents and refusals of the server: the texts on stderr, as those of Consul 1.8.7, and the exit codes."""

from pathlib import Path

import pytest

from .programs import PretendedAgent, run

ARGUMENT_MISTAKES = [
    ("kv get", "Error! Missing KEY argument"),
    ("kv get a b", "Too many arguments (expected 1, got 2)"),
    ("kv put", "Error! Missing KEY argument"),
    ("kv put a 1 2", "Error! Too many arguments (expected 1 or 2, got 3)"),
    ("kv put /lead 1", "Error! Failed writing data: Invalid key. Key must not begin with a '/': /lead"),
    ("kv put a @/nosuch", "Error! Failed to read file: open /nosuch: no such file or directory"),
    ("kv put -cas a 3", "Must specify -modify-index with -cas!"),
    ("kv put -acquire lk", "Error! Missing -session (required with -acquire and -release)"),
    ("kv put -base64 a ab!", "Error! Cannot base 64 decode data: illegal base64 data at input byte 2"),
    ("kv delete", "Error! Missing KEY argument"),
    ("kv delete a b", "Too many arguments (expected 1, got 2)"),
    ("kv delete -cas a", "Must specify -modify-index with -cas!"),
    ("kv export a b", "Too many arguments (expected 1, got 2)"),
    ("kv import", "Error! Missing DATA argument"),
    ("kv import @/nosuch", "Error! Failed to read file: open /nosuch: no such file or directory"),
    ("catalog datacenters x", "Too many arguments (expected 0, got 1)"),
    ("catalog nodes x", "Too many arguments (expected 0, got 1)"),
    ("catalog services x", "Too many arguments (expected 0, got 1)"),
    ("members -status=[", "Failed to compile status regexp: error parsing regexp: missing closing ]: `[`"),
    ("services register", "Service registration requires at least one argument or flags."),
    ("services register -name=db f.json", "Service registration requires arguments or -id, not both."),
    ("services register nosuch.json", "Error: config: Open failed on nosuch.json. open nosuch.json: no such file or directory"),
    (
        "services register -name=w -tagged-address=lan=1.1.1.1",
        "Invalid Tagged Address: address 1.1.1.1: missing port in address",
    ),
    ("services deregister", "Service deregistration requires at least one argument or -id."),
    ("services deregister -id=a f.json", "Service deregistration requires arguments or -id, not both."),
    ("event -name=d -tag=x", "Cannot provide tag filter without service filter."),
    ("event -name=d -node=[", "Failed to compile node filter regexp: error parsing regexp: missing closing ]: `[`"),
    ("event -name=d -service=[", "Failed to compile service filter regexp: error parsing regexp: missing closing ]: `[`"),
    ("rtt -wan node1 node2.dc1", "Node names must be specified as <node name>.<datacenter> with -wan"),
    ("keyring -list -list-primary", "Only a single action is allowed"),
    ("keyring -list -relay-factor=9", "Error parsing relay factor: Relay factor must be in range: [0, 5]"),
    ("keyring -install=abc -local-only", "Error validating local-only: local-only can only be set for list requests"),
    ("operator raft remove-peer", "Error removing peer: an address or id is required for the peer to remove"),
    ("operator raft remove-peer -id=zz -address=1", "Error removing peer: cannot give both an address and id"),
    ("maint -enable -disable", "Only one of -enable or -disable may be provided"),
    ("maint -disable -reason=x", "Reason may only be provided with -enable"),
    ("snapshot save", "Missing FILE argument"),
    ("snapshot save a b", "Too many arguments (expected 1, got 2)"),
    ("snapshot inspect nosuch", "Error opening snapshot file: open nosuch: no such file or directory"),
    ("snapshot restore nosuch", "Error opening snapshot file: open nosuch: no such file or directory"),
    ("config write", "Must provide exactly one positional argument to specify the config entry to write"),
    ("config write nosuch", "Failed to load data: Failed to read file: open nosuch: no such file or directory"),
    ("config read", "Must specify the -kind parameter"),
    ("config read -kind=k", "Must specify the -name parameter"),
    ("config list", "Must specify the -kind parameter"),
    ("config delete -kind=k", "Must specify the -name parameter"),
    ("intention create web", "Error: Must specify two arguments: source and destination"),
    ("intention create -deny -allow web db", "Only one of -allow or -deny may be specified."),
    ("intention create -file nosuch", "Error: open nosuch: no such file or directory"),
    ("intention match a b", "Error: command requires exactly one argument: src or dst"),
    ("intention match -destination -source web", "Error: only one of -source or -destination may be specified"),
    ("intention get", "Error: command requires exactly 1 or 2 arguments"),
    ("intention delete a b c", "Error: command requires exactly 1 or 2 arguments"),
    ("lock p", "Key prefix and child command must be specified"),
    ("lock -n=0 p true", "Lock holder limit must be positive"),
    ("lock -monitor-retry=-1 p true", "Number for 'monitor-retry' must be >= 0"),
    ("watch -type=bogus", "Unsupported watch type: bogus"),
    ("watch -type=key", "Must specify a single key to watch"),
    ("watch -type=keyprefix", "Must specify a single prefix to watch"),
    ("watch -type=service", "Must specify a single service to watch"),
    ("watch -type=checks -service=a -state=passing", "Cannot specify service and state"),
    ("watch -type=key -key=a -prefix=b", "Invalid parameters: [prefix]"),
    (
        "watch -type=service -service=a -passingonly=maybe",
        'Failed to parse passingonly flag: strconv.ParseBool: parsing "maybe": invalid syntax',
    ),
    ("acl token read", "Must specify the -id parameter"),
    ("acl policy read", "Must specify either the -id or -name parameters"),
    ("acl set-agent-token", "Error! Missing TYPE and TOKEN arguments"),
]


@pytest.mark.parametrize(("arguments", "text"), ARGUMENT_MISTAKES, ids=lambda value: value[:50])
def test_mistakes_are_told_before_any_request(arguments: str, text: str, pretended: PretendedAgent, tmp_path: Path) -> None:
    assert pretended.run(*arguments.split(" "), folder=tmp_path) == (1, "", f"{text}\n")
    assert pretended.lines == []


MISUSES = [
    ("join", "At least one address to join must be specified."),
    ("force-leave", "A single node name must be specified to force leave."),
    ("force-leave a b", "A single node name must be specified to force leave."),
    ("event", "Event name must be specified"),
    ("event -name=d a b", "Too many command line arguments."),
    ("rtt", "One or two node names must be specified"),
    ("rtt a b c", "One or two node names must be specified"),
    ("watch", "Watch type must be specified"),
]


@pytest.mark.parametrize(("arguments", "text"), MISUSES, ids=lambda value: value[:50])
def test_some_mistakes_show_the_help_page_too(arguments: str, text: str) -> None:
    result = run(*arguments.split(" "))
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"{text}\n\nUsage: discovery {arguments.split(' ')[0]} ")


NOT_THERE = [
    ("members", "Error retrieving members: Get", "/v1/agent/members?segment=_all"),
    ("info", "Error querying agent: Get", "/v1/agent/self"),
    ("leave", "Error leaving: Put", "/v1/agent/leave"),
    ("force-leave x", "Error force leaving: Put", "/v1/agent/force-leave/x"),
    ("reload", "Error reloading: Put", "/v1/agent/reload"),
    ("kv get a", "Error querying Consul agent: Get", "/v1/kv/a"),
    ("kv get -keys", "Error querying Consul agent: Get", "/v1/kv/?keys=&separator=%2F"),
    ("kv put a b", "Error! Failed writing data: Put", "/v1/kv/a"),
    ("kv delete a", "Error deleting key a: Delete", "/v1/kv/a"),
    ("kv delete -recurse a", "Error! Did not delete prefix a: Delete", "/v1/kv/a?recurse="),
    ("kv export", "Error querying Consul agent: Get", "/v1/kv/?recurse="),
    ("catalog nodes", "Error listing nodes: Get", "/v1/catalog/nodes"),
    ("catalog services", "Error listing services: Get", "/v1/catalog/services"),
    ("catalog datacenters", "Error listing datacenters: Get", "/v1/catalog/datacenters"),
    ("services register -name=a", 'Error registering service "a": Put', "/v1/agent/service/register"),
    ("monitor", "Error starting monitor: Get", "/v1/agent/monitor?loglevel=INFO"),
    ("maint", "Error querying Consul agent: Get", "/v1/agent/self"),
    ("maint -enable", "Error enabling node maintenance: Put", "/v1/agent/maintenance?enable=true"),
    ("maint -disable -service=x", "Error disabling service maintenance: Put", "/v1/agent/service/maintenance/x?enable=false"),
    ("lock a b", "Error querying Consul agent: Get", "/v1/agent/self"),
    ("watch -type=services", "Error querying Consul agent: Get", "/v1/agent/self"),
    ("rtt a", "Unable to look up agent info: Get", "/v1/agent/self"),
    ("rtt a b", "Error getting coordinates: Get", "/v1/coordinate/nodes"),
    (
        "operator raft list-peers",
        "Error getting peers: Failed to retrieve raft configuration: Get",
        "/v1/operator/raft/configuration",
    ),
    ("operator raft remove-peer -id=x", "Error removing peer: Delete", "/v1/operator/raft/peer?id=x"),
    (
        "operator autopilot set-config",
        "Error querying Autopilot configuration: Get",
        "/v1/operator/autopilot/configuration",
    ),
    ("snapshot save x", "Error saving snapshot: Get", "/v1/snapshot"),
    ("config list -kind=a", 'Error listing config entries for kind "a": Get', "/v1/config/a"),
    ("intention create a b", 'Error creating intention "a => b (allow)": Post', "/v1/connect/intentions"),
    ("intention match a", "Error matching the connection: Get", "/v1/connect/intentions/match?by=destination&name=a"),
]


@pytest.mark.parametrize(("arguments", "head", "target"), NOT_THERE, ids=lambda value: value[:40])
def test_without_an_agent(arguments: str, head: str, target: str, host: str, tmp_path: Path) -> None:
    address = f"{host}:9999"
    reason = f"dial tcp {address}: connect: connection refused"
    result = run(*arguments.split(" "), address=address, folder=tmp_path)
    assert result == (1, "", f'{head} "http://{address}{target}": {reason}\n')
    assert list(tmp_path.iterdir()) == []


def test_keyring_says_what_it_does_before_it_fails(host: str) -> None:
    address = f"{host}:9999"
    result = run("keyring", "-list", address=address)
    assert (result.code, result.out) == (1, "==> Gathering installed encryption keys...\n")
    assert result.err.startswith(f'error: Get "http://{address}/v1/operator/keyring": dial tcp')


def test_intention_check_has_a_code_of_its_own_for_failures(host: str) -> None:
    assert run("intention", "check", "a").code == 2
    assert run("intention", "check", "a", "b", address=f"{host}:9999").code == 2


@pytest.mark.parametrize(
    ("arguments", "line", "status", "body", "err"),
    [
        ("kv get nosuch", "GET /v1/kv/nosuch", 404, b"", "Error! No key exists at: nosuch\n"),
        ("kv get -keys zz", "GET /v1/kv/zz?keys=&separator=%2F", 404, b"", ""),
        ("kv get -recurse zz", "GET /v1/kv/zz?recurse=", 404, b"", ""),
        (
            "kv get a",
            "GET /v1/kv/a",
            500,
            b"No cluster leader",
            "Error querying Consul agent: Unexpected response code: 500 (No cluster leader)\n",
        ),
        (
            "operator raft list-peers",
            "GET /v1/operator/raft/configuration",
            500,
            b"No cluster leader",
            "Error getting peers: Failed to retrieve raft configuration: Unexpected response code: 500 (No cluster leader)\n",
        ),
        ("kv put -cas -modify-index=1 a 3", "PUT /v1/kv/a?cas=1", 200, b"false", "Error! Did not write to a: CAS failed\n"),
        ("kv put -acquire -session=s a", "PUT /v1/kv/a?acquire=s", 200, b"false", "Error! Did not acquire lock\n"),
        ("kv put -release -session=s a", "PUT /v1/kv/a?release=s", 200, b"false", "Error! Did not release lock\n"),
        (
            "kv delete -cas -modify-index=1 a",
            "DELETE /v1/kv/a?cas=1",
            200,
            b"false",
            "Error! Did not delete key a: CAS failed\n",
        ),
        (
            "join 127.0.0.99",
            "PUT /v1/agent/join/127.0.0.99",
            500,
            b"1 error occurred:\n\t* Failed to join 127.0.0.99\n\n",
            "Error joining address '127.0.0.99': Unexpected response code: 500 (1 error occurred:\n"
            "\t* Failed to join 127.0.0.99\n\n)\nFailed to join any nodes.\n",
        ),
        (
            "acl token list",
            "GET /v1/acl/tokens",
            401,
            b"ACL support disabled",
            "Failed to retrieve the token list: Unexpected response code: 401 (ACL support disabled)\n",
        ),
        (
            "rtt node1 nope",
            "GET /v1/coordinate/nodes",
            200,
            b"[]",
            'Could not find a coordinate for node "node1"\n',
        ),
        (
            "intention get web db",
            "GET /v1/connect/intentions",
            200,
            b"[]",
            'Error: Intention with source "web" and destination "db" not found.\n',
        ),
        (
            "info",
            "GET /v1/agent/self",
            200,
            b"<html>",
            "Error querying agent: unexpected answer, not JSON: Expecting value: line 1 column 1 (char 0)\n",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_the_server_refuses(
    arguments: str, line: str, status: int, body: bytes, err: str, pretended: PretendedAgent
) -> None:
    pretended.answer(line, body, status)
    assert pretended.run(*arguments.split(" ")) == (1 if err else 0, "", err)


def test_join_counts_the_addresses_that_worked(pretended: PretendedAgent) -> None:
    pretended.answer("PUT /v1/agent/join/a", b"")
    result = pretended.run("join", "a", "b")
    assert (result.code, result.out) == (0, "Successfully joined cluster by contacting 1 nodes.\n")
    assert result.err == "Error joining address 'b': Unexpected response code: 404 (nothing here)\n"
