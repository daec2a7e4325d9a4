"""Share of the way from popularity to the best possible result that each model covers, where that result is known."""

from collections.abc import Mapping

from micrec.baselines import BASELINES
from micrec.evaluation.metrics import EvalResult
from micrec.shares import share_of_the_way

START = "popularity"


def ceilings(names: Mapping[str, object]) -> list[str]:
    """Those of the names that are ceilings."""
    return [name for name in names if name in BASELINES and BASELINES[name].is_ceiling]


def way_to_ceiling(results: Mapping[str, EvalResult]) -> dict[str, dict[int, float]]:
    """(HIT - HIT of popularity) / (HIT of the ceiling - HIT of popularity), by model and cutoff.

    The ceiling is the highest of those in ``results``. Left out are popularity and the highest ceiling themselves, and
    cutoffs at which popularity is as good as it.

    Returns:
        Shares, 1 at the ceiling, below 0 where a model is worse than popularity; empty where no ceiling is known.
    """
    found = ceilings(results)
    if not found or START not in results:
        return {}
    cutoffs = results[START].cutoffs
    low = {n: results[START].metrics[f"hit@{n}"] for n in cutoffs}
    best = max(found, key=lambda name: sum(results[name].metrics[f"hit@{n}"] for n in cutoffs))
    high = {n: results[best].metrics[f"hit@{n}"] for n in cutoffs}
    return {
        name: {n: share_of_the_way(result.metrics[f"hit@{n}"], low[n], high[n]) for n in cutoffs if high[n] > low[n]}
        for name, result in results.items()
        if name not in (START, best)
    }
