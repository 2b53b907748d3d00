"""The scenes in `scenes/` play as they are written.

`REWRITE_SCENES=1` writes what they print now; the difference is then read and judged as a change of the protocol.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .theatre import play

SCENES = sorted((Path(__file__).parent / "scenes").glob("*.txt"))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.stem)
def test_scene(scene: Path) -> None:
    written = scene.read_text()
    played = play(written)
    if os.environ.get("REWRITE_SCENES") and played != written:
        scene.write_text(played)
        pytest.fail(f"{scene.name} was rewritten")
    assert played == written
