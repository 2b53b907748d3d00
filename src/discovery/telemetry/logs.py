"""Logging as Consul does it: `2026-11-23T14:27:43.513Z [INFO]  agent.server.raft: election won: tally=2`.

Pass values as `log.info("election won", extra=fields(tally=2))`, then they are keys of their own in JSON. Any number of
listeners may follow the log at their own level, each with a bounded queue.

Source: Consul documentation (logging options, `agent/monitor`).
"""

import asyncio
import json
import logging
import logging.handlers
import re
import sys
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, TextIO

import msgspec

TRACE: Final = 5
_LEVELS: Final = {
    "TRACE": TRACE,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "WARNING": logging.WARNING,
    "ERR": logging.ERROR,
    "ERROR": logging.ERROR,
}
_MONITOR_QUEUE: Final = 512
"""Lines a slow listener may fall behind before it loses the oldest."""
_BARE: Final = re.compile(r"[^\s\"=]*\Z")
_AGENT_ROOMS: Final = frozenset({"local", "daemon", "telemetry"})

logging.addLevelName(TRACE, "TRACE")


class LogOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Logging as configured. `file` is a path's beginning (empty: no file), see `LogFile`; `syslog_facility` empty: no syslog."""

    level: str = "INFO"
    json: bool = False
    file: str = ""
    rotate_bytes: int = 0
    rotate_seconds: float = 86400.0
    rotate_max_files: int = 0
    syslog_facility: str = ""


def fields(**values: object) -> dict[str, object]:
    """For `extra=`: values that belong to a log line, each under its own key."""
    return {"fields": values}


def parse_level(text: str) -> int:
    """The `logging` level of a Consul level name in any case; raises `ValueError` with Consul's text."""
    level = _LEVELS.get(text.upper())
    if level is None:
        raise ValueError(f"Invalid log level: {text}. Valid log levels are: [TRACE DEBUG INFO WARN ERR ERROR]")
    return level


