from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exraft.errors import NodeError
from exraft.nodes import keys
from exraft.nodes.keys import CookieKeys, KeyPair, ListedKeys, find_cookie, loopback_cookie

pytest.importorskip("zmq")

COOKIE = "a-cookie-of-the-tests-0123456789"
BITS = pytest.mark.skipif(sys.platform == "win32", reason="there are no such bits")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any cookie, and an environment without any."""
    there = tmp_path / "home"
    there.mkdir()
    monkeypatch.setenv("HOME", str(there))
    monkeypatch.setenv("USERPROFILE", str(there))
    monkeypatch.delenv(keys.COOKIE, raising=False)
    monkeypatch.delenv(keys.COOKIE_FILE, raising=False)
    return there


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


class Directory:
    """A directory of keys as the tests write it."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = path
        self.own = keys.new_pair()
        written(path / keys.SECRET, self.own.secret.decode() + "\n")

    def allow(self, *lines: str) -> None:
        written(self.path / keys.ALLOWED, "\n".join(lines) + "\n")

    def keys(self, every: float = 0.0) -> ListedKeys:
        return ListedKeys(self.path, every=every)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "keys")


def line(pair: KeyPair, *names: str) -> str:
    return " ".join([pair.public.decode(), *names])


# A cookie.


def test_one_cookie_gives_one_pair_in_every_process() -> None:
    # What it was when nodes were first released: another one would lock all of them out.
    assert CookieKeys(COOKIE).own.public == b"(]d>t7h&39&aslVCNQWDHfETf&/N]kCaH$ngzG}t"


def test_another_cookie_gives_another_pair() -> None:
    assert CookieKeys(COOKIE).own != CookieKeys(COOKIE + "!").own


def test_white_space_around_a_cookie_is_none_of_it() -> None:
    assert CookieKeys(f" {COOKIE}\n").own == CookieKeys(COOKIE).own


def test_the_holder_of_a_cookie_is_admitted_and_nobody_else() -> None:
    cookie = CookieKeys(COOKIE)
    assert cookie.admits(cookie.own.public)
    assert cookie.key_of("db-1:7001") == cookie.own.public
    assert not cookie.admits(keys.new_pair().public)
    assert cookie.revision() == 0


@pytest.mark.parametrize("short", ["", "   ", "fifteen-letters"])
def test_a_short_cookie_is_refused_with_a_way_to_a_strong_one(short: str) -> None:
    with pytest.raises(NodeError, match="python -m exraft keygen"):
        CookieKeys(short)


def test_what_is_no_string_is_no_cookie() -> None:
    with pytest.raises(NodeError, match="bytes"):
        CookieKeys(COOKIE.encode())  # type: ignore[arg-type]


@pytest.mark.parametrize("weak", ["a" * 100, "passwordpassword", "1234123412341234"])
def test_a_weak_cookie_is_warned_of(weak: str, caplog: pytest.LogCaptureFixture) -> None:
    CookieKeys(weak)
    assert "python -m exraft keygen" in caplog.text


def test_a_new_cookie_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    CookieKeys(keys.new_cookie())
    assert not caplog.records


def test_a_pair_does_not_show_its_secret_key() -> None:
    pair = keys.new_pair()
    assert pair.secret.decode() not in repr(pair)


# Where a cookie is found.


def test_without_any_cookie_none_is_found() -> None:
    assert find_cookie(None) is None


