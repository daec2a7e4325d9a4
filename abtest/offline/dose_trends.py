"""The gain over a dose, where every dose has several worlds: its mean at each, and its slope."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from abtest.stats.mean_interval import mean_interval, slopes_over


def dose_trends(squares: Sequence[Mapping[str, Any]], alpha: float) -> list[dict[str, Any]]:
    """Mean gains and slope of every map and metric, with t intervals over worlds.

    A world has users, clicks and trainings of its own; that is the luck which the intervals hold.

    Args:
        squares: Those of results.json, ``across`` being the seed of the world.
        alpha: 1 - level of the intervals.

    Returns:
        Per map and metric ``map``, ``metric``, ``worlds``, ``dials``, ``gains``, ``gain_cis``, ``slope``, ``slope_ci``:
        shares, the slope per unit of the dial. Slope and intervals are None where there are too few doses or worlds.
        A map with a gain that is undefined has no entry.
    """
    found = []
    for name, metric in dict.fromkeys((one["map"], one["metric"]) for one in squares):
        own = [one for one in squares if (one["map"], one["metric"]) == (name, metric)]
        dials, worlds = (list(dict.fromkeys(one[key] for one in own)) for key in ("dial", "across"))
        lifts = {(one["dial"], one["across"]): one["lift"] for one in own}
        if None in lifts.values():
            continue
        gains = np.array([[lifts[dial, world] for world in worlds] for dial in dials], float)  # (doses, worlds)
        slopes = slopes_over(dials, gains) if len(dials) > 1 else []
        found.append(
            {
                "map": name,
                "metric": metric,
                "worlds": len(worlds),
                "dials": dials,
                "gains": gains.mean(axis=1).tolist(),
                "gain_cis": [mean_interval(row.tolist(), alpha) for row in gains],
                "slope": float(np.mean(slopes)) if slopes else None,
                "slope_ci": mean_interval(slopes, alpha),
            }
        )
    return found
