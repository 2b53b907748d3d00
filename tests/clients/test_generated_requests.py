"""Requests that another program generates from our own description of the API, good ones and bad ones, to a real agent.

Consul answers much of what it refuses with 500 and plain text, and clients know those texts, so the same refusals have the same
status here. No other answer above 499 may come out, nor a traceback in the log, nor no answer at all.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from discovery.http.openapi import document
from discovery.http.routes import described_routes
from tests.cluster.agents import Agent

EXAMPLES: Final = 20
ELSEWHERE: Final = {
    "GET /v1/agent/monitor": "never ends",
    "GET /v1/events/stream": "never ends",
    "PUT /v1/agent/leave": "ends the agent",
    "PUT /v1/agent/join/{address}": "would go out to the network",
    "PUT /v1/agent/force-leave/{node}": "could end the agent",
}
"""What is left out here, and why."""
GOES_OUT: Final = ("HTTP", "TCP", "UDP", "GRPC", "H2PING", "OSService", "Args", "ScriptArgs", "DockerContainerID")
"""Fields of checks that would have the agent talk to whatever was generated."""

CONSULS_REFUSALS: Final = re.compile(
    "|".join(
        (
            r"\d+ errors? occurred:\n",
            r"'by' parameter must be one of 'source' or 'destination'",
            r"(Bad request|agent): ",
            r"(.*: )?Bad (Template.Type|Regexp|format|NearestN|DNS TTL)\b",
            r"a query template with an empty name already exists",
            r"(Cannot|Must) (provide|modify) ",
            r"(CheckID|ServiceID) \".*\" does not ",
            r"Check '.*' is in critical state",
            r"Connect must be enabled in order to use this endpoint",
            r"Couldn't load metadata pair ",
            r"Failed to (decode request body|register \w+ .*|reload): ",
            r"Failed to create boolean expression evaluator: \d+:\d+ \(\d+\): ",
            r"ID must be empty when creating a new (prepared query|intention)",
            r"Invalid (\w+ )*(setting|filter|TTL|query|address)\b",
            r"Missing (check|node|session|service)\b",
            r"Network segments are not supported in this version of Consul",
            r"No path to datacenter",
            r"Node metadata cannot contain more than 64 key/value pairs",
            r"Session TTL '.*' invalid",
            r"(id|address) \".*\" was not found in the Raft configuration",
            r"(in)?(valid|compatible) coordinate",
            r"invalid (config entry kind|session)\b",
            r"(.*: )?(failed [\w ]+ lookup|Bad node ID|index error): ",
            r"(failed inserting [\w ]+: )+(object missing primary index|Missing service registration|Error while renaming)\b",
            r"failed to (decompress|read|verify) snapshot: ",
            r"leadership transfer failed: ",
            r"name '.*' aliases an existing query (name|ID)",
            r"prepared query templates can only be resolved up by name, not by ID",
            r"required query parameter '\w+' not set",
            r"(Bad limit: |Error parsing 'connect' value: )?strconv\.(ParseU?int|ParseBool|Atoi): parsing ",
            r"(name|source|destination) \".*\" is invalid: input can contain at most one '/'",
        )
    ),
    re.DOTALL | re.IGNORECASE,
)

DOCUMENT: Final[Any] = document(described_routes())


def operations() -> list[Any]:
    """With the modes that make sense: what takes nothing but a path can't be asked badly."""
    found = []
    for result in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations():
        operation: Any = result.ok()
        if operation.label in ELSEWHERE:
            continue
        described = DOCUMENT["paths"][operation.path][operation.method]
        takes_more = "requestBody" in described or any(each["in"] == "query" for each in described["parameters"])
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if takes_more else (GenerationMode.POSITIVE,):
            found.append(pytest.param(operation, mode, id=f"{operation.label} {mode.value}"))
    return found


def harmless(body: Any) -> Any:
    """Without what would make the agent talk to the network."""
    if isinstance(body, dict):
        return {key: harmless(value) for key, value in body.items() if key not in GOES_OUT}
    return [harmless(item) for item in body] if isinstance(body, list) else body


def body_of(case: Any) -> bytes | None:
    if isinstance(case.body, bytes):
        return case.body
    try:
        return json.dumps(harmless(case.body)).encode("utf-8", "surrogatepass")
    except TypeError:
        return None


def is_deliberate(operation: Any, response: requests.Response) -> bool:
    if response.status_code < 500:
        return True
    if response.status_code == 503:
        return "/agent/health/" in operation.path
    return response.status_code == 500 and CONSULS_REFUSALS.match(response.text) is not None


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.mark.parametrize(("operation", "mode"), operations())
def test_no_input_is_a_fault_of_ours(agent: Agent, session: requests.Session, operation: Any, mode: GenerationMode) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), keep_datacenter=st.sampled_from([False] * 9 + [True]))
    def send(case: Any, keep_datacenter: bool) -> None:
        query = dict(case.query or {})
        if not keep_datacenter:
            query.pop("dc", None)
        if "index" in query or "hash" in query:
            query["wait"] = "1ms"
        url = f"http://{agent.address}:8500{case.formatted_path}"
        response = session.request(operation.method, url, params=query, data=body_of(case), timeout=20, allow_redirects=False)
        assert is_deliberate(operation, response), (response.status_code, response.text)

    before = len(agent.log())
    send()
    assert "Traceback" not in agent.log()[before:]
