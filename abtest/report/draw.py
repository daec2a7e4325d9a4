"""Figures laid out on paper: lines, shapes and texts with a class each; colours are the style sheet's affair."""

import math
import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from abtest.report.figures import Bars, Figure, HeatMap, HeatSquare, Intervals, Lines, Row, Series
from abtest.report.scale import Scale, span, tick_text, ticks

WIDE, NARROW = 720, 358  # px: a page's column, and a phone's
_LETTER = 6.8  # px a letter takes at the text size of the figures, about
_WIDE_LETTER = 7.6  # px in the widest of the usual fonts
_ROW_H, _ROW_H_NARROW, _LINE_H, _AXIS_H = 30, 46, 16, 30
_NUMBERS_W = 188  # px beside a figure of intervals, at least
_SHADES = 5  # of each colour of a heat map


class DrawnMark(NamedTuple):
    """One drawn thing: ``line`` and ``rect`` by corners, ``dot`` by centre and radius, ``path`` by its d."""

    shape: str
    style: str
    x: float = 0.0
    y: float = 0.0
    x2: float = 0.0
    y2: float = 0.0
    text: str = ""
    anchor: str = "start"


class Drawing(NamedTuple):
    """A figure laid out.

    Attributes:
        width: px.
        height: px.
        marks: In the order they are drawn.
        legend: (class, name) of each series that needs a name.
    """

    width: int
    height: int
    marks: list[DrawnMark]
    legend: list[tuple[str, str]]


def draw(figure: Figure, width: int = WIDE) -> Drawing:
    """Lay a figure out for a page (720 px) or a phone (below 500 px)."""
    if isinstance(figure, Intervals):
        return _intervals(figure, width)
    if isinstance(figure, Lines):
        return _lines(figure, width)
    if isinstance(figure, HeatMap):
        return _heat_map(figure, width)
    return _bars(figure, width)


def _intervals(figure: Intervals, width: int) -> Drawing:
    narrow = width < 500
    longest = max((len(row.text) for row in figure.rows), default=0)
    side = max(_NUMBERS_W, 16 + round(_LETTER * longest))  # right of the paper, for the numbers
    left, right = (6, width - 10) if narrow else (_label_width(r.label for r in figure.rows), width - side)
    stacked = narrow and any(len(row.label) + len(row.text) + 3 > width / _LETTER for row in figure.rows)
    labels = [_label_lines(row, left, width, narrow=narrow, stacked=stacked) for row in figure.rows]
    above = max((len(lines) for lines in labels), default=1) - 1 + stacked  # lines of text more than one
    row_h = _ROW_H_NARROW + _LINE_H * above if narrow else _ROW_H
    bottom = 8 + row_h * len(figure.rows)
    x = Scale(*_limits(figure.rows), left + 6, right - 6)
    marks = list(_x_axis(x, 4, bottom, percent=figure.percent, signed=True, about=4 if narrow else 6))
    if x.low <= 0.0 <= x.high:
        marks.append(DrawnMark("line", "zero", x(0), 4, x(0), bottom))
    for place, row in enumerate(figure.rows):
        top = 8 + place * row_h
        y = top + (row_h - 18 if narrow else row_h / 2)
        line = top + 14 if narrow else y + 4
        quiet = " quiet" if row.hollow else ""
        for text in labels[place]:
            marks.append(DrawnMark("text", f"label{quiet}", 0, line, text=text))
            line += _LINE_H
        below = line if stacked else line - _LINE_H
        marks.append(DrawnMark("text", f"number{quiet}", width, below, text=row.text, anchor="end"))
        marks += _interval(row, x, y)
    return Drawing(width, bottom + _AXIS_H, marks, [])


def _label_lines(row: Row, left: int, width: int, *, narrow: bool, stacked: bool) -> list[str]:
    """The label in the room that it has: beside the paper, before the number, or in two lines above it."""
    if not stacked:
        room = width - 12 - _LETTER * len(row.text) if narrow else left - 8
        return [_short(row.label, int(room / _LETTER))]
    first, *rest = textwrap.wrap(row.label, int(width / _WIDE_LETTER)) or [""]
    return [first, _short(" ".join(rest), int(width / _WIDE_LETTER))] if rest else [first]


def _interval(row: Row, x: Scale, y: float) -> Iterator[DrawnMark]:
    tone = f"{row.tone} hollow" if row.hollow else row.tone
    if row.low is not None and row.high is not None:
        low, high = max(row.low, x.low), min(row.high, x.high)
        if low < high:
            yield DrawnMark("line", f"whisker {tone}", x(low), y, x(high), y)
        for bound, edge, tip in ((row.low, x.low, -1), (row.high, x.high, 1)):
            at = x(min(max(bound, x.low), x.high))
            if (bound < edge) if tip < 0 else (bound > edge):  # goes on beyond the paper
                yield DrawnMark("path", f"tip {tone}", text=f"M{at} {y - 4}L{at + 6 * tip} {y}L{at} {y + 4}Z")
            else:
                yield DrawnMark("line", f"whisker {tone}", at, y - 4, at, y + 4)
    if row.mark is not None and x.low <= row.mark <= x.high:
        at = x(row.mark)
        yield DrawnMark("path", "truth", text=f"M{at} {y - 7}L{at + 5} {y}L{at} {y + 7}L{at - 5} {y}Z")
    if row.value is None:
        return
    if x.low <= row.value <= x.high:
        yield DrawnMark("dot", f"dot {tone}", x(row.value), y, 4.5)
    else:
        tip = 1 if row.value > x.high else -1
        at = x(x.high if tip > 0 else x.low)
        yield DrawnMark("path", f"tip {tone}", text=f"M{at} {y - 4}L{at + 6 * tip} {y}L{at} {y + 4}Z")


