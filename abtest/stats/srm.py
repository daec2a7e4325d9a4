"""Sample ratio mismatch: did each arm get its planned share of the users? If not, no effect can be trusted.

``srm`` is Pearson's chi-square on users, for one look; ``anytime_srm`` is a Dirichlet-multinomial Bayes factor, whose
reciprocal stays a valid p however often one looks (Lindon, Malek 2020), for daily checks.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from abtest.stats.tails import chi2_logsf, p_of_log10

THRESHOLD = 0.001  # alarms are rare, and each stops a report


class Srm(NamedTuple):
    """Users per arm against the planned shares.

    Attributes:
        counts: Users per arm.
        expected: Users per arm at the planned shares.
        chi2: Pearson's statistic; None for the anytime form and where undefined.
        dof: Arms with a share above 0, minus 1.
        p: Never 0; None where undefined.
        log10_p: Its base-10 logarithm, exact where p underflows.
        alarm: Whether p < threshold, or users stand in an arm that should have none.
        reason: Why p is None, else None.
    """

    counts: dict[str, int]
    expected: dict[str, float]
    chi2: float | None
    dof: int
    p: float | None
    log10_p: float | None
    alarm: bool
    reason: str | None = None


def srm(counts: Mapping[str, int], weights: Mapping[str, float] | None = None, *, threshold: float = THRESHOLD) -> Srm:
    """Chi-square test of the users per arm.

    Args:
        counts: Users (not events) per arm.
        weights: Planned shares in any unit, equal if None; arms of weight 0 must be empty and do not count.
        threshold: Alarm below this p.

    Raises:
        ValueError: If a count or weight is negative, or an arm has no weight.
    """
    blank = _blank(counts, weights)
    if blank.reason:
        return blank
    live = [arm for arm, expected in blank.expected.items() if expected > 0]
    chi2 = sum((blank.counts[arm] - blank.expected[arm]) ** 2 / blank.expected[arm] for arm in live)
    log10_p = min(float(chi2_logsf(chi2, blank.dof)) / math.log(10.0), 0.0)
    return blank._replace(chi2=chi2, p=p_of_log10(log10_p), log10_p=log10_p, alarm=log10_p < math.log10(threshold))


def srm_by(
    counts: Mapping[Hashable, Mapping[str, int]],
    weights: Mapping[str, float] | None = None,
    *,
    threshold: float = THRESHOLD,
) -> dict[Hashable, Srm]:
    """``srm`` for every slice or day: its label to its result. Arms that a slice lacks count 0 users there."""
    arms = list(weights) if weights else list(dict.fromkeys(arm for cell in counts.values() for arm in cell))
    return {
        label: srm({**dict.fromkeys(arms, 0), **cell}, weights, threshold=threshold) for label, cell in counts.items()
    }


def anytime_srm(
    counts: Mapping[str, int],
    weights: Mapping[str, float] | None = None,
    *,
    concentration: float = 100.0,
    threshold: float = THRESHOLD,
) -> Srm:
    """Users per arm so far, by a test that may be repeated at every look.

    p is the likelihood of the promised shares over that of shares drawn from a Dirichlet around them, at most 1.

    Args:
        counts: Users per arm since the start.
        weights: As in ``srm``.
        concentration: Sum of the Dirichlet's parameters: the larger, the smaller the mismatch that it looks for.
        threshold: Alarm below this p.

    Raises:
        ValueError: As in ``srm``, or if the concentration is not positive.
    """
    if not concentration > 0:
        raise ValueError(f"concentration must be > 0, got {concentration}.")
    blank = _blank(counts, weights)
    if blank.reason:
        return blank
    total = sum(blank.counts.values())
    whole = concentration + total
    log_p = _log_gamma_rest(whole) - _log_gamma_rest(concentration)
    for arm, expected in blank.expected.items():
        if expected > 0:
            share = expected / total
            prior, now = concentration * share, concentration * share + blank.counts[arm]
            log_p -= now * math.log1p((now - whole * share) / (whole * share))  # where lgamma's digits would cancel
            log_p += _log_gamma_rest(prior) - _log_gamma_rest(now)
    log10_p = min(log_p / math.log(10.0), 0.0)
    return blank._replace(p=p_of_log10(log10_p), log10_p=log10_p, alarm=log10_p < math.log10(threshold))


def daily_srm(
    days: Sequence[Mapping[str, int]],
    weights: Mapping[str, float] | None = None,
    *,
    concentration: float = 100.0,
    threshold: float = THRESHOLD,
) -> list[Srm]:
    """``anytime_srm`` after each day, given the users who were new on each; p never rises, an alarm stays."""
    looks: list[Srm] = []
    arms = list(weights) if weights else list(dict.fromkeys(arm for day in days for arm in day))
    so_far = dict.fromkeys(arms, 0)
    for day in days:
        so_far = {arm: so_far.get(arm, 0) + day.get(arm, 0) for arm in (*so_far, *(a for a in day if a not in so_far))}
        look = anytime_srm(so_far, weights, concentration=concentration, threshold=threshold)
        last = looks[-1] if looks else None
        if last and last.log10_p is not None and (look.log10_p is None or look.log10_p > last.log10_p):
            look = look._replace(p=last.p, log10_p=last.log10_p)
        looks.append(look._replace(alarm=look.alarm or (last.alarm if last else False)))
    return looks


def _blank(counts: Mapping[str, int], weights: Mapping[str, float] | None) -> Srm:
    """Counts and expectations without a verdict, or with the reason why there is none."""
    weights = dict.fromkeys(counts, 1.0) if weights is None else weights
    if missing := [arm for arm in counts if arm not in weights]:
        raise ValueError(
            f"no weight for arm {', '.join(map(str, missing))}: weights name {', '.join(map(str, weights))}."
        )
    users = {arm: int(counts.get(arm, 0)) for arm in weights}
    if min(users.values(), default=0) < 0 or any(not weight >= 0 for weight in weights.values()):
        raise ValueError(f"counts and weights must be >= 0, got {dict(counts)} and {dict(weights)}.")
    whole, total = math.fsum(weights.values()), sum(users.values())
    expected = {arm: total * weight / whole if whole > 0 else 0.0 for arm, weight in weights.items()}
    dof = sum(weight > 0 for weight in weights.values()) - 1
    blank = Srm(users, expected, None, max(dof, 0), None, None, alarm=False)
    if stray := [arm for arm, weight in weights.items() if weight == 0 and users[arm]]:
        held = ", ".join(f"{users[arm]:,} in {arm}" for arm in stray)
        return blank._replace(alarm=True, reason=f"users in an arm of weight 0: {held}")
    if dof < 1:
        return blank._replace(reason="fewer than 2 arms have a weight above 0: there is no ratio to check")
    if not total:
        return blank._replace(reason="no users")
    return blank


def _log_gamma_rest(z: float) -> float:
    """What Stirling's z log z - z leaves of log Gamma(z): small where that is huge."""
    if z < 20.0:
        return math.lgamma(z) - z * math.log(z) + z
    series = 1.0 / (12.0 * z) - 1.0 / (360.0 * z**3) + 1.0 / (1260.0 * z**5) - 1.0 / (1680.0 * z**7)
    return 0.5 * (math.log(2.0 * math.pi) - math.log(z)) + series
