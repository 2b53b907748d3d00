"""Where the programs of others are: on the path, or in the folder that the variable PEERS names."""

import os
import shutil

import pytest


def find(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PEERS", ""), os.environ.get("PATH", "")]))


CONSUL = find("consul")

needs_consul = pytest.mark.skipif(CONSUL is None, reason="no real Consul program is at hand (set PEERS to its folder)")
