"""The figures of an experiment's report."""

from collections.abc import Mapping
from typing import Any

from abtest.report import formatting
from abtest.report.figures import Bars, Intervals, Lines, Row, Series, Tone
from abtest.report.pages.experiment_tables import effect_name, effects, interval
from abtest.report.tables import Results

_TONES: tuple[Tone, ...] = ("first", "second", "third", "fourth")


def lift_figure(results: Results) -> Intervals:
    """Forest plot of all metrics; CUPED hollow beneath, the truth as a diamond where it is known."""
    rows = []
    for family in ("primary", "guardrail", "secondary"):
        for effect in effects(results, family):
            rows.append(_row(effect_name(results, effect), effect))
            if "cuped" in effect["others"]:
                other = effect["others"]["cuped"]
                rows.append(_plain_row("with CUPED", other, tone=_tone(effect), hollow=True))
    caption = (
        f"Relative lift with its {interval(results)}. Coloured where significant after adjustment. {_way(results)}"
    )
    if any(effect["truth"] for effect in results["effects"]):
        caption += " The diamond is the true lift, which only a simulator knows."
    return Intervals("Lift by metric", rows, caption)


def _better(results: Results, metric: str) -> str:
    """Which way a followed metric should go."""
    down = any(one["metric"] == metric and one["direction"] == "down" for one in results["effects"])
    return "Lower is better." if down else "Higher is better."


def _way(results: Results) -> str:
    """Which side is the good one."""
    families = ("primary", "guardrail", "secondary")
    shown = {one["metric"]: one["direction"] for family in families for one in effects(results, family)}
    less = [metric for metric, direction in shown.items() if direction == "down"]
    return "To the right is better" + (f"; to the left for {', '.join(less)}." if less else ".")


def slice_figure(results: Results) -> Intervals:
    """Forest plot of primary metrics by slice, with all users to compare."""
    rows = []
    for effect in effects(results, "primary"):
        mine = [
            one
            for one in effects(results, "slice")
            if (one["metric"], one["treatment"]["arm"]) == (effect["metric"], effect["treatment"]["arm"])
        ]
        if mine:
            rows += [_row(effect_name(results, effect), effect)]
            rows += [_row(f"· {effect_name(results, one)} ({_users(one)})", one) for one in mine]
    caption = f"Relative lift with its {interval(results)}; in brackets, users of both arms. {_way(results)}"
    return Intervals("Lift by slice", rows, caption)


