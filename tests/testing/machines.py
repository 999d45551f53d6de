"""Small machines, and simulations of them that take milliseconds.

Knows what the tests of the simulated world run. Must not know what each of them looks for.
"""

from __future__ import annotations

import random
from typing import Any

from exraft import StateMachine
from exraft.testing import Faults, MachineModel, Simulation

CALM = Faults()
"""A network in good order."""


class Sum(StateMachine):
    """Adds up what is written."""

    def init(self, init_arg: Any) -> int:
        return 0

    def handle_write(self, command: Any, state: Any) -> Any:
        return state + command, state + command

    def handle_read(self, query: Any, state: Any) -> Any:
        return state


class Shelf(StateMachine):
    """Keeps a number by name; what is written under one name says nothing of another."""

    def handle_write(self, command: tuple[str, int], state: Any) -> Any:
        name, number = command
        return state.get(name), {**state, name: number}

    def handle_read(self, query: str, state: Any) -> Any:
        return state.get(query)


def small(machine: Any = Sum, init_arg: Any = 0, **chosen: Any) -> Simulation:
    """A short life of three servers."""
    return Simulation(
        machine,
        init_arg,
        **{
            "commands": lambda rng: rng.randrange(10),
            "queries": lambda rng: None,
            "servers": 3,
            "events": 200,
            "commits": 5,
            **chosen,
        },
    )


def shelf(seed: int, **chosen: Any) -> Simulation:
    """A short life whose history is quickly judged, whatever happens."""

    def command(rng: random.Random) -> tuple[str, int]:
        return rng.choice("abcdefgh"), rng.randrange(100)

    return small(
        Shelf,
        {},
        **{
            "commands": command,
            "queries": lambda rng: rng.choice("abcdefgh"),
            "model": MachineModel(
                Shelf, {}, key=lambda call, kind: call[0] if kind == "write" else call
            ),
            "seed": seed,
            **chosen,
        },
    )
