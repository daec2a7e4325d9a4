"""Adam steps with gradient zero, many at once: what a row misses while nothing reads it.

A row whose moments m, v are those of step t0 and whose gradient is zero in steps t0 + 1 .. t0 + k moves, by the
algorithm of Kingma & Ba (ICLR 2015, arXiv 1412.6980) with learning rate a(t) at step t, by minus

    sum_{s=1..k} a(t0+s) m b1^s / (1 - b1^(t0+s)) / (sqrt(v b2^s / (1 - b2^(t0+s))) + eps)
        = m * sum_s w_s / (sqrt(v) + eps d_s)
    w_s = a(t0+s) (b1 / sqrt(b2))^s sqrt(1 - b2^(t0+s)) / (1 - b1^(t0+s)),  d_s = sqrt((1 - b2^(t0+s)) / b2^s).

Only sqrt(v) differs between the elements of a row, and the sum is a Stieltjes function of it: its continued fraction

    W / (sqrt(v) + a_0 - b_1 / (sqrt(v) + a_1 - b_2 / ...))

of n levels is the n-point Gauss quadrature of the weights w_s on the points eps d_s, exact where k <= n (Gautschi,
Orthogonal Polynomials, Oxford 2004, 1.4 and 2.1.7). Its 2n numbers depend on t0 alone, and the weights vanish like
(b1 / sqrt(b2))^s, so that one step of training changes the last few hundred t0 only.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.shapes import is_fixed

TOLERANCE = 1e-6  # largest relative error of a catch-up; a few times more where the learning rate jumps
LEVELS = (2, 3, 4)
TAIL = 1e-13  # weights below this share of the first are left out
MAX_WINDOW = 4096  # steps that one t0 is followed for
MAX_GROWTH = 1e12  # of d_s within that window
USED_UP = 1e-11  # a level that changes the fraction by less is left out: it would be rounding error

Array = NDArray[np.float64]


class SkippedSteps:
    """The continued fractions of all t0 since ``base``, kept current step by step.

    Attributes:
        step: Steps taken, t.
        base: No row's moments may be older than this step.
        flush_at: Step by which all rows must be brought up to date, for the error to stay below TOLERANCE whatever
            eps; infinite once the bias corrections have settled (after some hundred steps with the usual betas).
        levels: Levels of the fractions, n.
    """

    def __init__(self, beta1: float, beta2: float, eps: float, *, device: torch.device | str, step: int = 0) -> None:
        """Start at ``step`` with every row up to date.

        Raises:
            ValueError: If not 0 <= beta1 < 1 and 0 < beta2 < 1.
        """
        if not (0.0 <= beta1 < 1.0 and 0.0 < beta2 < 1.0):
            raise ValueError(f"catch-up needs 0 <= beta1 < 1 and 0 < beta2 < 1, got {beta1} and {beta2}.")
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.ratio = beta1 / math.sqrt(beta2)
        settling = math.log(TAIL) / math.log(max(self.ratio, TAIL)) if self.ratio < 1 else math.inf
        longest = min(MAX_WINDOW, -2 * math.log(MAX_GROWTH) / math.log(beta2))
        self.window = max(LEVELS[-1], math.ceil(min(settling, longest)))
        self._settles = settling <= longest
        gaps = np.arange(1, self.window + 1)
        self._decay = np.asarray(self.ratio**gaps, dtype=np.float64)
        self._growth = np.asarray(beta2 ** (-gaps / 2), dtype=np.float64)
        average = 1 / (1 - self.ratio) if self.ratio < 1 else math.inf
        doubling = -2 * math.log(2) / math.log(beta2)  # steps in which the points double
        self._centre_gap = max(1, min(self.window, round(min(average, doubling))))
        self.device = torch.device(device)
        for self.levels in LEVELS:
            if self._longest_gap(10**12) == math.inf:  # long after the start
                break
        self.restart(step)

    def restart(self, step: int) -> None:
        """All rows are up to date at ``step``: forget everything before."""
        self.step = self.base = step
        self.flush_at = step + self._longest_gap(max(step, 1))
        self._table = self._blank(64)
        self._moments: Array = np.zeros((2 * self.levels, 1))  # of the latest t0, newest last
        self._centres: Array = np.array([self._centre(step)])

    def advance(self, learning_rate: float) -> None:
        """One more step, which every t0 so far skips."""
        self.step += 1
        n = len(self._centres)
        spread = self._spread(self.step)
        points = spread * self._growth[n - 1 :: -1] / self._centres - 1  # relative distance from the centre
        weights = learning_rate * spread / (1 - self.beta1**self.step) * self._decay[n - 1 :: -1]
        for moment in self._moments:
            moment += weights
            weights = weights * points
        rows = torch.from_numpy(self._fractions(self._moments, self._centres))
        end = self.step - self.base
        if end >= len(self._table):
            self._table = torch.cat([self._table, self._blank(len(self._table))])
        if self.device.type == "cuda":  # from memory that the GPU reads by itself, or the program would wait for it
            rows = rows.pin_memory()
        self._table[end - n : end] = rows.to(self.device, non_blocking=True)
        first = max(0, n + 1 - self.window)
        self._moments = np.pad(self._moments, ((0, 0), (0, 1)))[:, first:]
        self._centres = np.append(self._centres, self._centre(self.step))[first:]

    def gather(self, moved_to: Tensor, moments_of: Tensor) -> Tensor:
        """Fractions that bring rows up to date.

        Args:
            moved_to: Step up to which each row's weights have been moved, shape (n,), at least ``base``.
            moments_of: Step of each row's stored moments, shape (n,), at most ``moved_to``.

        Returns:
            ``W, a_{n-1}, -b_{n-1}, a_{n-2}, ..., -b_1, a_0`` of each row, shape (n, 2 levels), float64; they apply
            to the stored moments.
        """
        numbers = self._table.index_select(0, moved_to - self.base)
        late = moved_to - moments_of
        if is_fixed(late) or late.any():  # rows that were read, and moved, but got no gradient
            growth = self.decay2(late).rsqrt()[:, None]
            numbers[:, :1] *= self.decay1(late)[:, None] * growth
            numbers[:, 1::2] *= growth
            numbers[:, 2::2] *= growth.square()
        return numbers

    def decay1(self, gaps: Tensor) -> Tensor:
        """beta1 ** gaps in float64."""
        return torch.pow(self.beta1, gaps.double())

    def decay2(self, gaps: Tensor) -> Tensor:
        """beta2 ** gaps in float64."""
        return torch.pow(self.beta2, gaps.double())

    # -- the measure -----------------------------------------------------------------------------------------------

    def _spread(self, step: float) -> float:
        """sqrt(1 - b2^t): d_s without the factor b2^(-s/2)."""
        return math.sqrt(-math.expm1(step * math.log(self.beta2)))

    def _centre(self, t0: int) -> float:
        """Where the points d_s of t0 lie on average; moments are taken about it, for accuracy."""
        return self._spread(t0 + self._centre_gap) * float(self._growth[self._centre_gap - 1])

    def _blank(self, n: int) -> Tensor:
        """Fractions of rows that skipped nothing: 0 / (sqrt(v) + 1)."""
        blank = torch.zeros(n, 2 * self.levels, dtype=torch.float64, device=self.device)
        blank[:, 1::2].fill_(1.0)
        return blank

    def _fractions(self, moments: Array, centres: Array) -> Array:
        """Fractions in the order of ``gather``, (E, 2n), from moments (2n, E), by Chebyshev's algorithm."""
        n = self.levels
        older = np.zeros_like(moments)
        old = moments / np.maximum(moments[0], np.finfo(np.float64).tiny)
        a, b = [old[1]], [np.ones_like(centres)]
        for k in range(1, n):
            new = np.zeros_like(moments)
            part = slice(k, 2 * n - k)
            new[part] = old[k + 1 : 2 * n - k + 1] - a[-1] * old[part] - b[-1] * older[part]
            alive = new[k] > USED_UP  # the product of all b so far
            new = np.where(alive, new, 0.0)
            below, above = np.where(alive, old[k - 1], 1.0), np.where(alive, new[k], 1.0)
            a.append(new[k + 1] / above - np.where(alive, old[k], 0.0) / below)
            b.append(new[k] / below)
            older, old = old, new
        numbers = [moments[0]]
        for k in reversed(range(n)):
            numbers.append(self.eps * centres * (1 + a[k]))
            if k:
                numbers.append(-b[k] * (self.eps * centres) ** 2)
        return np.stack(numbers, axis=1)

    def _longest_gap(self, t0: int) -> float:
        """Most steps after ``t0`` for which the fraction is within TOLERANCE; infinite if the weights vanish first."""
        good, gap = self.levels, self.levels
        while self._error(t0, gap) <= TOLERANCE:
            good = gap
            if gap >= self.window:
                return math.inf if self._settles else gap
            gap = min(self.window, max(gap + 1, int(1.3 * gap)))
        return good

    def _error(self, t0: int, gap: int) -> float:
        """Largest relative error of the fraction of ``t0`` after ``gap`` skipped steps, over all sqrt(v) / eps."""
        steps = t0 + np.arange(1.0, gap + 1)
        spread = np.sqrt(-np.expm1(steps * math.log(self.beta2)))
        weights = self._decay[:gap] * spread / (1 - self.beta1**steps)
        points = spread * self._growth[:gap]
        if weights.sum() <= 0:
            return 0.0
        centre = self._centre(t0)
        moments = ((points / centre - 1) ** np.arange(2 * self.levels)[:, None] * weights).sum(1, keepdims=True)
        numbers = self._fractions(moments, np.array([centre]))[0]
        roots = self.eps * centre * np.logspace(-4, 3, 36)[:, None]  # sqrt(v), (36, 1)
        exact = (weights / (roots + self.eps * points)).sum(1)
        below = roots[:, 0] + numbers[1]
        for k in range(2, len(numbers), 2):
            below = roots[:, 0] + numbers[k] / below + numbers[k + 1]
        return float(np.abs(numbers[0] / below / exact - 1).max())
