"""A process that is to be killed: three durable servers, and writers who say what they were told.

Knows how to bring the cluster back from its directory, to check that the replicas agree, and to
write until it dies. Must not know when that will be, nor what was told before.

`python -m tests.kills.service DIRECTORY --round N --seed S [--writes N]`. Each line on standard
output is a word and what it is about:

    stage NAME          something begins
    holds PATH          the replicas agree, and what they hold is in that file
    ask ID              a write is about to be called
    ack ID              it was acknowledged
    no ID               it failed, and was surely not applied
    maybe ID            it failed, and may have been applied
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
from pathlib import Path
from time import monotonic
from typing import Any

import exraft
from exraft import ExRaft, ExRaftError, StateMachine

NAMES = (":raft1", ":raft2", ":raft3")
WRITERS = 6
LIMIT = 60.0
"""Seconds after which something that should happen has not."""


class Book(StateMachine):
    """How often each id was written, in order."""

    def init(self, init_arg: Any) -> dict[str, int]:
        return {}

    def handle_write(self, command: tuple[str, bytes], state: dict[str, int]) -> Any:
        unique, _ = command
        state[unique] = state.get(unique, 0) + 1
        return len(state), state

    def handle_read(self, query: Any, state: dict[str, int]) -> dict[str, int]:
        return state


def say(word: str, what: object) -> None:
    """One line, whole, at once: nothing that was said is lost with the process."""
    os.write(sys.stdout.fileno(), f"{word} {what}\n".encode())


def start(directory: Path, rng: random.Random) -> None:
    options: dict[str, Any] = {
        "initial_config": NAMES,
        "data_dir": directory,
        "snapshot_every": rng.choice((10, 100, 1000, None)),
        "keep_entries": rng.choice((0, 20, 1000)),
    }
    for name in NAMES:
        say("stage", f"start {name}")
        ExRaft.start_server(Book, name=name, **options)


def check(directory: Path, number: int) -> None:
    """Let the replicas agree, and write down what they hold."""
    say("stage", "elect")
    book = ExRaft.client(NAMES).read(None, timeout=LIMIT)
    leader = ExRaft.await_leader(NAMES[0], LIMIT)
    committed = ExRaft.status(leader).commit_index
    say("stage", "compare")
    for name in NAMES:
        end = monotonic() + LIMIT
        while ExRaft.status(name, LIMIT).applied_index < committed:
            if monotonic() > end:
                raise SystemExit(f"{name} does not catch up to {committed}")
        theirs = ExRaft.read_dirty(name, None, LIMIT)
        if theirs != book:
            raise SystemExit(f"{name} holds something else than {leader}")
    path = directory / f"holds-{number}.json"
    path.write_text(json.dumps(book))
    say("holds", path)


def write(number: int, writer: int, seed: int, most: int) -> None:
    rng = random.Random(f"{seed} {number} {writer}")
    client = ExRaft.client(NAMES)
    for count in range(most):
        unique = f"{number}.{writer}.{count}"
        say("ask", unique)
        try:
            client.write((unique, bytes(rng.randrange(2000))), timeout=LIMIT)
        except ExRaftError as error:
            say("maybe" if exraft.maybe_applied(error) else "no", unique)
        else:
            say("ack", unique)


def disturb(number: int, seed: int, over: threading.Event) -> None:
    """What goes on in a cluster beside writes; ends when they do."""
    rng = random.Random(f"{seed} {number} disturb")
    while not over.wait(rng.uniform(0.0, 0.1)):
        name = rng.choice(NAMES)
        try:
            if rng.random() < 0.5:
                ExRaft.snapshot(name, timeout=LIMIT)
            else:
                ExRaft.transfer_leadership(ExRaft.await_leader(name, LIMIT), timeout=LIMIT)
        except ExRaftError as error:
            say("stage", f"disturbed {error.reason}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills.service", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--round", type=int, required=True, dest="number")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--writes", type=int, default=10**9, help="of each writer, then stop")
    given = parser.parse_args()
    rng = random.Random(f"{given.seed} {given.number} options")
    start(given.directory, rng)
    check(given.directory, given.number)
    writers = [
        threading.Thread(target=write, args=(given.number, n, given.seed, given.writes))
        for n in range(WRITERS)
    ]
    over = threading.Event()
    disturber = threading.Thread(target=disturb, args=(given.number, given.seed, over))
    say("stage", "write")
    for thread in (*writers, disturber):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    disturber.join()
    for name in NAMES:
        say("stage", f"stop {name}")
        ExRaft.stop_server(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