def daily_figures(results: Results) -> list[Lines]:
    """One figure per followed metric and treatment: each day, and all days so far with sequential bounds."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for look in results["looks"]:
        found.setdefault((look["metric"], look["arm"]), []).append(look)
    several = len(results["scenario"]["treatments"]) > 1
    figures = []
    for (metric, arm), looks in found.items():
        days = [float(look["day"]) for look in looks]
        truth = _truth(results, metric, arm)
        so_far = [look["so_far"] for look in looks]
        on_day = [look["on_day"] for look in looks]
        narrowest = _narrow_enough(so_far, on_day)
        series = [
            Series(
                "so far, with bounds for daily looks",
                days,
                [one["lift"] for one in so_far],
                [_end(one, 0, narrowest) for one in so_far],
                [_end(one, 1, narrowest) for one in so_far],
                style="band",
            ),
            Series(
                f"each day, {100 * (1 - results['scenario']['alpha']):.4g} % interval",
                [day + 0.12 for day in days],
                [one["lift"] for one in on_day],
                [_end(one, 0, narrowest) for one in on_day],
                [_end(one, 1, narrowest) for one in on_day],
                tone="even",
                style="dots",
            ),
        ]
        figures.append(
            Lines(
                f"{metric}, {arm}: lift day by day" if several else f"{metric}: lift day by day",
                "day of the test",
                "lift",
                series,
                caption=f"{_better(results, metric)} A bound that is cut off or missing lies beyond the figure, or is "
                "not defined yet.",
                x_ticks={str(look["day"]): float(look["day"]) for look in looks},
                level=(truth, "true lift at the end of the test") if truth is not None else None,
            )
        )
    return figures


def cuped_figure(results: Results) -> Bars:
    """Share of variance that covariates took away."""
    rows = [
        (effect_name(results, effect), gain, f"{gain:.1%}".replace("%", " %"))
        for effect in results["effects"]
        if (gain := effect["variance_reduction"]) is not None
    ]
    return Bars(
        "Variance removed by CUPED",
        rows,
        "A variance lower by a share v is worth 1 / (1 − v) times as many users. "
        f"Covariates: {', '.join(results['scenario']['covariates'])}.",
    )


def srm_figure(results: Results) -> Bars:
    """Users per arm."""
    check = next(one for one in results["srm"] if one["scope"] == "all")
    total = sum(check["counts"].values()) or 1
    rows = [
        (arm, float(count), f"{count:,} ({count / total:.2%})".replace("%", " %"))
        for arm, count in check["counts"].items()
    ]
    planned = ", ".join(f"{arm} {count / total:.2%}".replace("%", " %") for arm, count in check["expected"].items())
    return Bars(
        "Users per arm", rows, f"Planned: {planned}. p {formatting.p_value(check['p'])} (chi-square).", tone="even"
    )


def power_figure(results: Results) -> Lines:
    """Chance to find a true lift, by its size."""
    several = len({curve["arm"] for curve in results["power"]}) > 1
    series = [
        Series(
            f"{curve['metric']}, {curve['arm']}" if several else curve["metric"],
            curve["lifts"],
            curve["powers"],
            tone=_TONES[place % len(_TONES)],
        )
        for place, curve in enumerate(curve for curve in results["power"] if curve["lifts"])
    ]
    return Lines(
        "Power of this test",
        "true lift",
        "chance to find it",
        series,
        caption="For a test of these users, this spread and this level, not adjusted for several metrics.",
        x_percent=True,
        level=(0.8, "found 80 % of the time"),
    )


def _row(label: str, effect: Mapping[str, Any]) -> Row:
    mark = effect["truth"]["lift"] if effect["truth"] else None
    return _plain_row(label, effect, tone=_tone(effect), mark=mark)


def _plain_row(
    label: str, test: Mapping[str, Any], *, tone: Tone, mark: float | None = None, hollow: bool = False
) -> Row:
    low: float | None = None
    high: float | None = None
    text = formatting.percent(test["lift"])
    if test["lift_ci"]:
        low, high = test["lift_ci"]
        text += f" {formatting.percent_interval(test['lift_ci']).removesuffix(' %')}"
    return Row(label, text, test["lift"], low, high, mark, tone, hollow)


def _tone(effect: Mapping[str, Any]) -> Tone:
    outcome: Tone = effect["outcome"]
    return outcome if effect["valid"] else "even"


def _share(share: float) -> str:
    return f"{share:.2%}".replace("%", " %")


def _users(effect: Mapping[str, Any]) -> str:
    return f"{effect['control']['n'] + effect['treatment']['n']:,}"


def _truth(results: Results, metric: str, arm: str) -> float | None:
    for effect in effects(results, "primary"):
        if (effect["metric"], effect["treatment"]["arm"]) == (metric, arm) and effect["truth"]:
            return float(effect["truth"]["lift"])
    return None


def _narrow_enough(*tests: list[Mapping[str, Any]]) -> float:
    """Bounds further out than this would squeeze all others: four times the middle half-width."""
    reach = sorted(max(abs(end) for end in one["lift_ci"]) for group in tests for one in group if one["lift_ci"])
    return 3.0 * reach[len(reach) // 2] if reach else 1.0


def _end(test: Mapping[str, Any], side: int, most: float) -> float | None:
    return None if test["lift_ci"] is None else max(-most, min(most, test["lift_ci"][side]))
