"""A history as a picture: a lane for each client, a bar for each operation, an order as ticks.

Knows lanes, bars and labels, and how they become SVG, or PNG with matplotlib. Must not know how an
order or a contradiction was found.

Distances don't show how long things took: each moment at which something begins or ends is as far
from the one before it as the labels need, so that a busy second is as readable as an idle minute.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from exraft.testing.history import Operation

if TYPE_CHECKING:
    from exraft.testing.linearizability import Placed, Verdict

_BAR, _LANE, _GAP, _MARGIN, _TOP = 20.0, 34.0, 14.0, 16.0, 44.0
_CHARACTER = 6.8
"""Pixels, of the label's font; a generous average."""
_OTHERS = 12
"""More writes that don't help are not drawn beside a contradiction."""

_OK = ("#d7ecd9", "#3a7d44")
_PENDING = ("#fdf1d3", "#b7860b")
_CULPRIT = ("#f9d2d0", "#b3261e")
_OTHER = ("#ececec", "#8a8a8a")
_INK, _FAINT, _TICK = "#222222", "#bbbbbb", "#1f4e9c"


@dataclass(frozen=True, slots=True)
class _Bar:
    x: float
    y: float
    width: float
    fill: str
    stroke: str
    open_ended: bool


@dataclass(frozen=True, slots=True)
class _Line:
    x1: float
    y1: float
    x2: float
    y2: float
    colour: str
    width: float = 1.0


@dataclass(frozen=True, slots=True)
class _Text:
    x: float
    y: float
    text: str
    size: float = 11.0
    colour: str = _INK
    anchor: str = "start"
    bold: bool = False


_Shape: TypeAlias = _Bar | _Line | _Text


@dataclass(frozen=True, slots=True)
class _Picture:
    width: float
    height: float
    shapes: Sequence[_Shape]


def draw(history: Iterable[Operation], path: str | Path, verdict: Verdict | None = None) -> None:
    """Draw a history, with what is known of it.

    A bar goes from invocation to return; that of an operation which never returned is open. If the
    verdict is "yes", a numbered tick shows each operation's place in the order; if "no", only the
    operations that contradict each other are drawn, the one without a place in red, with an order
    of what came before, and other writes in grey, if there are few.

    Args:
        history: the operations, in any order.
        path: where to; `.svg`, or `.png`, which needs matplotlib.
        verdict: what `linearizable` said of the history.

    Raises:
        ValueError: the path ends otherwise.
        ModuleNotFoundError: for a PNG, matplotlib is not installed.
        OSError: the file can't be written.
    """
    path = Path(path)
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"{path.name!r}: a picture's name ends with .svg or .png")
    picture = _laid_out(list(history), verdict)
    if path.suffix == ".svg":
        path.write_text(_svg(picture), encoding="utf-8")
    else:
        _png(picture, path)


def _laid_out(history: list[Operation], verdict: Verdict | None) -> _Picture:
    if verdict is not None:
        history = list(verdict.history)
    title, caption = f"{len(history)} operations", ""
    order: Sequence[Placed] = ()
    culprit: Operation | None = None
    grey: list[Operation] = []
    if verdict is not None and verdict.ok:
        order = verdict.order
        title += ": linearizable; the numbers are their order"
    elif verdict is not None and verdict.contradiction is not None:
        why = verdict.contradiction
        order, culprit, caption = why.order, why.culprit, why.reason
        history = list(why.operations)
        placed = {id(each.operation) for each in order}
        few = len(why.others) <= _OTHERS
        grey = [other for other in why.others if few or id(other) in placed]
        about = "" if why.key is None else f" about {why.key!r}"
        title = f"not linearizable: operations{about} that contradict each other"
        if hidden := len(why.others) - len(grey):
            title += f" ({hidden} other writes, which do not help, are not drawn)"
    elif verdict is not None:
        title += ": not known to be linearizable"
    drawn = sorted([*history, *grey], key=lambda operation: operation.invoked)
    scale = _Scale(drawn)
    lanes = _lanes(drawn, scale)
    left = _MARGIN + _CHARACTER * max((len(client) for client, _ in lanes), default=0) + _GAP
    shapes: list[_Shape] = [_Text(_MARGIN, 24, title, 13, bold=True)]
    bottom = _TOP + _LANE * len(lanes)
    right = left + scale.end + _GAP
    tops: dict[int, float] = {}
    named = ""
    for row, (client, operations) in enumerate(lanes):
        y = _TOP + _LANE * row
        middle = y + _LANE / 2
        shapes.append(_Line(left, middle, right, middle, _FAINT, 0.5))
        if client != named:
            shapes.append(_Text(_MARGIN, middle + 4, client, bold=True))
            named = client
        for operation in operations:
            begin, end = left + scale.begin(operation), left + scale.finish(operation)
            top = y + (_LANE - _BAR) / 2
            colours = _OK
            if operation is culprit:
                colours = _CULPRIT
            elif any(operation is other for other in grey):
                colours = _OTHER
            elif operation.pending:
                colours = _PENDING
            shapes.append(_Bar(begin, top, end - begin, *colours, operation.pending))
            shapes.append(_Text(begin + 5, middle + 4, _label(operation)))
            tops[id(operation)] = top
    for number, each in enumerate(order, 1):
        if (above := tops.get(id(each.operation))) is not None:
            x = left + scale.between(each.at, each.operation)
            # Not through the label.
            shapes.append(_Line(x, above - 5, x, above + 3, _TICK, 2))
            shapes.append(_Text(x + 3, above - 2, str(number), 9, _TICK, bold=True))
    shapes += _axis(scale, left, bottom)
    if caption:
        shapes.append(_Text(_MARGIN, bottom + 42, caption, 12, _CULPRIT[1]))
    longest = max(len(title) * 1.25, len(caption) * 1.1) * _CHARACTER
    return _Picture(max(right, longest) + _MARGIN, bottom + (58 if caption else 34), shapes)


