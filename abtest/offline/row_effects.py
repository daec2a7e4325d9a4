"""From finished trials to effects: every row against those it is compared with, over training seeds and test users."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abtest.offline.table_scenario import ALL, EffectQuestion, TableScenario
from abtest.offline.trials import Trial, TrialUsers
from abtest.stats.seed_and_user_tests import PairedTest, holm, paired_seeds, paired_users, welch_seeds

Effect = dict[str, Any]  # an object of results.json, see abtest/schema/results.schema.json
Rows = Mapping[str, Sequence[Trial]]  # of each row one trial per seed, in the order of the seeds


def row_effects(table: TableScenario, trials: Mapping[str, Rows], cutoffs: Sequence[int]) -> list[Effect]:
    """Every comparison of two rows that a table asks for, on each of its datasets.

    Args:
        table: What is asked.
        trials: The finished trials by dataset and row; what is not there is not compared.
        cutoffs: N of each column of the trials' per-user hits.

    Returns:
        One effect per dataset, pair of rows, metric and slice, ``treatment`` being the row and ``control`` what it is
        compared with. ``p`` is the paired t over training seeds; ``welch`` and ``users`` hold the other two tests; each
        ``p_adjusted`` is Holm's over the effects of the same family and test, on all datasets.
    """
    effects = []
    for dataset, rows in trials.items():
        users: dict[str, TrialUsers] = {}
        for question in table.questions(slices_of(rows)):
            if question.against not in rows:
                continue  # a baseline that this dataset cannot have
            first = rows[question.against][0]
            if question.slice != ALL and question.metric not in first.slices[question.slice]:
                continue  # a slice of items has no coverage, for one
            effect = seed_effect(question, rows, table.alpha)
            column = hit_column(question, cutoffs)
            if column is not None:
                for name in (question.row, question.against):
                    users.setdefault(name, mean_over_seeds(rows[name]))
                effect["users"] = users_test(users[question.against], users[question.row], column, table.alpha)
            effects.append({"dataset": dataset, **effect})
    adjust(effects, table.alpha)
    return effects


def slices_of(rows: Rows) -> list[str]:
    """The slices that were evaluated; all rows share one evaluation."""
    return list(next(iter(rows.values()))[0].slices)


def mean_over_seeds(trials: Sequence[Trial]) -> TrialUsers:
    """Hits of each test user, averaged over the seeds; one trial in memory at a time.

    Raises:
        ValueError: If the trials do not have the same test users.
    """
    first = trials[0].users()
    total = first.hits.astype(np.float64)
    for trial in trials[1:]:
        users = trial.users()
        if users.hits.shape != total.shape or not np.array_equal(users.clicks, first.clicks):
            raise ValueError(f"{trial.folder.name}: its test users differ from those of {trials[0].folder.name}.")
        total += users.hits
    return TrialUsers(hits=total / len(trials), clicks=first.clicks)


def check_hits(trial: Trial, cutoffs: Sequence[int]) -> None:
    """Refuse a trial whose per-user hits do not add up to its metrics.

    Raises:
        ValueError: If they do not: a bug of the evaluation.
    """
    users = trial.users()
    for column, cutoff in enumerate(cutoffs):
        share = float(users.hits[:, column].sum(dtype=np.float64) / users.clicks.sum(dtype=np.float64))
        stated = trial.metrics.get(f"hit@{cutoff}", share)
        if not math.isclose(share, stated, rel_tol=1e-4, abs_tol=1e-9):
            raise ValueError(f"{trial.folder.name}: hit@{cutoff} is {stated}, but its users' hits give {share}.")


def seed_effect(question: EffectQuestion, rows: Rows, alpha: float) -> Effect:
    """A row against another, tested over the training seeds; not yet over users."""
    control, treatment = (_values(rows[name], question) for name in (question.against, question.row))
    main, welch = paired_seeds(control, treatment, alpha=alpha), welch_seeds(control, treatment, alpha=alpha)
    return {
        "family": question.family,
        "metric": question.metric,
        "slice": question.slice,
        "size": _size(rows[question.against][0], question.slice),
        "control": _side(question.against, control),
        "treatment": _side(question.row, treatment),
        **_test(main),
        "valid": main.p is not None,
        "truth": None,
        "welch": _test(welch),
        "users": None,
    }


def users_test(control: TrialUsers, treatment: TrialUsers, column: int, alpha: float) -> dict[str, Any]:
    """The test over users of the hits in one column."""
    if not np.array_equal(control.clicks, treatment.clicks):
        raise ValueError("the rows were tested on different users.")
    result = paired_users(control.hits[:, column], treatment.hits[:, column], control.clicks, alpha=alpha)
    return {"n": len(control.clicks), **_test(result)}


def hit_column(question: EffectQuestion, cutoffs: Sequence[int]) -> int | None:
    """Which column of the per-user hits answers a question; None where users are not counted for it."""
    names = [f"hit@{cutoff}" for cutoff in cutoffs]
    return names.index(question.metric) if question.slice == ALL and question.metric in names else None


def adjust(effects: Sequence[Effect], alpha: float) -> None:
    """Fill in ``p_adjusted`` and ``significant`` of every test, family by family."""
    for family in ("primary", "secondary", "slice"):
        members = [effect for effect in effects if effect["family"] == family]
        for tests in (members, [m["welch"] for m in members], [m["users"] for m in members if m["users"]]):
            for test, adjusted in zip(tests, holm([test["p"] for test in tests]), strict=True):
                test["p_adjusted"] = adjusted
                test["significant"] = None if adjusted is None else adjusted < alpha


def _test(result: PairedTest) -> dict[str, Any]:
    fields = ("difference", "difference_ci", "lift", "lift_ci", "t", "df", "p", "log10_p")
    return {
        **{name: getattr(result, name) for name in fields},
        "p_adjusted": None,
        "significant": None,
        "test": result.test,
        "reason": result.reason,
    }


def _side(row: str, values: NDArray[np.float64]) -> dict[str, Any]:
    finite = bool(np.isfinite(values).all())
    return {
        "arm": row,
        "n": len(values),
        "mean": float(values.mean()) if finite else None,
        "sd": float(values.std(ddof=1)) if finite and len(values) > 1 else None,
        "values": values.tolist(),
    }


def _size(trial: Trial, slice_: str) -> dict[str, int] | None:
    """Test users and clicks of a slice, where the evaluation counts them."""
    counts = {name: trial.slices.get(slice_, {}).get(name) for name in ("users", "lines")}
    known = {name: int(count) for name, count in counts.items() if count is not None}
    return known if len(known) == len(counts) else None


def _values(trials: Sequence[Trial], question: EffectQuestion) -> NDArray[np.float64]:
    slices = [trial.metrics if question.slice == ALL else trial.slices.get(question.slice, {}) for trial in trials]
    return np.array([figures.get(question.metric, math.nan) for figures in slices], dtype=np.float64)
