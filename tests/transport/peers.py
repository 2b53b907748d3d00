"""The real programs that our own are tried against, where they are installed."""

import os
import shutil
from pathlib import Path

import pytest


def find(program: str) -> str | None:
    """Its path: from the search path, from the folder that PEERS names, or from where `get-peers` unpacks them."""
    for folder in (os.environ.get("PATH"), os.environ.get("PEERS"), Path.home() / ".cache/discovery-peers/usr/bin"):
        path = shutil.which(program, path=str(folder)) if folder else None
        if path:
            return path
    return None


def needs(program: str) -> pytest.MarkDecorator:
    """Skips a test with a word on what is missing."""
    reason = f"the real program {program} is neither in PATH nor in the folder that PEERS names"
    return pytest.mark.skipif(find(program) is None, reason=reason)
