"""What `python -m exraft keygen` does: new secrets, written where nobody else reads them.

Knows what is told about them. Must not know how they are made, nor what a node does with them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from exraft.errors import NodeError
from exraft.nodes import keys
from exraft.nodes.address import parse

_LIST = """\
# Who may connect to this node, and whom it connects to: a public key and its node (host:port) on
# each line, or any word for a client that runs no node. To revoke a key, delete its line here and
# with all others. A change is noticed within seconds.
"""


def main(file: str | None, directory: str | None, node: str | None) -> int:
    """Print a cookie, or write one, or make a directory of keys; return the exit status."""
    try:
        if directory is not None:
            return _keys(Path(directory), node)
        if file is not None:
            keys.write_new(Path(file), f"{keys.new_cookie()}\n")
            _tell(
                f"{file} holds a new cookie: copy it to every host, and name it in"
                f" ${keys.COOKIE_FILE}"
            )
            return 0
    except (NodeError, OSError, ValueError) as error:
        _tell(str(error))
        return 1
    print(keys.new_cookie())
    return 0


def _keys(directory: Path, node: str | None) -> int:
    if node is not None and ":" in node:
        parse(node)
    name = node or "self"
    pair = keys.new_pair()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (keys.SECRET, keys.ALLOWED):
        if os.path.lexists(directory / each):
            raise FileExistsError(f"{directory / each} is there already")
    line = f"{pair.public.decode()} {name}"
    keys.write_new(directory / keys.ALLOWED, f"{_LIST}{line}\n")
    keys.write_new(directory / keys.SECRET, f"{pair.secret.decode()}\n")
    print(line)
    _tell(
        f"{directory} holds a new pair of keys: add the line above to the others' lists"
        f" ({keys.ALLOWED}){'' if node else ', with the name of this node instead of self'},"
        f" and their lines to {directory / keys.ALLOWED}"
    )
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
