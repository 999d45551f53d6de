"""What a server's lives and supervisors leave to each other: its store above all."""

from __future__ import annotations

from pathlib import Path

import pytest

from exraft.actors.spec import Estate, Tenure
from exraft.actors.transport import local
from exraft.errors import OptionError, StoreLocked
from exraft.options import make_spec
from exraft.storage import DiskStore, MemoryStore, OsFiles
from exraft.storage.directory import hold
from tests.helpers import KeyValueStore

NAME = ":raft1"


def durable(tmp_path: Path) -> Estate:
    spec = make_spec(KeyValueStore, {}, NAME, {"data_dir": tmp_path / "data"}, local)
    assert spec.data_dir is not None
    return Estate(spec, DiskStore(spec.data_dir, spec.peer), local)


def in_memory() -> Estate:
    return Estate(make_spec(KeyValueStore, {}, NAME, {}, local), MemoryStore(), local)


def is_free(estate: Estate) -> bool:
    try:
        hold(OsFiles(), estate.place).close()
    except StoreLocked:
        return False
    return True


def test_nothing_is_on_the_disk_before_a_life_begins(tmp_path: Path) -> None:
    tenure = Tenure(durable(tmp_path))
    assert not (tmp_path / "data").exists()
    tenure.begin_life()
    assert (tmp_path / "data").is_dir()
    tenure.close()


def test_the_directory_is_held_from_the_first_life_to_the_end_of_the_supervisor(
    tmp_path: Path,
) -> None:
    estate = durable(tmp_path)
    tenure = Tenure(estate)
    tenure.begin_life()
    tenure.begin_life()
    assert not is_free(estate)
    tenure.close()
    assert is_free(estate)


def test_a_supervisor_that_was_given_up_lets_go_of_nothing_that_its_successor_holds(
    tmp_path: Path,
) -> None:
    estate = durable(tmp_path)
    given_up, successor = Tenure(estate), Tenure(estate)
    given_up.begin_life()
    present = successor.begin_life()
    given_up.close()
    assert not is_free(estate)
    present.set_ballot(1, None, leads=False)
    present.sync()
    successor.close()
    assert is_free(estate)


def test_one_that_could_not_open_the_store_closes_nothing(tmp_path: Path) -> None:
    first, second = durable(tmp_path), durable(tmp_path)
    holder, refused = Tenure(first), Tenure(second)
    holder.begin_life()
    with pytest.raises(StoreLocked):
        refused.begin_life()
    refused.close()
    assert not is_free(first)
    holder.close()


def test_one_that_began_no_life_closes_nothing(tmp_path: Path) -> None:
    estate = durable(tmp_path)
    holder, idle = Tenure(estate), Tenure(estate)
    holder.begin_life()
    idle.close()
    assert not is_free(estate)
    holder.close()


def test_a_bad_directory_is_said_before_anything_is_opened(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(OptionError, match="File exists"):
        Tenure(durable(tmp_path)).begin_life()


def test_a_life_resumes_what_another_of_the_same_supervisor_left(tmp_path: Path) -> None:
    """Rule 27."""
    for estate in (durable(tmp_path), in_memory()):
        tenure = Tenure(estate)
        tenure.begin_life()
        assert not estate.resumes
        tenure.begin_life()
        assert estate.resumes
        tenure.close()


def test_under_the_next_supervisor_a_life_resumes_what_was_in_memory_only(tmp_path: Path) -> None:
    """Rule 27: what was not stored when the first one ended is not on the disk."""
    for estate, resumes in ((durable(tmp_path), False), (in_memory(), True)):
        before = Tenure(estate)
        before.begin_life()
        before.close()
        after = Tenure(estate)
        after.begin_life()
        assert (estate.resumes, estate.lives) == (resumes, 2)
        after.close()
