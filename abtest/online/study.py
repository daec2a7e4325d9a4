"""What many replications and variants say together: true lifts, bias and coverage of the experiment, agreement.

Replications are independent worlds, so means over them have plain t intervals; within one replication the truth has
its own Monte-Carlo error, and the experiment its interval.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from abtest.analysis.effects import Question
from abtest.online.experiment import Replication
from abtest.online.lift_text import bounds, percent, tone
from abtest.online.online_scenario import PRIMARY
from abtest.report.figures import Intervals, Lines, Row, Series, Tone
from abtest.report.sections import Block, Section
from abtest.report.tables import Table
from abtest.stats.mean_interval import mean_interval, slopes_over

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
        covered: Experiments whose interval holds their own truth, that of the very users who were in them.
        judged: Experiments with an interval and a truth.
        expected: How many of them should be covered, see :func:`expected_coverage`; None if none is judged.
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
    expected: float | None
    band: tuple[int, int] | None
    significant: int


def no_sentences(primary: Sequence[Summary], alpha: float) -> list[str]:
    """For studies of which the figures and tables say all."""
    return []


def no_comparisons(scenario: Any, found: Sequence[Replication]) -> list[Section]:
    """For studies that compare no worlds beyond the arms."""
    return []


def nothing_before(one: Replication, out: Path, command: str) -> list[Section]:
    """For experiments whose effects come first."""
    return []


@dataclass(frozen=True)
class StudyReport:
    """What a kind of study says beyond the effects of its experiments.

    Attributes:
        lead: How to read the study, in a few sentences.
        sentences: From the summaries of the primary metrics and alpha to what they say together.
        figures: From the same summaries to the figures of the study.
        comparisons: From the scenario and its replications to sections that compare worlds with worlds.
        before_effects: From a replication, the run folder and the user's command to sections of its experiment's report
            that stand before all others.
    """

    lead: str = ""
    sentences: Callable[[Sequence[Summary], float], list[str]] = no_sentences
    figures: Callable[[Sequence[Summary]], list[Block]] = lambda primary: lift_figure(primary)
    comparisons: Callable[[Any, Sequence[Replication]], list[Section]] = no_comparisons
    before_effects: Callable[[Replication, Path, str], list[Section]] = nothing_before


def summarise(replications: Sequence[Replication], alpha: float) -> list[Summary]:
    """Every question of every variant, in order."""
    variants = dict.fromkeys(one.variant for one in replications)
    return [
        _summary(variant, question, [one for one in replications if one.variant == variant], alpha)
        for variant in variants
        for question in _questions([one for one in replications if one.variant == variant])
    ]


def pooled(lifts: Sequence[float], errors: Sequence[float], alpha: float) -> tuple[float, float] | None:
    """Interval of a mean lift: over replications if there are several, else of the Monte-Carlo error of the one."""
    from scipy.special import ndtri

    if len(lifts) != 1:
        return mean_interval(lifts, alpha)
    half = -float(ndtri(alpha / 2)) * errors[0]
    return lifts[0] - half, lifts[0] + half


def expected_coverage(half: float, alpha: float, truth_se: float) -> float:
    """Chance that an interval holds the truth of the very users who were in the experiment.

    Welch's interval is made for users drawn from a larger population, and so is a little too wide for the effect on
    these users: half of them show each arm's outcome, and how much the effect differs between users, which no
    experiment can see, adds nothing to the error (Neyman 1923; Imbens & Rubin 2015, section 6.5). The simulator has
    seen both outcomes: the variance to be taken off is the square of the Monte-Carlo error of the truth. With 95 %
    intervals that makes 95 % where the effect is alike in all users, and up to 99.4 % where a user's two outcomes have
    nothing to do with each other.

    Args:
        half: Half the width of the interval of the lift.
        alpha: Level at which this interval was made, whatever the looks.
        truth_se: Standard error of the true lift, see :class:`abtest.online.truth.TrueLift`.
    """
    from scipy.special import ndtr, ndtri

    se = half / -float(ndtri(alpha / 2))
    left = max(se**2 - truth_se**2, 0.0)
    return 1.0 if left == 0.0 else 2.0 * float(ndtr(half / math.sqrt(left))) - 1.0


def coverage_band(chances: Sequence[float]) -> tuple[int, int]:
    """How many of so many intervals hold the truth, in 99 % of all cases.

    Args:
        chances: Probability that each interval holds what it should.
    """
    weights = np.ones(1)
    for chance in chances:
        weights = np.convolve(weights, [1.0 - chance, chance])
    below, tail = np.cumsum(weights), (1.0 - LEVEL) / 2.0
    last = len(chances)  # sums of floats may stay a hair below 1
    return min(int(np.searchsorted(below, tail)), last), min(int(np.searchsorted(below, 1.0 - tail)), last)


def study_section(
    report: StudyReport, summaries: Sequence[Summary], alpha: float, primary_names: Sequence[str] = PRIMARY
) -> Section:
    """The answer of a study, before the single experiment's report; ``primary_names`` are the metrics that decide."""
    primary = [one for one in summaries if one.question[0] in primary_names and one.question[1] == "all"]
    text = [*([report.lead] if report.lead else []), *report.sentences(primary, alpha)]
    blocks: list[Block] = list(report.figures(primary))
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


