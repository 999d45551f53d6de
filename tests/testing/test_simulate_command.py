from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exraft import cli, simulate
from exraft.testing import Total, simulation

ROOT = Path(__file__).parent.parent.parent
HERE = "tests.testing.test_campaign"
LIMIT = 60.0

AT_A_TERMINAL = """
import signal, sys
from exraft import cli

# Whoever runs the tests in the background may have had it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(cli.main())
"""
SLOWLY = """
import threading
from pathlib import Path
from tests.testing.test_campaign import fine

def simulation(seed):
    if seed == 4:
        Path("there").write_text("")
        threading.Event().wait()
    return fine(seed)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exraft", "simulate", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LIMIT,
        cwd=ROOT,
        env={**os.environ, "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_a_campaign_tells_what_it_met_and_that_everything_held() -> None:
    result = run(f"{HERE}:fine", "--seeds", "12", "--jobs", "1")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[-1] == "Everything holds."
    assert any(line.startswith("12 seeds in ") for line in lines)
    assert any(line.endswith("  writes answered") for line in lines)
    # A machine of the user's need not meet what ours does.
    assert not any(line.lstrip().startswith("none") for line in lines)
    assert "\x1b" not in result.stdout


def test_a_campaign_that_fails_prints_the_one_command_that_shows_it_again() -> None:
    result = run(f"{HERE}:fails_at_seven", "--seeds", "20", "--jobs", "1")
    assert result.returncode == 1
    assert "Everything holds" not in result.stdout
    assert "the machine's own: not so after " in result.stderr
    last = result.stderr.splitlines()[-1]
    order, _, command = last.removeprefix("see it again: ").partition(" ")
    assert order.startswith("PYTHONHASHSEED=")
    assert command == f"python -m exraft simulate {HERE}:fails_at_seven --seed 7"
    again = run(*last.partition(" simulate ")[2].split())
    assert again.returncode == 1
    assert "the machine's own: not so after " in again.stderr


def test_a_campaign_begins_with_the_seed_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["simulate", f"{HERE}:fails_at_seven", "--jobs", "1"]
    assert cli.main([*arguments, "--first", "8", "--seeds", "5"]) == 0
    assert cli.main([*arguments, "--first", "6", "--seeds", "5"]) == 1
    assert "seed 7:" in capsys.readouterr().err


def test_without_a_function_exraft_is_tested_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "--seeds", "2", "--jobs", "1"]) == 0
    told = capsys.readouterr().out
    assert "2 seeds in" in told
    assert "none  " in told


def test_a_failure_of_our_own_is_shown_with_what_was_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulate, "DEFAULT", f"{HERE}:fails_at_seven")
    assert cli.main(["simulate", "--seeds", "10", "--jobs", "1"]) == 1
    captured = capsys.readouterr()
    assert "7 seeds in" in captured.out
    assert captured.err.splitlines()[-1] == "see it again: python -m exraft simulate --seed 7"


def test_many_seeds_of_ours_that_did_not_meet_everything_prove_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulate, "run_campaign", lambda *args, **chosen: (Total(seeds=1000), None))
    assert cli.main(["simulate", "--seeds", "1000"]) == 1
    captured = capsys.readouterr()
    assert "nothing was proved of: additions, " in captured.err
    assert "Everything holds" not in captured.out


def test_one_seed_can_be_looked_into(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", f"{HERE}:fine", "--seed", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("seed 3: 3 servers, ")
    assert lines[-1].endswith(" commits. Everything holds.")
    assert any(line.endswith("  elections") for line in lines)


def test_one_seed_can_be_shown_with_all_that_happens(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", f"{HERE}:fine", "--seed", "3", "--trace"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [":a", ":b", ":c"]
    assert any("append after" in line for line in lines)
    assert lines[-1].startswith("seed 3: ")


def test_a_seed_that_fails_can_be_shown_with_all_that_happens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["simulate", f"{HERE}:fails_at_seven", "--seed", "7", "--trace"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].split() == [":a", ":b", ":c"]
    assert lines[-1] == "again: the same Simulation, with seed=7"


@pytest.mark.parametrize("more", [["--seed", "3"], ["--seeds", "3"]])
def test_a_function_that_is_not_there_is_an_error_of_the_command_line(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["simulate", f"{HERE}:no_such_function", *more]) == 2
    told = capsys.readouterr()
    assert "no_such_function" in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    "wrong",
    [
        ["--seeds", "0"],
        ["--seeds", "many"],
        ["--jobs", "0"],
        ["--first", "x"],
        ["--seed", "1.5"],
        ["--sedes", "1"],
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["simulate", *wrong])
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--seed", "3"], ["--first", "3", "--seeds", "1"]])
def test_a_mistake_of_the_test_is_told_with_its_seed(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["simulate", f"{HERE}:mistaken", *more]) == 1
    told = capsys.readouterr().err
    assert "seed 3: the test itself raised" in told
    assert "LookupError: in the test, with 3" in told


def test_a_process_that_dies_is_told_with_the_command_that_shows_it_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["simulate", f"{HERE}:dies_at_seven", "--seeds", "10", "--jobs", "1"]) == 1
    told = capsys.readouterr()
    assert "7 seeds in " in told.out
    assert told.err.splitlines()[-1].endswith(" --seed 7")


def test_a_history_that_was_not_judged_is_not_said_to_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulation, "STATES", 1)
    assert cli.main(["simulate", f"{HERE}:fine", "--seed", "3"]) == 0
    told = capsys.readouterr().out
    assert "Everything holds" not in told
    assert "not found out whether the answers are linearizable" in told


def test_an_interrupted_campaign_tells_what_it_met_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, progress: Callable[[Total], None], **__: object) -> None:
        progress(Total(seeds=17, took=2.0))
        raise KeyboardInterrupt

    monkeypatch.setattr(simulate, "run_campaign", interrupted)
    assert cli.main(["simulate"]) == cli.INTERRUPTED
    told = capsys.readouterr()
    assert "17 seeds in 2.0 s" in told.out
    assert told.err == "interrupted\n"


@pytest.mark.skipif(os.name != "posix", reason="signals of a terminal are those of POSIX")
def test_ctrl_c_at_the_terminal_ends_all_processes_and_tells_what_was_met(tmp_path: Path) -> None:
    (tmp_path / "slowly.py").write_text(SLOWLY)
    os.mkfifo(tmp_path / "there")
    with subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, "simulate", "slowly:simulation", "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        cwd=tmp_path,
        start_new_session=True,
    ) as campaign:
        # The other end is opened by a seed that never ends.
        (tmp_path / "there").read_text()
        os.killpg(campaign.pid, signal.SIGINT)
        out, err = campaign.communicate(timeout=LIMIT)
    assert campaign.returncode == cli.INTERRUPTED
    assert err == "interrupted\n"
    assert "seeds in " in out


def test_the_help_says_what_a_function_is() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert "module:function" in result.stdout


def test_a_trace_is_of_one_seed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["simulate", "--trace"])
    assert ended.value.code == 2
    assert "give --seed as well" in capsys.readouterr().err


def test_no_name_is_not_the_empty_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "", "--seed", "1"]) == 2
    assert "not like module:function" in capsys.readouterr().err
