from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from exraft.testing.drawing import draw
from exraft.testing.history import History, Operation
from exraft.testing.linearizability import linearizable
from exraft.testing.models import KeyValue

SVG = "{http://www.w3.org/2000/svg}"

FINE = [
    Operation("alice", ("put", "x", 1), "write", 1.0, 3.0, "ok"),
    Operation("bob", "x", "read", 2.0, 4.0, 1),
    Operation("carol", ("put", "x", 2), "write", 3.5),
]
STALE = [
    *FINE,
    Operation("alice", ("put", "x", 3), "write", 5.0, 6.0, "ok"),
    Operation("bob", "x", "read", 7.0, 8.0, 1),
]


def texts(path: Path) -> list[str]:
    return [element.text or "" for element in ElementTree.parse(path).iter(f"{SVG}text")]


def fills(path: Path) -> list[str]:
    tree = ElementTree.parse(path)
    return [e.get("fill", "") for name in ("rect", "path") for e in tree.iter(f"{SVG}{name}")]


def test_each_operation_is_a_bar_with_what_was_asked_and_answered(tmp_path: Path) -> None:
    path = tmp_path / "history.svg"
    draw(FINE, path)
    assert {"alice", "bob", "carol"} <= set(texts(path))
    assert {"put x 1 -> ok", "read x -> 1", "put x 2 -> ?"} <= set(texts(path))


def test_an_operation_that_never_returned_is_open(tmp_path: Path) -> None:
    path = tmp_path / "history.svg"
    draw(FINE, path)
    assert len(list(ElementTree.parse(path).iter(f"{SVG}path"))) == 1


def test_a_linearizable_history_shows_the_order(tmp_path: Path) -> None:
    path = tmp_path / "history.svg"
    verdict = linearizable(FINE, KeyValue())
    verdict.draw(path)
    assert {str(place + 1) for place in range(len(verdict.order))} <= set(texts(path))
    assert any("linearizable" in text for text in texts(path))


def test_a_contradiction_shows_the_culprit_and_what_it_should_have_answered(tmp_path: Path) -> None:
    path = tmp_path / "history.svg"
    linearizable(STALE, KeyValue()).draw(path)
    assert "#f9d2d0" in fills(path)
    assert any("but bob was told 1." in text for text in texts(path))
    assert "put x 3 -> ok" in texts(path)


def test_an_unknown_verdict_is_drawn_as_one(tmp_path: Path) -> None:
    path = tmp_path / "history.svg"
    linearizable(STALE, KeyValue(), limit=1).draw(path)
    assert any("not known to be linearizable" in text for text in texts(path))
    assert "read x -> 1" in texts(path)


def test_bars_of_one_lane_do_not_overlap_and_have_room_for_their_labels(tmp_path: Path) -> None:
    path = tmp_path / "history.svg"
    operations = [
        Operation(f"client {n % 5}", ("put", f"key {n}", n), "write", n, n + 3 + n % 7, "ok")
        for n in range(200)
    ]
    draw(History(operations), path)
    lanes: dict[str, list[tuple[float, float]]] = {}
    for bar in ElementTree.parse(path).iter(f"{SVG}rect"):
        if bar.get("y") is not None:
            x, width = float(bar.get("x", "")), float(bar.get("width", ""))
            assert width >= 100
            lanes.setdefault(bar.get("y", ""), []).append((x, x + width))
    assert sum(map(len, lanes.values())) == 200
    for bars in lanes.values():
        bars.sort()
        assert all(end < begin for (_, end), (begin, _) in zip(bars, bars[1:], strict=False))


def test_whatever_a_client_is_called_or_says_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "history.svg"
    draw([Operation('<a & "b">', ("put", "\x00\ud800", "</text>"), "write", 1.0, 1.0)], path)
    assert '<a & "b">' in texts(path)
    assert any("</text>" in text for text in texts(path))


def test_an_empty_history_can_be_drawn(tmp_path: Path) -> None:
    path = tmp_path / "history.svg"
    linearizable([], KeyValue()).draw(path)
    assert texts(path)


def test_a_picture_can_be_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "history.png"
    linearizable(STALE, KeyValue()).draw(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_png_is_refused_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"or draw an \.svg"):
        draw(FINE, tmp_path / "history.png")


def test_another_kind_of_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends with \.svg or \.png"):
        draw(FINE, tmp_path / "history.pdf")
