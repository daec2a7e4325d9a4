"""Metrics of ranked targets by name; each is reported at every cutoff as ``name@N``. Nothing here needs torch.

To add one, write a function of ``micrec.evaluation.metrics.RankedTargets`` and the cutoff N, and name it here. Another
package calls ``RANK_METRICS.register`` or declares an entry point of the group ``micrec.rank_metrics``.
"""

from collections.abc import Callable
from typing import Any

from micrec.registry import Registry

RANK_METRICS: Registry[str | Callable[[Any, int], float]] = Registry(
    "metric of ranked targets",
    "rank_metrics",
    {name: f"micrec.evaluation.metrics:{name}" for name in ("hit", "hit_pairs", "user_hit", "recall", "ndcg")},
)
