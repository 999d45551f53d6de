from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exraft.cli import main
from exraft.nodes import keys
from exraft.nodes.keys import CookieKeys, ListedKeys

pytest.importorskip("zmq")


def test_keygen_prints_a_strong_cookie(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["keygen"]) == 0
    (cookie,) = capsys.readouterr().out.split()
    CookieKeys(cookie)
    assert not caplog.records


def test_keygen_never_prints_the_same_cookie(capsys: pytest.CaptureFixture[str]) -> None:
    main(["keygen"])
    main(["keygen"])
    assert len(set(capsys.readouterr().out.split())) == 2


def test_keygen_writes_a_cookie_that_only_its_owner_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cookie"
    assert main(["keygen", "--file", str(path)]) == 0
    assert capsys.readouterr().out == ""
    assert sys.platform == "win32" or path.stat().st_mode & 0o777 == 0o600
    monkeypatch.delenv(keys.COOKIE, raising=False)
    monkeypatch.setenv(keys.COOKIE_FILE, str(path))
    found = keys.find_cookie(None)
    assert found is not None
    CookieKeys(found)


def test_keygen_leaves_a_file_that_is_there_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cookie"
    path.write_text("of old", encoding="utf-8")
    assert main(["keygen", "--file", str(path)]) == 1
    assert path.read_text(encoding="utf-8") == "of old"
    assert "is there already" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


def test_keygen_says_why_a_file_can_not_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keygen", "--file", str(tmp_path / "nowhere" / "cookie")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_pairs_of_keygen_admit_each_other_once_their_lines_are_exchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = {}
    for node in ("db-1:7001", "db-2:7001"):
        directory = tmp_path / node.replace(":", "-")
        assert main(["keygen", "--keys", str(directory), "--node", node]) == 0
        lines[directory] = capsys.readouterr().out
    one, two = lines
    assert not ListedKeys(one).admits(ListedKeys(two).own.public)
    with (one / keys.ALLOWED).open("a", encoding="utf-8") as file:
        file.write(lines[two])
    assert ListedKeys(one).admits(ListedKeys(two).own.public)
    assert ListedKeys(one).key_of("db-2:7001") == ListedKeys(two).own.public
    assert ListedKeys(one).key_of("db-1:7001") == ListedKeys(one).own.public
    assert sys.platform == "win32" or (one / keys.SECRET).stat().st_mode & 0o777 == 0o600


def test_keygen_replaces_no_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keygen", "--keys", str(tmp_path)]) == 0
    before = ListedKeys(tmp_path).own
    assert main(["keygen", "--keys", str(tmp_path)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert ListedKeys(tmp_path).own == before


@pytest.mark.parametrize(
    "arguments",
    [["--node", "db-1:7001"], ["--file", "a", "--keys", "b"], ["--keys", "k", "--node", "a b"]],
)
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["keygen", *arguments])
    assert exit_.value.code == 2


def test_a_node_that_is_no_address_is_refused_and_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "keys"
    assert main(["keygen", "--keys", str(directory), "--node", "db-1:port"]) == 1
    assert "no address" in capsys.readouterr().err
    assert not directory.exists()


def test_a_cookie_is_made_without_pyzmq() -> None:
    code = "import sys; sys.modules['zmq'] = None; import exraft.cli as c; c.main(['keygen'])"
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert len(made.stdout.strip()) == 64
