"""Connecting, with errors worded as Consul's users know them from its checks."""

import asyncio
import errno
import os
import socket
import ssl as tls
from typing import Final

_WORDS: Final = {errno.ETIMEDOUT: "connection timed out", errno.EHOSTUNREACH: "no route to host"}


class DialError(Exception):
    """A connection could not be made; the message is ready to be shown."""


def split_address(address: str) -> tuple[str, int]:
    """`host:port`, with an IPv6 host in brackets. Raises `DialError`."""
    host, colon, port = address.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        raise DialError(f"dial tcp: address {address}: missing port in address")
    if not port.isdigit() or int(port) > 65535:
        raise DialError(f"dial tcp: address {port}: invalid port")
    return host.strip("[]"), int(port)


def error_text(error: OSError) -> str:
    """The operating system's word for it."""
    if error.errno is None:
        return str(error) or type(error).__name__
    return _WORDS.get(error.errno) or os.strerror(error.errno).lower()


def dial_error(address: str, error: OSError, network: str = "tcp") -> str:
    if isinstance(error, socket.gaierror):
        return f"dial {network}: lookup {address.rpartition(':')[0]}: no such host"
    if isinstance(error, TimeoutError) and error.errno is None:
        return f"dial {network} {address}: i/o timeout"
    return f"dial {network} {address}: connect: {error_text(error)}"


async def resolve(address: str, kind: socket.SocketKind, network: str = "tcp") -> list[tuple[str, int]]:
    """The addresses that `host:port` stands for, at least one. Raises `DialError`."""
    host, port = split_address(address)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host or "localhost", port, type=kind)
    except OSError as error:
        raise DialError(dial_error(address, error, network)) from None
    return [(str(item[4][0]), port) for item in found]


async def connect(
    address: str, timeout: float, context: tls.SSLContext | None = None, server_name: str | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream to `host:port`, over TLS if there is a context. Raises `DialError`; `timeout` (seconds) is for all of it."""
    host = split_address(address)[0]
    name = (server_name or host) if context is not None else None
    shown = address
    try:
        async with asyncio.timeout(timeout):
            candidates = await resolve(address, socket.SOCK_STREAM)
            for number, (ip, port) in enumerate(candidates, start=1):
                shown = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
                try:
                    return await asyncio.open_connection(ip, port, ssl=context, server_hostname=name)
                except OSError:
                    if number == len(candidates):
                        raise
    except TimeoutError as error:
        raise DialError(dial_error(shown, error)) from None
    except tls.SSLError as error:
        raise DialError(f"tls: {error.reason or error}") from None
    except OSError as error:
        raise DialError(dial_error(shown, error)) from None
    raise AssertionError(f"{address} resolved to no address")
