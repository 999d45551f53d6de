"""A piece of the source that keeps a rule, and what a careless change could make of it.

Knows how the piece is replaced, put in force and taken back. Must not know which rules there are,
nor how the tests are run that must notice.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import TypeAlias

Test: TypeAlias = Callable[[], None] | str
"""A test without arguments, or the node id of one that pytest must give something to."""


@dataclass(frozen=True)
class Mutant:
    """One rule, broken in one place."""

    rule: int | str
    """Of docs/rules.md, or a statement of docs/supervision.md such as `"S14"`."""
    what: str
    """What is wrong with it."""
    where: object
    """A function, a method or a property."""
    right: str
    """A piece of its source, which stands in it once."""
    wrong: str
    """What to put there instead."""
    caught_by: tuple[Test, ...]
    """The tests that must fail, each of them."""
    hangs: bool = False
    """The tests notice by waiting in vain, which takes too long for every day."""

    @property
    def name(self) -> str:
        number = self.rule if isinstance(self.rule, str) else f"rule {self.rule}"
        return f"{number}: {self.what}"

    @property
    def room(self) -> str:
        """The part of exraft that it breaks."""
        return self.target().__module__.split(".")[1]

    def target(self) -> FunctionType:
        return _plain(self.where)

    def broken(self) -> FunctionType:
        """The function with the wrong piece in it."""
        function = self.target()
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.right) != 1:
            raise LookupError(
                f"{function.__qualname__} has {self.right!r} {source.count(self.right)} times,"
                f" where {self.name!r} wants it once"
            )
        source = source.replace(self.right, self.wrong)
        if function.__code__.co_freevars:
            # What `super()` reads, and other names from around it, must be names from around it
            # here as well; what they stand for is the function's own.
            around = " = ".join(function.__code__.co_freevars)
            body = textwrap.indent(source, "    ")
            source = f"def _around():\n    {around} = None\n{body}    return {function.__name__}\n"
            source += f"{function.__name__} = _around()\n"
        scope = dict(function.__globals__)
        # Compiled with this module's own future: annotations stay unevaluated.
        exec(compile(source, f"<{self.what}>", "exec"), scope)
        return _plain(scope[function.__name__])

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Break the rule for a while. Whoever holds the function already runs the broken one."""
        function = self.target()
        before = _insides(function)
        broken = self.broken()
        try:
            _fill(function, _insides(broken))
            yield
        finally:
            _fill(function, before)


def name_of(test: Test) -> str:
    """As pytest would call it, without its folder."""
    return test.rpartition("/")[2] if isinstance(test, str) else test.__name__


_Insides: TypeAlias = tuple[CodeType, tuple[object, ...] | None, dict[str, object] | None]


def _insides(function: FunctionType) -> _Insides:
    return function.__code__, function.__defaults__, function.__kwdefaults__


def _fill(function: FunctionType, insides: _Insides) -> None:
    function.__code__, function.__defaults__, function.__kwdefaults__ = insides


def _plain(where: object) -> FunctionType:
    if isinstance(where, property):
        where = where.fget
    where = getattr(where, "__func__", where)
    assert isinstance(where, FunctionType), where
    return where
