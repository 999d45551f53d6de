from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from exraft import logs
from exraft.logs import Style


class Written:
    """What a logger writes in a style."""

    def __init__(self, style: Style) -> None:
        self.stream = io.StringIO()
        logs.set_up(style, "info", self.stream)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def last(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.lines[-1])
        return found


@pytest.fixture(autouse=True)
def _the_log_is_as_before() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    # Else `force` would close those of pytest.
    logging.root.handlers.clear()
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


logger = logging.getLogger("shop")


def test_a_record_is_one_object_with_the_time_in_utc() -> None:
    written = Written("json")
    logger.info("%d pears\nare left", 3)
    assert len(written.lines) == 1
    assert written.last["message"] == "3 pears\nare left"
    assert written.last["level"] == "INFO"
    assert written.last["logger"] == "shop"
    assert written.last["ts"].endswith("Z")
    assert datetime.fromisoformat(written.last["ts"]).utcoffset() is not None


def test_the_traceback_of_an_exception_is_in_the_same_line() -> None:
    written = Written("json")
    try:
        raise ValueError("no pears")
    except ValueError:
        logger.exception("sold out")
    assert len(written.lines) == 1
    assert written.last["message"] == "sold out"
    assert written.last["traceback"].endswith("ValueError: no pears")


def test_fields_become_keys_and_replace_none_of_the_others() -> None:
    written = Written("json")
    logger.info("gone", extra=logs.fields(event="gone", level="high", left={1}))
    assert written.last["event"] == "gone"
    assert written.last["level"] == "INFO"
    assert written.last["left"] == "{1}"


def test_what_ends_a_thread_is_logged_and_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    written = Written("json")

    def fail() -> None:
        raise ValueError("no pears")

    thread = threading.Thread(target=fail, name="clerk")
    thread.start()
    thread.join()
    assert "clerk" in written.last["message"]
    assert "ValueError: no pears" in written.last["traceback"]
    assert capsys.readouterr().err == ""


def test_a_record_that_cannot_be_formatted_is_told_of_in_one_line() -> None:
    written = Written("json")
    logger.info("%d pears", "no")
    assert len(written.lines) == 1
    assert "%d pears" in written.last["message"]


def test_a_warning_is_logged() -> None:
    written = Written("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old pears", stacklevel=1)
    assert "old pears" in written.last["message"]


def test_for_people_what_follows_a_line_is_set_in() -> None:
    written = Written("human")
    logger.info("it said: no pears\n2026-01-01T00:00:00.000Z INFO    shop: all is well")
    assert written.lines[0].endswith("INFO    shop: it said: no pears")
    assert written.lines[1].startswith("  2026")


def test_what_is_below_the_level_is_not_written() -> None:
    written = Written("human")
    logger.debug("a pear was moved")
    assert written.lines == []
