"""Worlds against worlds, beyond the arms: what a fault costs, and what an experiment does to its own arms.

Worlds of the same replication have the same users with the same noise, whatever the variant, so any two of them can
be compared as the truth compares the arms.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from abtest.arms import CONTROL
from abtest.online.experiment import Replication, plan_of
from abtest.online.lift_text import bounds, percent, tone
from abtest.online.measures import DAYS_FILE, MEASURES
from abtest.online.online_scenario import OnlineScenario
from abtest.online.simulate import EXPERIMENT
from abtest.online.study import pooled
from abtest.online.truth import TrueLift, true_lifts
from abtest.report.figures import Intervals, Row
from abtest.report.sections import Section
from abtest.report.tables import Table

METRICS = ("ACC", "ADT", "CTR", "stay")


class Difference(NamedTuple):
    """A metric in one kind of world against another, over replications.

    Attributes:
        name: What is compared.
        metric: Its name.
        lifts: Relative difference in each replication.
        lift: Mean of them.
        ci: Its interval.
    """

    name: str
    metric: str
    lifts: tuple[float, ...]
    lift: float
    ci: tuple[float, float] | None


def fault_section(found: Sequence[Replication], alpha: float) -> Section:
    """What each variant costs against the first, and what monitoring shows of it."""
    first = found[0].variant
    text = (
        f"Everybody under control, with the fault against without ({first}), the same users with the same noise. "
        "What users do after a bad slate counts too: some ask again, some come back later or never.",
    )
    return Section("What a fault costs", text, [*_blocks("Cost", fault_costs(found, alpha), alpha), _notices(found)])


def fault_costs(found: Sequence[Replication], alpha: float) -> list[Difference]:
    """All-control worlds of each variant against those of the first variant."""
    first, *others = dict.fromkeys(one.variant for one in found)
    without = {one.number: one for one in found if one.variant == first and one.truth}

    def lifts(one: Replication) -> dict[str, TrueLift]:
        return _lifts(one.scenario, _days(without[one.number].root, CONTROL), _days(one.root, CONTROL))

    runs = [one for one in found if one.truth and one.number in without]
    return [
        difference
        for variant in others
        for difference in _differences(variant, [one for one in runs if one.variant == variant], lifts, alpha)
    ]


def spillover_section(found: Sequence[Replication], alpha: float) -> Section:
    """What sharing a platform with the other arm does to each arm's users."""
    text = (
        "Each arm's users inside the experiment against the same users, with the same noise, where everybody is in "
        "their arm. A test is right as far as these differences are zero, or equal in both arms.",
    )
    return Section(
        "What the experiment does to its own arms", text, _blocks("Spillover", spillovers(found, alpha), alpha)
    )


def spillovers(found: Sequence[Replication], alpha: float) -> list[Difference]:
    """Users of each arm in the experiment against themselves in that arm's world, by variant and arm."""
    differences = []
    for variant in dict.fromkeys(one.variant for one in found):
        runs = [one for one in found if one.variant == variant and one.truth and one.analysis is not None]
        for arm in runs[0].scenario.arms if runs else ():
            name = f"{variant}, {runs[0].scenario.arms[arm].label}"
            differences += _differences(name, runs, partial(_spillover, arm), alpha)
    return differences


def _spillover(arm: str, one: Replication) -> dict[str, TrueLift]:
    from simulator.platform.arms import assign

    keys = one.scenario.platform_config(one.number)
    place = list(one.scenario.arms).index(arm)

    def members(days: pl.DataFrame) -> pl.DataFrame:
        return days.filter(pl.Series(assign(days["user_id"].to_numpy(), keys) == place))

    return _lifts(one.scenario, members(_days(one.root, arm)), members(_days(one.root, EXPERIMENT)))


def _days(root: Path, part: str) -> pl.DataFrame:
    return pl.read_parquet(root / part / MEASURES / DAYS_FILE)


def _lifts(scenario: OnlineScenario, before: pl.DataFrame, after: pl.DataFrame) -> dict[str, TrueLift]:
    """By metric, of everybody; any two worlds pass for control and treatment."""
    plan = plan_of(scenario, (scenario.treatments[0],), "", usual=True)
    return {metric: lift for (metric, where, _), lift in true_lifts(before, after, plan).items() if where == "all"}


def _differences(
    name: str, runs: Sequence[Replication], lifts: Callable[[Replication], dict[str, TrueLift]], alpha: float
) -> list[Difference]:
    by_run = [lifts(one) for one in runs]
    found = []
    for metric in METRICS:
        own = [lifts[metric] for lifts in by_run if metric in lifts]
        if own:
            values = [one.lift for one in own]
            ci = pooled(values, [one.se for one in own], alpha)
            found.append(Difference(name, metric, tuple(values), sum(values) / len(values), ci))
    return found


def _blocks(title: str, differences: Sequence[Difference], alpha: float) -> list[Table | Intervals]:
    figure = [
        Row(one.name, f"{percent(one.lift)} {bounds(one.ci)}".strip(), one.lift, low, high, tone=tone(one.ci))
        for one in differences
        if one.metric == METRICS[0]
        for low, high in [one.ci or (None, None)]
    ]
    rows: dict[str, list[str]] = {}
    for one in differences:
        rows.setdefault(one.name, []).append(f"{percent(one.lift)} {bounds(one.ci)}".strip())
    header = ("world", *(f"{name} [{100 * (1 - alpha):.4g} %]" for name in METRICS))
    table = Table(title, header, [(name, *cells) for name, cells in rows.items() if len(cells) == len(METRICS)], [])
    caption = "Relative difference in clicks per user, with its interval; left of 0, fewer clicks."
    return [Intervals(f"{title}, clicks per user", figure, caption), table] if figure else [table]


def _notices(found: Sequence[Replication]) -> Table:
    """What monitoring would show, everybody under control."""
    rows = []
    for variant in dict.fromkeys(one.variant for one in found):
        facts = [one.facts[CONTROL] for one in found if one.variant == variant and CONTROL in one.facts]
        if facts:
            rows.append((variant, *_noticed(facts)))
    header = (
        *("variant", "worst stage", "a channel missing", "fallback list"),
        *("empty", "given up", "P99 ms of a slate", "oldest model, days"),
    )
    return Table("Who notices: the platform's own figures", header, rows, [])


def _noticed(facts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Cells of one variant, over replications."""
    outcomes, stages, slates = (
        [row for fact in facts for row in fact[key]] for key in ("outcomes", "stages", "slates")
    )
    requests = max(sum(row["len"] for row in outcomes), 1)
    jobs: dict[str, int] = defaultdict(int)
    answered: dict[str, int] = defaultdict(int)
    for row in stages:
        jobs[row["stage"]] += row["jobs"]
        answered[row["stage"]] += row["answered"]
    shares = {stage: answered[stage] / max(n, 1) for stage, n in jobs.items()}
    worst = min(shares, key=lambda stage: shares[stage], default="–")
    wanted = (("fallback", "partial"), ("fallback", "popular"), ("result", "empty"), ("result", "abandoned"))
    counts = [sum(row["len"] for row in outcomes if row[column] == value) for column, value in wanted]
    ages = [row["age_days"] for fact in facts for row in fact.get("models", ()) if row["age_days"] is not None]
    return (
        f"{worst}: {shares[worst]:.1%} answered" if shares else "–",
        *(f"{n / requests:.2%}" for n in counts),
        f"{max((row['p99_ms'] or 0.0 for row in slates), default=0.0):,.0f}",
        f"{max(ages, default=0.0):.1f}",
    )
