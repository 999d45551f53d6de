"""What it takes to judge a history: operations of a key-value store, with and without an order.

Knows how to make up histories, from a seed. Must not know how they are judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from time import perf_counter
from typing import Any

from benchmarks.measure import Plan, log, row_of
from benchmarks.rows import Row
from exraft.testing.history import Kind, Operation
from exraft.testing.linearizability import linearizable
from exraft.testing.models import KeyValue

CLIENTS = 20
LOST = 0.05
"""Part of the operations that never return; half of them take effect all the same, later."""

# By the row's name: operations and keys.
SIZES = {"check.50": (10_000, 50), "check.20": (10_000, 20), "check.1": (1_000, 1)}


def measure(subject: str, plan: Plan) -> Iterator[Row]:
    """Milliseconds for a history that is linearizable, and for one that isn't, with its short
    contradiction."""
    for name, (operations, keys) in SIZES.items():
        for suffix, spoil in (("", False), (".no", True)):
            if not plan.wants(subject, name + suffix):
                continue
            values = []
            for seed in range(1, plan.repetitions + 1):
                log.info("%s, %d of %d", name + suffix, seed, plan.repetitions)
                history = made_up(seed, operations, keys)
                if spoil:
                    history = spoiled(history)
                began = perf_counter()
                verdict = linearizable(history, KeyValue())
                values.append((perf_counter() - began) * 1e3)
                if verdict.ok is spoil:
                    raise AssertionError(f"{name + suffix}, seed {seed}: {verdict.explain()}")
            yield row_of(subject, name + suffix, "ms", values)


def made_up(seed: int, operations: int, keys: int) -> list[Operation]:
    """Clients that are always busy; each call takes effect at a random moment in its time."""
    chance = Random(seed)
    effects = []
    for client in range(CLIENTS):
        now, name = chance.random(), f"client {client}"
        for number in range(operations // CLIENTS):
            ended = now + chance.expovariate(1.0)
            moment = chance.uniform(now, ended)
            lost = chance.random() < LOST
            applied = not lost or chance.random() < 0.5
            if lost:
                moment += chance.expovariate(0.2)
            effects.append((moment, name, now, ended, lost, applied))
            if lost:
                name = f"client {client}, life {number}"
            now = ended
    held: dict[str, Any] = {}
    history = []
    for number, (_, name, invoked, ended, lost, applied) in enumerate(sorted(effects)):
        key = f"key {chance.randrange(keys)}"
        kind: Kind = "read" if chance.random() < 0.5 else "write"
        call: Any = key if kind == "read" else ("put", key, number)
        result = held.get(key) if kind == "read" else "ok"
        if kind == "write" and applied:
            held[key] = number
        history.append(
            Operation(name, call, kind, invoked, None if lost else ended, None if lost else result)
        )
    return history


def spoiled(history: list[Operation]) -> list[Operation]:
    """The same with one read, late in the history, of a value that was overwritten long ago."""
    place = next(
        place
        for place in range(len(history) * 9 // 10, len(history))
        if history[place].kind == "read" and not history[place].pending
    )
    late = history[place]
    puts = [
        operation.call[2]
        for operation in history
        if operation.kind == "write"
        and operation.call[1] == late.call
        and operation.returned is not None
        and operation.returned < late.invoked
    ]
    history[place] = replace(late, result=puts[len(puts) // 2])
    return history
