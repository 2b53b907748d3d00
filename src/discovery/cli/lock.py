"""`lock`: a program that runs only while a lock is held."""

import contextlib
import enum
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import Final, TypeAlias

from . import child
from .action import Action
from .client import Client, RequestError, client_of, failing
from .endpoint import SERVER_FLAGS
from .failure import Failed
from .flags import Flag, Kind, Parsed
from .locking import Deadline, KeyLock, LockError, Primitive, Semaphore, Session

_CHILD_FAILED: Final = 2
_GRACE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 2.0
_NOT_ACQUIRED: Final = "Shutdown triggered or timeout during lock acquisition"


class _Event(enum.Enum):
    CHILD_ENDED = enum.auto()
    LOCK_LOST = enum.auto()
    INTERRUPTED = enum.auto()


_Events: TypeAlias = "queue.SimpleQueue[_Event]"


def _lock(given: Parsed) -> int:
    if len(given.rest) < 2:
        raise Failed("Key prefix and child command must be specified")
    if given.number("n") <= 0:
        raise Failed("Lock holder limit must be positive")
    if given.number("monitor-retry") < 0:
        raise Failed("Number for 'monitor-retry' must be >= 0")
    prefix, arguments = given.rest[0].removeprefix("/"), given.rest[1:]
    name = given.text("name") or f"Consul lock for '{' '.join(arguments)}' at '{prefix}'"
    client = client_of(given)
    with failing("Error querying Consul agent"):
        client.get("/v1/agent/self")
    try:
        with child.interruptible():
            primitive, code = _with_session(given, client, prefix, name)
    except KeyboardInterrupt:
        raise Failed(_NOT_ACQUIRED) from None
    _clean_up(given, primitive)
    return code


def _with_session(given: Parsed, client: Client, prefix: str, name: str) -> tuple[Primitive, int]:
    """The lock, no longer held, and the exit code. Raises KeyboardInterrupt."""
    limit = given.number("n")
    with contextlib.ExitStack() as opened:
        with child.interrupts_wait(), failing("Lock setup failed: failed to create session"):
            session = Session(client, name, "delete" if limit > 1 else "")
            opened.callback(_close, session)
        primitive = _primitive(given, client, prefix, session.id)
        _acquire(given, primitive)
        events: _Events = queue.SimpleQueue()
        with child.on_interrupt(lambda: events.put(_Event.INTERRUPTED)):
            code = _run(given, primitive, events)
            _release(primitive)
    return primitive, code


def _primitive(given: Parsed, client: Client, prefix: str, session: str) -> Primitive:
    limit = given.number("n")
    if limit > 1:
        _tell(given, f"Setting up semaphore (limit {limit}) at prefix: {prefix}")
        return Semaphore(client, prefix, session, limit)
    _tell(given, f"Setting up lock at path: {prefix.strip('/')}/.lock")
    return KeyLock(client, prefix, session)


def _tell(given: Parsed, text: str) -> None:
    if given.flag("verbose"):
        print(text, flush=True)


def _acquire(given: Parsed, primitive: Primitive) -> None:
    _tell(given, "Attempting lock acquisition")
    timeout = given.duration("timeout") or given.duration("try")
    try:
        if not primitive.acquire(Deadline(timeout.seconds if timeout else None)):
            raise Failed(_NOT_ACQUIRED)
    except (RequestError, LockError) as error:
        raise Failed(f"Lock acquisition failed: {error}") from None


def _release(primitive: Primitive) -> None:
    try:
        primitive.release()
    except (RequestError, LockError) as error:
        raise Failed(f"Lock release failed: {error}") from None


def _close(session: Session) -> None:
    try:
        with child.interrupts_wait():
            session.close()
    except RequestError as error:
        print(f"Session {session.id} is left to end by itself: {error}", file=sys.stderr)


def _clean_up(given: Parsed, primitive: Primitive) -> None:
    try:
        done = primitive.clean_up()
    except (RequestError, LockError) as error:
        raise Failed(f"Lock cleanup failed: {error}") from None
    _tell(given, "Cleanup succeeded" if done else "Cleanup aborted, lock in use")


# --- the program ----------------------------------------------------------------------------------------------------


