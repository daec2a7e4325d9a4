"""What a series of shipped tests adds up to, and whether a long-term holdout agrees.

Each shipped lift is too large on average, since tests ship where luck helped. Each is shrunken towards the prior that
all past tests give (empirical Bayes), and lifts are multiplied on the scale of log(1 + lift). A holdout is an arm that
got none of what was shipped; its lift, everybody else against it, is what the sum should be.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy import special

from abtest.report import formatting
from abtest.report.tables import Table
from abtest.run_folder import RESULTS_FILE
from abtest.stats.posterior import NormalPrior, posterior, prior_of
from micrec.errors import MicrecError

LEAST_TESTS = 3


class PastLift(NamedTuple):
    """One treatment of one past test in one metric.

    Attributes:
        name: Folder of its results and the treatment.
        lift: Estimate, as a share.
        se: Standard error.
        shipped: Whether the verdict was SHIP.
    """

    name: str
    lift: float
    se: float
    shipped: bool


class Cumulative(NamedTuple):
    """A metric over all shipped tests.

    Attributes:
        metric: Its name.
        tests: Past tests, shipped or not.
        prior: Of the lifts of all of them.
        raw: Product of the shipped estimates minus 1.
        shrunken: Product of the shipped posterior means minus 1.
        interval: Of the latter, at 95 %.
        holdout: Lift of everybody else over the holdout, and its standard error; None without one.
        gap: log(1 + holdout) minus log(1 + shrunken).
        p: Two-sided, for "the holdout agrees with the shrunken sum".
    """

    metric: str
    tests: list[PastLift]
    prior: NormalPrior
    raw: float
    shrunken: float
    interval: tuple[float, float]
    holdout: tuple[float, float] | None = None
    gap: float | None = None
    p: float | None = None


def cumulative_lift(folder: Path, holdout: Path | None = None) -> list[Cumulative]:
    """Every primary metric with at least 3 past lifts and one that was shipped.

    Args:
        folder: Results of past tests, at any depth.
        holdout: Results of the analysis of a holdout, whose control is the arm without any launch; it is not a past
            test, wherever it lies.

    Raises:
        MicrecError: If the folder has too few tests, or results cannot be read.
    """
    held = _results(_file_of(holdout)) if holdout is not None else None
    own = _file_of(holdout).resolve() if holdout is not None else None
    paths = [path for path in sorted(folder.rglob(RESULTS_FILE)) if path.resolve() != own]
    tests: dict[str, list[PastLift]] = {}
    for path in paths:
        results = _results(path)
        for metric, test in _tests(results, str(path.parent.relative_to(folder))):
            tests.setdefault(metric, []).append(test)
    found = [
        _of_metric(metric, mine, held)
        for metric, mine in tests.items()
        if len(mine) >= LEAST_TESTS and any(test.shipped for test in mine)
    ]
    if not found:
        most = max((len(mine) for mine in tests.values()), default=0)
        raise MicrecError(
            f"{folder}: no metric has {LEAST_TESTS} past tests, one of them shipped; the most is {most}: give the "
            "folder in which the results of micrec analyze --out lie."
        )
    return found


def cumulative_tables(found: Sequence[Cumulative]) -> list[Table]:
    """One row a metric, then every shipped test."""
    rows = [
        (
            one.metric,
            f"{sum(test.shipped for test in one.tests)} of {len(one.tests)}",
            formatting.percent(one.raw),
            formatting.percent(one.shrunken),
            formatting.percent_interval(one.interval),
            formatting.percent(one.holdout[0] if one.holdout else None),
            formatting.p_value(one.p),
        )
        for one in found
    ]
    header = ("metric", "shipped", "as estimated", "shrunken", "95 % interval", "holdout", "p of agreement")
    notes = [
        "Shipped lifts multiplied; as estimated they are too large on average, since tests ship where luck helped. "
        "Shrunken towards what all past tests of the metric give."
    ]
    notes += [
        f"{one.metric}: lifts of past tests have mean {formatting.percent(one.prior.mean)} and standard deviation "
        f"{100 * one.prior.sd:.2f} %, their noise taken out."
        for one in found
    ]
    single = [
        (one.metric, test.name, formatting.percent(test.lift), formatting.percent(_shrunken(test, one.prior)[0]))
        for one in found
        for test in one.tests
        if test.shipped
    ]
    data = [{**one._asdict(), "tests": [test._asdict() for test in one.tests]} for one in found]
    plain = [{**row, "prior": row["prior"]._asdict()} for row in data]
    return [
        Table("What the shipped tests add up to", header, rows, notes, data=plain),
        Table("Shipped tests", ("metric", "test", "as estimated", "shrunken"), single, [], data=[]),
    ]


def _of_metric(metric: str, tests: list[PastLift], held: Mapping[str, Any] | None) -> Cumulative:
    prior = prior_of([test.lift for test in tests], [test.se for test in tests])
    shipped = [test for test in tests if test.shipped]
    parts = [_shrunken(test, prior) for test in shipped]
    raw = math.prod(1.0 + test.lift for test in shipped) - 1.0
    total = math.fsum(math.log1p(mean) for mean, _ in parts)
    se = math.sqrt(math.fsum((sd / (1.0 + mean)) ** 2 for mean, sd in parts))
    interval = (math.expm1(total - 1.96 * se), math.expm1(total + 1.96 * se))
    blank = Cumulative(metric, tests, prior, raw, math.expm1(total), interval)
    measured = [test for name, test in _tests(held, "holdout") if name == metric] if held is not None else []
    if not measured:
        return blank
    lift, noise = measured[0].lift, measured[0].se
    gap = math.log1p(lift) - total
    z = gap / math.hypot(noise / (1.0 + lift), se)
    return blank._replace(holdout=(lift, noise), gap=gap, p=2.0 * float(special.ndtr(-abs(z))))


def _shrunken(test: PastLift, prior: NormalPrior) -> tuple[float, float]:
    found = posterior(test.lift, test.se, prior)
    return found.mean, found.sd


def _tests(results: Mapping[str, Any], name: str) -> list[tuple[str, PastLift]]:
    """Valid primary lifts of one results.json, by metric."""
    if not results.get("valid") or results.get("kind") != "analyze":
        return []
    decisions = {verdict["arm"]: verdict["decision"] for verdict in results["verdicts"]}
    several = len(decisions) > 1
    found = []
    for effect in results["effects"]:
        if effect["family"] != "primary" or effect["lift"] is None or effect["lift_ci"] is None:
            continue
        arm, (low, high) = effect["treatment"]["arm"], effect["lift_ci"]
        se = (high - low) / (2.0 * -float(special.ndtri((1.0 - effect["level"]) / 2.0)))
        label = f"{name}, {arm}" if several else name
        if se > 0.0:
            found.append((effect["metric"], PastLift(label, effect["lift"], se, decisions.get(arm) == "ship")))
    return found


def _file_of(path: Path) -> Path:
    return path / RESULTS_FILE if path.is_dir() else path


def _results(path: Path) -> Mapping[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise MicrecError(f"{path}: cannot be read as results ({fault}): give the folder of an analysis.") from None
    if not isinstance(results, dict):
        raise MicrecError(f"{path}: holds no results: give the folder of an analysis.")
    return results
