"""The numbers of a figure as a table, for who cannot see it or wants to copy them."""

from abtest.report.figures import Bars, Figure, HeatMap, Intervals, Lines
from abtest.report.formatting import UNDEFINED
from abtest.report.tables import Table


def figure_table(figure: Figure) -> Table:
    """Every value that the figure draws; its caption stays beside the figure."""
    if isinstance(figure, Intervals):
        return _intervals(figure)
    if isinstance(figure, Lines):
        return _lines(figure)
    if isinstance(figure, HeatMap):
        return _heat_map(figure)
    rows = [(label, text) for label, _, text in figure.rows]
    return Table(_title(figure), ("name", "value"), rows, [])


def _intervals(figure: Intervals) -> Table:
    marked = any(row.mark is not None for row in figure.rows)
    rows = [
        (
            row.label,
            _number(row.value, percent=figure.percent),
            _number(row.low, percent=figure.percent),
            _number(row.high, percent=figure.percent),
            *((_number(row.mark, percent=figure.percent),) if marked else ()),
        )
        for row in figure.rows
    ]
    return Table(_title(figure), ("name", "value", "from", "to", *(("diamond",) if marked else ())), rows, [])


def _lines(figure: Lines) -> Table:
    names = {place: name for name, place in figure.x_ticks.items()}
    rows = []
    for series in figure.series:
        for place, x in enumerate(series.x):
            at = names.get(round(x), names.get(x)) or _number(x, percent=figure.x_percent)
            low = series.low[place] if series.low else None
            high = series.high[place] if series.high else None
            ends = (_number(low, percent=figure.y_percent), _number(high, percent=figure.y_percent))
            rows.append((series.name, at, _number(series.y[place], percent=figure.y_percent), *ends))
    return Table(_title(figure), ("series", figure.x_label, figure.y_label, "from", "to"), rows, [])


def _heat_map(figure: HeatMap) -> Table:
    squares = sorted(figure.squares, key=lambda one: (one.row, one.column))
    rows = [
        (f"{figure.rows[one.row]}, {figure.columns[one.column]}", one.text, " to ".join(one.ends)) for one in squares
    ]
    return Table(_title(figure), (f"{figure.y_label}, {figure.x_label}", "value", "interval"), rows, [])


def _title(figure: Figure | Bars) -> str:
    return f"{figure.title}: the numbers"


def _number(value: float | None, *, percent: bool) -> str:
    if value is None:
        return UNDEFINED
    return f"{100 * value:+.2f} %" if percent else f"{value:,.6g}"
