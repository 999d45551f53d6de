from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from exraft.names import as_peer
from tests.rescue.stories import Terminal, command, write_log

PAGE = Path(__file__).parent.parent.parent / "docs" / "durability.md"
COMMANDS = [
    shlex.split(line.removeprefix("$ python -m exraft "), comments=True)
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("$ python -m exraft ")
]


def test_the_commands_of_the_page_do_what_it_says(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {words[0] for words in COMMANDS} == {"log", "backup", "restore", "recover", "rename"}
    for words in COMMANDS:
        shutil.rmtree("data", ignore_errors=True)
        names = [":db1", ":db2", ":db3"]
        for name in names:
            peer = as_peer(name)
            write_log(Path("data"), [command("one"), command("two")], me=peer, voters=names)
        done = terminal.type(*words)
        assert done.status == 0, (words, done.err)