def test_cookies_are_found_in_order(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(home / ".exraft.cookie", "of the user\n")
    assert find_cookie(None) == "of the user"
    named = written(tmp_path / "cookie", "of the file\n")
    monkeypatch.setenv(keys.COOKIE_FILE, str(named))
    assert find_cookie(None) == "of the file"
    monkeypatch.setenv(keys.COOKIE, "of the environment")
    assert find_cookie(None) == "of the environment"
    assert find_cookie("of the program") == "of the program"


@BITS
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_cookie_that_others_can_read_is_refused(home: Path, mode: int) -> None:
    written(home / ".exraft.cookie", COOKIE, mode)
    with pytest.raises(NodeError, match="chmod 600"):
        find_cookie(None)


def test_a_file_that_is_named_and_missing_is_not_passed_over(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(home / ".exraft.cookie", COOKIE)
    monkeypatch.setenv(keys.COOKIE_FILE, str(home / "no-such-file"))
    with pytest.raises(NodeError, match="no-such-file can't be read"):
        find_cookie(None)


@pytest.mark.parametrize("variable", [keys.COOKIE, keys.COOKIE_FILE])
def test_an_empty_variable_is_not_passed_over(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "")
    with pytest.raises(NodeError, match="set and empty"):
        find_cookie(None)


def test_an_empty_file_holds_no_cookie(home: Path) -> None:
    written(home / ".exraft.cookie", "\n")
    with pytest.raises(NodeError, match="is empty"):
        find_cookie(None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_no_file_and_is_not_waited_for(home: Path) -> None:
    os.mkfifo(home / ".exraft.cookie", 0o600)
    with pytest.raises(NodeError, match="is no file"):
        find_cookie(None)


def test_a_file_that_is_far_too_large_is_no_cookie(home: Path) -> None:
    written(home / ".exraft.cookie", "x" * (2 << 20))
    with pytest.raises(NodeError, match="is it the right file"):
        find_cookie(None)


# The cookie of one machine.


def test_the_cookie_of_a_machine_is_made_once_and_is_strong(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cookie = loopback_cookie()
    assert loopback_cookie() == cookie
    CookieKeys(cookie)
    assert not caplog.records
    assert os.listdir(home / ".exraft") == ["loopback.cookie"]


@BITS
def test_the_cookie_of_a_machine_is_its_users_only(home: Path) -> None:
    loopback_cookie()
    assert (home / ".exraft" / "loopback.cookie").stat().st_mode & 0o777 == 0o600
    assert (home / ".exraft").stat().st_mode & 0o777 == 0o700


def test_processes_that_make_it_at_the_same_time_agree(home: Path) -> None:
    code = "import sys; from exraft.nodes.keys import loopback_cookie as c; input(); print(c())"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert told == {loopback_cookie()}
    assert os.listdir(home / ".exraft") == ["loopback.cookie"]


@BITS
def test_the_cookie_of_a_machine_is_refused_where_others_can_write(home: Path) -> None:
    loopback_cookie()
    (home / ".exraft").chmod(0o777)
    with pytest.raises(NodeError, match="others can write it; give a cookie"):
        loopback_cookie()


@BITS
def test_the_cookie_of_somebody_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loopback_cookie()
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(NodeError, match="belongs to somebody else"):
        loopback_cookie()


def test_without_a_place_for_the_cookie_of_a_machine_one_must_be_given(home: Path) -> None:
    written(home / ".exraft", "a file where the directory should be")
    with pytest.raises(NodeError):
        loopback_cookie()


# A list.


def test_who_is_listed_is_admitted(directory: Directory) -> None:
    other, client = keys.new_pair(), keys.new_pair()
    directory.allow(
        "# Of the shop.",
        "",
        line(directory.own, "db-1:7001"),
        line(other, "db-2:7001", "db-2.example:7001"),
        f"  {line(client, 'reports')}\t",
    )
    listed = directory.keys()
    assert listed.own == directory.own
    assert all(listed.admits(pair.public) for pair in (directory.own, other, client))
    assert listed.key_of("db-2:7001") == listed.key_of("db-2.example:7001") == other.public
    assert listed.key_of("reports") == client.public
    assert listed.key_of("db-3:7001") is None
    assert not listed.admits(keys.new_pair().public)


def test_who_is_added_is_admitted_and_nobody_has_to_leave(directory: Directory) -> None:
    directory.allow(line(directory.own, "self"))
    listed, other = directory.keys(), keys.new_pair()
    directory.allow(line(directory.own, "self"), line(other, "db-2:7001"))
    assert listed.admits(other.public)
    assert listed.revision() == 0


def test_who_is_taken_out_is_not_admitted_and_the_revision_grows(
    directory: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    other = keys.new_pair()
    directory.allow(line(directory.own, "self"), line(other, "db-2:7001"))
    listed = directory.keys()
    caplog.set_level("INFO")
    directory.allow(line(directory.own, "self"))
    assert listed.revision() == 1
    assert not listed.admits(other.public)
    assert listed.key_of("db-2:7001") is None
    assert "revoked: db-2:7001" in caplog.text


def test_a_new_key_for_a_node_revokes_its_old_one(directory: Directory) -> None:
    old, new = keys.new_pair(), keys.new_pair()
    directory.allow(line(old, "db-2:7001"))
    listed = directory.keys()
    directory.allow(line(new, "db-2:7001"))
    assert listed.key_of("db-2:7001") == new.public
    assert not listed.admits(old.public)
    assert listed.revision() == 1


def test_the_list_is_not_looked_at_more_often_than_it_is_said(directory: Directory) -> None:
    other = keys.new_pair()
    directory.allow(line(directory.own, "self"))
    listed = directory.keys(every=3600.0)
    directory.allow(line(other, "db-2:7001"))
    assert not listed.admits(other.public)
    assert listed.revision() == 0


GOOD = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
BROKEN = [
    ("not-a-key db-2:7001", "line 2 of .* begins with no public key"),
    (GOOD[:-1] + " db-2:7001", "line 2 of .* begins with no public key"),
    (GOOD[:-1] + "é db-2:7001", "line 2 of .* begins with no public key"),
    ("%" * 40 + " db-2:7001", "line 2 of .* begins with no public key"),
    (GOOD, "line 2 of .* whose key it is"),
    (GOOD + " self", "line 2 of .* gives self a second key"),
    (GOOD + " db-2:port", "line 2 of .* no address"),
    (f"{GOOD} a\n{GOOD} b", "line 3 of .* has a key that a line above has"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_a_broken_list_is_refused_with_its_line(
    directory: Directory, broken: str, message: str
) -> None:
    directory.allow(line(directory.own, "self"), broken)
    with pytest.raises(NodeError, match=message):
        directory.keys()


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_a_broken_edit_changes_nothing_and_is_told_once(
    directory: Directory, broken: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory.allow(line(directory.own, "self"))
    listed = directory.keys()
    directory.allow(line(directory.own, "self"), broken)
    for _ in range(3):
        assert listed.admits(directory.own.public)
    assert listed.revision() == 0
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert " of " in record.getMessage()


def test_a_mended_edit_holds(directory: Directory) -> None:
    other = keys.new_pair()
    directory.allow(line(directory.own, "self"))
    listed = directory.keys()
    directory.allow("broken")
    assert not listed.admits(other.public)
    directory.allow(line(other, "db-2:7001"))
    assert listed.admits(other.public)


@pytest.mark.parametrize("nothing", ["", "# Nobody.\n"])
def test_a_list_without_a_key_is_one_that_is_being_written(
    directory: Directory, nothing: str
) -> None:
    directory.allow(line(directory.own, "self"))
    listed = directory.keys()
    directory.allow(nothing)
    assert listed.admits(directory.own.public)
    assert listed.revision() == 0


def test_a_list_that_is_gone_changes_nothing(
    directory: Directory, caplog: pytest.LogCaptureFixture
) -> None:
    directory.allow(line(directory.own, "self"))
    listed = directory.keys()
    (directory.path / keys.ALLOWED).unlink()
    assert listed.admits(directory.own.public)
    assert "can't be read" in caplog.text


@BITS
def test_a_list_that_others_can_change_is_refused(directory: Directory) -> None:
    directory.allow(line(directory.own, "self"))
    (directory.path / keys.ALLOWED).chmod(0o664)
    with pytest.raises(NodeError, match="can change .* chmod 600"):
        directory.keys()


def test_a_list_that_others_can_read_is_good(directory: Directory) -> None:
    directory.allow(line(directory.own, "self"))
    (directory.path / keys.ALLOWED).chmod(0o644)
    assert directory.keys().admits(directory.own.public)


@BITS
def test_a_secret_key_that_others_can_read_is_refused(directory: Directory) -> None:
    directory.allow(line(directory.own, "self"))
    (directory.path / keys.SECRET).chmod(0o640)
    with pytest.raises(NodeError, match="chmod 600"):
        directory.keys()


@pytest.mark.parametrize("secret", ["", "short", "é" * 40, "%" * 40])
def test_what_is_no_secret_key_is_refused(directory: Directory, secret: str) -> None:
    directory.allow(line(directory.own, "self"))
    written(directory.path / keys.SECRET, secret)
    with pytest.raises(NodeError, match="holds no secret key"):
        directory.keys()


def test_a_directory_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="secret can't be read"):
        ListedKeys(tmp_path / "nowhere")


# pyzmq.


def test_without_pyzmq_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zmq", None)
    with pytest.raises(NodeError, match=r"pip install pyzmq"):
        keys.new_pair()


def test_a_pyzmq_that_can_not_encrypt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import zmq

    monkeypatch.setattr(zmq, "has", lambda capability: capability != "curve")
    with pytest.raises(NodeError, match="without CURVE"):
        CookieKeys("of-nobody-else-0123456789")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="gives files away")
def test_a_file_of_another_user_is_refused(directory: Directory) -> None:
    directory.allow(line(directory.own, "db-1:7001"))
    os.chown(directory.path / keys.ALLOWED, 4711, 4711)
    with pytest.raises(NodeError, match="is another user's"):
        directory.keys()
