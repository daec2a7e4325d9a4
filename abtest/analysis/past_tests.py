"""All past tests of a folder: what shipped and how much of it was real, A/A alarms, and what tests to come will bring.

True lifts of a metric over tests are taken as normal; each test measures one with its own noise. Mean and spread come
from all valid comparisons that are no A/A tests, whether they shipped or not, and each lift is shrunken by them. The
mean of shrunken lifts among what shipped is what shipping gained, free of the winner's curse as far as the model holds.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy import special

from abtest.analysis.lift_prior import LiftPrior
from abtest.run_folder import RESULTS_FILE, SCHEMA
from abtest.stats.posterior import normal_posterior
from abtest.stats.shrinkage import Between, between
from micrec.errors import MicrecError

DECISIONS = ("ship", "hold", "stop", "invalid")
LEAST_TESTS = 3  # comparisons from which a metric has a spread
STILL_TESTS = 5  # comparisons without any significant one after which a metric is called still


class PastComparison(NamedTuple):
    """One primary metric of one treatment of one past test.

    Attributes:
        test: Folder of the test, relative to the library.
        metric: What was measured.
        arm: The treatment.
        lift: As measured; None where undefined.
        se: Its standard error; None where there is no interval.
        p: Of Welch's test.
        users: Of control and treatment.
        up: Whether more is better.
        significant: After adjustment; None where not judged.
        shipped: Whether the treatment shipped, and this metric was significantly better.
    """

    test: str
    metric: str
    arm: str
    lift: float | None
    se: float | None
    p: float | None
    users: int
    up: bool
    significant: bool | None
    shipped: bool


class PastTest(NamedTuple):
    """One results.json.

    Attributes:
        name: Its folder, relative to the library.
        day: First day of its log, or None.
        users: All of them.
        aa: Whether no effect can be real: a split by hash, or arms that serve alike.
        alpha: Its level.
        decisions: By treatment: ship, hold, stop, or invalid.
        comparisons: Primary metrics.
    """

    name: str
    day: str | None
    users: int
    aa: bool
    alpha: float
    decisions: Mapping[str, str]
    comparisons: tuple[PastComparison, ...]


class MetricRecord(NamedTuple):
    """What the past says of one metric.

    Attributes:
        metric: Its name.
        up: Whether more is better.
        comparisons: Valid ones with a lift and a standard error, A/A tests aside.
        moved: How many were significant.
        shipped: How many shipped for it.
        spread: Mean and spread of the true lifts; None with fewer than three comparisons.
        shipped_raw: Mean lift of what shipped, as measured.
        shipped_shrunken: The same after shrinkage.
        typical_se: Median standard error of the lift.
        typical_users: Median users of both arms.
        still: Whether it never moved in five comparisons or more.
    """

    metric: str
    up: bool
    comparisons: int
    moved: int
    shipped: int
    spread: Between | None
    shipped_raw: float | None
    shipped_shrunken: float | None
    typical_se: float | None
    typical_users: float | None
    still: bool


class AaRecord(NamedTuple):
    """False alarms of past A/A tests.

    Attributes:
        comparisons: Primary metrics of A/A tests that have a p.
        alarms: How many have a p below their test's alpha.
        expected: How many would, on average.
        p: Exact binomial p that there would be as many or more; None without comparisons.
    """

    comparisons: int
    alarms: int
    expected: float
    p: float | None


class PastTests(NamedTuple):
    """A folder of past tests.

    Attributes:
        tests: By name.
        metrics: By name, most tests first.
        aa: The record of the A/A tests.
        left_out: Files that are no experiments' results, with the reason.
    """

    tests: tuple[PastTest, ...]
    metrics: tuple[MetricRecord, ...]
    aa: AaRecord
    left_out: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Treatments by decision, A/A tests aside."""
        made = [one for test in self.tests if not test.aa for one in test.decisions.values()]
        return {name: made.count(name) for name in DECISIONS}

    def priors(self) -> dict[str, LiftPrior]:
        """The file of past lifts, see ``abtest.analysis.lift_prior``."""
        return {
            one.metric: LiftPrior(
                mean=one.spread.mean, sd=one.spread.sd, tests=one.comparisons, mean_se=one.spread.mean_se
            )
            for one in self.metrics
            if one.spread is not None
        }


