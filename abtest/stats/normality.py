"""When the t-test of a mean is reliable: enough events, and skewness that cancels between the arms or is small.

Two rules, both about users of both arms together, so that the arm in which an effect shows cannot decide:

- **Events.** Where nothing differs, each arm expects at least 10 users with a value other than 0, and of a metric that
  is 0 or 1 also 10 with 0: the textbooks' n p >= 10 and n (1 - p) >= 10 (Moore, McCabe, *Introduction to the Practice
  of Statistics*), on expected counts as Cochran (1954) asks. With 2 users of 10,000 against 7 it does not hold.
- **Skewness.** The leading error of the normal approximation is the skewness of the statistic (Edgeworth; Boos,
  Hughes-Oliver 2000, from whom Kohavi et al. 2014, rule 7, take n > 355 s^2 for one mean, which keeps it below 0.053).
  Of a difference it is s |n_C - n_T| / sqrt(n_C n_T (n_C + n_T)): equal arms cancel it. Above 0.3 the tests raise 7 to
  36 % false alarms instead of 5 %, nearly all on one side (``tests/benchmarks/bench_rare.py``); for one mean that is
  n < 11 s^2, which for rare 0/1 values is again some 10 events.
"""

import math
from typing import NamedTuple

LEAST_EVENTS = 10
MOST_SKEWNESS = 0.3


class DistributionShape(NamedTuple):
    """What the rules need of one metric over one group of users; groups add.

    Attributes:
        n: Users.
        events: Users whose value is not 0.
        binary: Whether every value is 0 or 1.
        powers: Sums of (value - pivot) / scale, its square and its cube, with a pivot and scale that all groups share.
    """

    n: int
    events: int
    binary: bool
    powers: tuple[float, float, float]

    def plus(self, other: "DistributionShape") -> "DistributionShape":
        """Both groups together."""
        powers = (
            self.powers[0] + other.powers[0],
            self.powers[1] + other.powers[1],
            self.powers[2] + other.powers[2],
        )
        return DistributionShape(self.n + other.n, self.events + other.events, self.binary and other.binary, powers)

    @property
    def skewness(self) -> float:
        """Third standardised moment; 0 where nothing varies, nan where it is too large for a number."""
        if not self.n:
            return 0.0
        first, second, third = (power / self.n for power in self.powers)
        variance = second - first**2
        if not variance > 1e-12 * second:
            return 0.0
        return (third - 3.0 * first * second + 2.0 * first**3) / variance**1.5


def why_not_normal(control: DistributionShape, treatment: DistributionShape) -> str | None:
    """Reason why a t-test of these arms is not reliable; None where it is."""
    both = control.plus(treatment)
    if not both.n or not min(control.n, treatment.n):
        return None
    return _too_few(control, treatment, both) or _too_skewed(control.n, treatment.n, both.skewness)


def _too_few(control: DistributionShape, treatment: DistributionShape, both: DistributionShape) -> str | None:
    least = min(control.n, treatment.n) / both.n
    kinds = [("other than 0", control.events, treatment.events)]
    if both.binary:
        kinds.append(("of 0", control.n - control.events, treatment.n - treatment.events))
    for what, here, there in kinds:
        expected = (here + there) * least
        if expected < LEAST_EVENTS:
            return (
                f"only {here:,} and {there:,} users have a value {what}, which is {expected:.3g} expected in an arm "
                f"where nothing differs: below {LEAST_EVENTS} the test's normal approximation does not hold"
            )
    return None


def _too_skewed(n_control: int, n_treatment: int, skewness: float) -> str | None:
    of_difference = abs(skewness) * abs(n_control - n_treatment)
    of_difference /= math.sqrt(n_control * n_treatment * (n_control + n_treatment))
    if not of_difference > MOST_SKEWNESS:
        return None
    return (
        f"values of skewness {skewness:.1f} in arms of {n_control:,} and {n_treatment:,} users leave the difference a "
        f"skewness of {of_difference:.2f}: above {MOST_SKEWNESS:g} the test's normal approximation does not hold (arms "
        "of equal size, or a capped metric, would be sound)"
    )
