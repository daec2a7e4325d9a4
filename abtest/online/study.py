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
from abtest.report.figures import Intervals, Lines, Row, Series, Tone
from abtest.report.sections import Block, Section
from abtest.report.tables import Table

PRIMARY = ("ACC", "ADT")
TONES: tuple[Tone, ...] = ("first", "second", "third", "fourth")
LEVEL = 0.99  # of the band for the number of intervals that hold the truth


class Summary(NamedTuple):
    """One metric of one variant over its replications; None where there is nothing to tell.

    Attributes:
        variant: Its name.
        question: Metric, slice, treatment.
        runs: Replications.
        truths: True lift of each replication that has one.
        truth: Mean true lift.
        truth_ci: Its interval: over replications if there are several, else of the Monte-Carlo error.
        estimate: Mean lift that the experiments found.
        bias: Mean of estimate - truth.
        bias_ci: Its interval over replications.
        covered: Experiments whose interval holds their own truth.
        judged: Experiments with an interval and a truth.
        band: The least and most of them that are to be expected to be covered, 99 %; None if none is judged.
        significant: Experiments that were significant.
    """

    variant: str
    question: Question
    runs: int
    truths: tuple[float, ...]
    truth: float | None
    truth_ci: tuple[float, float] | None
    estimate: float | None
    bias: float | None
    bias_ci: tuple[float, float] | None
    covered: int
    judged: int
    band: tuple[int, int] | None
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


def pooled(lifts: Sequence[float], errors: Sequence[float], alpha: float) -> tuple[float, float] | None:
    """Interval of a mean lift: over replications if there are several, else of the Monte-Carlo error of the one."""
    from scipy.special import ndtri

    if len(lifts) != 1:
        return mean_interval(lifts, alpha)
    half = -float(ndtri(alpha / 2)) * errors[0]
    return lifts[0] - half, lifts[0] + half


def coverage_band(judged: int, alpha: float) -> tuple[int, int]:
    """How many of ``judged`` intervals of level 1 - alpha hold the truth, in 99 % of all cases."""
    from scipy.stats import binom

    tail = (1.0 - LEVEL) / 2.0
    return int(binom.ppf(tail, judged, 1.0 - alpha)), int(binom.ppf(1.0 - tail, judged, 1.0 - alpha))


def study_section(kind: str, summaries: Sequence[Summary], alpha: float) -> Section:
    """The answer of a study, before the single experiment's report."""
    text = [_TEXTS[kind]] if kind in _TEXTS else []
    primary = [one for one in summaries if one.question[0] in PRIMARY and one.question[1] == "all"]
    if kind == "misspecified":
        text += [_agreement(own, metric, arm) for metric, arm, own in _by_question(primary)]
    if kind == "dose_response":
        text += [trend(own, metric, arm, alpha) for metric, arm, own in _by_question(primary)]
    blocks: list[Block] = _dose_figures(primary) if kind == "dose_response" else [_figure(primary)]
    blocks.append(_table(primary, "Primary metrics", alpha))
    rest = [one for one in summaries if one not in primary]
    if rest:
        blocks.append(_table(rest, "Other metrics and slices", alpha)._replace(folded=True))
    return Section("All variants and replications", text, blocks)