def read_library(folder: Path, *, simulated: bool = False) -> PastTests:
    """Read every ``results.json`` of a folder and the folders in it.

    Args:
        folder: Where analyses were written to with ``--out``.
        simulated: Take simulated experiments instead of analysed logs.

    Raises:
        MicrecError: If there is no such folder, or no experiment in it.
    """
    if not folder.is_dir():
        raise MicrecError(f"{folder}: there is no such folder: name the one that holds your past reports.")
    tests, left_out = [], []
    for path in sorted(folder.rglob(RESULTS_FILE)):
        name = path.parent.relative_to(folder).as_posix()
        results = _read(path)
        if isinstance(results, str):
            left_out.append(f"{name}: {results}")
        elif results["kind"] in ("history", "cumulative"):
            continue  # written of such a library
        elif "verdicts" not in results:
            left_out.append(f"{name}: is a run of kind {results['kind']}, which compares models and no users")
        elif (results["kind"] == "analyze") == simulated:
            kind = "an analysed log" if simulated else "a simulated experiment (--simulated takes those)"
            left_out.append(f"{name}: is {kind}")
        else:
            tests.append(_test(name, results))
    if not tests:
        why = f" ({'; '.join(left_out[:3])})" if left_out else ""
        raise MicrecError(f"{folder}: holds no results of past tests{why}: write them with micrec analyze --out.")
    metrics = _records([one for test in tests if not test.aa for one in test.comparisons])
    return PastTests(tuple(tests), tuple(metrics), _aa_record(tests), tuple(left_out))


def _read(path: Path) -> dict[str, Any] | str:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        return f"cannot be read ({type(fault).__name__})"
    if not isinstance(results, dict) or results.get("schema") != SCHEMA or "kind" not in results:
        return f"is no results file of this version ({SCHEMA})"
    return results


def _test(name: str, results: Mapping[str, Any]) -> PastTest:
    days = results["dataset"]["days"]
    decisions = {
        verdict["arm"]: verdict["decision"] if results["valid"] else "invalid" for verdict in results["verdicts"]
    }
    identical = results["kind"] == "aa" or bool(results.get("identical_arms"))
    return PastTest(
        name,
        days[0] if days else None,
        results["dataset"]["users"],
        results["scenario"].get("split_salt") is not None or identical,
        results["scenario"]["alpha"],
        decisions,
        tuple(
            _comparison(name, effect, decisions)
            for effect in results["effects"]
            if effect["family"] == "primary" and effect["valid"] and effect["slice"] == "all"
        ),
    )


def _comparison(test: str, effect: Mapping[str, Any], decisions: Mapping[str, str]) -> PastComparison:
    arm, ends, level = effect["treatment"]["arm"], effect["lift_ci"], effect["level"]
    z = -float(special.ndtri((1.0 - level) / 2.0)) if 0.0 < level < 1.0 else math.inf
    finite = ends is not None and all(isinstance(end, int | float) and math.isfinite(end) for end in ends)
    se = (ends[1] - ends[0]) / (2.0 * z) if finite and math.isfinite(z) else None
    users = effect["control"]["n"] + effect["treatment"]["n"]
    won = decisions.get(arm) == "ship" and effect["outcome"] == "gain"
    up = effect["direction"] == "up"
    judged = effect["significant"]
    return PastComparison(test, effect["metric"], arm, effect["lift"], se or None, effect["p"], users, up, judged, won)


def _records(found: Sequence[PastComparison]) -> list[MetricRecord]:
    by_metric: dict[str, list[PastComparison]] = {}
    for one in found:
        if one.lift is not None and one.se is not None:
            by_metric.setdefault(one.metric, []).append(one)
    records = [_record(metric, comparisons) for metric, comparisons in by_metric.items()]
    return sorted(records, key=lambda one: (-one.comparisons, one.metric))


def _record(metric: str, found: Sequence[PastComparison]) -> MetricRecord:
    lifts, noise = [float(one.lift or 0.0) for one in found], [float(one.se or 0.0) for one in found]
    spread = between(lifts, noise) if len(found) >= LEAST_TESTS else None
    won = [(lift, se) for one, lift, se in zip(found, lifts, noise, strict=True) if one.shipped]
    shrunken = [normal_posterior(lift, se, spread.mean, spread.sd)[0] for lift, se in won] if spread else []
    moved = sum(bool(one.significant) for one in found)
    return MetricRecord(
        metric,
        found[-1].up,
        len(found),
        moved,
        len(won),
        spread,
        statistics.fmean(lift for lift, _ in won) if won else None,
        statistics.fmean(shrunken) if shrunken else None,
        statistics.median(noise),
        statistics.median(one.users for one in found),
        moved == 0 and len(found) >= STILL_TESTS,
    )


def _aa_record(tests: Sequence[PastTest]) -> AaRecord:
    found = [(one.p, test.alpha) for test in tests if test.aa for one in test.comparisons if one.p is not None]
    alarms, expected = sum(p < alpha for p, alpha in found), sum(alpha for _, alpha in found)
    if not found:
        return AaRecord(0, 0, 0.0, None)
    p = 1.0 if alarms == 0 else float(special.bdtrc(alarms - 1, len(found), expected / len(found)))
    return AaRecord(len(found), alarms, expected, p)