class TextFormatter(logging.Formatter):
    """`time [LEVEL] agent.subsystem: text: key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"[{_level_name(record.levelno).upper()}]"
        line = f"{_stamp(record.created, 3)} {level:<7} {_subsystem(record.name)}: {record.getMessage()}"
        values = _fields_of(record)
        if values:
            line += ": " + " ".join(f"{key}={_quoted(value)}" for key, value in values.items())
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "@level": _level_name(record.levelno),
            "@message": record.getMessage(),
            "@module": _subsystem(record.name),
            "@timestamp": _stamp(record.created, 6),
            **_fields_of(record),
        }
        if record.exc_info:
            line["stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class LogFile(logging.Handler):
    """Log files that are begun anew by size and age.

    The name is `path` with the time in nanoseconds put before its extension; a path that ends in `/` gets `consul-`, one
    without extension `.log`. At most `max_files` older ones are kept (0: all, -1: none). The folder must exist.
    """

    def __init__(self, path: str, *, max_bytes: int, max_age: float, max_files: int) -> None:
        super().__init__()
        folder, _, name = path.rpartition("/")
        stem, dot, extension = (name or "consul-").rpartition(".")
        self._folder = Path(folder or ("/" if path.startswith("/") else "."))
        self._stem, self._suffix = (f"{stem}-", f".{extension}") if dot else ((name or "consul") + "-", ".log")
        self._stem = self._stem.replace("--", "-")
        self._max_bytes, self._max_age, self._max_files = max_bytes, max_age, max_files
        self._begin()

    def _begin(self) -> None:
        now = time.time_ns()
        self._born = now / 1e9
        self._written = 0
        self._file = _open_log(self._folder / f"{self._stem}{now}{self._suffix}")

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record) + "\n"
        if self._is_full() or record.created - self._born >= self._max_age > 0:
            self._file.close()
            self._begin()
            self._prune()
        self._file.write(line)
        self._file.flush()
        self._written += len(line.encode())

    def _is_full(self) -> bool:
        return 0 < self._max_bytes <= self._written

    def _prune(self) -> None:
        if self._max_files == 0:
            return
        older = sorted(self._folder.glob(f"{self._stem}*{self._suffix}"))[:-1]
        for path in older[: len(older) - max(0, self._max_files)]:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        self._file.close()
        super().close()


def _open_log(path: Path) -> TextIO:
    return open(path, "a", encoding="utf-8")


class _Listener:
    """One follower of the log; lines may come from any thread."""

    def __init__(self, level: int, formatter: logging.Formatter, loop: asyncio.AbstractEventLoop) -> None:
        self.level = level
        self._formatter = formatter
        self._loop = loop
        self._lines: deque[str] = deque(maxlen=_MONITOR_QUEUE)
        self._arrived = asyncio.Event()

    def offer(self, record: logging.LogRecord) -> None:
        if record.levelno >= self.level and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, self._formatter.format(record))

    def _take(self, line: str) -> None:
        self._lines.append(line)
        self._arrived.set()

    async def next(self) -> str:
        while not self._lines:
            self._arrived.clear()
            await self._arrived.wait()
        return self._lines.popleft()


class Logs(logging.Handler):
    """Logging of the whole process: where lines go, and who follows them. One at a time; `close` undoes it."""

    def __init__(self, options: LogOptions, stream: TextIO | None = None) -> None:
        """Raises `ValueError` for a bad level, `OSError` if the log file cannot be opened."""
        super().__init__(0)
        self._own_level = parse_level(options.level)
        self._listeners: weakref.WeakSet[_Listener] = weakref.WeakSet()
        self._root = logging.getLogger()
        self._before = self._root.level
        formatter = JsonFormatter() if options.json else TextFormatter()
        self._outputs = _outputs(options, stream or sys.stdout)
        for output in self._outputs:
            output.setFormatter(formatter)
        self._root.addHandler(self)
        self._apply_levels()

    def set_level(self, level: str) -> None:
        """Raises `ValueError`."""
        self._own_level = parse_level(level)
        self._apply_levels()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= self._own_level:
            for output in self._outputs:
                output.handle(record)
        for listener in list(self._listeners):
            listener.offer(record)

    async def lines(self, level: str, *, as_json: bool) -> AsyncGenerator[str, None]:
        """Lines at `level` or above from the first step on, until closed. A listener that is too slow loses the oldest."""
        formatter = JsonFormatter() if as_json else TextFormatter()
        listener = _Listener(parse_level(level), formatter, asyncio.get_running_loop())
        self._listeners.add(listener)
        self._apply_levels()
        try:
            while True:
                yield await listener.next()
        finally:
            self._listeners.discard(listener)
            self._apply_levels()

    def _apply_levels(self) -> None:
        self._root.setLevel(min([self._own_level, *(listener.level for listener in self._listeners)]))

    def close(self) -> None:
        self._root.removeHandler(self)
        self._root.setLevel(self._before)
        for output in self._outputs:
            output.close()
        super().close()


def _outputs(options: LogOptions, stream: TextIO) -> list[logging.Handler]:
    outputs: list[logging.Handler] = [logging.StreamHandler(stream)]
    if options.file:
        limits = {"max_bytes": options.rotate_bytes, "max_files": options.rotate_max_files}
        outputs.append(LogFile(options.file, max_age=options.rotate_seconds, **limits))
    if options.syslog_facility:
        facility = logging.handlers.SysLogHandler.facility_names[options.syslog_facility.lower()]
        outputs.append(logging.handlers.SysLogHandler("/dev/log", facility))
    return outputs


def _fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    values: Mapping[str, object] = getattr(record, "fields", {})
    return values


def _quoted(value: object) -> str:
    text = str(value)
    return text if _BARE.match(text) else f'"{text}"'


def _stamp(created: float, digits: int) -> str:
    whole = int(created)
    fraction = int((created - whole) * 10**digits)
    return f"{_second(whole)}.{fraction:0{digits}}Z"


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _level_name(level: int) -> str:
    if level >= logging.ERROR:
        return "error"
    if level >= logging.WARNING:
        return "warn"
    if level >= logging.INFO:
        return "info"
    return "debug" if level >= logging.DEBUG else "trace"


@lru_cache(maxsize=512)
def _subsystem(name: str) -> str:
    """`discovery.http.errors` speaks as `agent.http`; other names stay."""
    parts = name.split(".")
    if parts[0] != "discovery":
        return name
    return "agent" if len(parts) == 1 or parts[1] in _AGENT_ROOMS else f"agent.{parts[1]}"
