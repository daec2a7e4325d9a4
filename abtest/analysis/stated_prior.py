"""The prior of a Bayesian reading: stated, from a file of past lifts, or from a folder of past results."""

import json
from collections.abc import Mapping
from pathlib import Path

from scipy import special

from abtest.analysis.lift_prior import load_prior
from abtest.run_folder import RESULTS_FILE
from abtest.stats.posterior import NormalPrior, prior_of
from micrec.errors import MicrecError

ALL_METRICS = ""  # key of the prior of metrics that have none of their own
LEAST_TESTS = 3


def stated_prior(text: str) -> Mapping[str, NormalPrior]:
    """NormalPrior by metric, with ``ALL_METRICS`` for any.

    Args:
        text: ``flat``, ``0,0.02`` (mean and standard deviation of the lift, as shares), a file of ``micrec history``,
            or a folder with past results.json in it, at any depth.

    Raises:
        MicrecError: If it is none of these, or the folder has too few past tests.
    """
    if text.strip().lower() == "flat":
        return {ALL_METRICS: NormalPrior()}
    path = Path(text)
    if path.is_dir():
        return _of_results(path)
    if path.is_file():
        known = load_prior(path)
        found = {
            name: NormalPrior(one.mean, one.sd, f"{text} ({one.tests} lifts)", one.tests)
            for name, one in known.items()
            if one.sd > 0.0
        }
        if not found:
            raise MicrecError(f"--prior {text}: every standard deviation is 0, which is certainty: state a prior.")
        return found
    try:
        mean, sd = (float(part) for part in text.split(","))
    except ValueError:
        raise MicrecError(
            f"--prior {text}: must be flat, MEAN,SD as shares such as 0,0.02, a file of past lifts, or a folder of "
            "past results; there is no such file or folder."
        ) from None
    if not (abs(mean) < 10.0 and 0.0 < sd < 10.0):
        raise MicrecError(f"--prior {text}: the standard deviation must be above 0, both are shares: 0.02 is 2 %.")
    return {ALL_METRICS: NormalPrior(mean, sd, f"stated: mean {100 * mean:g} %, standard deviation {100 * sd:g} %")}


def past_lifts(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Lift and standard error of every primary metric of the valid results under a folder, by metric."""
    found: dict[str, list[tuple[float, float]]] = {}
    for path in sorted(folder.rglob(RESULTS_FILE)):
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise MicrecError(f"{path}: cannot be read as results: leave it out of the folder.") from None
        for effect in results.get("effects", []) if results.get("valid") else []:
            interval, level = effect.get("lift_ci"), effect.get("level")
            if effect.get("family") == "primary" and effect.get("lift") is not None and interval and level:
                se = (interval[1] - interval[0]) / (2.0 * -float(special.ndtri((1.0 - level) / 2.0)))
                if se > 0.0:
                    found.setdefault(effect["metric"], []).append((effect["lift"], se))
    return found


def _of_results(folder: Path) -> dict[str, NormalPrior]:
    """A prior for every metric with enough past tests, and one over all metrics for the others."""
    found = past_lifts(folder)
    pooled = [one for lifts in found.values() for one in lifts]
    if len(pooled) < LEAST_TESTS:
        raise MicrecError(
            f"--prior {folder}: holds {len(pooled)} lifts of past tests: a prior needs at least {LEAST_TESTS}; "
            "state one, such as --prior 0,0.02."
        )
    by_metric = {name: lifts for name, lifts in found.items() if len(lifts) >= LEAST_TESTS}
    return {
        name: prior_of([lift for lift, _ in lifts], [se for _, se in lifts], f"past results in {folder}")
        for name, lifts in {**by_metric, ALL_METRICS: pooled}.items()
    }
