"""A realism check as tables: for a terminal, for programs (realism.json), for readers (realism.md)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from micrec.shares import share_lines
from simulator.realism.check import Realism
from simulator.realism.compare import ALIKE, NEAR, RealismVerdict, StatisticComparison, mean_distance, mean_ks
from simulator.realism.log import Log
from simulator.realism.ranking import Agreement
from simulator.realism.statistics import Kind

LEAST_DROP = 0.005  # of the AUC, for a feature to be named
PLOT_FILE = "statistics.png"
COLOURS = {
    RealismVerdict.ALIKE: "green",
    RealismVerdict.NEAR: "yellow",
    RealismVerdict.APART: "red",
    RealismVerdict.MISSING: "dim",
}
READING = (
    f"KS: largest difference between the two distribution functions (for curves of shares: between two points). "
    f"Distance: Wasserstein distance divided by the real standard deviation, on the scale log(1 + x) except for times; "
    f"for curves the relative difference, 0 to 2. Noise floor: the same distance between two halves of the real users. "
    f"Less is better. alike: KS and distance at most {ALIKE:g}; near: at most {NEAR:g}; apart: above."
)


def statistics_table(comparisons: Sequence[StatisticComparison], title: str) -> Table:
    """Every statistic that both logs have, with its distances, for a terminal."""
    grid = Table("statistic", title=escape(title), title_justify="left")
    for name in ("real", "synthetic", "KS", "distance", "noise floor", "verdict"):
        grid.add_column(name, justify="right")
    for part in _by_group(comparisons):
        grid.add_section()
        for comparison in part:
            verdict = comparison.verdict
            if verdict is RealismVerdict.MISSING:
                continue
            grid.add_row(
                escape(comparison.statistic.name),
                _value(comparison, comparison.real),
                _value(comparison, comparison.synthetic),
                _number(comparison.ks),
                _number(comparison.distance),
                _number(comparison.floor),
                f"[{COLOURS[verdict]}]{verdict}[/]",
            )
    return grid


def missing(comparisons: Sequence[StatisticComparison]) -> list[str]:
    """A line for each reason why statistics are missing."""
    reasons: dict[str, list[str]] = {}
    for comparison in comparisons:
        if comparison.reason:
            reasons.setdefault(comparison.reason, []).append(comparison.statistic.name)
    return [f"missing ({reason}): {', '.join(names)}" for reason, names in reasons.items()]


def change_table(before: Sequence[StatisticComparison], after: Sequence[StatisticComparison], base: str) -> Table:
    """Distances of a base world and of the fitted one, for a terminal."""
    grid = Table("statistic", title="distance to the real log", title_justify="left")
    for name in (f"KS {base}", "KS fitted", f"distance {base}", "distance fitted", "noise floor", "verdict"):
        grid.add_column(escape(name), justify="right")
    for old, new in zip(before, after, strict=True):
        if new.distance is None and old.distance is None:
            continue
        grid.add_row(
            escape(new.statistic.name),
            _number(old.ks),
            _number(new.ks),
            _number(old.distance),
            _number(new.distance),
            _number(new.floor),
            f"[{COLOURS[new.verdict]}]{new.verdict}[/]",
        )
    grid.add_section()
    grid.add_row(
        "mean",
        *(_number(value) for value in (mean_ks(before), mean_ks(after), mean_distance(before), mean_distance(after))),
    )
    return grid


def as_dict(realism: Realism) -> dict[str, Any]:
    """The contents of realism.json."""
    comparisons = realism.comparisons
    return {
        "schema": 1,
        "real": _log(realism.real),
        "synthetic": _log(realism.synthetic),
        "without": list(realism.without),
        "thresholds": {"alike": ALIKE, "near": NEAR},
        "mean_ks": mean_ks(comparisons),
        "mean_distance": mean_distance(comparisons),
        "verdicts": {verdict: sum(c.verdict is verdict for c in comparisons) for verdict in RealismVerdict},
        "statistics": [_statistic(comparison) for comparison in comparisons],
        "classifier": [
            {**test._asdict(), "giveaways": [giveaway._asdict() for giveaway in test.giveaways]}
            for test in realism.tests
        ],
        "ranking": None if realism.ranking is None else _ranking(realism.ranking),
    }


def markdown(realism: Realism) -> str:
    """The contents of realism.md."""
    real, synthetic = realism.real, realism.synthetic
    lines = [
        f"# Realism: {_cell(synthetic.name)} against {_cell(real.name)}",
        "",
        summary(realism),
        "",
        *(f"- {line}" for line in verdict_lines(realism)),
        "",
        "| log | users | items | clicks | sessions | sample |",
        "|---|---|---|---|---|---|",
        *(
            f"| {_cell(log.name)} | {log.n_users:,} | {log.n_items:,} | {len(log):,} | {len(log.session_start):,} "
            f"| {_sample(log)} |"
            for log in (real, synthetic)
        ),
        "",
        "| statistic | real | synthetic | KS | distance | noise floor | verdict |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {c.statistic.name} | {_value(c, c.real)} | {_value(c, c.synthetic)} | {_number(c.ks)} "
            f"| {_number(c.distance)} | {_number(c.floor)} | {_cell(c.reason) if c.reason else c.verdict} |"
            for c in realism.comparisons
        ),
        "",
        READING,
        "",
        f"![Statistics]({PLOT_FILE})",
        "",
        "What each statistic is:",
        "",
        *(f"- `{c.statistic.name}` ({c.statistic.group}): {c.statistic.meaning}" for c in realism.comparisons),
    ]
    return "\n".join(lines) + "\n"


def verdict_lines(realism: Realism) -> list[str]:
    """What the classifier and the recommenders say, a line each."""
    lines = []
    for test in realism.tests:
        found = [giveaway for giveaway in test.giveaways[:4] if giveaway.drop > LEAST_DROP]
        by = ", ".join(f"{g.feature} ({g.drop:.2f}; alone {g.alone:.2f})" for g in found) or "none in particular"
        lines.append(
            f"classifier on {test.rows} ({test.n_real:,} real, {test.n_synthetic:,} synthetic): AUC {test.auc:.3f} "
            f"[{test.low:.3f}, {test.high:.3f}], 0.5 means that it cannot distinguish them; features that help it: {by}"
        )
    if realism.ranking is not None:
        lines += _ranking_lines(realism.ranking, realism.real.name, realism.synthetic.name)
    return lines


def _ranking_lines(agreement: Agreement, real: str, synthetic: str) -> list[str]:
    """Hits of the recommenders on both datasets, and how well the orders agree over the draws."""
    lines = []
    for order, name in ((agreement.real, real), (agreement.draws[0].order, synthetic)):
        best = sorted(order.hit.items(), key=lambda entry: -entry[1])
        hits = ", ".join(f"{model} {hit:.4f}" for model, hit in best)
        lines.append(f"HIT@{agreement.cutoff} on {_plain(name)} ({order.clicks:,} clicks): {hits}")
        lines += [f"  {line}" for line in share_lines({name: order.shares}, [agreement.cutoff])]
    lines += [f"left out on both sides: {name} ({_plain(why)})" for name, why in agreement.left_out.items()]
    for number, draw in enumerate(agreement.draws):
        tau = "undefined (all tied)" if np.isnan(draw.tau) else f"{draw.tau:.2f}"
        which = f"draw {number + 1}: " if len(agreement.draws) > 1 else ""
        lines.append(
            f"order of the recommenders: {which}Kendall tau {tau}; {draw.decided} pairs differ beyond chance in both, "
            f"{draw.agreed} of them in the same direction"
        )
    if len(agreement.draws) > 1:
        lines.append(
            f"order of the recommenders over {len(agreement.draws)} draws: mean tau {agreement.tau:.2f}, standard "
            f"deviation {agreement.spread:.2f}"
        )
    lines.append(
        f"two samples of the test users of {_plain(real)} order the recommenders with a tau of "
        f"{agreement.real.self_tau:.2f} on average: more cannot be expected of a world"
    )
    return lines


def _ranking(agreement: Agreement) -> dict[str, Any]:
    given = agreement.draws[0]
    return {
        "cutoff": agreement.cutoff,
        "tau": _finite(given.tau),
        "pairs_decided": given.decided,
        "pairs_agreed": given.agreed,
        "self_tau": _finite(agreement.real.self_tau),
        "draws": [
            {
                "tau": _finite(draw.tau),
                "pairs_decided": draw.decided,
                "pairs_agreed": draw.agreed,
                "hit": draw.order.hit,
            }
            for draw in agreement.draws
        ],
        "left_out": agreement.left_out,
        **{
            side: {
                "clicks": order.clicks,
                "hit": order.hit,
                **order.shares,
                "z": {" - ".join(pair): z for pair, z in order.z.items()},
            }
            for side, order in (("real", agreement.real), ("synthetic", given.order))
        },
    }


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else value


def summary(realism: Realism) -> str:
    """One sentence of verdicts."""
    counts = {verdict: sum(c.verdict is verdict for c in realism.comparisons) for verdict in RealismVerdict}
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return (
        f"{parts}; mean KS {mean_ks(realism.comparisons):.3f}, mean distance {mean_distance(realism.comparisons):.3f}"
        f"{', left out: ' + ', '.join(realism.without) if realism.without else ''}."
    )


def _by_group(comparisons: Sequence[StatisticComparison]) -> list[list[StatisticComparison]]:
    groups = dict.fromkeys(c.statistic.group for c in comparisons)
    return [[c for c in comparisons if c.statistic.group == group] for group in groups]


def _log(log: Log) -> dict[str, Any]:
    return {
        "name": log.name,
        "users": log.n_users,
        "items": log.n_items,
        "clicks": len(log),
        "sessions": len(log.session_start),
        "sample_of_users": log.sampled[1] if log.sampled else None,
    }


def _sample(log: Log) -> str:
    return f"{log.sampled[0]:,} of {log.sampled[1]:,} users" if log.sampled else "all users"


def _statistic(comparison: StatisticComparison) -> dict[str, Any]:
    statistic = comparison.statistic
    return {
        "name": statistic.name,
        "group": statistic.group,
        "kind": str(statistic.kind),
        "unit": statistic.unit,
        "meaning": statistic.meaning,
        "ks": comparison.ks,
        "distance": comparison.distance,
        "floor": comparison.floor,
        "verdict": str(comparison.verdict),
        "reason": comparison.reason or None,
        "points": list(statistic.points) or None,
        "real": _figures(comparison, comparison.real),
        "synthetic": _figures(comparison, comparison.synthetic),
    }


def _figures(comparison: StatisticComparison, values: NDArray[np.float64]) -> Any:
    """Points of a curve, or size, mean and quantiles of a sample; None if missing."""
    if not len(values):
        return None
    if comparison.statistic.kind is Kind.CURVE:
        return [None if np.isnan(value) else float(value) for value in values]
    quantiles = np.quantile(values, (0.1, 0.5, 0.9))
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "sd": float(values.std()),
        **{f"p{level}": float(value) for level, value in zip((10, 50, 90), quantiles, strict=True)},
    }


def _value(comparison: StatisticComparison, values: NDArray[np.float64]) -> str:
    """A curve's first points, or a sample's mean and median."""
    if not len(values):
        return "-"
    if comparison.statistic.kind is Kind.CURVE:
        shown = [f"{value:.3g}" for value in values[:4] if not np.isnan(value)]
        return " ".join(shown) + (" …" if len(values) > 4 else "")
    return f"{values.mean():.3g} / {np.median(values):.3g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _cell(text: str) -> str:
    """Text of data in a cell of a Markdown table."""
    plain = _plain(text)
    for char in "\\`*_{}[]<>|":
        plain = plain.replace(char, f"\\{char}")
    return plain
