"""Moments of the users by arm and slice, from which all tests are computed, in few passes over the log."""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import polars as pl

from abtest.analysis.expressions import Expression
from abtest.analysis.metrics import ALL, COLD, Metric
from abtest.analysis.unit_cells import UNIT, UnitCells
from abtest.analysis.userlog import UserLog, slice_column, slice_name
from abtest.stats.groups import CellMoments, Label
from abtest.stats.moments import Moments
from abtest.stats.normality import DistributionShape
from abtest.stats.terms import Term

CAP = 0.99  # winsorised metrics are capped at this quantile of all arms' users together
_CAPPED = "capped\x1f"


class Slice(NamedTuple):
    """Users with one label of one slice column; or all users.

    Attributes:
        name: In reports: "all", "cold", "country=NO".
        column: The slice column, None for all.
        label: Its value.
    """

    name: str
    column: str | None = None
    label: str | None = None


EVERYBODY = Slice(ALL)


class Measured(NamedTuple):
    """Moments of all metrics and covariates by arm and slice.

    Attributes:
        cells: Keyed by arm and every slice column.
        slices: All slices there are, without "all".
        covariates: Their columns.
        caps: Threshold of each capped metric.
        shapes: Of each mean metric, by the text of its expression and by cell: what tells whether a t-test holds.
    """

    cells: CellMoments | UnitCells
    slices: tuple[Slice, ...]
    covariates: tuple[str, ...]
    caps: dict[str, float]
    shapes: Mapping[str, Mapping[tuple[Label, ...], DistributionShape]]

    def of(self, arm: str, where: Slice = EVERYBODY) -> Moments:
        """Users of an arm, or of a slice of it."""
        if where.column is None:
            return self.cells.total(arm=arm)
        return self.cells.total(**{"arm": arm, slice_column(where.column): str(where.label)})

    def users(self, arm: str) -> int:
        """Users of an arm, whatever was assigned."""
        return self.cells.users(arm) if isinstance(self.cells, UnitCells) else self.of(arm).n

    def rest(self, arm: str, where: Slice) -> Moments:
        """Users of an arm outside a slice."""
        assert where.column is not None
        key = slice_column(where.column)
        others = [label for label in self.cells.labels(key) if label != where.label]
        return self.cells.total(**{"arm": arm, key: others})

    def shape(
        self, metric: Metric, arm: str, where: Slice = EVERYBODY, *, rest: bool = False
    ) -> DistributionShape | None:
        """Events and skewness of a mean metric in an arm, or in a slice of it, or outside the slice (``rest``).

        None of a ratio and without users.
        """
        at = None if where.column is None else self.cells.keys.index(slice_column(where.column))
        found = [
            shape
            for cell, shape in self.shapes.get(metric.value.text, {}).items()
            if cell[0] == arm and (at is None or (cell[at] == where.label) != rest)
        ]
        return reduce(DistributionShape.plus, found) if found and metric.per is None else None

    def slice_of(self, metric: Metric) -> Slice:
        """The slice that a metric is about; nobody may be in it."""
        column, sign, label = metric.slice.partition("=")
        return Slice(metric.slice, column, label) if sign else Slice(metric.slice, COLD, metric.slice)


def term(metric: Metric) -> Term:
    """A metric as the statistics know it."""
    return metric.value.text if metric.per is None else (metric.value.text, metric.per.text)


def capped(metric: Metric) -> str:
    """Name of the column with a mean metric's values capped."""
    return _CAPPED + metric.value.text


def measure(log: UserLog, arms: Sequence[str]) -> Measured:
    """Moments of every cell."""
    columns = values(log.metrics)
    caps = _caps(log, columns)
    columns |= {_CAPPED + text: columns[text].clip(upper_bound=cap) for text, cap in caps.items()}
    columns |= {name: pl.col(name) for name in log.covariates}
    keys = [slice_column(name) for name in log.slices]
    arm = pl.col("arm").cast(pl.String).cast(pl.Enum(arms))
    coded = [pl.col(slice_column(name)).cast(pl.Enum(labels)) for name, labels in log.slices.items()]
    if log.has_units:
        table = log.users.select(pl.col(UNIT), arm, *coded, **columns)
        return Measured(UnitCells.of(table, list(columns), ["arm", *keys]), _slices_of(log), log.covariates, caps, {})
    table = log.users.select(arm, *coded, **columns)
    cells = CellMoments.of(table, list(columns), ["arm", *keys])
    means = dict.fromkeys(metric.value.text for metric in log.metrics if metric.per is None)
    return Measured(cells, _slices_of(log), log.covariates, caps, _shapes(table, cells, list(means)))


def _slices_of(log: UserLog) -> tuple[Slice, ...]:
    return tuple(
        Slice(slice_name(column, label), column, label) for column, labels in log.slices.items() for label in labels
    )


def _shapes(
    table: pl.LazyFrame, cells: CellMoments, texts: Sequence[str]
) -> dict[str, dict[tuple[Label, ...], DistributionShape]]:
    """Events and sums of powers by cell, about the mean of all users and in units of their spread."""
    together, parts = cells.total(), []
    for at, text in enumerate(texts):
        spread = together.var_of(text) ** 0.5 if together.n > 1 else 0.0
        value = pl.col(text).cast(pl.Float64)
        unit = (value - together.mean_of(text)) / (spread if spread > 0.0 else 1.0)
        parts += [
            (value != 0).sum().alias(f"events {at}"),
            ((value == 0) | (value == 1)).all().alias(f"binary {at}"),
            *(unit.pow(power).sum().alias(f"power {power} {at}") for power in (1, 2, 3)),
        ]
    keys = list(cells.keys)
    found = table.group_by(keys).agg(pl.len().alias("users"), *parts).collect(engine="streaming")
    shapes: dict[str, dict[tuple[Label, ...], DistributionShape]] = {text: {} for text in texts}
    for row in found.iter_rows(named=True):
        cell = tuple(row[key] for key in keys)
        for at, text in enumerate(texts):
            powers = (row[f"power 1 {at}"], row[f"power 2 {at}"], row[f"power 3 {at}"])
            shapes[text][cell] = DistributionShape(row["users"], row[f"events {at}"], row[f"binary {at}"], powers)
    return shapes


def values(metrics: Iterable[Metric]) -> dict[str, pl.Expr]:
    """What the metrics need of each user, by the text of its expression."""
    expressions: list[Expression] = []
    for metric in metrics:
        expressions += [metric.value, *([metric.per] if metric.per else [])]
        expressions += [one for one in metric.uncapped or () if one is not None]
    return {e.text: pl.col(e.plain) if e.plain else e.expr for e in expressions}


def _caps(log: UserLog, columns: dict[str, pl.Expr]) -> dict[str, float]:
    """One threshold for all arms: thresholds by arm would bias the comparison."""
    primary = dict.fromkeys(m.value.text for m in log.metrics if m.role == "primary" and m.per is None)
    if not primary:
        return {}
    found = log.users.select(**{text: columns[text].quantile(CAP, "higher") for text in primary})
    row = found.collect(engine="streaming").row(0, named=True)
    return {text: float(cap) for text, cap in row.items() if cap is not None}
