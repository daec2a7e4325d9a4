"""Figures as data: what is drawn, free of where and how. Plain values, so that results.json can hold them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Tone = Literal["gain", "loss", "even", "first", "second", "third", "fourth"]
Numbers = Sequence[float | None]


@dataclass(frozen=True)
class Row:
    """One line of an interval figure.

    Attributes:
        label: At the left.
        text: At the right: the numbers in words.
        value: The dot; None where undefined.
        low: Left end of the interval.
        high: Right end.
        mark: A second, known value, such as a simulator's truth.
        tone: "gain", "loss" or "even".
        hollow: A second opinion on the row above.
    """

    label: str
    text: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    mark: float | None = None
    tone: Tone = "even"
    hollow: bool = False


@dataclass(frozen=True)
class Intervals:
    """A forest plot: dots with intervals about 0."""

    title: str
    rows: Sequence[Row]
    caption: str = ""
    percent: bool = True
    kind: Literal["intervals"] = "intervals"


@dataclass(frozen=True)
class Series:
    """One line of a line figure, or its dots, with intervals or a band.

    Attributes:
        name: In the legend.
        x: Places.
        y: Values; None leaves a gap.
        low: Lower ends of intervals, or empty.
        high: Upper ends.
        tone: Colour.
        style: "line", "dots" (with intervals) or "band" (a line within an area).
    """

    name: str
    x: Sequence[float]
    y: Numbers
    low: Numbers = ()
    high: Numbers = ()
    tone: Tone = "first"
    style: Literal["line", "dots", "band"] = "line"


@dataclass(frozen=True)
class Lines:
    """Values over days, effects or sizes.

    Attributes:
        title: Above the figure.
        x_label: What goes right.
        y_label: What goes up.
        series: Lines, dots and bands.
        caption: Below the figure.
        x_ticks: Names of places on the x axis; numbers if empty.
        x_percent: Whether x is a share.
        y_percent: Whether y is a share.
        level: A value of y to draw a line at, and its name.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    caption: str = ""
    x_ticks: Mapping[str, float] = field(default_factory=dict)
    x_percent: bool = False
    y_percent: bool = True
    level: tuple[float, str] | None = None
    kind: Literal["lines"] = "lines"


@dataclass(frozen=True)
class Bars:
    """Lengths to compare: (label, value, value in words)."""

    title: str
    rows: Sequence[tuple[str, float, str]]
    caption: str = ""
    tone: Tone = "first"
    kind: Literal["bars"] = "bars"


@dataclass(frozen=True)
class HeatSquare:
    """One square of a heat map.

    Attributes:
        column: Its place from the left, from 0.
        row: Its place from below, from 0.
        value: What colours it, the stronger the further from 0; None where undefined.
        text: The number in words.
        ends: The ends of its interval in words, or empty.
        tone: "gain" or "loss" where the interval lies on one side of 0, else "even".
    """

    column: int
    row: int
    value: float | None
    text: str
    ends: Sequence[str] = ()
    tone: Tone = "even"


@dataclass(frozen=True)
class HeatMap:
    """A value over two dials, in squares that are coloured from loss over 0 to gain.

    Attributes:
        title: Above the figure.
        x_label: What goes right.
        y_label: What goes up.
        columns: Names of the columns, from the left.
        rows: Names of the rows, from below.
        squares: The squares, in any order.
        most: The absolute value that has the strongest colour.
        caption: Below the figure.
    """

    title: str
    x_label: str
    y_label: str
    columns: Sequence[str]
    rows: Sequence[str]
    squares: Sequence[HeatSquare]
    most: float
    caption: str = ""
    kind: Literal["heat"] = "heat"


Figure = Intervals | Lines | Bars | HeatMap


def to_data(figure: Figure) -> dict[str, Any]:
    """Plain values for JSON; ``from_data`` gives the figure back."""
    return asdict(figure)


def from_data(data: Mapping[str, Any]) -> Figure:
    """The figure that ``to_data`` wrote.

    Raises:
        ValueError: If there is no such kind of figure.
    """
    plain = dict(data)
    kind = plain.pop("kind")
    if kind == "intervals":
        return Intervals(**{**plain, "rows": [Row(**row) for row in plain["rows"]]})
    if kind == "lines":
        level = plain.get("level")
        series = [Series(**one) for one in plain["series"]]
        return Lines(**{**plain, "series": series, "level": tuple(level) if level else None})
    if kind == "bars":
        return Bars(**{**plain, "rows": [tuple(row) for row in plain["rows"]]})
    if kind == "heat":
        return HeatMap(**{**plain, "squares": [HeatSquare(**square) for square in plain["squares"]]})
    raise ValueError(f"no figure of kind {kind!r}.")
