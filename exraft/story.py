"""How a program tells a story that it lives through: steps, calls as one would type them, checks.

Knows how each is shown on a console, and counts what held. Must not know what it is about.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

from exraft.errors import ExRaftError
from exraft.names import LOCAL_NODE, Peer

READING_PAUSE = 0.4
"""Seconds between two steps, on a terminal."""

Value = TypeVar("Value")


class Unexpected(Exception):
    """The story took another turn than it should have."""


def console_and_pause(*, fast: bool = False) -> tuple[Console, float]:
    """Standard output, and how long a reader needs between two steps there."""
    console = Console(highlight=False, soft_wrap=True)
    return console, READING_PAUSE if console.is_terminal and not fast else 0.0


class Story:
    """Shows steps, calls and checks, and keeps count of the checks.

    Attributes:
        console: where it is told; `pause` seconds pass between two steps.
        checked, failed: how many checks there were, and how many did not hold.
    """

    def __init__(self, console: Console, pause: float = 0.0) -> None:
        self.console = console
        self._pause = pause
        self._step = 0
        self._began = perf_counter()
        self.checked = 0
        self.failed = 0

    def step(self, title: str) -> None:
        if self._step:
            threading.Event().wait(self._pause)
        self._step += 1
        self._print("")
        self._print(f"{self._step:>2}  {title}", "bold cyan")

    def call(self, function: Callable[..., Value], *args: Any, **options: Any) -> Value:
        """Make a call; show it as one would type it, what it returned and how long it took."""
        self.show(as_typed(function, args, options))
        began = perf_counter()
        result = function(*args, **options)
        self._answer(_returned(result), perf_counter() - began)
        return result

    def refused(self, function: Callable[..., Any], *args: Any) -> ExRaftError:
        """Make a call that is to fail; show and return the error."""
        self.show(as_typed(function, args, {}))
        began = perf_counter()
        try:
            result = function(*args)
        except ExRaftError as error:
            self._answer(f"raises {type(error).__name__}: {error}", perf_counter() - began)
            return error
        raise Unexpected(f"{as_typed(function, args, {})} returned {result!r}")

    def show(self, code: str) -> None:
        self._print(f"    >>> {code}")

    def shell(self, line: str) -> None:
        self._print(f"    $ {line}")

    def aside(self, text: str, style: str = "dim") -> None:
        self._print(f"        {text}", style)

    def check(self, holds: bool, what: str) -> None:
        self.checked += 1
        self.failed += not holds
        self._print(f"    {'ok' if holds else 'FAILED'}: {what}", "green" if holds else "bold red")

    def end(self) -> bool:
        """Say how many checks held, and return whether all did."""
        took = f"{perf_counter() - self._began:.1f} s"
        self.console.print()
        if self.failed:
            self.console.print(f"{self.failed} of {self.checked} checks FAILED, {took}")
        else:
            self.console.print(f"All {self.checked} checks held, {took}.")
        return not self.failed

    def _answer(self, text: str, seconds: float) -> None:
        self._print(f"        {text}  ({milliseconds(seconds)})", "dim")

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style))


def as_typed(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> str:
    name = function.__qualname__
    if hasattr(function, "__self__"):
        name = name[0].lower() + name[1:]
    typed = [*map(literal, args), *(f"{key}={literal(each)}" for key, each in options.items())]
    return f"{name}({', '.join(typed)})"


def literal(value: Any) -> str:
    """As one would type it: a peer of this process by its name alone, text in double quotes."""
    if isinstance(value, Peer):
        return literal(value.name if value.node == LOCAL_NODE else tuple(value))
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))})"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return value.__name__ if isinstance(value, type) else repr(value)


def _returned(result: Any) -> str:
    if result is None:
        return "done"
    return "started" if hasattr(result, "actor_urn") else f"returns {literal(result)}"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
