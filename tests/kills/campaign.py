"""Kill a process in the middle of its traffic, by seed, and judge what the next one finds.

Knows what callers were told before each kill, and what must be so in every later life of the
cluster. Must not know how the servers keep anything.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 120.0
"""Seconds after which a round that should end by itself has hung."""


class KillsFailed(AssertionError):
    """What the cluster holds is not what its callers were told; or it does not come back."""


@dataclass
class Told:
    """What callers were told, over all lives."""

    asked: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    kills: int = 0
    checks: int = 0

    def hear(self, word: str, what: str) -> None:
        if word == "ask":
            self.asked.add(what)
        elif word == "ack":
            self.acknowledged.add(what)
        elif word == "no":
            self.refused.add(what)

    def judge(self, book: dict[str, int]) -> None:
        """What is acknowledged is there, once; what was refused is not; nothing is made up."""
        held = set(book)
        for what, those in (
            ("acknowledged and lost", self.acknowledged - held),
            ("refused and there", self.refused & held),
            ("there and never asked for", held - self.asked),
            ("there more than once", {unique for unique, times in book.items() if times != 1}),
        ):
            if those:
                raise KillsFailed(f"{len(those)} {what}, such as {min(those)}")
        self.checks += 1

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.checks} checks: {len(self.asked):,} writes asked for,"
            f" {len(self.acknowledged):,} acknowledged, {len(self.refused):,} refused"
        )


def run(
    directory: Path,
    seed: int,
    kills: int,
    progress: Callable[[str], None] = lambda text: None,
) -> Told:
    """Kill so many times, then let the cluster live in peace once, and stop.

    Raises:
        KillsFailed: something acknowledged is lost, something refused is there, or the cluster does
            not come back.
    """
    told = Told()
    rng = random.Random(f"{seed} kills")
    for number in range(kills):
        # From the first moment of its start to the midst of traffic.
        lines = rng.choice((rng.randint(0, 8), rng.randint(0, 40), rng.randint(0, 4000)))
        _live(told, directory, seed, number, lines)
        told.kills += 1
        progress(f"{told}")
    _live(told, directory, seed, kills, None)
    # And once more, to see what the orderly end left.
    _live(told, directory, seed, kills + 1, None)
    return told


def _live(told: Told, directory: Path, seed: int, number: int, lines: int | None) -> None:
    """One life of the process: until it has said so many lines, or to its end."""
    command = [
        *(sys.executable, "-m", "tests.kills.service", str(directory)),
        *("--round", str(number), "--seed", str(seed)),
    ]
    if lines is None:
        command += ["--writes", "20"]
    complaints = directory / f"stderr-{number}.txt"
    with complaints.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        overdue = threading.Timer(PATIENCE, process.kill)
        overdue.start()
        try:
            heard = _listen(told, process, lines)
        finally:
            overdue.cancel()
            overdue.join()
            process.kill()
            process.wait()
    if process.returncode != (0 if lines is None else -9) or heard is None:
        raise KillsFailed(
            f"round {number} of seed {seed} ended by itself, with {process.returncode}, or hung:\n"
            + complaints.read_text(errors="replace")[-4000:]
        )
    complaints.unlink()


def _listen(told: Told, process: subprocess.Popen[bytes], lines: int | None) -> int | None:
    """Hear what it says until it is killed; None if it ended before its time."""
    assert process.stdout is not None
    count = 0
    for line in process.stdout:
        if not line.endswith(b"\n"):
            break
        word, _, what = line.decode().rstrip("\n").partition(" ")
        told.hear(word, what)
        if word == "holds":
            path = Path(what)
            told.judge(json.loads(path.read_text()))
            path.unlink()
        if count == lines:
            process.kill()
        count += 1
    if lines is None:
        process.wait()
        return count
    return count if count > lines else None
