"""Weighted draws from segments of the catalogue, at any time, among the items that are out by then.

An item of a segment is drawn with weight appeal, times 2^(-age / half-life) if it fades. Fading weights at time t are
those at a fixed time but for a factor that all share, so one cumulative sum serves every t: it is kept as a logarithm,
and a draw is one binary search. Shares are exact but for rounding: of a segment's weight in row r, 2^-52 * 65,536 r.
"""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_SPACING = 65_536.0  # distance of two rows' keys, in nats; a power of two, so that it costs few bits of precision
_MOST_NATS = 30_000.0


class Segments(NamedTuple):
    """A division of the catalogue, perhaps overlapping others."""

    segment: NDArray[np.int32]  # (N,) of each item
    size: int  # number of segments
    evergreen: NDArray[np.bool_]  # (N,) whether the item keeps its weight


@dataclass(frozen=True)
class WeightedItemSampler:
    """Segment s has two rows, 2 (S - 1 - s) of evergreen items and the next of fading ones, each by publication.

    The last segments have the first rows, whose keys are the most precise: let the largest come last.

    Attributes:
        keys: Row * spacing + log of the cumulative weight within the row, shape (M,), never falling.
        items: Item of each entry, shape (M,).
        starts: First entry of each row, shape (2S + 1,).
        ends: One past the last entry of each row that is out at each time bucket, shape (2S, T).
        evergreen_share: Chance that a draw is of an evergreen item, shape (S, T); -1 where nothing is out.
        bucket_s: Length of a time bucket in seconds; bucket b holds what was out at b * bucket_s.
    """

    keys: NDArray[np.float64]
    items: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int32]
    evergreen_share: NDArray[np.float32]
    bucket_s: float

    @classmethod
    def build(
        cls,
        divisions: list[Segments],
        appeal: NDArray[np.float64],
        published_s: NDArray[np.float64],
        *,
        half_life_s: float,
        bucket_s: float,
        buckets: int,
    ) -> "WeightedItemSampler":
        """A shelf whose segments are those of ``divisions``, one after the other.

        Raises:
            ValueError: If the half-life is so short that the weights leave the range of numbers.
        """
        decay = np.log(2.0) / half_life_s  # nats per second
        spread = decay * float(np.abs(published_s).max(initial=0.0))
        if spread > _MOST_NATS:
            raise ValueError(
                f"half_life_s={half_life_s:g} fades items by {spread:,.0f} nats within the log, "
                f"at most {_MOST_NATS:,.0f} can be told apart: raise it or shorten the log"
            )
        n_segments = sum(division.size for division in divisions)
        rows, ids = _rows(divisions, n_segments)
        order = np.lexsort((ids, published_s[ids], rows))
        rows, ids = rows[order], ids[order]
        starts = np.searchsorted(rows, np.arange(2 * n_segments + 1))
        log_weight = np.log(appeal[ids]) + np.where(rows % 2 == 1, decay * published_s[ids], 0.0)
        total = np.empty(len(ids))
        for start, end in itertools.pairwise(starts):
            np.logaddexp.accumulate(log_weight[start:end], out=total[start:end])
        times = np.arange(buckets, dtype=np.float64) * bucket_s
        ends = _ends(starts, published_s[ids], times)
        mass = np.where(ends > starts[:-1, None], total[np.maximum(ends - 1, 0)], -np.inf)  # (2S, T) nats
        mass[1::2] -= decay * times
        return cls(
            keys=rows * _SPACING + total,
            items=ids.astype(np.int32),
            starts=starts,
            ends=ends,
            evergreen_share=_share(mass[::2], mass[1::2])[::-1].copy(),
            bucket_s=bucket_s,
        )

    def pick(
        self, segments: NDArray[np.int64], buckets: NDArray[np.int64], uniform: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """One item per row, shape (B,), -1 where the segment has nothing out yet.

        Args:
            segments: Segment, shape (B,), counted over all divisions.
            buckets: Time bucket, shape (B,).
            uniform: Uniform in (0, 1), shape (B,).
        """
        n_segments, n_buckets = self.evergreen_share.shape
        share = self.evergreen_share.ravel()[segments * n_buckets + buckets].astype(np.float64)
        fading = uniform >= share
        within = np.where(
            fading, (uniform - share) / (1.0 - np.minimum(share, 1.0 - 1e-12)), uniform / np.maximum(share, 1e-12)
        )
        rows = 2 * (n_segments - 1 - segments) + fading
        end = self.ends.ravel()[rows * n_buckets + buckets]
        last = np.maximum(end - 1, 0)
        target = self.keys[last] + np.log(np.clip(within, 1e-300, 1.0))
        entry = np.clip(_search(self.keys, target), self.starts[rows], last)
        return np.where(share < 0.0, -1, self.items[np.minimum(entry, len(self.items) - 1)])


def _search(keys: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.int64]:
    """``np.searchsorted``, several times faster where ``keys`` outgrow the caches: targets in order walk through them
    once, and to sort is cheap."""
    order = np.argsort(targets)
    entry = np.empty(len(targets), np.int64)
    entry[order] = np.searchsorted(keys, targets[order])
    return entry


def _rows(divisions: list[Segments], n_segments: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and item of every entry, unsorted."""
    rows, ids, first = [], [], 0
    for division in divisions:
        segments = division.segment.astype(np.int64) + first
        rows.append(2 * (n_segments - 1 - segments) + ~division.evergreen)
        ids.append(np.arange(len(division.segment)))
        first += division.size
    return np.concatenate(rows), np.concatenate(ids)


def _ends(starts: NDArray[np.int64], published_s: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.int32]:
    ends = np.empty((len(starts) - 1, len(times)), np.int32)
    for row, (start, end) in enumerate(itertools.pairwise(starts)):
        ends[row] = start + np.searchsorted(published_s[start:end], times, side="right")
    return ends


def _share(evergreen: NDArray[np.float64], fading: NDArray[np.float64]) -> NDArray[np.float32]:
    from scipy.special import expit

    nothing = np.isneginf(evergreen) & np.isneginf(fading)
    with np.errstate(invalid="ignore"):
        share = expit(evergreen - fading)
    return np.where(nothing, -1.0, share).astype(np.float32)
