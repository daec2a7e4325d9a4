"""Users hashed to buckets: sums from which thousands of re-randomisations are drawn without reading the users again.

A bucket is a random handful of users that move between arms together. Per bucket there are the users, the sums of each
column and the sums of the products that the metrics' variances need, all around a shift, so that nothing cancels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from abtest.stats.groups import as_series, batches, numbers
from abtest.stats.terms import Term, columns_of
from micrec.errors import MicrecError
from simulator.draws import Draws

if TYPE_CHECKING:
    from abtest.stats.groups import Batch, Source

Floats = NDArray[np.float64]

BUCKETS = 16_384  # the variance between buckets is off by sqrt(2 / buckets): 1.1 %


class BucketSums(NamedTuple):
    """Sums per bucket of one row per user.

    Attributes:
        columns: The K columns.
        pairs: The column pairs whose products are summed.
        shift: Taken from each column before it is summed, shape (K,).
        n: Users per bucket, shape (B,).
        sums: Shifted sums, shape (B, K).
        products: Sums of products of shifted columns, shape (B, len(pairs)).
    """

    columns: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    shift: Floats
    n: Floats
    sums: Floats
    products: Floats

    @classmethod
    def of(
        cls, source: "Source", metrics: Sequence[Term], *, user: str = "user_id", buckets: int = BUCKETS, seed: int = 0
    ) -> "BucketSums":
        """Sums of a table with one row per user; files are streamed.

        Args:
            source: A table in memory, a Parquet or CSV file, a lazy scan, or an iterable of batches.
            metrics: Columns or (numerator, denominator) pairs.
            user: The column of user ids, integers or texts.
            buckets: How many; 4096 at least keep the false-positive rate steady.
            seed: Seed of the hash.

        Raises:
            MicrecError: If a column is missing, not numeric, or not finite in some row, or there are no users.
            ValueError: If there are fewer than 2 buckets.
        """
        if buckets < 2:
            raise ValueError(f"buckets must be >= 2, got {buckets}.")
        columns = tuple(
            dict.fromkeys(name for term in metrics for name in ((term,) if isinstance(term, str) else term))
        )
        at = {name: place for place, name in enumerate(columns)}
        pairs: dict[tuple[int, int], None] = {}
        for term in metrics:
            places = [at[name] for name in columns_of(term)]
            pairs |= {(min(a, b), max(a, b)): None for a in places for b in places}
        shift: Floats | None = None
        n, sums = np.zeros(buckets), np.zeros((buckets, len(columns)))
        products = np.zeros((buckets, len(pairs)))
        draws = Draws(seed, "A/A buckets")
        for batch in batches(source, [*dict.fromkeys((user, *columns))]):
            values = [numbers(batch, name).astype(np.float64) for name in columns]
            if not len(values[0]):
                continue
            if shift is None:
                shift = np.array([column.mean() for column in values])
            bucket = _bucket(batch, user, draws, buckets)
            for column, by in zip(values, shift, strict=True):
                column -= by
            n += np.bincount(bucket, minlength=buckets)
            for place, column in enumerate(values):
                sums[:, place] += np.bincount(bucket, column, minlength=buckets)
            for place, (a, b) in enumerate(pairs):
                products[:, place] += np.bincount(bucket, values[a] * values[b], minlength=buckets)
        if shift is None:
            raise MicrecError("no users: the table has no rows.")
        if not (np.isfinite(sums).all() and np.isfinite(products).all()):
            bad = [name for place, name in enumerate(columns) if not np.isfinite(sums[:, place]).all()]
            raise MicrecError(f"{', '.join(bad) or 'a column'}: has values that are missing, not finite or too large.")
        return cls(columns, tuple(pairs), shift, n, sums, products)

    def table(self) -> Floats:
        """One row per bucket that has users: n, sums, products; shape (B, 1 + K + pairs)."""
        used = self.n > 0
        return np.column_stack([self.n, self.sums, self.products])[used]


def _bucket(batch: "Batch", user: str, draws: Draws, buckets: int) -> NDArray[np.int64]:
    import polars as pl

    ids = as_series(batch, user)
    if missing := ids.null_count():
        raise MicrecError(f"{user}: {missing:,} rows have no user.")
    whole = ids.to_numpy() if ids.dtype.is_integer() else ids.cast(pl.String).hash(seed=0).to_numpy()
    return (draws.bits(whole) % np.uint64(buckets)).astype(np.int64)
