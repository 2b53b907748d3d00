"""Clients that read, write and compare-and-set a few keys on real agents, and the judgement of what they saw."""

import base64
import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Sequence

from ..simulation.linearizability import Operation, is_linearizable, stale_read
from .agents import HTTP_PORT, Agent

KEYS = tuple(f"load/{number}" for number in range(8))
TIMEOUT = 3.0
"""Seconds after which a client takes an operation's outcome for unknown."""
PAUSE = 0.02
"""Between two operations of a client: the search for an order has to stay small."""


class Load:
    """Use as a context: clients run inside it. `history` is what they saw."""

    def __init__(self, agents: Sequence[Agent], *, clients: int = 5, seed: int = 0) -> None:
        self._agents = agents
        self._values = itertools.count(1)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.history: list[Operation] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number, random.Random(seed * 1000 + number)), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT * 2)
            assert not thread.is_alive(), "a client hangs"

    def succeeded(self) -> int:
        """How many writes and successful compare-and-sets were acknowledged so far."""
        with self._lock:
            return sum(1 for operation in self.history if operation.kind != "read" and operation.result is True)

    def judge(self) -> None:
        """Raises AssertionError if the history is not linearizable."""
        for key in KEYS:
            history = [operation for operation in self.history if operation.key == key]
            old = stale_read(history)
            assert old is None, f"{key}: a stale read: {old}"
            assert is_linearizable(history), f"{key}: no order explains these operations: {history}"

    # --- a client ----------------------------------------------------------------------------------------------------

    def _run(self, client: int, rng: random.Random) -> None:
        known: dict[str, tuple[str | None, int]] = dict.fromkeys(KEYS, (None, 0))
        while not self._stop.is_set():
            agent, key = rng.choice(self._agents), rng.choice(KEYS)
            kind = rng.choices(("read", "write", "cas"), (5, 3, 3))[0]
            operation = Operation(client, key, kind, called=time.monotonic_ns())
            if kind != "read":
                operation.argument = str(next(self._values))
            if kind == "cas":
                operation.expected = known[key][0]
            try:
                self._carry_out(agent, operation, known)
                operation.returned = time.monotonic_ns()
            except ConnectionRefusedError:
                # Nobody was asked anything.
                time.sleep(PAUSE)
                continue
            except (OSError, http.client.HTTPException):
                # Whether it happened is not known: it has no end. A read without an answer says nothing.
                operation.result = None
            if operation.known or kind != "read":
                with self._lock:
                    self.history.append(operation)
            time.sleep(PAUSE if operation.known else 5 * PAUSE)

    def _carry_out(self, agent: Agent, operation: Operation, known: dict[str, tuple[str | None, int]]) -> None:
        if operation.kind == "read":
            status, body = _exchange(agent, "GET", f"/v1/kv/{operation.key}?consistent")
            if status == 404:
                operation.result, operation.index = None, 0
                known[operation.key] = (None, 0)
                return
            entry = json.loads(body)[0]
            operation.result = base64.b64decode(entry["Value"]).decode()
            operation.index = entry["ModifyIndex"]
            known[operation.key] = (operation.result, operation.index)
            return
        condition = f"?cas={known[operation.key][1]}" if operation.kind == "cas" else ""
        assert operation.argument is not None
        _, body = _exchange(agent, "PUT", f"/v1/kv/{operation.key}{condition}", operation.argument.encode())
        operation.result = body.strip() == b"true"


def _exchange(agent: Agent, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Raises `HTTPException` for what is neither an answer nor the absence of a key."""
    connection = http.client.HTTPConnection(agent.address, HTTP_PORT, timeout=TIMEOUT)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    if response.status not in (200, 404):
        raise http.client.HTTPException(f"{response.status} {data[:80]!r}")
    return response.status, data
