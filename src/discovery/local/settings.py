"""What an operator may configure about this agent's services and checks."""

import msgspec

from .checks.tls import AgentTls


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Holds until the next `Local.reconfigure`. Sizes are bytes."""

    node_name: str
    datacenter: str = "dc1"
    enable_script_checks: bool = False
    """Script checks from files and from the API."""
    enable_local_script_checks: bool = False
    """Script checks from files only."""
    check_output_max_size: int = 4096
    discard_check_output: bool = False
    check_tls: AgentTls | None = None
    """The certificates that checks use and trust; None: the system's authorities and no certificate."""
    sidecar_min_port: int = 21000
    sidecar_max_port: int = 21255
