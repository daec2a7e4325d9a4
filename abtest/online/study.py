"""What many replications and variants say together: true lifts, bias and coverage of the experiment, agreement.

Replications are independent worlds, so means over them have plain t intervals; within one replication the truth has
its own Monte-Carlo error, and the experiment its interval.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from abtest.analysis.effects import Question
from abtest.online.experiment import Replication
from abtest.report.figures import Intervals, Lines, Row, Series
from abtest.report.sections import Section
from abtest.report.tables import Table

PRIMARY = ("ACC", "ADT")


class Summary(NamedTuple):
    """One metric of one variant over its replications; None where there is nothing to tell.

    Attributes:
        variant: Its name.
        question: Metric, slice, treatment.
        runs: Replications.
        truth: Mean true lift.
        truth_ci: Its interval: over replications if there are several, else of the Monte-Carlo error.
        estimate: Mean lift that the experiments found.
        bias: Mean of estimate - truth.
        bias_ci: Its interval over replications.
        covered: Experiments whose interval holds their own truth.
        judged: Experiments with an interval and a truth.
        significant: Experiments that were significant.
    """

    variant: str
    question: Question
    runs: int
    truth: float | None
    truth_ci: tuple[float, float] | None
    estimate: float | None
    bias: float | None
    bias_ci: tuple[float, float] | None
    covered: int
    judged: int
    significant: int


def summarise(replications: Sequence[Replication], alpha: float) -> list[Summary]:
    """Every question of every variant, in order."""
    variants = dict.fromkeys(one.variant for one in replications)
    return [
        _summary(variant, question, [one for one in replications if one.variant == variant], alpha)
        for variant in variants
        for question in _questions([one for one in replications if one.variant == variant])
    ]


def mean_interval(values: Sequence[float], alpha: float) -> tuple[float, float] | None:
    """t interval of a mean; None for fewer than two values."""
    from scipy.special import stdtrit

    if len(values) < 2:
        return None
    half = -float(stdtrit(len(values) - 1, alpha / 2)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def study_section(kind: str, summaries: Sequence[Summary], alpha: float) -> Section:
    """The answer of a study, before the single experiment's report."""
    text = [_TEXTS[kind]] if kind in _TEXTS else []
    if kind == "misspecified":
        text += [_agreement(summaries, metric) for metric in PRIMARY]
    if kind == "dose_response":
        text += [_trend(summaries, metric, alpha) for metric in PRIMARY]
    primary = [one for one in summaries if one.question[0] in PRIMARY and one.question[1] == "all"]
    blocks: list[Any] = [_figure(primary)]
    if kind == "dose_response":
        blocks.insert(0, _dose_figure(primary))
    blocks.append(_table(primary, "Primary metrics"))
    rest = [one for one in summaries if one not in primary]
    if rest:
        blocks.append(_table(rest, "Other metrics and slices")._replace(folded=True))
    return Section("All variants and replications", text, blocks)


