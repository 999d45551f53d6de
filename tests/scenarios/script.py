"""A scenario script: a file that is read, and run line by line.

Knows how a file is built, and how a failure is told. Must not know what its lines mean: that is
`play`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from exraft.testing.invariants import Violation
from tests.scenarios.facts import Unmet
from tests.scenarios.play import Play
from tests.scenarios.words import Malformed
from tests.scenarios.world import Restless


class ScriptFailed(AssertionError):
    """A line of a script that is malformed, or not met; says which, and how the servers are."""


@dataclass(frozen=True)
class Script:
    """A file, taken apart."""

    path: Path
    title: str
    about: str
    lines: tuple[tuple[int, str], ...]
    """What is to be done, each with its number in the file."""


def read_script(path: Path) -> Script:
    """A title; what it is about, up to an empty line; then one thing a line, `#` for remarks."""
    title, *rest = path.read_text(encoding="utf-8").splitlines() or [""]
    if not title.strip():
        raise ScriptFailed(f"{path}:1: a script begins with its title")
    if "" not in rest or not rest[0].strip():
        raise ScriptFailed(f"{path}:2: after the title, say what it is about; then an empty line")
    end = rest.index("")
    lines = []
    for number, line in enumerate(rest[end:], end + 2):
        said = re.sub(r"(^|\s+)#.*", "", line).strip()
        if said:
            lines.append((number, " ".join(said.split())))
    if not lines:
        raise ScriptFailed(f"{path}: nothing happens in it")
    return Script(path, title.strip(), " ".join(rest[:end]), tuple(lines))


def run_script(path: Path) -> None:
    """Do what the script says.

    Raises:
        ScriptFailed: a line is malformed, or what it expects is not so.
    """
    script = read_script(path)
    play = Play(script.title)
    for number, line in script.lines:
        try:
            play.do(line)
        except (Malformed, Unmet, Violation, Restless) as error:
            raise ScriptFailed(
                f"{path}:{number}: {line}\n{error}\n\n{play.world.show()}"
            ) from error
        except Exception as error:
            error.add_note(f"{path}:{number}: {line}\n\n{play.world.show()}")
            raise
