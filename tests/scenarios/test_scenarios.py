"""Every story is told as the core tells it, and a script that is wrong says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.phrases import PHRASES
from tests.scenarios.script import ScriptFailed, read_script, run_script

HERE = Path(__file__).parent
SCRIPTS = sorted(HERE.glob("*/*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_story_goes_so(path: Path) -> None:
    run_script(path)


def test_there_are_enough_stories() -> None:
    assert len(SCRIPTS) >= 60


def test_every_story_has_a_title_of_its_own() -> None:
    titles = [read_script(path).title for path in SCRIPTS]
    assert len(set(titles)) == len(titles)


def test_every_story_expects_something() -> None:
    expecting = [each.pattern for each in PHRASES if each.when == "expect"]
    for path in SCRIPTS:
        lines = [line for _, line in read_script(path).lines]
        assert any(pattern.fullmatch(line) for pattern in expecting for line in lines), path


def test_the_readme_names_every_line_of_the_language() -> None:
    readme = (HERE / "README.md").read_text(encoding="utf-8").replace("\\|", "|")
    missing = [each.form for each in PHRASES if f"`{each.form}`" not in readme]
    assert not missing


# The language.


def told(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "story.txt"
    path.write_text("\n".join(["A story", "What it is about.", "", *lines]), encoding="utf-8")
    return path


def failure(tmp_path: Path, *lines: str) -> str:
    path = told(tmp_path, *lines)
    with pytest.raises(ScriptFailed) as caught:
        run_script(path)
    return str(caught.value).replace(str(path), "story.txt")


def test_a_story_that_goes_so_passes(tmp_path: Path) -> None:
    run_script(told(tmp_path, "servers a b c", "a takes the lead", "a: leads, term 2"))


def test_an_unmet_expectation_tells_line_and_state(tmp_path: Path) -> None:
    text = failure(tmp_path, "servers a b", "a campaigns", "a: leads, term 2   # not yet")
    assert text == (
        "story.txt:6: a: leads, term 2\n"
        "expected: a: leads\n"
        "   found: candidate\n"
        "\n"
        "a: candidate term 2, vote a, leader none, commit 1, log 1:config(ab)\n"
        "b: follower  term 1, vote none, leader none, commit 1, log 1:config(ab)\n"
        "on the way:\n"
        "  vote a -> b term=2 last_index=1 last_term=1 force=yes"
    )


def test_an_unknown_line_is_refused(tmp_path: Path) -> None:
    text = failure(tmp_path, "servers a b", "a takes the leader")
    assert text.startswith("story.txt:5: a takes the leader\nthere is no such line")
    assert "{server} takes the lead" in text


def test_an_unknown_server_is_refused(tmp_path: Path) -> None:
    assert "there is no server d" in failure(tmp_path, "servers a b c", "d campaigns")


def test_only_pieces_of_snapshots_can_be_damaged(tmp_path: Path) -> None:
    text = failure(tmp_path, "servers a b c", "a campaigns", "damage votes")
    assert "only pieces of snapshots can be damaged" in text


def test_a_snapshot_that_was_not_begun_can_not_be_finished(tmp_path: Path) -> None:
    assert "a has begun no snapshot" in failure(tmp_path, "servers a", "a finishes its snapshot")


def test_a_piece_says_of_which_snapshot_it_is(tmp_path: Path) -> None:
    text = failure(tmp_path, "servers a b", "a hears piece from b: term=3 snapshot=5 data=x")
    assert "say of a piece: term=3 snapshot=5.2 data=x_y" in text


def test_an_unknown_kind_of_message_is_refused(tmp_path: Path) -> None:
    text = failure(tmp_path, "servers a b c", "on the way: no letters")
    assert "'letters' is no kind of message" in text


def test_an_unknown_field_is_refused(tmp_path: Path) -> None:
    text = failure(tmp_path, "servers a b c", "b hears vote from a: term=2 colour=3")
    assert "a vote has no field colour" in text


def test_an_unknown_fact_is_refused(tmp_path: Path) -> None:
    assert "'leeds' is none of" in failure(tmp_path, "servers a b c", "a: leeds")


def test_a_malformed_log_is_refused(tmp_path: Path) -> None:
    assert "'x:1' is no entry" in failure(tmp_path, "servers a b", "log of a: x:1", "deliver")


def test_to_deliver_what_is_not_on_the_way_is_refused(tmp_path: Path) -> None:
    text = failure(tmp_path, "servers a b", "deliver votes a -> b")
    assert "expected: votes a -> b on the way\n   found: nothing of the kind" in text


def test_a_wrong_number_of_messages_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    text = failure(tmp_path, "servers a b c", "a campaigns", "on the way: 1 vote a -> *")
    assert "expected: 1 vote a -> *\n   found: 2, of these:" in text


def test_nothing_is_set_up_after_the_beginning(tmp_path: Path) -> None:
    text = failure(tmp_path, "servers a b", "deliver", "log of a: 1:config")
    assert "this has to be said before anything happens" in text


def test_a_ticket_is_used_once(tmp_path: Path) -> None:
    text = failure(tmp_path, "servers a", "a writes x", "a writes x")
    assert "x was asked for already" in text


def test_a_broken_invariant_fails_the_line(tmp_path: Path) -> None:
    text = failure(
        tmp_path,
        "servers a b c",
        "a takes the lead",
        "b hears append from a: term=2 prev_index=2 prev_term=2 entries=2:forged",
    )
    assert "writes" in text
    assert "without leading its term" in text


def test_what_never_comes_about_is_given_up(tmp_path: Path) -> None:
    text = failure(tmp_path, "servers a b", "cut a | b", "run until someone leads")
    assert "expected: someone leads\n   found: nobody does" in text


def test_what_must_last_fails_when_it_ends(tmp_path: Path) -> None:
    text = failure(
        tmp_path, "servers a b", "a takes the lead", "cut a | b", "run 9 s while a: leads"
    )
    assert "expected: a: leads\n   found: follower" in text


def test_a_story_without_a_title_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text("\nservers a\n", encoding="utf-8")
    with pytest.raises(ScriptFailed, match="begins with its title"):
        run_script(path)


def test_a_story_that_says_not_what_it_is_about_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text("A title\n\nservers a\n", encoding="utf-8")
    with pytest.raises(ScriptFailed, match="say what it is about"):
        run_script(path)


def test_two_runs_of_a_story_are_the_same(tmp_path: Path) -> None:
    lines = ("fresh servers a b c d e", "run until someone leads", "led so far: nobody")
    assert failure(tmp_path, *lines) == failure(tmp_path, *lines)