def _questions(replications: Sequence[Replication]) -> list[Question]:
    found: dict[Question, None] = {}
    for one in replications:
        found |= dict.fromkeys(one.truth)
        if one.analysis is not None:
            found |= dict.fromkeys(effect.question for effect in one.analysis.effects if effect.family != "slice")
    return list(found)


def by_question(summaries: Sequence[Summary]) -> list[tuple[str, str, list[Summary]]]:
    """Metric, treatment, and the summaries of all variants; treatments stay unnamed where there is one."""
    arms = list(dict.fromkeys(one.question[2] for one in summaries))
    return [
        (metric, arm if len(arms) > 1 else "", own)
        for metric in dict.fromkeys(one.question[0] for one in summaries)
        for arm in arms
        if (own := [one for one in summaries if (one.question[0], one.question[2]) == (metric, arm)])
    ]


def _summary(variant: str, question: Question, runs: Sequence[Replication], alpha: float) -> Summary:
    truths = [one.truth[question] for one in runs if question in one.truth]
    lifts = [truth.lift for truth in truths]
    estimates, biases, chances, covered, significant = [], [], [], 0, 0
    for one in runs:
        effects = [] if one.analysis is None else [e for e in one.analysis.effects if e.question == question]
        levels = {} if one.analysis is None else one.analysis.levels
        for effect in effects[:1]:
            significant += bool(effect.significant)
            if effect.estimate.lift is None:
                continue
            estimates.append(effect.estimate.lift)
            if question in one.truth:
                biases.append(effect.estimate.lift - one.truth[question].lift)
                if effect.estimate.lift_ci is not None:
                    low, high = effect.estimate.lift_ci
                    level = levels.get(effect.arm, alpha)
                    chances.append(expected_coverage((high - low) / 2, level, one.truth[question].se))
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
        len(chances),
        sum(chances) if chances else None,
        coverage_band(chances) if chances else None,
        significant,
    )


def lift_figure(primary: Sequence[Summary]) -> list[Block]:
    """The true lift of every variant; nothing where none is known."""
    return [_figure(primary)] if any(one.truth is not None for one in primary) else []


def _figure(primary: Sequence[Summary]) -> Intervals:
    variants = len({one.variant for one in primary}) > 1
    treatments = len({one.question[2] for one in primary}) > 1
    rows = []
    for one in primary:
        low, high = one.truth_ci or (None, None)
        names = [one.question[0], *([one.variant] if variants else []), *([one.question[2]] if treatments else [])]
        text = f"{percent(one.truth)} {bounds(one.truth_ci)}".strip()
        label = ", ".join(names)
        rows.append(Row(label, text, one.truth, low, high, mark=one.estimate, tone=tone(one.truth_ci)))
    runs = max((one.runs for one in primary), default=1)
    measured = f"the mean lift that the {runs} experiments measured" if runs > 1 else "the lift that the test measured"
    caption = f"The dot is the true lift, with its interval; the diamond is {measured}. To the right is better."
    return Intervals("True lift by variant" if variants else "True lift", rows, caption)


def dose_figures(primary: Sequence[Summary]) -> list[Block]:
    """A figure per metric, the treatments side by side."""
    found: list[Block] = []
    doses = sorted({dose(one.variant) for one in primary})
    gap = 0.02 * (doses[-1] - doses[0]) if doses else 0.0
    for metric in dict.fromkeys(one.question[0] for one in primary):
        series = []
        questions = [(arm, own) for name, arm, own in by_question(primary) if name == metric]
        for place, (arm, own) in enumerate(questions):
            at = [dose(one.variant) + gap * (place - (len(questions) - 1) / 2) for one in own]
            low = [one.truth_ci[0] if one.truth_ci else None for one in own]
            high = [one.truth_ci[1] if one.truth_ci else None for one in own]
            name = arm or own[0].question[2]
            series.append(Series(name, at, [one.truth for one in own], low, high, TONES[place % len(TONES)], "dots"))
        if series:
            key = primary[0].variant.rsplit(" ", 1)[0]
            title, caption = f"True lift of {metric} by dose", "Higher is better."
            found.append(Lines(title, key, "true lift", series, caption, level=(0.0, "no effect")))
    return found