def _run(given: Parsed, primitive: Primitive, events: _Events) -> int:
    """The exit code. Returns only when the program has ended, for whatever reason."""
    _tell(given, "Starting handler")
    own_group = not given.flag("pass-stdin")
    stdin = None if given.flag("pass-stdin") else subprocess.DEVNULL
    try:
        process = child.start(
            given.rest[1:],
            shell=given.flag("shell"),
            stdin=stdin,
            variables={"CONSUL_LOCK_HELD": "true"},
            own_group=own_group,
        )
    except Failed as failure:
        print(failure, file=sys.stderr)
        return _CHILD_FAILED if given.flag("child-exit-code") else 0
    threading.Thread(target=_wait_for_child, args=(process, events), daemon=True).start()
    threading.Thread(target=_watch, args=(primitive, given.number("monitor-retry"), events), daemon=True).start()
    code = _until_event(given, process, events, own_group=own_group)
    if process.returncode:
        print(f"Error running handler: {child.ending(process.returncode)}", file=sys.stderr)
    return code


def _wait_for_child(process: "subprocess.Popen[bytes]", events: _Events) -> None:
    process.wait()
    events.put(_Event.CHILD_ENDED)


def _watch(primitive: Primitive, retries: int, events: _Events) -> None:
    """Until the lock is no longer ours, or nobody has been able to tell for too long."""
    index, failures, held = 0, 0, True
    while held and failures <= retries:
        try:
            held, index = primitive.held(index)
            failures = 0
        except (RequestError, LockError):
            index, failures = 0, failures + 1
            if failures <= retries:
                time.sleep(_RETRY_SECONDS)
    events.put(_Event.LOCK_LOST)


def _until_event(given: Parsed, process: "subprocess.Popen[bytes]", events: _Events, *, own_group: bool) -> int:
    event = events.get()
    if event is _Event.CHILD_ENDED:
        _tell(given, "Child terminated, releasing lock")
        return _CHILD_FAILED if process.returncode and given.flag("child-exit-code") else 0
    lost = event is _Event.LOCK_LOST
    _tell(given, "Lock lost, killing child" if lost else "Shutdown triggered, killing child")
    _stop(given, process, events, own_group=own_group)
    return 1 if lost else 0


def _stop(given: Parsed, process: "subprocess.Popen[bytes]", events: _Events, *, own_group: bool) -> None:
    _tell(given, f"Terminating child pid {process.pid}")
    child.send(process, signal.SIGTERM, own_group=own_group)
    if _ends(events, _GRACE_SECONDS):
        _tell(given, "Child terminated")
        return
    _tell(given, f"Child did not exit after grace period of {_GRACE_SECONDS:.0f}s")
    _tell(given, f"Killing child pid {process.pid}")
    child.send(process, signal.SIGKILL, own_group=own_group)
    process.wait()


def _ends(events: _Events, seconds: float) -> bool:
    """Whether the program ends in time; what else happens meanwhile no longer matters."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            if events.get(timeout=left) is _Event.CHILD_ENDED:
                return True
        except queue.Empty:
            return False
    return False


LOCK: Final = Action(
    "lock [options] prefix child...",
    "Runs a program while holding a lock, and stops it when the lock is lost",
    _lock,
    (
        *SERVER_FLAGS,
        Flag("n", Kind.INT, "How many may hold the lock at once; more than one makes it a semaphore.", default=1),
        Flag("name", help="Name of the session; otherwise one made from prefix and child."),
        Flag("child-exit-code", Kind.BOOL, "Exit with 2 if the program failed."),
        Flag("monitor-retry", Kind.INT, "How often to ask again when the agent can't tell whether the lock is held.", default=3),
        Flag("pass-stdin", Kind.BOOL, "Let the program read our stdin."),
        Flag("shell", Kind.BOOL, "Run the program by a shell.", default=True),
        Flag("timeout", Kind.DURATION, "Give up when the lock is not acquired in this time; 0 is never."),
        Flag("try", Kind.DURATION, "The same as -timeout, by its old name."),
        Flag("verbose", Kind.BOOL, "Tell what is being done."),
    ),
    "The lock is the key <prefix>/.lock; any client of Consul can take part.",
)
