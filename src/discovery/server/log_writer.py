"""The thread that owns the log on disk: one transaction, and so one fsync, for all that waited while the previous one ran.

The event loop hands over what is to be made durable and goes on. A write that fails stops the node: what was not acknowledged
may be lost, what was acknowledged is on other disks, and an fsync that failed once can't be trusted a second time.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]


def _nothing() -> None:
    return


class LogWriter:
    """Runs one job at a time. `idle` is called on the loop after each, `failed` with the error of one, after which none runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Job, Job]] = deque()
        self._later: deque[Job] = deque()
        self._jobs: queue.SimpleQueue[tuple[Job, Job] | None] = queue.SimpleQueue()
        self._stopped = False
        self._running = False
        self.idle: Job = _nothing
        self.failed: Callable[[BaseException], None] = lambda error: None
        self._thread = threading.Thread(target=self._run, name="raft-log", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a job runs or was submitted to run."""
        return self._running or bool(self._waiting)

    def submit(self, job: Job, done: Job) -> None:
        """Run `job` on the thread after those submitted before, then `done` on the loop.

        It starts when this turn of the loop is over: before that the thread would only wait for the interpreter's lock.
        """
        self._waiting.append((job, done))
        self._loop.call_soon(self._start)

    def submit_later(self, job: Job) -> None:
        """Run `job` on the thread when nothing else waits."""
        self._later.append(job)
        self._loop.call_soon(self._start)

    def stop(self) -> None:
        """Wait for the running job; those that wait are dropped."""
        self._stopped = True
        self._jobs.put(None)
        self._thread.join()

    def _start(self) -> None:
        if self._running or self._stopped:
            return
        if self._waiting:
            self._running = True
            self._jobs.put(self._waiting.popleft())
        elif self._later:
            self._running = True
            self._jobs.put((self._later.popleft(), _nothing))

    def _run(self) -> None:
        while (work := self._jobs.get()) is not None:
            job, done = work
            try:
                job()
            except BaseException as error:
                self._tell(self.failed, error)
                return
            self._tell(self._completed, done)

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            # The loop was closed while the last job ran: nobody is left to be told.
            return

    def _completed(self, done: Job) -> None:
        """What waits goes next; else the replica has its turn before any job for later."""
        self._running = False
        if self._waiting:
            self._start()
        done()
        self.idle()
        self._loop.call_soon(self._start)
