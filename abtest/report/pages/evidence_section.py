"""The answer of an evidence map: gains by dataset and loss, forecasts beside them, and whether the two agree."""

from collections.abc import Mapping
from typing import Any

from abtest.report import formatting
from abtest.report.figures import HeatMap, HeatSquare, Tone
from abtest.report.sections import Section
from abtest.report.tables import Results, Table

TITLE = "What each loss gains, and what was forecast"
_TONES: dict[str, Tone] = {"gain": "gain", "loss": "loss", "open": "even"}
_MARKS = {"gain": " +", "loss": " −", "open": ""}


def evidence_section(results: Results) -> Section:
    """A map and a table for each metric, and how forecast and gain rank together."""
    metrics = list(dict.fromkeys(one["metric"] for one in results["evidence"]["squares"]))
    text = [
        "A gain is HIT with a loss over HIT of the same base without it, minus 1; its interval holds the luck of "
        "training seeds and of test users (the noise of training is pooled over the rows of a dataset). + and − mark "
        "intervals beside 0; they are not adjusted for their number.",
        "A forecast is the AUC of the strongest signal that the loss could use, measured before any training "
        "(micrec headroom): .5 is nothing, * is above it at 95 %.",
        *(agreement_line(one) for one in results["evidence"]["agreement"]),
    ]
    blocks = [block for metric in metrics for block in (evidence_figure(results, metric), gain_table(results, metric))]
    return Section(TITLE, text, [*blocks, forecast_table(results)], lead=True)


def agreement_line(one: Mapping[str, Any]) -> str:
    """How far the forecasts order the gains, in a sentence."""
    if one["tau"] is None:
        return f"{one['metric']}: too few squares to say whether the forecasts order the gains."
    said = "the forecasts order the gains" if one["tau"] > 0 and one["p"] < 0.05 else "the order is not shown to agree"
    return (
        f"{one['metric']}: Kendall's tau of forecast and gain {one['tau']:+.2f} over {one['squares']} squares "
        f"(p {formatting.p_value(one['p'])}): {said}."
    )


def evidence_figure(results: Results, metric: str) -> HeatMap:
    """Datasets from above, losses to the right, each square a gain with its interval."""
    squares = _of(results, metric)
    datasets, rows = _names(squares)
    labels = [results["scenario"]["rows"][row]["label"] for row in rows]
    known = [abs(one["lift"]) for one in squares if one["lift"] is not None]
    from_below = list(reversed(datasets))
    return HeatMap(
        f"Gain in {metric}",
        "added to the base",
        "log or world",
        labels,
        [results["datasets"][name]["label"] for name in from_below],
        [_square(one, rows.index(one["row"]), from_below.index(one["dataset"])) for one in squares],
        max(known, default=0.0),
        "Intervals over training seeds and users. A dashed square's interval covers 0.",
    )


def gain_table(results: Results, metric: str) -> Table:
    """The same numbers as text."""
    squares = _of(results, metric)
    datasets, rows = _names(squares)
    labels = [results["scenario"]["rows"][row]["label"] for row in rows]
    base = results["scenario"]["rows"][results["reference"]]["label"]
    found = {(one["dataset"], one["row"]): one for one in squares}
    cells = [
        (
            results["datasets"][name]["label"],
            formatting.value(found[name, rows[0]]["control"]),
            *(_cell(found[name, row]) for row in rows),
        )
        for name in datasets
    ]
    return Table(f"Gain in {metric}", ("log or world", base, *labels), cells, [])


def forecast_table(results: Results) -> Table:
    """The forecast of each single loss on each dataset."""
    squares = _of(results, results["evidence"]["squares"][0]["metric"])
    datasets, rows = _names([one for one in squares if one["forecast"]])
    labels = [results["scenario"]["rows"][row]["label"] for row in rows]
    found = {(one["dataset"], one["row"]): one["forecast"] for one in squares}
    cells = [
        (results["datasets"][name]["label"], *(_forecast(found.get((name, row))) for row in rows)) for name in datasets
    ]
    return Table("Forecast: AUC of the strongest signal", ("log or world", *labels), cells, [])


def _of(results: Results, metric: str) -> list[Mapping[str, Any]]:
    return [one for one in results["evidence"]["squares"] if one["metric"] == metric]


def _names(squares: list[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    datasets, rows = (list(dict.fromkeys(one[key] for one in squares)) for key in ("dataset", "row"))
    return datasets, rows


def _cell(one: Mapping[str, Any]) -> str:
    gain, interval = formatting.percent(one["lift"]), formatting.percent_interval(one["lift_ci"])
    return f"{gain} {interval}{_MARKS[one['outcome']]}"


def _forecast(one: Mapping[str, Any] | None) -> str:
    return "no signal" if one is None else f"{one['auc']:.3f}{'*' if one['tells'] else ''} ({one['signal']})"


def _square(one: Mapping[str, Any], column: int, row: int) -> HeatSquare:
    ends = () if one["lift_ci"] is None else tuple(f"{100 * end:+.1f}".replace("-", "−") for end in one["lift_ci"])
    text = formatting.UNDEFINED if one["lift"] is None else f"{100 * one['lift']:+.1f} %".replace("-", "−")
    return HeatSquare(column, row, one["lift"], text, ends, _TONES[one["outcome"]])
