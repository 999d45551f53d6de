"""`python -m exraft cluster`, and calls from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.helpers import LIMIT
from tests.serving import COOKIE, ROOT, free_nodes, serving


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exraft", *words],
        cwd=ROOT,
        env=os.environ | {"EXRAFT_COOKIE": COOKIE},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * LIMIT,
    )


def test_three_processes_outlive_the_death_of_one() -> None:
    done = run("cluster", "--fast")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "checks held" in done.stdout
    assert "FAILED" not in done.stdout


def test_calls_from_the_command_line_are_answered() -> None:
    with serving(":raft1") as service:
        where = (service.node, service.name)
        assert run("call", *where, "await-leader").returncode == 0
        written = run("call", *where, "write", '"/"')
        assert (written.returncode, written.stdout.strip()) == (0, "1"), written.stderr
        read = run("call", *where, "read", "null", "--json")
        assert json.loads(read.stdout) == {"/": 1}, read.stderr
        refused = run("call", *where, "write", '"raise"')
        assert "no such page" in refused.stderr
        assert refused.returncode != 0


def test_a_call_to_nobody_fails_and_says_that_nothing_was_done() -> None:
    [away] = free_nodes()
    done = run("call", away, ":raft1", "ping", "--timeout", "5")
    assert done.returncode == 1
    assert away in done.stderr
    assert "Traceback" not in done.stderr
