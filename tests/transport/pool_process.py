"""One member of a gossip pool in a process of its own, so that it can be killed and stopped as processes are.

Takes its options as one JSON object in the first argument, and commands as JSON lines `[method, argument...]` on standard
input; with the option `wait` it starts only at the first line. Writes a JSON line for every event: its kind, and the member's
name or the event's.
"""

import asyncio
import json
import logging
import random
import sys
from contextlib import suppress
from typing import Any

from discovery.telemetry import Metrics
from discovery.transport.membership import LAN, LOCAL, Event, JoinFailed, KeyringChanged, Membership, PoolOptions, UserEvent


def describe(event: Event) -> list[object]:
    if isinstance(event, UserEvent):
        return ["UserEvent", event.name, event.payload.decode(errors="replace")]
    if isinstance(event, KeyringChanged):
        return ["KeyringChanged", [key.hex() for key in event.keys]]
    return [type(event).__name__, event.member.name]


def say(*words: object) -> None:
    print(json.dumps(words), flush=True)


async def main(options: dict[str, Any]) -> None:
    join, wait = options.pop("join", []), options.pop("wait", False)
    options["profile"] = {"LAN": LAN, "LOCAL": LOCAL}[options["profile"]]
    if options.get("keyring"):
        options["keyring"] = [bytes.fromhex(key) for key in options["keyring"]]
    metrics = Metrics()
    pool = Membership(
        PoolOptions(**options),
        on_event=lambda event: say(*describe(event)),
        rng=random.SystemRandom(),
        log=logging.getLogger(),
        metrics=metrics,
    )
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    if wait:
        say("ready")
        await reader.readline()
    await pool.start()
    while join:
        # Those that start together may not listen yet.
        with suppress(JoinFailed):
            await pool.join(join)
            break
        await asyncio.sleep(0.2)
    if not wait:
        say("ready")
    async for line in reader:
        await obey(pool, metrics, json.loads(line))
    await pool.stop()


async def obey(pool: Membership, metrics: Metrics, command: list[Any]) -> None:
    match command:
        case ["leave"]:
            await pool.leave()
            say("left")
        case ["join", address]:
            await pool.join([address])
        case ["user_event", name, payload]:
            pool.user_event(name, payload.encode(), False)
        case ["members"]:
            say("members", {member.name: str(member.status) for member in pool.members()})
        case ["sent"]:
            say("sent", metrics.memberlist_udp_sent.total, metrics.memberlist_tcp_sent.total)
        case ["counters"]:
            say("counters", pool.counters())
        case _:
            raise ValueError(command)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.run(main(json.loads(sys.argv[1])))
