"""TLS of the server port, built from the files and flags an operator names.

The switches are Consul's: `verify_outgoing` makes us use TLS towards servers and check their chain,
`verify_server_hostname` also demands the name `server.<datacenter>.<domain>` in their certificate, `verify_incoming`
demands certificates from those who connect. Source: Consul's documentation of agent encryption with TLS.
"""

import ssl
from typing import Final

import msgspec

_VERSIONS: Final = {
    "tls10": ssl.TLSVersion.TLSv1,
    "tls11": ssl.TLSVersion.TLSv1_1,
    "tls12": ssl.TLSVersion.TLSv1_2,
    "tls13": ssl.TLSVersion.TLSv1_3,
}


class TlsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator sets; empty text means not set. Ciphers are named as OpenSSL names them."""

    ca_file: str = ""
    ca_path: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify_incoming: bool = False
    verify_outgoing: bool = False
    verify_server_hostname: bool = False
    min_version: str = "tls12"
    cipher_suites: str = ""
    datacenter: str = "dc1"
    domain: str = "consul"


class InvalidTls(ValueError):
    """The options contradict each other, or a file cannot be used."""


class Tls:
    """The contexts in use for both directions; `reload` replaces them for connections made from then on."""

    def __init__(self, options: TlsOptions) -> None:
        self.reload(options)

    def reload(self, options: TlsOptions) -> None:
        """Read the files anew. Raises `InvalidTls` and keeps what it had."""
        try:
            incoming, outgoing = _incoming(options), _outgoing(options)
        except (OSError, ValueError) as error:
            raise InvalidTls(f"TLS configuration: {error}") from error
        self._options = options
        self.incoming: ssl.SSLContext | None = incoming
        self.outgoing: ssl.SSLContext | None = outgoing

    @property
    def requires_incoming(self) -> bool:
        """Whether connections without TLS are refused."""
        return self._options.verify_incoming

    @property
    def server_name(self) -> str:
        """The name in the certificates of this datacenter's servers."""
        return self.name_of_servers(self._options.datacenter)

    def name_of_servers(self, datacenter: str | None) -> str:
        """The name in the certificates of a datacenter's servers; None is our own datacenter."""
        return f"server.{datacenter or self._options.datacenter}.{self._options.domain.rstrip('.')}"

    def proves_server(self, connection: ssl.SSLObject) -> bool:
        """Whether the other end showed a certificate of a server, where the options let only servers have one."""
        if not (self._options.verify_incoming and self._options.verify_server_hostname):
            return True
        certificate = connection.getpeercert() or {}
        return ("DNS", self.server_name) in certificate.get("subjectAltName", ())


def _incoming(options: TlsOptions) -> ssl.SSLContext | None:
    if not options.cert_file:
        if options.verify_incoming:
            raise InvalidTls("verify_incoming is set without cert_file and key_file")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _prepare(context, options)
    if options.verify_incoming:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _outgoing(options: TlsOptions) -> ssl.SSLContext | None:
    if not (options.verify_outgoing or options.verify_server_hostname):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = options.verify_server_hostname
    _prepare(context, options)
    return context


def _prepare(context: ssl.SSLContext, options: TlsOptions) -> None:
    if options.min_version not in _VERSIONS:
        raise InvalidTls(f"tls_min_version {options.min_version!r} is none of {', '.join(_VERSIONS)}")
    context.minimum_version = _VERSIONS[options.min_version]
    if options.cipher_suites:
        context.set_ciphers(options.cipher_suites)
    if options.ca_file or options.ca_path:
        context.load_verify_locations(options.ca_file or None, options.ca_path or None)
    elif options.verify_incoming or options.verify_outgoing or options.verify_server_hostname:
        raise InvalidTls("verification is asked for without ca_file or ca_path")
    if options.cert_file:
        context.load_cert_chain(options.cert_file, options.key_file or None)
