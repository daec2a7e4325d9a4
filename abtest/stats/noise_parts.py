"""A difference between arms and the independent parts of its noise, from which every test and interval follows."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class NoisePart(NamedTuple):
    """Noise from one group of users (an arm, or an arm within a stratum), as squared standard errors.

    Attributes:
        var: What the group adds to the variance of the difference.
        cov_base: Covariance of its share in minus the difference with its share in the base.
        var_base: What it adds to the variance of the base.
        dof: Degrees of freedom of these; inf takes them as known.
        expected: What weighs its degrees of freedom in place of its estimated noise, up to a factor that all parts
            share; None for the estimated noise.
    """

    var: float
    cov_base: float
    var_base: float
    dof: float
    expected: float | None = None


class Contrast(NamedTuple):
    """A difference between arms, and the noise of ``difference - rho * base`` from independent groups of users.

    Attributes:
        difference: treatment - control, adjusted or not.
        base: What the lift is relative to: the control's unadjusted value.
        parts: One per group; each adds ``var + 2 rho cov_base + rho^2 var_base``.
    """

    difference: float
    base: float
    parts: tuple[NoisePart, ...]

    def at(self, rho: float) -> tuple[float, float]:
        """Standard error and Welch-Satterthwaite degrees of freedom of ``difference - rho * base``."""
        noise = [max(p.var + rho * (2.0 * p.cov_base + rho * p.var_base), 0.0) for p in self.parts]
        return self._pooled(noise)

    def of_base(self) -> tuple[float, float]:
        """Standard error and degrees of freedom of the base, all that counts as rho grows."""
        return self._pooled([p.var_base for p in self.parts])

    def _pooled(self, noise: list[float]) -> tuple[float, float]:
        dof = pooled_dof(noise, [p.dof for p in self.parts], [p.expected for p in self.parts])
        return math.sqrt(max(math.fsum(noise), 0.0)), dof

    def upright(self) -> "Contrast":
        """The same contrast with a positive base, so that a lift is relative to the base's size."""
        if self.base >= 0.0:
            return self
        return Contrast(self.difference, -self.base, tuple(p._replace(cov_base=-p.cov_base) for p in self.parts))

    def normal(self) -> "Contrast":
        """The same contrast with its variances taken as known: z instead of t."""
        return self._replace(parts=tuple(p._replace(dof=math.inf) for p in self.parts))


def pooled_dof(noise: Sequence[float], dofs: Sequence[float], expected: Sequence[float | None]) -> float:
    """Satterthwaite's degrees of freedom of a sum of independent variances.

    Args:
        noise: Estimated variances; one that is 0 counts nothing.
        dofs: Degrees of freedom of each.
        expected: What the variances are expected to be up to a factor: weighs in place of the estimated ones
            (Bell, McCaffrey) if known of each; else the estimated ones weigh (Welch).
    """
    weights = list(noise)
    if None not in expected:
        weights = [e or 0.0 if v > 0.0 else 0.0 for v, e in zip(noise, expected, strict=True)]
    total = math.fsum(weights)
    if not total > 0.0:
        return math.inf
    spread = sum((weight / total) ** 2 / dof for weight, dof in zip(weights, dofs, strict=True))
    return 1.0 / spread if spread > 0.0 else math.inf