def study_data(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Plain values for results.json."""
    return [
        {
            **one._asdict(),
            **dict(zip(("metric", "slice", "treatment"), one.question, strict=True)),
            "question": None,
        }
        for one in summaries
    ]


_TEXTS = {
    "dose_response": "One key is varied and all else is kept; each point is the true effect, everybody under treatment "
    "against everybody under control.",
    "interference": "With shared logs both arms learn from what either showed, which no user-level split can undo; "
    "with diverted logs each arm learns from its own users, fewer of them. The truth is the same question asked of "
    "whole worlds.",
    "faults": "Each variant breaks something in both arms' platform; compare the truth and the serving tables.",
    "misspecified": "The same experiment under other users: what depends on the user model is no conclusion.",
}


def _questions(replications: Sequence[Replication]) -> list[Question]:
    found: dict[Question, None] = {}
    for one in replications:
        found |= dict.fromkeys(one.truth)
        if one.analysis is not None:
            found |= dict.fromkeys(effect.question for effect in one.analysis.effects if effect.family != "slice")
    return list(found)


def _summary(variant: str, question: Question, runs: Sequence[Replication], alpha: float) -> Summary:
    truths = [one.truth[question] for one in runs if question in one.truth]
    lifts = [truth.lift for truth in truths]
    truth_ci = mean_interval(lifts, alpha)
    if truth_ci is None and truths:
        half = 1.959963984540054 * truths[0].se
        truth_ci = (lifts[0] - half, lifts[0] + half)
    estimates, biases, covered, judged, significant = [], [], 0, 0, 0
    for one in runs:
        effects = [] if one.analysis is None else [e for e in one.analysis.effects if e.question == question]
        for effect in effects[:1]:
            significant += bool(effect.significant)
            if effect.estimate.lift is None:
                continue
            estimates.append(effect.estimate.lift)
            if question in one.truth:
                biases.append(effect.estimate.lift - one.truth[question].lift)
                if effect.estimate.lift_ci is not None:
                    judged += 1
                    low, high = effect.estimate.lift_ci
                    covered += low <= one.truth[question].lift <= high
    return Summary(
        variant,
        question,
        len(runs),
        float(np.mean(lifts)) if lifts else None,
        truth_ci,
        float(np.mean(estimates)) if estimates else None,
        float(np.mean(biases)) if biases else None,
        mean_interval(biases, alpha),
        covered,
        judged,
        significant,
    )


def _figure(primary: Sequence[Summary]) -> Intervals:
    rows = []
    for one in primary:
        low, high = one.truth_ci or (None, None)
        tone = "even" if low is None or high is None or low <= 0 <= high else "gain" if low > 0 else "loss"
        label = f"{one.question[0]}, {one.variant}"
        rows.append(Row(label, _percent(one.truth), one.truth, low, high, mark=one.estimate, tone=tone))  # type: ignore[arg-type]
    caption = "True lift with its interval; the mark is the mean of the experiments."
    return Intervals("True lift by variant", rows, caption)


def _dose_figure(primary: Sequence[Summary]) -> Lines:
    series = []
    for metric, tone in zip(PRIMARY, ("first", "second"), strict=True):
        own = [one for one in primary if one.question[0] == metric]
        places = [float(one.variant.rsplit(" ", 1)[-1]) for one in own]
        low = [one.truth_ci[0] if one.truth_ci else None for one in own]
        high = [one.truth_ci[1] if one.truth_ci else None for one in own]
        series.append(Series(metric, places, [one.truth for one in own], low, high, tone, "dots"))  # type: ignore[arg-type]
    name = primary[0].variant.rsplit(" ", 1)[0] if primary else ""
    return Lines("True lift by dose", name, "true lift", series, level=(0.0, "no effect"))


def _table(summaries: Sequence[Summary], title: str) -> Table:
    rows = [
        (
            one.variant,
            *one.question,
            str(one.runs),
            f"{_percent(one.truth)} {_interval(one.truth_ci)}",
            _percent(one.estimate),
            f"{_percent(one.bias)} {_interval(one.bias_ci)}",
            f"{one.covered} of {one.judged}" if one.judged else "–",
            f"{one.significant} of {one.runs}",
        )
        for one in summaries
    ]
    header = (
        *("variant", "metric", "slice", "treatment", "runs", "true lift [95 %]"),
        *("mean estimate", "bias [95 %]", "truth in interval", "significant"),
    )
    return Table(title, header, rows, [])


def _agreement(summaries: Sequence[Summary], metric: str) -> str:
    own = [one for one in summaries if one.question[:2] == (metric, "all") and one.truth is not None]
    up = [one.variant for one in own if one.truth_ci and one.truth_ci[0] > 0]
    down = [one.variant for one in own if one.truth_ci and one.truth_ci[1] < 0]
    open_ = len(own) - len(up) - len(down)
    verdict = "disagree" if up and down else "agree in sign where they say anything" if up or down else "find nothing"
    return f"{metric}: the user models {verdict}: {len(up)} find a gain, {len(down)} a loss, {open_} neither."


def _trend(summaries: Sequence[Summary], metric: str, alpha: float) -> str:
    """Slope of the true lift over the dose, through the means of the variants' replications."""
    own = [one for one in summaries if one.question[:2] == (metric, "all") and one.truth is not None]
    if len(own) < 3:
        return f"{metric}: too few doses for a trend."
    from scipy.stats import linregress, t

    doses = [float(one.variant.rsplit(" ", 1)[-1]) for one in own]
    fit = linregress(doses, [one.truth for one in own])
    half = float(t.isf(alpha / 2, len(own) - 2)) * fit.stderr
    return (
        f"{metric}: the true lift changes by {100 * fit.slope:+.2f} points per unit of dose "
        f"[{100 * (fit.slope - half):+.2f}, {100 * (fit.slope + half):+.2f}]."
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.2f} %"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]"
