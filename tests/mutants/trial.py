"""Whether a test notices.

Knows how one test is run, be it a plain function or one that pytest must give something to, and
what of its failures counts. Must not know what is broken meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import pytest

from tests.mutants.aside import Tell
from tests.mutants.mutant import Test, name_of

ROOT = Path(__file__).parents[2]

ACCIDENTS = (
    NameError,
    AttributeError,
    TypeError,
    ImportError,
    SyntaxError,
    pytest.skip.Exception,
)
"""What comes of a slip in a mutant, or of a test that is not run here, and is no test's merit."""


class Tried(NamedTuple):
    """What became of one test."""

    test: str
    failed: bool
    seconds: float
    why: str


def fails(test: Callable[[], None]) -> str:
    """What the test complains of; empty if it passes.

    By what it asserts: any other exception is an accident, and goes on.
    """
    try:
        test()
    except (AssertionError, pytest.fail.Exception) as error:
        return str(error) or type(error).__name__
    return ""


class Unknown(Exception):
    """Pytest does not find the tests; its message says which."""


_items: dict[str, pytest.Item] = {}
"""What pytest has collected, by its node ids."""


def collected(ids: Iterable[str], then: Callable[[], None]) -> None:
    """Call `then` in a session of pytest in which the tests of these node ids can be tried.

    Raises:
        Unknown: there is no such test.
    """
    ids = sorted(set(ids))
    if not ids:
        then()
        return
    session = _Session(then)
    with redirect_stdout(StringIO()) as told:
        code = pytest.main(_arguments(ids), plugins=[session])
    if session.raised is not None:
        raise session.raised
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise Unknown(told.getvalue())


class _Session:
    """In the place of the loop in which pytest would run all tests once."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then
        self.raised: BaseException | None = None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if not session.testsfailed:
            _items.update({item.nodeid: item for item in session.items})
            try:
                self._then()
            except BaseException as error:
                self.raised = error
        return True


def try_test(test: Test, tell: Tell) -> None:
    """Run it, and tell what became of it as soon as that is certain."""
    if isinstance(test, str):
        _try_by_pytest(test, tell)
        return
    began = perf_counter()
    why = fails(test)
    tell(Tried(name_of(test), bool(why), perf_counter() - began, why))


class _Teller:
    """Tells what pytest finds, before fixtures are torn down, which may take long when broken."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, None, None]:
        yield
        error = None if call.excinfo is None else call.excinfo.value
        if call.when == "call" or (call.when == "setup" and error is not None):
            if isinstance(error, ACCIDENTS):
                raise error
            why = "" if error is None else str(error) or type(error).__name__
            self._tell(Tried(name_of(item.nodeid), error is not None, call.duration, why))


def _try_by_pytest(id: str, tell: Tell) -> None:
    item = _items[id]
    item.config.pluginmanager.register(_Teller(tell))
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)


def _arguments(ids: list[str]) -> list[str]:
    return [
        *("-q", "-s", "--no-header", "--tb=short"),
        *("-p", "no:cacheprovider", "--timeout=0"),
        f"--rootdir={ROOT}",
        f"--config-file={ROOT / 'pyproject.toml'}",
        *(str(ROOT / id) for id in ids),
    ]