def _limits(rows: Iterable[Row]) -> tuple[float, float]:
    """All intervals but the parts of those far wider than the rest, and 0.

    A value without an interval, which nobody could judge, squeezes the others no more than an interval would.
    """
    known = [row for row in rows if row.value is not None]
    widths = sorted(row.high - row.low for row in known if row.high is not None and row.low is not None)
    typical = widths[len(widths) // 2] if widths else 0.0
    low, high = 0.0, 0.0
    for row in known:
        assert row.value is not None
        reach = 2.0 * typical
        if row.low is None and typical:
            low, high = min(low, max(row.value, -reach)), max(high, min(row.value, reach))
            continue
        low = min(low, row.value, max(row.value - reach, row.low if row.low is not None else row.value))
        high = max(high, row.value, min(row.value + reach, row.high if row.high is not None else row.value))
        if row.mark is not None:
            low, high = min(low, row.mark), max(high, row.mark)
    return span(low, high, pad=0.06)


def _lines(figure: Lines, width: int) -> Drawing:
    narrow = width < 500
    height = 230 if narrow else 260
    numbers = [n for s in figure.series for n in (*s.y, *s.low, *s.high) if n is not None]
    if figure.level:
        numbers.append(figure.level[0])
    low, high = span(min(numbers, default=0.0), max(numbers, default=1.0), pad=0.06)
    places = [n for s in figure.series for n in s.x]
    first, last = span(min(places, default=0.0), max(places, default=1.0), pad=0.05)
    y_ticks = ticks(low, high, 4 if narrow else 5)
    signed = figure.y_percent and min(numbers, default=0.0) < 0
    texts = [tick_text(t, _step(y_ticks), percent=figure.y_percent, signed=signed) for t in y_ticks]
    left = 14 + round(_LETTER * max((len(text) for text in texts), default=4))
    x, y = Scale(first, last, left, width - 6), Scale(low, high, height - 42, 22)
    marks = [DrawnMark("text", "axis", 0, 12, text=figure.y_label)]
    for tick, text in zip(y_ticks, texts, strict=True):
        style = "zero" if tick == 0.0 and low < 0 else "grid"
        marks.append(DrawnMark("line", style, left, y(tick), width - 6, y(tick)))
        marks.append(DrawnMark("text", "axis", left - 6, y(tick) + 4, text=text, anchor="end"))
    whole = all(float(place).is_integer() for place in places)
    named = figure.x_ticks or _named_ticks(first, last, 4 if narrow else 7, percent=figure.x_percent, whole=whole)
    for text, at in _spaced(named, x, _LETTER):
        marks.append(DrawnMark("line", "tick", x(at), height - 42, x(at), height - 38))
        marks.append(DrawnMark("text", "axis", x(at), height - 24, text=text, anchor="middle"))
    marks.append(DrawnMark("text", "axis", (left + width - 6) / 2, height - 4, text=figure.x_label, anchor="middle"))
    if figure.level:
        at = y(figure.level[0])
        marks.append(DrawnMark("line", "level", left, at, width - 6, at))
    for series in figure.series:
        marks += _series(series, x, y)
    legend = [(f"{s.tone} {s.style}", s.name) for s in figure.series]
    return Drawing(width, height, marks, [*legend, *([("level", figure.level[1])] if figure.level else [])])


def _series(series: Series, x: Scale, y: Scale) -> Iterator[DrawnMark]:
    points = [(x(at), y(value)) for at, value in zip(series.x, series.y, strict=True) if value is not None]
    bounds = [
        (x(at), y(low), y(high))
        for at, low, high in zip(series.x, series.low, series.high, strict=False)
        if low is not None and high is not None
    ]
    if series.style == "band" and bounds:
        outline = [(at, low) for at, low, _ in bounds] + [(at, high) for at, _, high in reversed(bounds)]
        yield DrawnMark("path", f"area {series.tone}", text=_path(outline) + "Z")
    if series.style == "dots":
        for at, low, high in bounds:
            yield DrawnMark("line", f"whisker {series.tone}", at, low, at, high)
    if series.style != "dots" and points:
        yield DrawnMark("path", f"curve {series.tone}", text=_path(points))
    if series.style != "line":
        for at, value in points:
            yield DrawnMark("dot", f"dot {series.tone}", at, value, 3.5)


def _bars(figure: Bars, width: int) -> Drawing:
    narrow = width < 500
    left, right = (0, width) if narrow else (_label_width(label for label, _, _ in figure.rows), width - 150)
    row_h = 42 if narrow else 28
    x = Scale(0.0, max([value for _, value, _ in figure.rows] + [1e-300]), left, right)
    marks = []
    for place, (label, value, text) in enumerate(figure.rows):
        top = 4 + place * row_h
        line, bar = (top + 13, top + 20) if narrow else (top + 18, top + 6)
        room = int((width - 12 - _LETTER * len(text) if narrow else left - 8) / _LETTER)
        marks.append(DrawnMark("text", "label", 0, line, text=_short(label, room)))
        marks.append(DrawnMark("text", "number", width, line, text=text, anchor="end"))
        marks.append(DrawnMark("rect", "track", left, bar, right, bar + 14))
        marks.append(DrawnMark("rect", f"bar {figure.tone}", left, bar, max(x(max(value, 0.0)), left), bar + 14))
    return Drawing(width, 8 + row_h * len(figure.rows), marks, [])


def _heat_map(figure: HeatMap, width: int) -> Drawing:
    narrow = width < 500
    left = 12 + round(_LETTER * max((len(name) for name in figure.rows), default=1))
    side = (width - left) / max(len(figure.columns), 1)
    height = 66 if narrow else 58
    bottom = 24 + height * len(figure.rows)
    marks = [DrawnMark("text", "axis", 0, 12, text=figure.y_label)]
    for place, name in enumerate(figure.rows):
        middle = bottom - (place + 0.5) * height + 4
        marks.append(DrawnMark("text", "axis", left - 8, middle, text=name, anchor="end"))
    for place, name in enumerate(figure.columns):
        middle = round(left + (place + 0.5) * side, 2)
        marks.append(DrawnMark("text", "axis", middle, bottom + 16, text=name, anchor="middle"))
    marks.append(DrawnMark("text", "axis", (left + width) / 2, bottom + 36, text=figure.x_label, anchor="middle"))
    for square in figure.squares:
        x, y = round(left + square.column * side, 2), bottom - (square.row + 1) * height
        marks += _square(square, figure.most, (x, y, round(x + side, 2), y + height), two_lines=side < _LETTER * 17)
    legend = [("gain heat", "gain"), ("loss heat", "loss"), ("even heat", "interval covers 0")]
    return Drawing(width, bottom + 42, marks, legend)


def _square(
    square: HeatSquare, most: float, place: tuple[float, float, float, float], *, two_lines: bool
) -> Iterator[DrawnMark]:
    """A square with its number and interval; ``two_lines``: each end of the interval has its own line."""
    x, y, x2, y2 = place
    value = square.value or 0.0
    strength = min(_SHADES, math.ceil(_SHADES * abs(value) / most)) if most > 0 else 0
    hue = "gain" if value > 0 else "loss" if value < 0 else "even"
    sure = "open" if square.tone == "even" else "sure"
    yield DrawnMark("rect", f"square {hue} {sure} shade-{strength}", x + 2, y + 2, x2 - 2, y2 - 2)
    middle = round((x + x2) / 2, 2)
    joined = f"[{', '.join(square.ends)}]" if square.ends else ""
    lines = [*square.ends] if two_lines else [joined] if joined else []
    first = (y + y2) / 2 + 4 - 7 * len(lines)
    yield DrawnMark("text", f"heat-number {sure}", middle, first, text=square.text, anchor="middle")
    for at, line in enumerate(lines, start=1):
        yield DrawnMark("text", "heat-ends", middle, first + 15 * at, text=line, anchor="middle")


def _x_axis(x: Scale, top: float, bottom: float, *, percent: bool, signed: bool, about: int) -> Iterator[DrawnMark]:
    at = ticks(x.low, x.high, about)
    named = {tick_text(tick, _step(at), percent=percent, signed=signed): tick for tick in at}
    for tick in at:
        yield DrawnMark("line", "grid", x(tick), top, x(tick), bottom)
    for text, tick in _spaced(named, x, _LETTER):
        yield DrawnMark("text", "axis", x(tick), bottom + 18, text=text, anchor="middle")


def _named_ticks(low: float, high: float, about: int, *, percent: bool, whole: bool) -> dict[str, float]:
    """Round numbers with their texts; ``whole``: only whole ones, as days are."""
    at = ticks(low, high, about)
    if whole and not percent:
        at = [tick for tick in at if tick.is_integer()]
    return {tick_text(tick, _step(at) if len(at) > 1 else 1.0, percent=percent): tick for tick in at}


def _spaced(named: dict[str, float] | object, x: Scale, letter: float) -> Iterator[tuple[str, float]]:
    """Ticks whose texts do not touch."""
    assert isinstance(named, dict)
    free = float("-inf")
    for text, at in named.items():
        half = letter * len(text) / 2
        if x(at) - half >= free:
            yield text, at
            free = x(at) + half + 6


def _step(at: list[float]) -> float:
    return at[1] - at[0] if len(at) > 1 else abs(at[0]) if at else 1.0


def _label_width(labels: Iterable[str]) -> int:
    return min(300, max(70, 16 + round(_LETTER * max((len(label) for label in labels), default=0))))


def _short(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 1)] + "…"


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{at} {value}" for at, value in points)
