"""Which claimed orderings of a table's rows hold, by the effects of their steps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abtest.offline.row_effects import Effect
from abtest.offline.table_scenario import ALL, Ordering, TableScenario

HOLDS, FAILS, UNSHOWN = "holds", "does not hold", "not shown"


def judge_orderings(scenario: TableScenario, effects: Sequence[Effect]) -> list[dict[str, Any]]:
    """For each claim whether it holds: step by step, metric by metric, on each dataset."""
    found = {_key(effect): effect for effect in effects if (effect["slice"], effect["family"]) == (ALL, "primary")}
    datasets = list(dict.fromkeys(effect["dataset"] for effect in effects))
    return [_judged(one, list(_steps(one, scenario, datasets, found))) for one in scenario.orderings]


def step_verdict(effect: Effect) -> tuple[str, str]:
    """Whether the treatment is shown to be above the control, and by which tests."""
    seeds, users = side(effect), side(effect["users"]) if effect["users"] else None
    if effect["p"] is None:
        return UNSHOWN, f"cannot be judged: {effect['reason']}"
    both = "over seeds and over users" if users is not None else "over seeds"
    signs = {seeds} if users is None else {seeds, users}
    if signs == {1}:
        return HOLDS, both
    if signs == {-1}:
        return FAILS, f"the other way round, {both}"
    if signs == {1, -1}:
        return UNSHOWN, "seeds and users contradict each other"
    alone = f"{_alone(effect, seeds)} over seeds"
    return UNSHOWN, alone if users is None else f"{alone}, {_alone(effect['users'], users)} over users"


def _alone(test: Mapping[str, Any], sign: int) -> str:
    """What one test says for itself where the tests do not agree on a difference."""
    way = "" if test["difference"] is None or test["difference"] > 0 else " the other way round"
    if sign != 0:
        return f"shown{way}"
    interval = test["lift_ci"]
    if interval is not None and (interval[0] > 0 or interval[1] < 0):
        return f"significant alone{way}, but not after Holm,"
    return "not shown"


def side(test: Mapping[str, Any]) -> int:
    """1 or -1 where a test finds its difference significant after Holm's adjustment, else 0."""
    if not test["significant"]:
        return 0
    return 1 if test["difference"] > 0 else -1


def _steps(
    one: Ordering, scenario: TableScenario, datasets: Sequence[str], found: Mapping[tuple[str, ...], Effect]
) -> Iterator[dict[str, Any]]:
    for dataset in datasets:
        for lower, higher in one.steps():
            for metric in one.metrics or scenario.metrics:
                effect = found[dataset, higher, lower, metric]
                verdict, why = step_verdict(effect)
                place = {"dataset": dataset, "lower": lower, "higher": higher, "metric": metric}
                yield {**place, "lift": effect["lift"], "lift_ci": effect["lift_ci"], "verdict": verdict, "why": why}


def _judged(one: Ordering, steps: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {verdict: sum(step["verdict"] == verdict for step in steps) for verdict in (HOLDS, FAILS, UNSHOWN)}
    verdict = HOLDS if counts[HOLDS] == len(steps) else FAILS if counts[FAILS] else UNSHOWN
    known = [step["lift_ci"] for step in steps if step["lift_ci"] is not None]
    intervals = {"above": sum(low > 0 for low, _ in known), "below": sum(high < 0 for _, high in known)}
    return {"claim": one.claim, "verdict": verdict, "counts": counts, "intervals": intervals, "steps": steps}


def _key(effect: Effect) -> tuple[str, ...]:
    return effect["dataset"], effect["treatment"]["arm"], effect["control"]["arm"], effect["metric"]
