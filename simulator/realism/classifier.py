"""A classifier two-sample test: can trees tell a synthetic row from a real one, and by what?

AUC .5 means that they cannot (Lopez-Paz & Oquab, ICLR 2017). Folds are by user, and the interval is that of clustered
data (Obuchowski, Biometrics 1997), because the rows of one user are no independent witnesses.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.realism.classifier_features import GROUPS, ClassifierFeatures, session_features, user_features
from simulator.realism.log import DAY_S, LEAST_WEEKDAYS, Log, keyed_share

Floats = NDArray[np.float64]

FOLDS = 3
MOST_ROWS = 15_000  # of each log
_TREES = {"max_iter": 80, "max_leaf_nodes": 15, "min_samples_leaf": 40, "learning_rate": 0.1, "early_stopping": False}
_NORMAL_95 = 1.959964


class Giveaway(NamedTuple):
    """A feature and how much of the classifier's success hangs on it."""

    feature: str
    drop: float  # fall of the AUC when the feature is shuffled among held-out rows
    alone: float  # AUC of the feature by itself, .5 … 1


class TwoSample(NamedTuple):
    """What the classifier made of one kind of row."""

    rows: str  # sessions or users
    auc: float
    low: float  # 95 % interval
    high: float
    n_real: int
    n_synthetic: int
    giveaways: list[Giveaway]  # the most telling first


class Auc(NamedTuple):
    """Area under the ROC curve with its standard error."""

    auc: float
    se: float


def two_sample_tests(real: Log, synthetic: Log, without: tuple[str, ...] = ()) -> list[TwoSample]:
    """Test sessions, then users, on the features both logs have and ``without`` leaves in."""
    weekdays = min(real.span_s, synthetic.span_s) >= LEAST_WEEKDAYS * DAY_S
    left_out = {name for name, group in GROUPS.items() if group in without} | (set() if weekdays else {"weekday"})
    results = []
    for rows, of in (("sessions", session_features), ("users", user_features)):
        parts = [_thinned(of(log)) for log in (real, synthetic)]
        names = [name for name in parts[0].columns if name in parts[1].columns and name not in left_out]
        if names and min(len(part.user) for part in parts) >= 10 * FOLDS:
            results.append(_test(rows, parts[0], parts[1], names))
    return results


def clustered_auc(real: Floats, synthetic: Floats, real_user: NDArray, synthetic_user: NDArray) -> Auc:
    """Chance that a synthetic row scores above a real one, ties half, and its standard error over users.

    Args:
        real: Scores of the real rows, shape (n,).
        synthetic: Scores of the synthetic rows, shape (m,).
        real_user: User of each real row, shape (n,); rows of one user may go together in any way.
        synthetic_user: Likewise, shape (m,).
    """
    above = _placement(synthetic, real)  # (m,) share of real rows below each synthetic one
    below = 1.0 - _placement(real, synthetic)
    auc = float(above.mean())
    variance = _cluster_variance(above - auc, synthetic_user) + _cluster_variance(below - auc, real_user)
    return Auc(auc, float(np.sqrt(variance)))


def _test(rows: str, real: ClassifierFeatures, synthetic: ClassifierFeatures, names: list[str]) -> TwoSample:
    x = np.concatenate([np.column_stack([part.columns[name] for name in names]) for part in (real, synthetic)])
    label = np.repeat([0, 1], [len(real.user), len(synthetic.user)])
    user = np.concatenate([real.user, synthetic.user])
    fold = (keyed_share(user, "realism fold") * FOLDS).astype(np.int64)
    score, drops = _held_out(x, label, fold)
    is_real = label == 0
    measured = clustered_auc(score[is_real], score[~is_real], user[is_real], user[~is_real])
    alone = [_alone(x[is_real, column], x[~is_real, column]) for column in range(len(names))]
    giveaways = [Giveaway(name, float(drop), one) for name, drop, one in zip(names, drops, alone, strict=True)]
    half = _NORMAL_95 * measured.se
    return TwoSample(
        rows=rows,
        auc=round(measured.auc, 9),
        low=max(0.0, measured.auc - half),
        high=min(1.0, measured.auc + half),
        n_real=len(real.user),
        n_synthetic=len(synthetic.user),
        giveaways=sorted(giveaways, key=lambda giveaway: (-giveaway.drop, -giveaway.alone, giveaway.feature)),
    )


def _held_out(x: Floats, label: NDArray[np.int64], fold: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Score of every row by a model that has not seen its user; fall of the AUC with each feature shuffled."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    score, drops = np.empty(len(x)), np.zeros(x.shape[1])
    shuffle = np.random.default_rng(0)
    for held in range(FOLDS):
        test = fold == held
        model = HistGradientBoostingClassifier(**_TREES, random_state=0).fit(x[~test], label[~test])
        score[test] = model.decision_function(x[test])
        full = _auc(score[test], label[test])
        for column in range(x.shape[1]):
            mixed = x[test].copy()
            shuffle.shuffle(mixed[:, column])
            drops[column] += (full - _auc(model.decision_function(mixed), label[test])) / FOLDS
    return score, drops


def _auc(score: Floats, label: NDArray[np.int64]) -> float:
    return float(_placement(score[label == 1], score[label == 0]).mean())


def _alone(real: Floats, synthetic: Floats) -> float:
    """AUC of one feature, whichever way round, NaN below everything."""
    real, synthetic = (np.nan_to_num(values, nan=-np.inf) for values in (real, synthetic))
    auc = float(_placement(synthetic, real).mean())
    return round(max(auc, 1.0 - auc), 9)


def _placement(values: Floats, others: Floats) -> Floats:
    """Share of ``others`` below each value, ties half."""
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return (below + up_to) / (2.0 * len(others))


def _cluster_variance(deviations: Floats, cluster: NDArray) -> float:
    """Variance of the mean of deviations that may go together within clusters."""
    _, index = np.unique(cluster, return_inverse=True)
    sums = np.bincount(index, deviations)
    if len(sums) < 2:
        return float("nan")
    return float((sums**2).sum() * len(sums) / (len(sums) - 1) / len(deviations) ** 2)


def _thinned(features: ClassifierFeatures) -> ClassifierFeatures:
    """About ``MOST_ROWS`` rows at most, of users chosen by a key."""
    if len(features.user) <= MOST_ROWS:
        return features
    keep = keyed_share(features.user, "realism classifier") < MOST_ROWS / len(features.user)
    return ClassifierFeatures(features.user[keep], {name: values[keep] for name, values in features.columns.items()})
