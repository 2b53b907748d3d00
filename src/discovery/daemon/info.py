"""What an agent tells about itself: the sections of `info`, the `Config` and `DebugConfig` of `agent/self`."""

import os
import platform
import sys
import threading
from collections.abc import Mapping

import msgspec

from discovery import __version__
from discovery.model.agent import LocalServices

COMPATIBLE_VERSION = "1.8.7"
"""The Consul release whose behaviour this agent has, for those who choose theirs by version."""

_SECRET_WORDS = ("token", "encrypt", "key", "secret", "password")


def agent_section(local: LocalServices) -> dict[str, str]:
    checks = local.checks().values()
    return {
        "check_monitors": str(sum(1 for check in checks if check.type == "script")),
        "check_ttls": str(sum(1 for check in checks if check.type == "ttl")),
        "checks": str(len(checks)),
        "services": str(len(local.services())),
    }


def build_section() -> dict[str, str]:
    return {"prerelease": "", "revision": __version__, "version": COMPATIBLE_VERSION}


def runtime_section() -> dict[str, str]:
    return {
        "arch": platform.machine(),
        "cpu_count": str(os.cpu_count() or 1),
        "goroutines": str(threading.active_count()),
        "max_procs": str(os.cpu_count() or 1),
        "os": sys.platform,
        "version": f"python{platform.python_version()}",
    }


def debug_config(options: msgspec.Struct) -> Mapping[str, object]:
    """Every option under its CamelCase name, with secrets hidden."""
    return {_camel(name): _shown(name, value) for name, value in msgspec.to_builtins(options, enc_hook=str).items()}


def _camel(name: str) -> str:
    return "".join(_ACRONYMS.get(part, part.capitalize()) for part in name.split("_"))


_ACRONYMS = {"dns": "DNS", "http": "HTTP", "id": "ID", "ttl": "TTL", "acl": "ACL", "ui": "UI", "tls": "TLS", "ca": "CA"}


def _shown(name: str, value: object) -> object:
    if isinstance(value, dict):
        return {_camel(str(key)): _shown(str(key), item) for key, item in value.items()}
    if value and isinstance(value, str) and any(word in name for word in _SECRET_WORDS) and not name.endswith("file"):
        return "hidden"
    return value
