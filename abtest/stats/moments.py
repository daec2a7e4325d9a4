"""Counts, means and centred cross-products: all that the tests on means, ratios and covariates need of the users.

Cells merge exactly in any order up to rounding (Chan, Golub, LeVeque 1983, eq. 2.1), so days, shards and slices add up.
Nothing here is a difference of raw sums of squares: a mean of 1e9 beside a variance of 1 keeps its digits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of K columns over the users of one cell (arm × slice × day).

    Attributes:
        names: The K columns.
        n: Users.
        mean: Mean of each column, shape (K,); zeros where n is 0.
        comoment: Sum over users of (x - mean)(x - mean)^T, shape (K, K).
        freedom: Degrees of freedom of the spread where they are not n - 1, as of clusters of unequal size.
        expected: Of clusters: a mean's variance as it is expected under their working model; None of users.
    """

    names: tuple[str, ...]
    n: int
    mean: NDArray[np.float64]
    comoment: NDArray[np.float64]
    freedom: float | None = None
    expected: float | None = None

    def __post_init__(self) -> None:
        size = len(self.names)
        if len(set(self.names)) != size:
            raise ValueError(f"names must differ, got {self.names}.")
        if self.mean.shape != (size,) or self.comoment.shape != (size, size):
            raise ValueError(
                f"{size} names need mean ({size},) and comoment ({size}, {size}), "
                f"got {self.mean.shape} and {self.comoment.shape}."
            )
        if self.n < 0:
            raise ValueError(f"n must be >= 0, got {self.n}.")

    @classmethod
    def empty(cls, names: Sequence[str]) -> "Moments":
        """No users: the neutral element of ``+``."""
        size = len(names)
        return cls(tuple(names), 0, np.zeros(size), np.zeros((size, size)))

    @classmethod
    def of(cls, columns: Mapping[str, ArrayLike]) -> "Moments":
        """Moments of columns in memory, each of shape (n,); two passes, so nothing cancels.

        Raises:
            ValueError: If the columns differ in length or are not vectors.
        """
        vectors = {name: np.asarray(values) for name, values in columns.items()}
        shapes = {name: vector.shape for name, vector in vectors.items()}
        if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
            raise ValueError(f"columns must be vectors of one length, got {shapes}.")
        if not vectors or not len(next(iter(vectors.values()))):
            return cls.empty(tuple(vectors))
        rows = np.stack([vector.astype(np.float64) for vector in vectors.values()])  # (K, n)
        mean = rows.mean(axis=1)
        rows -= mean[:, None]
        return cls(tuple(vectors), rows.shape[1], mean, rows @ rows.T)

    def __add__(self, other: "Moments") -> "Moments":
        """Moments of both groups of users together.

        Raises:
            ValueError: If the columns differ.
        """
        if self.names != other.names:
            raise ValueError(f"moments of different columns do not add: {self.names} and {other.names}.")
        n = self.n + other.n
        if not self.n or not other.n:
            return self if other.n == 0 else other
        step = other.mean - self.mean
        mean = self.mean + step * (other.n / n)
        between = np.outer(step, step) * (self.n * (other.n / n))
        return Moments(self.names, n, mean, self.comoment + other.comoment + between)

    def __radd__(self, other: object) -> "Moments":
        """So that ``sum(cells)`` works: 0 + cell is the cell."""
        if other == 0:
            return self
        return NotImplemented

    def select(self, *names: str) -> "Moments":
        """The given columns alone, in the given order."""
        at = [self.at(name) for name in names]
        return Moments(tuple(names), self.n, self.mean[at], self.comoment[np.ix_(at, at)], self.freedom, self.expected)

    def linear(self, **new: Mapping[str, float]) -> "Moments":
        """These columns and new ones that are weighted sums of them: ``cost={"a": 1, "b": -2}`` is a - 2 b."""
        weights = np.zeros((len(new), len(self.names)))
        for row, parts in enumerate(new.values()):
            for name, weight in parts.items():
                weights[row, self.at(name)] = weight
        full = np.vstack([np.eye(len(self.names)), weights])  # (K + new, K)
        comoment = full @ self.comoment @ full.T
        return Moments((*self.names, *new), self.n, full @ self.mean, comoment, self.freedom, self.expected)

    @property
    def dof(self) -> float:
        """Degrees of freedom of variances and covariances."""
        return self.n - 1 if self.freedom is None else self.freedom

    def mean_of(self, name: str) -> float:
        """Mean of a column; nan without users."""
        return float(self.mean[self.at(name)]) if self.n else math.nan

    def var_of(self, name: str) -> float:
        """Variance of a column with n - 1 below; nan with fewer than 2 users."""
        return self.cov_of(name, name)

    def cov_of(self, first: str, second: str) -> float:
        """Covariance of two columns with n - 1 below; nan with fewer than 2 users."""
        if self.n < 2:
            return math.nan
        return float(self.comoment[self.at(first), self.at(second)] / (self.n - 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` gives the same bits back."""
        return {
            "names": list(self.names),
            "n": self.n,
            "mean": self.mean.tolist(),
            "comoment": self.comoment.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Moments":
        """The moments that ``to_dict`` wrote."""
        size = len(data["names"])
        return cls(
            tuple(data["names"]),
            int(data["n"]),
            np.asarray(data["mean"], np.float64).reshape(size),
            np.asarray(data["comoment"], np.float64).reshape(size, size),
        )

    def at(self, name: str) -> int:
        """Position of a column; ValueError names the ones there are."""
        try:
            return self.names.index(name)
        except ValueError:
            raise ValueError(f"no column {name}, there are {', '.join(self.names)}.") from None
