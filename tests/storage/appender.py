"""A process that appends to a log and tells what was acknowledged: `python -m tests.storage.appender DIRECTORY SEED [LIMIT]`.

After each durable write it prints `index term` of the last entry. It rewrites its tail and compacts now and then.
"""

import os
import random
import sys
from pathlib import Path

from discovery.raft.messages import HardState
from discovery.storage.errors import StorageFailed
from discovery.storage.log import LogStore
from tests.storage.rig import entry


def main(directory: Path, seed: int, limit: int) -> None:
    rng = random.Random(seed)
    store = LogStore(directory / "raft.db")
    found = store.load()
    term, base, last = found.hard_state.term, found.base_index, store.last_index
    for _ in range(limit):
        rewrite = rng.random() < 0.1
        term += rewrite
        first = max(base + 1, last - rng.randrange(5)) if rewrite else last + 1
        batch = [entry(index, term) for index in range(first, first + rng.choice((1, 1, 1, 20, 300)))]
        store.append(batch, HardState(term, f"vote of {term}") if rewrite else None)
        last = batch[-1].index
        os.write(1, f"{last} {term}\n".encode())
        if rng.random() < 0.05:
            base = max(base, last - 500)
            for step in store.compaction_steps(base):
                step()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1 << 30)
    except StorageFailed as error:
        sys.exit(f"failed: {error}")
