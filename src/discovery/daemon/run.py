"""The process of an agent: from loaded configuration to exit status, with signals, banner and PID file."""

import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

import uvloop

from discovery import __version__
from discovery.config.load import Loaded, Sources
from discovery.config.options import Options
from discovery.model.errors import DiscoveryError
from discovery.telemetry import Logs

from . import settings
from .agent import Agent, StartFailed
from .identity import IdentityError
from .info import COMPATIBLE_VERSION
from .keyring import KeyringError

_log = logging.getLogger(__name__)

_GC_THRESHOLDS: Final = (50_000, 20, 50)
"""Most of what an agent allocates is freed by reference counts; the collector need not look as often as it would."""


def run_agent(sources: Sources, loaded: Loaded) -> int:
    """Run until told to end; the exit status."""
    print("==> Starting Consul agent...", flush=True)
    try:
        logs = Logs(settings.log_options(loaded.options))
    except (ValueError, OSError) as error:
        print(f"==> {error}", file=sys.stderr)
        return 1
    try:
        return uvloop.run(_Process(sources, loaded, logs).run())
    finally:
        logs.close()


class _Process:
    def __init__(self, sources: Sources, loaded: Loaded, logs: Logs) -> None:
        self._sources = sources
        self._loaded = loaded
        self._logs = logs
        self._ending = False

    async def run(self) -> int:
        options = self._loaded.options
        agent = self._agent = Agent(self._sources, self._loaded, self._logs)
        try:
            await agent.start()
        except (StartFailed, IdentityError, KeyringError, ValueError) as error:
            print(f"==> Error starting agent: {error}", file=sys.stderr, flush=True)
            return 1
        pid_file = _write_pid(options.pid_file)
        self._print_banner(options)
        for warning in self._loaded.warnings:
            _log.warning("%s", warning)
        self._listen_to_signals()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        try:
            status = await agent.finished
            _log.info("Exit code: code=%d", status)
            return status
        finally:
            await agent.stop()
            if pid_file is not None:
                pid_file.unlink(missing_ok=True)

    # --- signals -----------------------------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        options = self._loaded.options
        loop.add_signal_handler(signal.SIGINT, self._end, "interrupt", not options.skip_leave_on_interrupt)
        loop.add_signal_handler(signal.SIGTERM, self._end, "terminated", options.leave_on_terminate)
        loop.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(self._reload()))
        loop.add_signal_handler(signal.SIGUSR1, self._dump_metrics)

    def _end(self, name: str, graceful: bool) -> None:
        _log.info("Caught: signal=%s", name)
        if self._ending or not graceful:
            _log.info("Graceful shutdown disabled. Exiting")
            self._agent.finish(1)
            return
        self._ending = True
        _log.info("Gracefully shutting down agent...")
        self._leaving = asyncio.ensure_future(self._agent.leave())

    async def _reload(self) -> None:
        _log.info("Caught: signal=hangup; reloading configuration")
        try:
            await self._agent.reload()
        except DiscoveryError as error:
            _log.error("%s", error.text)

    def _dump_metrics(self) -> None:
        sys.stderr.write(self._agent.metrics.as_prometheus().decode())
        sys.stderr.flush()

    # --- words at start ----------------------------------------------------------------------------------------------

    def _print_banner(self, options: Options) -> None:
        ports, addresses = options.ports, options.addresses.http
        server = f"{str(options.server).lower()} (Bootstrap: {str(options.bootstrap_expect == 1).lower()})"
        rows = {
            "Version": f"'{COMPATIBLE_VERSION}' (discovery {__version__})",
            "Node ID": f"'{self._agent.node_id}'",
            "Node name": f"'{options.node_name}'",
            "Datacenter": f"'{options.datacenter}' (Segment: '{'<all>' if options.server else ''}')",
            "Server": server,
            "Client Addr": f"[{' '.join(addresses)}] (HTTP: {ports.http}, HTTPS: {ports.https}, DNS: {ports.dns})",
            "Cluster Addr": f"{options.advertise_addr} (LAN: {ports.serf_lan}, WAN: {ports.serf_wan})",
            "Encrypt": f"Gossip: {_flag(options.encrypt)}, TLS-Outgoing: {_flag(options.verify_outgoing)}, "
            f"TLS-Incoming: {_flag(options.verify_incoming)}",
        }
        lines = "".join(f"{name:>18}: {value}\n" for name, value in rows.items())
        print(f"{lines}\n==> Log data will now stream in as it occurs:\n\n==> Consul agent running!", flush=True)


def _flag(value: object) -> str:
    return "true" if value else "false"


def _write_pid(path: str) -> Path | None:
    if not path:
        return None
    file = Path(path)
    file.write_text(f"{os.getpid()}\n")
    return file
