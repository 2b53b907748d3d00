"""How checks that speak TLS look at the other side's certificate, and which one they show."""

import ssl
from typing import Final

import msgspec

from discovery.model.definitions import CheckSpec
from discovery.model.errors import RequestFailed

_HTTP2: Final = ["h2"]


class AgentTls(msgspec.Struct, frozen=True):
    """The agent's own certificates, for checks too (`enable_agent_tls_for_checks`). Paths; empty where not given."""

    ca_file: str = ""
    ca_path: str = ""
    cert_file: str = ""
    key_file: str = ""


class TlsContexts:
    """Contexts for checks. Few are made, because each has all trusted authorities in it; thousands of checks share them."""

    def __init__(self, agent: AgentTls | None = None) -> None:
        """Without `agent` the system's authorities are trusted and no certificate is shown."""
        self._agent = agent
        self._made: dict[tuple[bool, bool], ssl.SSLContext] = {}

    def context(self, spec: CheckSpec, *, http2: bool = False) -> ssl.SSLContext:
        """`http2`: the other side is offered nothing else. Raises `RequestFailed` if the agent's files can't be used."""
        key = spec.tls_skip_verify, http2
        if key not in self._made:
            try:
                self._made[key] = self._make(*key)
            except OSError as error:
                raise RequestFailed(f"TLS files of the agent can't be used for checks: {error}") from None
        return self._made[key]

    def _make(self, skip_verify: bool, http2: bool) -> ssl.SSLContext:
        agent = self._agent or AgentTls()
        context = ssl.create_default_context(cafile=agent.ca_file or None, capath=agent.ca_path or None)
        if agent.cert_file:
            context.load_cert_chain(agent.cert_file, agent.key_file or None)
        if skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if http2:
            context.set_alpn_protocols(_HTTP2)
        return context
