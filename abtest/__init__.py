"""Experiments, their statistics and their reports; the composed command line.

``import abtest`` takes no time: each name below is imported when it is first used, PyTorch only where models are.

Examples:
    Judge an experiment, plan the next one, and check the metrics for false alarms:

    >>> import abtest, numpy as np
    >>> rng, arm = np.random.default_rng(0), np.repeat(["A", "B"], 3000)
    >>> log = {"user_id": np.arange(6000), "arm": arm, "clicks": rng.poisson(np.where(arm == "B", 2.3, 2.0))}
    >>> result = abtest.analyze(log, control="A", treatment="B")
    >>> result.decision, result.valid
    ('ship', True)
    >>> effect = result.to_frame().row(0, named=True)
    >>> effect["lift_low"] < 0.15 < effect["lift_high"]
    True
    >>> abtest.power(log, lifts=[0.05]).to_frame()["n_control"][0] > 1000
    True
    >>> abtest.aa(log, splits=1000).sound
    True
"""

from typing import TYPE_CHECKING

from micrec.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from abtest.api import aa, analyze, history, load_run, power, run_scenario
    from abtest.result_objects import (
        AaResult,
        AnalysisResult,
        Decision,
        HistoryResult,
        PowerResult,
        ScenarioResult,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "abtest.api": ("aa", "analyze", "history", "load_run", "power", "run_scenario"),
            "abtest.result_objects": (
                "AaResult",
                "AnalysisResult",
                "Decision",
                "HistoryResult",
                "PowerResult",
                "ScenarioResult",
            ),
        },
    )

__all__ = [
    "AaResult",
    "AnalysisResult",
    "Decision",
    "HistoryResult",
    "PowerResult",
    "ScenarioResult",
    "aa",
    "analyze",
    "history",
    "load_run",
    "power",
    "run_scenario",
]
