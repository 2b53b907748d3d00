"""Which agent to ask, and how: from flags first, then from Consul's environment variables.

Source: Consul documentation, "Commands (CLI)"; the precedence of its Go client, as observed.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from .failure import Failed, file_error
from .flags import HTTP_OPTIONS, Flag, Kind, Parsed

AGENT_FLAGS: Final = (
    Flag("http-addr", help="Address of the agent's HTTP API, with its port; also `http://`, `https://` and `unix://` forms. "
         "Otherwise CONSUL_HTTP_ADDR, or http://127.0.0.1:8500.", metavar="address", group=HTTP_OPTIONS),
    Flag("token", help="ACL token to send. Otherwise CONSUL_HTTP_TOKEN.", metavar="value", group=HTTP_OPTIONS),
    Flag("token-file", help="File that holds the ACL token. Otherwise CONSUL_HTTP_TOKEN_FILE.", metavar="value",
         group=HTTP_OPTIONS),
    Flag("ca-file", help="File of CA certificates to trust for TLS. Otherwise CONSUL_CACERT.", metavar="value",
         group=HTTP_OPTIONS),
    Flag("ca-path", help="Directory of CA certificates to trust for TLS. Otherwise CONSUL_CAPATH.", metavar="value",
         group=HTTP_OPTIONS),
    Flag("client-cert", help="Certificate to show to the agent. Otherwise CONSUL_CLIENT_CERT.", metavar="value",
         group=HTTP_OPTIONS),
    Flag("client-key", help="Key of that certificate. Otherwise CONSUL_CLIENT_KEY.", metavar="value", group=HTTP_OPTIONS),
    Flag("tls-server-name", help="Name to expect in the agent's certificate. Otherwise CONSUL_TLS_SERVER_NAME.",
         metavar="value", group=HTTP_OPTIONS),
)  # fmt: skip
"""Of commands that concern the agent alone."""

SERVER_FLAGS: Final = (
    *AGENT_FLAGS,
    Flag("datacenter", help="Datacenter to ask; otherwise the agent's own.", metavar="value", group=HTTP_OPTIONS),
    Flag("stale", Kind.BOOL, "Let any server answer a read, not only the leader. The answer may be out of date.",
         group=HTTP_OPTIONS),
    Flag("namespace", help="Namespace to send along.", metavar="value", group=HTTP_OPTIONS),
    Flag("partition", help="Admin partition to send along.", metavar="value", group=HTTP_OPTIONS),
)  # fmt: skip
"""Of commands whose answer comes from the servers."""

_DEFAULT_ADDRESS: Final = "127.0.0.1:8500"
_SETUP: Final = "Error connecting to Consul agent: "
_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Empty text means not given; without CA the system's certificates count."""

    ca_file: str = ""
    ca_path: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""
    verify: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Either `host` and `port`, or `socket_path`. `tls` is None for plain HTTP."""

    host: str = ""
    port: int = 0
    socket_path: str = ""
    authority: str = ""
    """Host and port as the operator wrote them."""
    tls: TlsFiles | None = None
    token: str = ""
    user: str | None = None
    """`name:password` of basic authentication."""

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


def endpoint_of(given: Parsed) -> Endpoint:
    """Raises `Failed`."""
    settings = _Settings(given, os.environ)
    address = settings.text("http-addr", "CONSUL_HTTP_ADDR") or _DEFAULT_ADDRESS
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "https" if settings.switch("CONSUL_HTTP_SSL", default=False) else "http", address
    if scheme not in ("http", "https", "unix"):
        raise Failed(f"{_SETUP}Unknown protocol scheme: {scheme}")
    token, user = settings.token(), os.environ.get("CONSUL_HTTP_AUTH")
    if scheme == "unix":
        return Endpoint(socket_path=rest, authority=rest.replace("/", "%2F"), token=token, user=user)
    host, port = _host_and_port(rest.rstrip("/"), 443 if scheme == "https" else 80)
    tls = settings.tls() if scheme == "https" else None
    return Endpoint(host=host, port=port, authority=rest.rstrip("/"), tls=tls, token=token, user=user)


def _host_and_port(authority: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{authority}")
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError as error:
        raise Failed(f"{_SETUP}invalid address {authority!r}: {error}") from None
    if not host or parts.path or not host.isprintable() or " " in host:
        raise Failed(f"{_SETUP}invalid address {authority!r}: host and port are expected")
    return host, default if port is None else port


class _Settings:
    def __init__(self, given: Parsed, environment: Mapping[str, str]) -> None:
        self._given = given
        self._environment = environment

    def text(self, flag: str, variable: str) -> str:
        return self._given.text(flag) or self._environment.get(variable, "")

    def switch(self, variable: str, *, default: bool) -> bool:
        text = self._environment.get(variable, "")
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if text:
            raise Failed(f'{_SETUP}could not parse {variable}: "{text}" is neither true nor false')
        return default

    def token(self) -> str:
        """The more particular source wins: a flag over the environment, then a file over the token itself."""
        sources: tuple[tuple[str, Callable[[str], str]], ...] = (
            (self._given.text("token-file"), _token_in),
            (self._given.text("token"), str),
            (self._environment.get("CONSUL_HTTP_TOKEN_FILE", ""), _token_in),
            (self._environment.get("CONSUL_HTTP_TOKEN", ""), str),
        )
        return next((read(text) for text, read in sources if text), "")

    def tls(self) -> TlsFiles:
        return TlsFiles(
            ca_file=self.text("ca-file", "CONSUL_CACERT"),
            ca_path=self.text("ca-path", "CONSUL_CAPATH"),
            cert=self.text("client-cert", "CONSUL_CLIENT_CERT"),
            key=self.text("client-key", "CONSUL_CLIENT_KEY"),
            server_name=self.text("tls-server-name", "CONSUL_TLS_SERVER_NAME"),
            verify=self.switch("CONSUL_HTTP_SSL_VERIFY", default=True),
        )


def _token_in(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise Failed(f"{_SETUP}Error loading token file {path} : {file_error('open', error)}") from None
