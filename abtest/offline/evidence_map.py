"""The evidence map: what each item loss gains on each log and world, beside what ``micrec headroom`` forecasts."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abtest.offline.evidence_map_scenario import EvidenceMapScenario
from abtest.offline.row_lifts import TrialPair, outcome, row_lifts
from abtest.offline.run_options import RunOptions
from abtest.offline.table_results import TableTrials, row_configs, table_results
from abtest.offline.table_run import open_table, run_rows
from abtest.report.pages.table_files import write_files
from abtest.run_folder import alone_in_folder, finish_run, jsonable
from micrec.signals.headroom_result import Headroom, Signal, measure


@alone_in_folder
def run_evidence_map(scenario: EvidenceMapScenario, out: Path, **given: Any) -> dict[str, Any]:
    """Run an evidence map into a run folder; see ``run_table`` for arguments and errors."""
    options = RunOptions(**given)
    found = run_rows(scenario, open_table(scenario, out, options), options)
    results = table_results(scenario, found, options)
    results["evidence"] = jsonable(evidence(scenario, found, options))
    return finish_run(out, results, write_files)


def evidence(scenario: EvidenceMapScenario, found: TableTrials, options: RunOptions) -> dict[str, Any]:
    """``evidence`` of results.json: a square per dataset, row and metric, the forecasts, and whether they agree."""
    forecasts = {}
    for name, run in found.runs.items():
        config = row_configs(scenario, name)[scenario.reference_row]
        options.reporter.say(f"{name}: what titles, fields and sessions tell")
        forecasts[name] = measure(run.dataset, config.split, config.sessions)
    squares = [
        square
        for name in found.runs
        for metric in scenario.hit_metrics()
        for square in _squares(scenario, found, name, metric, forecasts[name])
    ]
    return {
        "squares": squares,
        "predictions": {name: one.predictions for name, one in forecasts.items()},
        "agreement": [agreement(squares, metric) for metric in scenario.hit_metrics()],
    }


def agreement(squares: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """Kendall's rank correlation of forecast and lift over the squares of one metric that have both.

    Returns:
        ``metric``; ``squares``, their number; ``tau`` and its two-sided ``p``, None with fewer than three squares or
        where one side is constant.
    """
    from scipy.stats import kendalltau

    known = [one for one in squares if one["metric"] == metric and one["forecast"] and one["lift"] is not None]
    result: dict[str, Any] = {"metric": metric, "squares": len(known), "tau": None, "p": None}
    if len(known) >= 3:
        tau, p = kendalltau([one["forecast"]["auc"] for one in known], [one["lift"] for one in known])
        if not math.isnan(tau):
            result |= {"tau": float(tau), "p": float(p)}
    return result


def strongest_signal(found: Headroom, loss: str | None, source: str) -> Signal | None:
    """The signal of the highest AUC that a loss reads; None if it has none on this log.

    Args:
        found: The forecast.
        loss: The loss; None = several, of which nothing is forecast.
        source: Where the semantic loss has its positives from: of titles, it reads no tags.
    """
    own = [one for one in found.signals if one.loss == loss and not math.isnan(one.everything.auc)]
    if loss == "semantic" and source == "title":
        own = [one for one in own if one.name == "titles"]
    return max(own, key=lambda one: one.everything.auc, default=None)


def _squares(
    scenario: EvidenceMapScenario, found: TableTrials, name: str, metric: str, forecast: Headroom
) -> list[dict[str, Any]]:
    rows, trials = scenario.compared_rows(), found.rows[name]
    control = trials[scenario.reference_row]
    cutoffs = row_configs(scenario, name)[scenario.reference_row].evaluation.cutoffs
    lifts = row_lifts([TrialPair(control, trials[row]) for row in rows], metric, cutoffs, alpha=scenario.alpha)
    squares = []
    for row, one in zip(rows, lifts, strict=True):
        source = row_configs(scenario, name)[row].contrast.semantic.source
        signal = strongest_signal(forecast, scenario.forecast_loss(row), source)
        means = [sum(trial.metrics[metric] for trial in of) / len(of) for of in (control, trials[row])]
        squares.append(
            {
                "dataset": name,
                "row": row,
                "metric": metric,
                **dict(zip(("control", "treatment"), means, strict=True)),
                **one._asdict(),
                "outcome": outcome(one.lift_ci),
                "forecast": None if signal is None else _told(signal),
            }
        )
    return squares


def _told(signal: Signal) -> dict[str, Any]:
    all_clicks = signal.everything
    return {
        "signal": signal.name,
        "beyond": signal.beyond,
        "auc": all_clicks.auc,
        "interval": [all_clicks.lower, all_clicks.upper],
        "tells": bool(all_clicks.tells),
    }