def study_data(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Plain values for results.json."""
    return [
        {
            "variant": one.variant,
            **dict(zip(("metric", "slice", "treatment"), one.question, strict=True)),
            **{name: value for name, value in one._asdict().items() if name not in ("variant", "question")},
        }
        for one in summaries
    ]


_TEXTS = {
    "dose_response": "One key is varied and all else is kept; each point is the true effect, everybody under treatment "
    "against everybody under control.",
    "interference": "With shared logs both arms learn from what either showed, which no user-level split can undo; "
    "with diverted logs each arm learns from its own users, fewer of them. The truth is the same question asked of "
    "whole worlds.",
    "faults": "Each variant breaks something in both arms' platform, or in one's. What the test says of the treatment "
    "is here; what the fault costs is below.",
    "misspecified": "The same experiment under other users: what depends on the user model is no conclusion.",
}


def _questions(replications: Sequence[Replication]) -> list[Question]:
    found: dict[Question, None] = {}
    for one in replications:
        found |= dict.fromkeys(one.truth)
        if one.analysis is not None:
            found |= dict.fromkeys(effect.question for effect in one.analysis.effects if effect.family != "slice")
    return list(found)


def _by_question(summaries: Sequence[Summary]) -> list[tuple[str, str, list[Summary]]]:
    """Metric, treatment, and the summaries of all variants; treatments stay unnamed where there is one."""
    arms = list(dict.fromkeys(one.question[2] for one in summaries))
    return [
        (metric, arm if len(arms) > 1 else "", own)
        for metric in PRIMARY
        for arm in arms
        if (own := [one for one in summaries if (one.question[0], one.question[2]) == (metric, arm)])
    ]


def _summary(variant: str, question: Question, runs: Sequence[Replication], alpha: float) -> Summary:
    truths = [one.truth[question] for one in runs if question in one.truth]
    lifts = [truth.lift for truth in truths]
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
        tuple(lifts),
        float(np.mean(lifts)) if lifts else None,
        pooled(lifts, [truth.se for truth in truths], alpha),
        float(np.mean(estimates)) if estimates else None,
        float(np.mean(biases)) if biases else None,
        mean_interval(biases, alpha),
        covered,
        judged,
        coverage_band(judged, alpha) if judged else None,
        significant,
    )


def _figure(primary: Sequence[Summary]) -> Intervals:
    several = len({one.question[2] for one in primary}) > 1
    rows = []
    for one in primary:
        low, high = one.truth_ci or (None, None)
        name = f"{one.variant}, {one.question[2]}" if several else one.variant
        label = f"{one.question[0]}, {name}"
        rows.append(Row(label, percent(one.truth), one.truth, low, high, mark=one.estimate, tone=tone(one.truth_ci)))
    caption = "True lift with its interval; the mark is the mean of the experiments."
    return Intervals("True lift by variant", rows, caption)


def _dose_figures(primary: Sequence[Summary]) -> list[Block]:
    """A figure per metric, the treatments side by side."""
    found: list[Block] = []
    doses = sorted({dose(one.variant) for one in primary})
    gap = 0.02 * (doses[-1] - doses[0]) if doses else 0.0
    for metric in PRIMARY:
        series = []
        questions = [(arm, own) for name, arm, own in _by_question(primary) if name == metric]
        for place, (arm, own) in enumerate(questions):
            at = [dose(one.variant) + gap * (place - (len(questions) - 1) / 2) for one in own]
            low = [one.truth_ci[0] if one.truth_ci else None for one in own]
            high = [one.truth_ci[1] if one.truth_ci else None for one in own]
            name = arm or own[0].question[2]
            series.append(Series(name, at, [one.truth for one in own], low, high, TONES[place % len(TONES)], "dots"))
        if series:
            key = primary[0].variant.rsplit(" ", 1)[0]
            found.append(Lines(f"True lift of {metric} by dose", key, "true lift", series, level=(0.0, "no effect")))
    return found


def _table(summaries: Sequence[Summary], title: str, alpha: float) -> Table:
    level = f"{100 * (1 - alpha):.4g} %"
    rows = [
        (
            one.variant,
            *one.question,
            str(one.runs),
            f"{percent(one.truth)} {bounds(one.truth_ci)}".strip(),
            percent(one.estimate),
            f"{percent(one.bias)} {bounds(one.bias_ci)}".strip(),
            _coverage(one),
            f"{one.significant} of {one.runs}",
        )
        for one in summaries
    ]
    header = (
        *("variant", "metric", "slice", "treatment", "runs", f"true lift [{level}]"),
        *("mean estimate", f"bias [{level}]", "truth in interval", "significant"),
    )
    notes = []
    if any(one.judged >= 20 for one in summaries):
        notes.append(f"In brackets how many of so many intervals hold the truth in {LEVEL:.0%} of all sound studies.")
    return Table(title, header, rows, notes)


def _coverage(one: Summary) -> str:
    if not one.judged or one.band is None:
        return "–"
    text = f"{one.covered} of {one.judged}"
    if one.judged < 20:  # says nothing yet
        return text
    low, high = one.band
    verdict = "" if low <= one.covered <= high else ", TOO FEW" if one.covered < low else ", TOO MANY"
    return f"{text} [{low} to {high}]{verdict}"


def _agreement(own: Sequence[Summary], metric: str, arm: str) -> str:
    own = [one for one in own if one.truth is not None]
    up = [one.variant for one in own if one.truth_ci and one.truth_ci[0] > 0]
    down = [one.variant for one in own if one.truth_ci and one.truth_ci[1] < 0]
    open_ = len(own) - len(up) - len(down)
    verdict = "disagree" if up and down else "agree in sign where they say anything" if up or down else "find nothing"
    return (
        f"{_named(metric, arm)}: the user models {verdict}: {len(up)} find a gain, {len(down)} a loss, {open_} neither."
    )


def trend(own: Sequence[Summary], metric: str, arm: str, alpha: float) -> str:
    """Slope of the true lift over the dose, within replications: each has a level of its own."""
    from scipy.stats import t

    runs = min((len(one.truths) for one in own), default=0)
    values = np.array([one.truths[:runs] for one in own], dtype=float)  # (doses, runs)
    doses = np.array([dose(one.variant) for one in own])
    free = values.size - runs - 1
    if len(own) < 3 or free < 1:
        return f"{_named(metric, arm)}: too few doses for a trend."
    x = (doses - doses.mean())[:, None]
    y = values - values.mean(axis=0)
    slope = float((x * y).sum() / (runs * (x**2).sum()))
    se = math.sqrt(float(((y - slope * x) ** 2).sum()) / free / (runs * float((x**2).sum())))
    half = float(t.isf(alpha / 2, free)) * se
    return (
        f"{_named(metric, arm)}: the true lift changes by {100 * slope:+.2f} points per unit of dose "
        f"[{100 * (slope - half):+.2f}, {100 * (slope + half):+.2f}]."
    )


def dose(variant: str) -> float:
    """The dose that a variant's name ends with."""
    return float(variant.rsplit(" ", 1)[-1])


def tone(interval: tuple[float, float] | None) -> Tone:
    """Which side of 0 an interval lies on."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "even"
    return "gain" if interval[0] > 0 else "loss"


def percent(value: float | None) -> str:
    """A relative change."""
    return "–" if value is None else f"{100 * value:+.2f} %"


def bounds(interval: tuple[float, float] | None) -> str:
    """An interval of relative changes."""
    return "" if interval is None else f"[{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]"


def _named(metric: str, arm: str) -> str:
    return f"{metric}, {arm}" if arm else metric
