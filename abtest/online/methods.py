"""The true lift of two methods: training is part of a method, and its luck belongs into the interval.

Each arm's models are trained K times, with other seeds on the same log of the warm-up, and each training serves a world
of its own to the same users with the same noise. With mean m_a of arm a over its trainings, the lift of the methods is
m_treatment / m_control - 1. Its variance is the sum of two parts, each of linearised residuals d = a_t - r a_c with r
the ratio of the means: over trainings, s^2 / (K m_control^2) with s the standard deviation of d over the pairs of
trainings, since both arms' trainings of one number have one seed, log and crowd, and may be lucky together; and over
users, that of each user's mean over the trainings, as for two models. Degrees of freedom by Satterthwaite (1946) from
K - 1 and U - 1.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from abtest.online.lift_text import bounds, percent, tone
from abtest.report.figures import Intervals, Row
from abtest.report.sections import Section
from abtest.report.tables import Table

METRICS = {"ACC": "clicks", "ADT": "dwell_s"}  # by name, the column whose sum per user it averages


class MethodLift(NamedTuple):
    """What one method does to a metric, against another.

    Attributes:
        metric: Its name.
        treatment: Label of the arm.
        lift: True relative effect, over trainings.
        ci: Its interval over trainings and users.
        training_se: Standard error over trainings.
        user_se: Standard error over users.
        pairs: Lift of each training of the treatment against the control's of the same number.
    """

    metric: str
    treatment: str
    lift: float
    ci: tuple[float, float]
    training_se: float
    user_se: float
    pairs: tuple[float, ...]


def method_lifts(
    control: Sequence[pl.DataFrame], treatment: Sequence[pl.DataFrame], label: str, *, users: int | None, alpha: float
) -> list[MethodLift]:
    """Lifts of the metrics that are sums per user.

    Args:
        control: User-days of the worlds of control's trainings, two or more.
        treatment: The same of the treatment.
        label: Of the treatment.
        users: Only users 0 … ``users`` - 1 count: those who are in every world; None: everybody.
        alpha: The intervals are at 1 - alpha.
    """
    found = []
    for metric, column in METRICS.items():
        ids = _users([*control, *treatment], users)
        before, after = (np.stack([_sums(one, column, ids) for one in worlds]) for worlds in (control, treatment))
        if len(ids) > 1 and before.sum() > 0.0:
            found.append(_lift(metric, label, before, after, alpha))
    return found


def _lift(metric: str, label: str, before: NDArray[np.float64], after: NDArray[np.float64], alpha: float) -> MethodLift:
    """From sums per user, shape (K, U) each."""
    from scipy.special import stdtrit

    trainings, users = before.shape
    means_before, means_after = before.mean(axis=1), after.mean(axis=1)  # (K,)
    low, high = float(means_before.mean()), float(means_after.mean())
    ratio = high / low
    training = float((means_after - ratio * means_before).var(ddof=1)) / trainings / low**2
    residual = (after.mean(axis=0) - high) - ratio * (before.mean(axis=0) - low)
    user = float(residual.var(ddof=1)) / users / low**2
    total, spread = training + user, training**2 / (trainings - 1) + user**2 / (users - 1)
    half = -float(stdtrit(total**2 / spread if spread > 0.0 else users - 1.0, alpha / 2)) * math.sqrt(total)
    pairs = tuple(float(b / a - 1.0) for a, b in zip(means_before, means_after, strict=True))
    lift = ratio - 1.0
    return MethodLift(metric, label, lift, (lift - half, lift + half), math.sqrt(training), math.sqrt(user), pairs)


def _users(worlds: Sequence[pl.DataFrame], most: int | None) -> NDArray[np.int64]:
    """Ids of the users of any of the worlds, in order."""
    ids = np.unique(np.concatenate([world["user_id"].to_numpy() for world in worlds]))
    return ids if most is None else ids[ids < most]


def _sums(days: pl.DataFrame, column: str, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum of each user over the days, shape (U,); 0 for who did not come."""
    user = days["user_id"].to_numpy()
    known = np.isin(user, ids)
    values = days[column].cast(pl.Float64).to_numpy()[known]
    return np.bincount(np.searchsorted(ids, user[known]), values, minlength=len(ids)).astype(np.float64)


def methods_section(lifts: Sequence[MethodLift], models: Mapping[tuple[str, str], Any], alpha: float) -> Section:
    """The two truths side by side: of these models, and of the methods.

    Args:
        lifts: Of the methods.
        models: True lift and its interval of the models that the experiment itself trained, by metric and treatment.
        alpha: The intervals are at 1 - alpha.
    """
    trainings = len(lifts[0].pairs) if lifts else 0
    rows, cells = [], []
    for one in lifts:
        name = f"{one.metric}, the two methods"
        rows.append(Row(name, f"{percent(one.lift)} {bounds(one.ci)}", one.lift, *one.ci, tone=tone(one.ci)))
        lift, ci = models.get((one.metric, one.treatment), (None, None))
        if lift is not None:
            low, high = ci or (None, None)
            told = f"{percent(lift)} {bounds(ci)}".strip()
            rows.append(Row(f"{one.metric}, these two models", told, lift, low, high, tone=tone(ci)))
        cells.append(
            (
                one.metric,
                one.treatment,
                f"{percent(lift)} {bounds(ci)}".strip(),
                f"{percent(one.lift)} {bounds(one.ci)}",
                f"{100 * one.training_se:.2f}",
                f"{100 * one.user_se:.2f}",
                ", ".join(percent(pair) for pair in one.pairs),
            )
        )
    level = f"{100 * (1 - alpha):.4g} %"
    text = (
        "Two questions have two answers. Which of these two models is better: the experiment, and their truth. "
        f"Which of the two methods is better: the mean over {trainings} trainings of each arm on the same log of the "
        "warm-up, with other seeds. The second interval holds the luck of training as well as that of users.",
    )
    header = (
        *("metric", "treatment", f"these two models [{level}]", f"the two methods [{level}]"),
        *("se over trainings, points", "over users", "each training"),
    )
    caption = "True lift of the models that this experiment trained, and of the methods that made them."
    return Section(
        "Two models, two methods",
        text,
        [Intervals("Two truths", rows, caption), Table("Two truths", header, cells, [])],
    )


def methods_data(lifts: Sequence[MethodLift]) -> list[dict[str, Any]]:
    """Plain values for results.json."""
    return [one._asdict() for one in lifts]
