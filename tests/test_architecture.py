"""The rooms of docs/architecture.md, checked: which room may import which, and that the cores do no I/O."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "discovery"

ROOMS: dict[str, set[str]] = {
    "model": set(),
    "telemetry": set(),
    "raft": {"model"},
    "gossip": {"model"},
    "state": {"model"},
    "wire": {"model"},
    "config": {"model"},
    "storage": {"raft", "model"},
    "transport": {"wire", "raft", "gossip", "model", "telemetry"},
    "server": {"raft", "state", "storage", "transport", "wire", "model", "telemetry"},
    "local": {"model", "telemetry"},
    "http": {"model", "telemetry"},
    "dns": {"model", "telemetry"},
    "daemon": {
        "config", "dns", "gossip", "http", "local", "model", "raft", "server", "state", "storage", "telemetry", "transport",
        "wire",
    },
    "cli": {"config", "daemon", "model", "server", "wire"},
    "__main__": {"cli"},
}  # fmt: skip

PURE = ("model", "raft", "gossip", "state", "wire")
IMPURE_MODULES = {
    "aiohttp", "asyncio", "concurrent", "multiprocessing", "os", "pathlib", "select", "selectors", "shutil", "signal", "socket",
    "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "uuid", "secrets", "uvloop",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every imported module, relative ones made absolute."""
    package = ("discovery", *path.relative_to(SOURCE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, name
            if name in ("discovery", ""):
                yield from ((node.lineno, f"discovery.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    allowed = ROOMS[room] | {room, "__version__"}
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] == "discovery" and len(parts) > 1:
            assert parts[1] in allowed, f"{path}:{line}: {room} may not import {name}"


@pytest.mark.parametrize(
    "path", [path for path in modules() if room_of(path) in PURE], ids=lambda path: str(path.relative_to(SOURCE))
)
def test_cores_do_no_io(path: Path) -> None:
    for line, name in imports(path):
        assert name.split(".")[0] not in IMPURE_MODULES, f"{path}:{line}: a pure room imports {name}"


@pytest.mark.parametrize(
    "path", [path for path in modules() if room_of(path) in PURE], ids=lambda path: str(path.relative_to(SOURCE))
)
def test_chance_is_handed_in(path: Path) -> None:
    """Of `random` the cores use only the type of the generator they are given."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            assert node.attr == "Random", f"{path}:{node.lineno}: random.{node.attr}"


def test_no_import_cycles_between_rooms() -> None:
    order: list[str] = []
    left = dict(ROOMS)
    while left:
        free = [room for room, needs in left.items() if not needs & left.keys()]
        assert free, f"rooms import each other in a circle: {sorted(left)}"
        order += free
        for room in free:
            del left[room]
    assert order[0] in ("model", "telemetry")
