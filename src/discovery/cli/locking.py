"""Locks and semaphores on keys, as all clients of Consul make them, so that ours and theirs exclude each other.

A lock is the key `<prefix>/.lock`, acquired by a session. A semaphore of limit n is the same key with a list of at most n
holders, which only changes by check-and-set; every contender has a key `<prefix>/<session>` that disappears with its session, so
that dead holders can be struck off the list by the living.

Source: Consul documentation, "Distributed Semaphore" and `consul lock`; flags and bodies as observed.
"""

import base64
import json
import threading
import time
from typing import Any, Final, Protocol

from .client import Client, RequestError, StatusError

LOCK_FLAGS: Final = 0x2DDCCBC058A50C18
SEMAPHORE_FLAGS: Final = 0xE0F69A2BAA414DE0
"""Numbers stored with the keys, by which clients know their own kind."""

SESSION_TTL: Final = 15.0
_LONGEST_WAIT: Final = 15.0
_SHORTEST_WAIT: Final = 0.001
_LOCK_DELAY_RETRY: Final = 5.0
_NOT_FOUND: Final = 404


class LockError(Exception):
    """The key is not what this lock needs it to be."""


class Deadline:
    """Until when to try; without seconds, for ever. The first try is always made."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float:
        return _LONGEST_WAIT if self._end is None else min(_LONGEST_WAIT, self._end - time.monotonic())


class Primitive(Protocol):
    """What a lock and a semaphore have in common. All methods raise `RequestError` and `LockError`."""

    def acquire(self, deadline: Deadline) -> bool:
        """False once the time is over."""

    def held(self, index: int) -> tuple[bool, int]:
        """Whether we hold it, and the index to ask with next; waits for a change if asked with one."""

    def release(self) -> None: ...
    def clean_up(self) -> bool:
        """Delete what nobody needs any more; False if others still use it."""


class Session:
    """A session that is renewed in the background until it is closed, or lost."""

    def __init__(self, client: Client, name: str, behavior: str = "") -> None:
        """Raises `RequestError`."""
        body = {"Name": name, "TTL": f"{SESSION_TTL:.0f}s", **({"Behavior": behavior} if behavior else {})}
        self._client = client
        self.id: str = client.put("/v1/session/create", body).json()["ID"]
        self._closed = threading.Event()
        threading.Thread(target=self._renew, daemon=True).start()

    def close(self) -> None:
        """What the session holds is free then. Raises `RequestError`; the session ends by itself in that case."""
        self._closed.set()
        self._client.put(f"/v1/session/destroy/{self.id}")

    def _renew(self) -> None:
        pause = SESSION_TTL / 2
        while not self._closed.wait(pause):
            try:
                self._client.put(f"/v1/session/renew/{self.id}")
                pause = SESSION_TTL / 2
            except StatusError as error:
                if error.status == _NOT_FOUND:
                    return
                pause = 1.0
            except RequestError:
                pause = 1.0


class KeyLock:
    def __init__(self, client: Client, prefix: str, session: str) -> None:
        self._client = client
        self._path = f"/v1/kv/{_join(prefix, '.lock')}"
        self._session = session

    def acquire(self, deadline: Deadline) -> bool:
        index, wait = 0, max(_SHORTEST_WAIT, deadline.left())
        while wait > 0:
            pair, index = self._read({"index": _index(index), "wait": _milliseconds(wait)})
            if _holder(pair) == self._session:
                return True
            if not _holder(pair):
                if self._write("acquire"):
                    return True
                pair, index = self._read({})
                if not _holder(pair):
                    # Free, and yet refused: the lock-delay after a lost session, which no read can wait for.
                    index = 0
                    time.sleep(max(0.0, min(_LOCK_DELAY_RETRY, deadline.left())))
            wait = deadline.left()
        return False

    def held(self, index: int) -> tuple[bool, int]:
        pair, index = self._read({"index": _index(index), "consistent": True})
        return _holder(pair) == self._session, index

    def release(self) -> None:
        self._write("release")

    def clean_up(self) -> bool:
        pair, _ = self._read({})
        if pair is None:
            return True
        if _holder(pair):
            return False
        return bool(self._client.delete(self._path, params={"cas": str(pair["ModifyIndex"])}).json())

    def _read(self, params: dict[str, str | bool]) -> tuple[dict[str, Any] | None, int]:
        answer = self._client.get(self._path, params, accept=(200, _NOT_FOUND))
        pair: dict[str, Any] | None = answer.json()[0] if answer.status == 200 else None
        if pair is not None and pair["Flags"] != LOCK_FLAGS:
            raise LockError("Existing key does not match lock use")
        return pair, answer.index

    def _write(self, operation: str) -> bool:
        return bool(self._client.put(self._path, b"", {operation: self._session, "flags": str(LOCK_FLAGS)}).json())


class Semaphore:
    def __init__(self, client: Client, prefix: str, session: str, limit: int) -> None:
        self._client = client
        self._prefix = f"/v1/kv/{prefix}"
        self._key = _join(prefix, ".lock")
        self._contender = f"/v1/kv/{_join(prefix, session)}"
        self._session = session
        self._limit = limit

    def acquire(self, deadline: Deadline) -> bool:
        if not self._client.put(self._contender, b"", {"acquire": self._session, "flags": str(SEMAPHORE_FLAGS)}).json():
            raise LockError("failed to make contender entry")
        index, wait = 0, max(_SHORTEST_WAIT, deadline.left())
        while wait > 0:
            pairs, index = self._list({"index": _index(index), "wait": _milliseconds(wait)})
            holders, modified = self._holders(pairs)
            if self._session in holders:
                return True
            if len(holders) < self._limit:
                if self._write([*holders, self._session], modified):
                    return True
                index = 0
            wait = deadline.left()
        return False

    def held(self, index: int) -> tuple[bool, int]:
        pairs, index = self._list({"index": _index(index), "consistent": True})
        return self._session in self._holders(pairs)[0], index

    def release(self) -> None:
        done = False
        while not done:
            holders, modified = self._holders(self._list({})[0])
            rest = [holder for holder in holders if holder != self._session]
            done = rest == holders or self._write(rest, modified)
        self._client.delete(self._contender)

    def clean_up(self) -> bool:
        holders, modified = self._holders(self._list({})[0])
        if holders:
            return False
        return not modified or bool(self._client.delete(f"/v1/kv/{self._key}", params={"cas": str(modified)}).json())

    def _list(self, params: dict[str, str | bool]) -> tuple[list[dict[str, Any]], int]:
        answer = self._client.get(self._prefix, {"recurse": True, **params}, accept=(200, _NOT_FOUND))
        return (answer.json() if answer.status == 200 else []), answer.index

    def _holders(self, pairs: list[dict[str, Any]]) -> tuple[list[str], int]:
        """The living holders, and the ModifyIndex of the list; 0 if there is none."""
        living = {pair["Session"] for pair in pairs if pair.get("Session")}
        for pair in pairs:
            if pair["Key"] == self._key:
                return [holder for holder in self._listed(pair) if holder in living], pair["ModifyIndex"]
        return [], 0

    def _listed(self, pair: dict[str, Any]) -> list[str]:
        if pair["Flags"] != SEMAPHORE_FLAGS:
            raise LockError("Existing key does not match semaphore use")
        try:
            value = json.loads(base64.b64decode(pair["Value"] or ""))
            limit, holders = value["Limit"], list(value["Holders"])
        except (ValueError, KeyError, TypeError):
            raise LockError("Existing key holds no semaphore") from None
        if limit != self._limit:
            raise LockError(f"semaphore limit conflict (lock: {limit}, local: {self._limit})")
        return holders

    def _write(self, holders: list[str], modified: int) -> bool:
        body = {"Limit": self._limit, "Holders": dict.fromkeys(holders, True)}
        params = {"cas": str(modified), "flags": str(SEMAPHORE_FLAGS)}
        return bool(self._client.put(f"/v1/kv/{self._key}", body, params).json())


def _join(prefix: str, name: str) -> str:
    return f"{prefix.strip('/')}/{name}"


def _holder(pair: dict[str, Any] | None) -> str:
    return str(pair.get("Session", "")) if pair is not None else ""


def _index(index: int) -> str:
    return str(index) if index else ""


def _milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
