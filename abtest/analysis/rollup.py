"""From finer rows to one row per user: sums, days of activity, and who stayed for the next day."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from abtest.analysis.column_roles import ColumnRoles
from abtest.analysis.days import Days
from abtest.analysis.guards import REPEATS, VARIES, label
from abtest.analysis.metrics import COLD, ELIGIBLE, STAYS
from abtest.analysis.unit_cells import UNIT
from abtest.analysis.user_columns import MOMENT, RETAINED, TAKEN, WITHIN, UserColumn
from abtest.analysis.user_takes import UserTakes
from abtest.analysis.user_totals import BATCH_ROWS, THERE, UserTotals

FIRST_DAY = "first_day"
ACTIVE_DAYS = "active_days"


def on_day(column: str, day: int) -> str:
    """Name of the column that holds a user's sum of ``column`` on ``day`` (1, 2, ...)."""
    return f"{column}\x1f{day}"


def to_users(
    rows: pl.LazyFrame,
    layout: ColumnRoles,
    daily: tuple[str, ...],
    days: Days | None,
    *,
    arms: Sequence[str],
    labels: Mapping[str, Sequence[str]],
) -> tuple[pl.LazyFrame, str]:
    """Sum rows to users.

    Args:
        rows: Checked rows, whose counts and covariates are 64-bit floats.
        layout: What their columns are.
        daily: Counts to keep by day as well, for looks before the end.
        days: The window of days, with ``day`` counted from 1; None without days.
        arms: Values of ``arm``.
        labels: Values of each slice column, as ``guards.label`` writes them.

    Returns:
        One row per user: id, attributes (and a flag for each that is not one value), sums; with days also
        ``first_day``, the sums by day, the days after which the user came again the next day, and those after which
        they could have. Then what the rows were.
    """
    if layout.kind == "users":
        unit = [UNIT] if UNIT in rows.collect_schema() else []
        kept = ["user_id", *layout.attributes, *layout.counts, *unit]
        text = [pl.col(name).cast(pl.String) for name in ("arm",)]
        return rows.select(kept).with_columns(text), "one row per user, as logged"
    words = {"arm": (pl.col("arm").cast(pl.String), arms)}
    words |= {name: (label(name), labels[name]) for name in layout.slices}
    coded = [
        text.cast(pl.Enum(known)).to_physical().cast(pl.Int16).alias(name) for name, (text, known) in words.items()
    ]
    needed = [pl.col("user_id"), *coded, *(pl.col(name) for name in layout.covariates)]
    needed += [pl.col(name) for name in layout.counts if name not in layout.covariates]
    needed += [pl.col("day")] if days is not None else []
    needed += [_active(layout).alias(THERE)] if layout.kind == "days" else []
    takes = UserTakes([one for one in layout.made if not one.is_sum and one.take not in (RETAINED, WITHIN)])
    needed += [pl.col(TAKEN + one.name) for one in takes.columns]
    needed += [pl.col(MOMENT)] if MOMENT in rows.collect_schema() else []
    totals = UserTotals(layout.counts, daily, tuple(words), layout.covariates, days.length if days is not None else 0)
    for batch in rows.select(needed).collect_batches(chunk_size=BATCH_ROWS, maintain_order=True, engine="streaming"):
        codes = totals.add(batch)
        takes.add(batch, codes, len(totals))
    known_words = {name: known for name, (_, known) in words.items()}
    users = _table(totals, layout, daily if days is not None else (), known_words)
    users = users.with_columns(_made(totals, takes, layout.made))
    noun = {"days": "user-day rows", "events": "events", "parts": "rows"}[layout.kind]
    return users.lazy(), noun


def _table(
    totals: UserTotals, layout: ColumnRoles, daily: tuple[str, ...], words: Mapping[str, Sequence[str]]
) -> pl.DataFrame:
    """One row per user from the totals, in the order of the ids."""
    ids = totals.ids()
    order = ids.arg_sort().to_numpy()
    columns = {"user_id": ids.gather(order)}
    for name in layout.attributes:
        values = pl.Series(totals.first(name)[order])
        if name == COLD:
            values = values == list(words[name]).index("cold") if "cold" in words[name] else values < 0
        elif name in words:
            values = pl.Series(list(words[name]), dtype=pl.String).gather(values)
        columns[name] = values
        columns[VARIES + name] = pl.Series(totals.varies(name)[order])
    columns |= {name: pl.Series(totals.total(name)[order]) for name in layout.counts}
    for name in daily:
        columns |= {on_day(name, d): pl.Series(values[order]) for d, values in enumerate(totals.on_days(name), 1)}
    if totals.days:
        seen, active = totals.seen()[:, order], totals.active()[:, order]
        columns[FIRST_DAY] = pl.Series(seen.argmax(axis=0) + 1)
        columns[STAYS] = pl.Series((active[:-1] & active[1:]).sum(axis=0))
        columns[ELIGIBLE] = pl.Series(active[:-1].sum(axis=0))
        columns[ACTIVE_DAYS] = pl.Series(active.sum(axis=0))
        if layout.kind == "days":
            columns[REPEATS] = pl.Series(totals.rows()[order] > seen.sum(axis=0))
    return pl.DataFrame(columns)


def _made(totals: UserTotals, takes: UserTakes, made: Sequence[UserColumn]) -> list[pl.Series]:
    """Columns of users that are no sums, in the order of the ids."""
    order = totals.ids().arg_sort().to_numpy()
    found = [pl.Series(one.name, takes.of(one.name, len(totals))[order]) for one in takes.columns]
    for day in dict.fromkeys(one.day for one in made if one.take == RETAINED):
        retained, observed = _retention(totals, day)
        names = f"retained_day_{day}", f"observed_day_{day}"
        found += [pl.Series(name, values[order]) for name, values in zip(names, (retained, observed), strict=True)]
    return found


def _retention(totals: UserTotals, day: int) -> tuple[np.ndarray, np.ndarray]:
    """Who was active ``day`` days after their first day, and for whom that day lies in the window; 0 and 1."""
    active = totals.active()
    first = totals.seen().argmax(axis=0)
    observed = first + day < totals.days
    then = active[np.minimum(first + day, totals.days - 1), np.arange(active.shape[1])]
    return (then & observed).astype(np.float64), observed.astype(np.float64)


def _active(layout: ColumnRoles) -> pl.Expr:
    """On which user-day rows the user was there: as the log says, else where anything was counted."""
    if layout.has_active:
        return (pl.col("active").cast(pl.Float64) > 0).fill_null(False)
    counted = [pl.col(name) > 0 for name in layout.counts]
    return pl.any_horizontal(counted) if counted else pl.lit(True)