def _label(operation: Operation) -> str:
    text = str(operation).removeprefix(f"{operation.client}: ")
    return text if len(text) <= 48 else text[:45] + "..."


def _lanes(operations: Sequence[Operation], scale: _Scale) -> list[tuple[str, list[Operation]]]:
    """Lanes of operations that don't overlap: one a client, more if it has calls at one time."""
    lanes: dict[str, list[list[Operation]]] = {}
    for operation in operations:
        mine = lanes.setdefault(operation.client, [])
        for lane in mine:
            if scale.finish(lane[-1]) < scale.begin(operation):
                lane.append(operation)
                break
        else:
            mine.append([operation])
    return [(client, lane) for client, mine in lanes.items() for lane in mine]


class _Scale:
    """Where on the picture each moment is, in pixels from the left end of the lanes."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        # At the same instant, what has gone on for a while ends before others begin.
        begins = [(o.invoked, 1, place) for place, o in enumerate(operations)]
        ends = [
            (o.returned, 0 if o.invoked < o.returned else 2, place)
            for place, o in enumerate(operations)
            if o.returned is not None
        ]
        self._begin: dict[int, float] = {}
        self._finish: dict[int, float] = {}
        self.moments: list[tuple[float, float]] = []
        """(time, pixels), both rising."""
        x = 0.0
        self.end = 0.0
        for moment, turn, place in sorted([*begins, *ends]):
            operation = operations[place]
            name = id(operation)
            x += _GAP
            if turn != 1:
                x = max(x, self._begin[name] + self._room(operation))
                self._finish[name] = x
            else:
                self._begin[name] = x
                self.end = max(self.end, x + self._room(operation))
            self.moments.append((moment, x))
        self.end = max(self.end, x)

    @staticmethod
    def _room(operation: Operation) -> float:
        return _CHARACTER * len(_label(operation)) + 10

    def begin(self, operation: Operation) -> float:
        return self._begin[id(operation)]

    def finish(self, operation: Operation) -> float:
        return self._finish.get(id(operation), self.end)

    def between(self, moment: float, operation: Operation) -> float:
        """Where `moment` is, inside the bar of an operation in whose time it is."""
        after = bisect_right(self.moments, (moment, float("inf")))
        before_time, before = self.moments[max(after - 1, 0)]
        x = before
        if after < len(self.moments) and moment > before_time:
            after_time, following = self.moments[after]
            x += (following - before) * (moment - before_time) / (after_time - before_time)
        return min(max(x, self.begin(operation) + 2), self.finish(operation) - 2)


def _axis(scale: _Scale, left: float, y: float) -> Iterable[_Shape]:
    yield _Line(left, y + 4, left + scale.end, y + 4, _INK)
    written = -1e9
    for moment, x in scale.moments:
        yield _Line(left + x, y + 4, left + x, y + 8, _INK)
        text = f"{moment:.6g}"
        if x - written >= 8 + _CHARACTER * len(text):
            yield _Text(left + x, y + 20, text, 9, anchor="middle")
            written = x


def _svg(picture: _Picture) -> str:
    size = f"{picture.width:.0f} {picture.height:.0f}"
    width, height = size.split()
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {size}" font-family="Helvetica, Arial, sans-serif">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        *(_svg_shape(shape) for shape in picture.shapes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _svg_shape(shape: _Shape) -> str:
    match shape:
        case _Bar(x, y, width, fill, stroke, open_ended):
            if not open_ended:
                return (
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BAR:.0f}" rx="3"'
                    f' fill="{fill}" stroke="{stroke}"/>'
                )
            path = f"M{x + width:.1f},{y:.1f} H{x:.1f} V{y + _BAR:.1f} H{x + width:.1f}"
            return f'<path d="{path}" fill="{fill}" stroke="{stroke}" stroke-dasharray="5 3"/>'
        case _Line(x1, y1, x2, y2, colour, width):
            return (
                f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
                f' stroke="{colour}" stroke-width="{width}"/>'
            )
        case _Text(x, y, text, size, colour, anchor, bold):
            weight = ' font-weight="bold"' if bold else ""
            return (
                f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}"'
                f' text-anchor="{anchor}"{weight}>{escape(_legal(text))}</text>'
            )


def _legal(text: str) -> str:
    """XML has no place for control characters and lone surrogates, even escaped."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def _png(picture: _Picture, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a PNG needs matplotlib (pip install matplotlib): install it, or draw an .svg"
        ) from error
    figure = Figure(figsize=(picture.width / 100, picture.height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, picture.width)
    axes.set_ylim(picture.height, 0)
    axes.axis("off")
    for shape in picture.shapes:
        match shape:
            case _Bar(x, y, width, fill, stroke, open_ended):
                style = "--" if open_ended else "-"
                axes.add_patch(Rectangle((x, y), width, _BAR, fc=fill, ec=stroke, ls=style))
            case _Line(x1, y1, x2, y2, colour, width):
                axes.plot([x1, x2], [y1, y2], color=colour, linewidth=width * 0.72)
            case _Text(x, y, text, size, colour, anchor, bold):
                axes.text(
                    x,
                    y,
                    _legal(text),
                    size=size * 0.72,
                    color=colour,
                    ha="center" if anchor == "middle" else "left",
                    weight="bold" if bold else "normal",
                    parse_math=False,
                )
    figure.savefig(path, dpi=160)
