"""From finished cells to effects: every treatment against the control, on every metric and slice."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from abtest.arms import CONTROL
from abtest.offline.offline_scenario import OfflineScenario
from abtest.offline.trials import Trial, TrialUsers
from abtest.stats.seed_and_user_tests import PairedTest, holm, paired_seeds, paired_users, welch_seeds
from micrec.errors import MicrecError

ALL = "all"  # the slice that is everybody

Effect = dict[str, Any]  # an object of results.json, see abtest/schema/results.schema.json


class EffectQuestion(NamedTuple):
    """A metric on a slice."""

    family: str  # primary | secondary | slice: one family of Holm's adjustment each
    metric: str
    slice: str


def compute_effects(
    scenario: OfflineScenario, cells: Mapping[str, Sequence[Trial]], cutoffs: Sequence[int]
) -> list[Effect]:
    """Compare every treatment with the control.

    Args:
        scenario: What is asked.
        cells: The finished cells of each arm, in the order of the seeds.
        cutoffs: N of each column of the cells' per-user hits.

    Returns:
        One effect per metric, slice and treatment. ``p`` is the paired t over training seeds; ``welch`` and ``users``
        hold the other two tests; each ``p_adjusted`` is Holm's over the effects of the same family and test.
    """
    control_users = mean_over_seeds(cells[CONTROL])
    effects = []
    for arm in scenario.treatments:
        treatment_users = mean_over_seeds(cells[arm])
        for question in _questions(scenario, cells[CONTROL][0]):
            effect = seed_effect(question, (CONTROL, cells[CONTROL]), (arm, cells[arm]), scenario.alpha)
            column = hit_column(question, cutoffs)
            if column is not None:
                effect["users"] = users_test(control_users, treatment_users, column, scenario.alpha)
            effects.append(effect)
    adjust(effects, scenario.alpha)
    return effects


def mean_over_seeds(cells: Sequence[Trial]) -> TrialUsers:
    """Hits of each test user, averaged over the seeds; one cell in memory at a time.

    Raises:
        ValueError: If the cells do not have the same test users.
    """
    first = cells[0].users()
    total = first.hits.astype(np.float64)
    for cell in cells[1:]:
        users = cell.users()
        if users.hits.shape != total.shape or not np.array_equal(users.clicks, first.clicks):
            raise ValueError(f"{cell.folder.name}: its test users differ from those of {cells[0].folder.name}.")
        total += users.hits
    return TrialUsers(hits=total / len(cells), clicks=first.clicks)


def check_cell(cell: Trial, scenario: OfflineScenario, cutoffs: Sequence[int]) -> None:
    """Stop early where a finished cell cannot answer the scenario.

    Raises:
        MicrecError: If a metric or slice that the scenario names was not evaluated. A metric that this dataset has no
            word for, such as link recall where no link is known, stays undefined.
        ValueError: If the per-user hits do not add up to the metrics.
    """
    from micrec.experiment import optional_metrics

    known = {*cell.metrics, *optional_metrics(cutoffs)}
    faults = [
        f"metrics.{family}: no metric {metric}: choose from {', '.join(cell.metrics)}"
        for family in ("primary", "secondary")
        for metric in getattr(scenario.metrics, family)
        if metric not in known
    ]
    faults += [
        f"metrics.slices: no slice {name}: choose from {', '.join(cell.slices) or 'none'}"
        for name in scenario.metrics.slices or ()
        if name not in cell.slices
    ]
    if faults:
        raise MicrecError.of(f"scenario {scenario.name}", faults)
    check_hits(cell, cutoffs)


def check_hits(cell: Trial, cutoffs: Sequence[int]) -> None:
    """Refuse a cell whose per-user hits do not add up to its metrics.

    Raises:
        ValueError: If they do not: a bug of the evaluation.
    """
    users = cell.users()
    for column, cutoff in enumerate(cutoffs):
        share = float(users.hits[:, column].sum(dtype=np.float64) / users.clicks.sum(dtype=np.float64))
        stated = cell.metrics.get(f"hit@{cutoff}", share)
        if not math.isclose(share, stated, rel_tol=1e-4, abs_tol=1e-9):
            raise ValueError(f"{cell.folder.name}: hit@{cutoff} is {stated}, but its users' hits give {share}.")


def _questions(scenario: OfflineScenario, cell: Trial) -> Iterator[EffectQuestion]:
    metrics = scenario.metrics
    yield from (EffectQuestion("primary", metric, ALL) for metric in metrics.primary)
    yield from (EffectQuestion("secondary", metric, ALL) for metric in metrics.secondary)
    for name in cell.slices if metrics.slices is None else metrics.slices:
        yield from (EffectQuestion("slice", metric, name) for metric in metrics.primary if metric in cell.slices[name])


def seed_effect(
    question: EffectQuestion, control: tuple[str, Sequence[Trial]], treatment: tuple[str, Sequence[Trial]], alpha: float
) -> Effect:
    """A treatment against a control, by name and cells, tested over the training seeds; not yet over users."""
    c, t = _values(control[1], question), _values(treatment[1], question)
    main, welch = paired_seeds(c, t, alpha=alpha), welch_seeds(c, t, alpha=alpha)
    return {
        "family": question.family,
        "metric": question.metric,
        "slice": question.slice,
        "size": _size(control[1][0], question),
        "control": _side(control[0], c),
        "treatment": _side(treatment[0], t),
        **_test(main),
        "valid": main.p is not None,
        "truth": None,
        "welch": _test(welch),
        "users": None,
    }


def users_test(control: TrialUsers, treatment: TrialUsers, column: int, alpha: float) -> dict[str, Any]:
    """The test over users of the hits in one column."""
    if not np.array_equal(control.clicks, treatment.clicks):
        raise ValueError("the arms were tested on different users.")
    result = paired_users(control.hits[:, column], treatment.hits[:, column], control.clicks, alpha=alpha)
    return {"n": len(control.clicks), **_test(result)}


def _test(result: PairedTest) -> dict[str, Any]:
    fields = ("difference", "difference_ci", "lift", "lift_ci", "t", "df", "p", "log10_p")
    return {
        **{name: getattr(result, name) for name in fields},
        "p_adjusted": None,
        "significant": None,
        "test": result.test,
        "reason": result.reason,
    }


def _side(arm: str, values: NDArray[np.float64]) -> dict[str, Any]:
    finite = bool(np.isfinite(values).all())
    return {
        "arm": arm,
        "n": len(values),
        "mean": float(values.mean()) if finite else None,
        "sd": float(values.std(ddof=1)) if finite and len(values) > 1 else None,
        "values": values.tolist(),
    }


def _size(cell: Trial, question: EffectQuestion) -> dict[str, int] | None:
    """Test users and clicks of a slice, where the evaluation counts them."""
    counts = {name: cell.slices.get(question.slice, {}).get(name) for name in ("users", "lines")}
    known = {name: int(count) for name, count in counts.items() if count is not None}
    return known if len(known) == len(counts) else None


def adjust(effects: Sequence[Effect], alpha: float) -> None:
    """Fill in ``p_adjusted`` and ``significant`` of every test, family by family."""
    for family in ("primary", "secondary", "slice"):
        members = [effect for effect in effects if effect["family"] == family]
        for tests in (members, [m["welch"] for m in members], [m["users"] for m in members if m["users"]]):
            for test, adjusted in zip(tests, holm([test["p"] for test in tests]), strict=True):
                test["p_adjusted"] = adjusted
                test["significant"] = None if adjusted is None else adjusted < alpha


def _values(cells: Sequence[Trial], question: EffectQuestion) -> NDArray[np.float64]:
    tables = [cell.metrics if question.slice == ALL else cell.slices.get(question.slice, {}) for cell in cells]
    return np.array([table.get(question.metric, math.nan) for table in tables], dtype=np.float64)


def hit_column(question: EffectQuestion, cutoffs: Sequence[int]) -> int | None:
    """Which column of the per-user hits answers a question; None where users are not counted for it."""
    names = [f"hit@{cutoff}" for cutoff in cutoffs]
    return names.index(question.metric) if question.slice == ALL and question.metric in names else None
