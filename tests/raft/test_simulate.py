"""A thousand clusters from seeds, in each of which every invariant must hold after every step.

python -m tests.raft.simulate --seeds 10000    for more of them
"""

from __future__ import annotations

from collections import Counter

import pytest

from exraft.raft import core
from tests.raft import simulate
from tests.raft.simulate import Broken, main, missing, run_seed

CHUNK = 100
CHUNKS = 10

exercised: Counter[str] = Counter()
lived: dict[int, None] = {}


@pytest.mark.parametrize("first", range(0, CHUNK * CHUNKS, CHUNK))
def test_clusters_survive_everything_at_once(first: int) -> None:
    for seed in range(first, first + CHUNK):
        report = run_seed(seed)
        exercised.update(report.counts)
        lived[seed] = None


def test_the_seeds_have_met_every_kind_of_trouble() -> None:
    if len(lived) < CHUNK * CHUNKS:
        pytest.skip("says something only of all seeds together")
    assert missing(exercised) == []


@pytest.mark.parametrize("seed", [3, 14, 159])
def test_the_same_seed_gives_the_same_history(seed: int) -> None:
    digests = {run_seed(seed, digest=True).digest for _ in range(2)}
    assert len(digests) == 1


def test_different_seeds_give_different_histories() -> None:
    digests = {run_seed(seed, digest=True).digest for seed in range(5)}
    assert len(digests) == 5


def test_a_broken_rule_is_reported_with_its_seed_a_trace_and_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # ExRaft 0.2's quorum (rule 1).
    monkeypatch.setattr(core, "quorum", lambda config, least: (len(config.voters) + 1) // 2)
    with pytest.raises(Broken) as caught:
        for seed in range(50):
            run_seed(seed, servers=(4, 4))
    broken = caught.value
    assert "of 4 voters" in broken.why or "two leaders" in broken.why
    assert any("Vote" in line for line in broken.trace)
    assert broken.replay.startswith("python -m tests.raft.simulate --seeds 1 --first ")
    assert f"--first {broken.seed} " in broken.replay


def test_the_command_tells_what_was_exercised(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3", "--first", "7", "--servers", "3-4"]) == 0
    told = capsys.readouterr().out
    assert "writes acknowledged" in told
    assert "3 seeds in" in told


def test_the_command_fails_when_a_seed_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(seed: int, **chosen: object) -> None:
        raise Broken(seed, "two leaders in term 3", ["a line of the trace"], "the command")

    monkeypatch.setattr(simulate, "run_seed", run)
    assert main(["--seeds", "3"]) == 1
    told = capsys.readouterr().err
    assert "seed 0: two leaders in term 3" in told
    assert "again: the command" in told