def _table(summaries: Sequence[Summary], title: str, alpha: float) -> Table:
    level = f"{100 * (1 - alpha):.4g} %"
    columns: dict[str, list[str]] = {
        "metric": [one.question[0] for one in summaries],
        "variant": [one.variant for one in summaries],
        "slice": [one.question[1] for one in summaries],
        "treatment": [one.question[2] for one in summaries],
        "runs": [str(one.runs) for one in summaries],
        f"true lift [{level}]": [f"{percent(one.truth)} {bounds(one.truth_ci)}".strip() for one in summaries],
        "mean estimate": [percent(one.estimate) for one in summaries],
        f"bias [{level}]": [f"{percent(one.bias)} {bounds(one.bias_ci)}".strip() for one in summaries],
        "truth in interval": [_coverage(one) for one in summaries],
        "significant": [f"{one.significant} of {one.runs}" for one in summaries],
    }
    shown = {
        name: cells
        for name, cells in columns.items()
        if set(cells) != {"–"} and (name not in ("variant", "slice", "treatment") or len(set(cells)) > 1)
    }
    header, rows = tuple(shown), list(zip(*shown.values(), strict=True))
    notes = []
    if any(one.judged >= 20 for one in summaries):
        notes.append(
            f"Truth in interval: how many intervals hold the truth of their own users; in brackets how many do in "
            f"{LEVEL:.0%} of all sound studies. Those are more than {level}: the interval allows for other users being "
            "drawn, and these are the same (Neyman 1923); by how much is known here, as both worlds are."
        )
    return Table(title, header, rows, notes)


def _coverage(one: Summary) -> str:
    if not one.judged or one.band is None:
        return "–"
    text = f"{one.covered} of {one.judged}"
    if one.judged < 20 or one.expected is None:  # says nothing yet
        return text
    low, high = one.band
    verdict = "" if low <= one.covered <= high else ", TOO FEW" if one.covered < low else ", TOO MANY"
    return f"{text} [{low} to {high}, {one.expected:.1f} expected]{verdict}"


def agreement(own: Sequence[Summary], metric: str, arm: str) -> str:
    """Whether the variants' true lifts agree in sign, in one sentence."""
    own = [one for one in own if one.truth is not None]
    up = [one.variant for one in own if one.truth_ci and one.truth_ci[0] > 0]
    down = [one.variant for one in own if one.truth_ci and one.truth_ci[1] < 0]
    open_ = len(own) - len(up) - len(down)
    verdict = "disagree" if up and down else "agree in sign where they say anything" if up or down else "find nothing"
    return (
        f"{_named(metric, arm)}: the user models {verdict}: {len(up)} find a gain, {len(down)} a loss, {open_} neither."
    )


def trend(own: Sequence[Summary], metric: str, arm: str, alpha: float) -> str:
    """Slope of the true lift over the dose, with an interval that knows how far one replication is from another."""
    line = slope(own, alpha)
    if line is None:
        return f"{_named(metric, arm)}: too few doses for a trend."
    value, (low, high), runs = line
    among = (
        f"over {runs} replications, with worlds and trainings of their own"
        if runs > 1
        else "of one world: how much another world or training would change it is not in there; set replications"
    )
    return (
        f"{_named(metric, arm)}: the true lift changes by {100 * value:+.2f} points per unit of dose "
        f"[{100 * low:+.2f}, {100 * high:+.2f}] ({among})."
    )


def slope(own: Sequence[Summary], alpha: float) -> tuple[float, tuple[float, float], int] | None:
    """Slope over the dose, its interval, and the replications behind it; None if there are too few doses.

    Each replication has a world, a training and a slope of its own. With several, theirs are the independent
    observations: the mean slope has a t interval over replications, in which all that differs between them counts,
    see :func:`abtest.stats.mean_interval.slopes_over`. With one, the scatter about its line is all there is.
    """
    from scipy.special import stdtrit

    runs = min((len(one.truths) for one in own), default=0)
    if len(own) < 3 or runs < 1:
        return None
    values = np.array([one.truths[:runs] for one in own], dtype=float)  # (doses, runs)
    doses = np.array([dose(one.variant) for one in own])
    x = doses - doses.mean()
    slopes = slopes_over(doses, values)
    mean, interval = float(np.mean(slopes)), mean_interval(slopes, alpha)
    if interval is None:
        left = values[:, 0] - values[:, 0].mean() - mean * x
        half = -float(stdtrit(len(x) - 2, alpha / 2)) * math.sqrt(float(left @ left) / (len(x) - 2) / float(x @ x))
        interval = mean - half, mean + half
    return mean, interval, runs


def dose(variant: str) -> float:
    """The dose that a variant's name ends with."""
    return float(variant.rsplit(" ", 1)[-1])


def _named(metric: str, arm: str) -> str:
    return f"{metric}, {arm}" if arm else metric
