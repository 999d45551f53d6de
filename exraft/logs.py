"""What a process that serves says of itself: lines for people, or an object a line for programs.

Knows how a record of the log becomes text, and that nothing is left that would be printed past it:
warnings, and what nobody has caught in any thread. Must not know who logs what.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, TextIO

Style = Literal["human", "json"]

FIELDS: Final = "exraft_fields"
"""Where `fields` puts them; a name that no library gives an attribute of a record."""


def fields(**values: object) -> dict[str, object]:
    """The `extra` of a logging call whose values become keys of the JSON object."""
    return {FIELDS: values}


def set_up(style: Style, level: str, stream: TextIO | None = None) -> logging.Handler:
    """Have everything that is logged, from `level` on, written to `stream` (standard error).

    What ends a thread is logged as well, so that JSON stays an object a line; and warnings are.

    Returns:
        the one handler of the root logger.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(Json() if style == "json" else Human())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _ended
    sys.unraisablehook = _unraisable
    return handler


class Human(logging.Formatter):
    """When, how grave, who, what; what follows a line belongs to it and is set in."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{_when(record)} {record.levelname:<7} {record.name}: {_message(record)}"
        traceback = _traceback(self, record)
        # A message may quote what came from a caller, who must not be able to fake a line.
        return "\n  ".join([*text.splitlines(), *traceback.splitlines()])


class Json(logging.Formatter):
    """`ts` (RFC 3339, UTC), `level`, `logger`, `message`, `traceback` if there is one, and fields.

    Always one line, and ASCII, so that no locale can break it.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": _when(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        line |= {
            key: value
            for key, value in getattr(record, FIELDS, {}).items()
            if key not in line and key != "traceback"
        }
        traceback = _traceback(self, record)
        if traceback:
            line["traceback"] = traceback
        return json.dumps(line, default=str)


def _when(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        # logging would print the whole stack of whoever has logged it.
        return f"{record.msg!r} % {record.args!r} ({type(error).__name__}: {error})"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


_log = logging.getLogger("exraft.process")


def _uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    _log.critical("the program fails", exc_info=(kind, error, traceback))


def _ended(args: threading.ExceptHookArgs) -> None:
    name = "a thread" if args.thread is None else f"the thread {args.thread.name}"
    value: Any = args.exc_value
    _log.error("%s has failed", name, exc_info=(args.exc_type, value, args.exc_traceback))


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    value: Any = args.exc_value
    what = args.err_msg or "an exception could not be raised"
    _log.error("%s: %r", what, args.object, exc_info=(args.exc_type, value, args.exc_traceback))
