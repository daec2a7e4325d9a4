"""The report of a gain map: a heat map of each panel, or a curve where it has one row, and the numbers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from abtest.report import formatting, html, terminal
from abtest.report.figures import HeatMap, HeatSquare, Lines, Series, Tone
from abtest.report.markdown import code, escape, table_lines
from abtest.report.pages.experiment_page import Page, PagePart
from abtest.report.pages.table_csv import csv_text, trials_csv
from abtest.report.sections import Block, Section
from abtest.report.tables import Results, Table, baseline_label, keys_text, missing_lines
from abtest.report.terminal import plain_console
from abtest.run_folder import HTML_FILE, REPORT_FILE, write_text

TABLE_CSV, TRIALS_CSV = "table.csv", "trials.csv"
_TONES: dict[str, Tone] = {"gain": "gain", "loss": "loss", "open": "even"}
_SquareData = Mapping[str, Any]  # an object of squares in results.json


def write_map(out: Path, results: Results) -> None:
    """Report and CSV files, from the contents of results.json and nothing else."""
    write_text(out / REPORT_FILE, map_markdown(results))
    write_text(out / HTML_FILE, map_html(results))
    write_text(out / TABLE_CSV, squares_csv(results))
    write_text(out / TRIALS_CSV, trials_csv(results))


def map_html(results: Results) -> str:
    """The whole page."""
    parts = [
        PagePart(f"s{place}", part.title, part.text, part.blocks)
        for place, part in enumerate(map_sections(results), start=1)
    ]
    page = Page(
        eyebrow="Map of gains",
        title=results["scenario"]["title"],
        subtitle=_subtitle(results),
        sections=parts,
        provenance=_provenance(results),
    )
    return html.render(page)


def map_markdown(results: Results) -> str:
    """The whole report; every string that came from data or settings is escaped."""
    return "\n".join(_markdown(results)) + "\n"


def print_map(results: Results, console: Console | None = None) -> None:
    """The gains of each map, and what they are made of."""
    console = console or plain_console()
    for name in _maps(results):
        for metric in results["scenario"]["metrics"]:
            terminal.print_table(grid_table(results, name, metric), console)
    for who, keys in _switches(results):
        console.print(Text(f"{who}: {keys}"))


def map_sections(results: Results) -> list[Section]:
    """The report in order: how to read it, each map with its numbers, the worlds, what was on."""
    parts = [Section("How to read this", _reading(results))]
    for name, panel in _maps(results).items():
        rows = results["scenario"]["rows"]
        compared = f"{rows[panel['row']]['label']} against {rows[panel['against']]['label']}."
        told = _trends(results, name) or [_summary(results, name)]
        blocks: list[Block] = [figure_of(results, name, metric) for metric in results["scenario"]["metrics"]]
        blocks += [square_table(results, name, metric) for metric in results["scenario"]["metrics"]]
        parts.append(Section(panel["label"], (compared, *told), blocks))
    missing = dict.fromkeys(line for facts in results["datasets"].values() for line in missing_lines(facts))
    parts.append(Section("The worlds", tuple(missing), [_world_table(results)]))
    return [*parts, Section("Switches that were on", [f"{who}: {keys}" for who, keys in _switches(results)])]


def figure_of(results: Results, name: str, metric: str) -> HeatMap | Lines:
    """One map as squares, or as a curve of the dial where it has one row only."""
    panel, across = results["scenario"]["panels"][name], results["scenario"]["across"]
    squares = _squares(results, name, metric)
    title = f"{panel['label']}: gain in {metric}"
    trend = _trend(results, name, metric)
    if trend is not None:
        low, high = ([None if ends is None else ends[end] for ends in trend["gain_cis"]] for end in (0, 1))
        series = Series("mean gain", trend["dials"], trend["gains"], low, high, "first", "dots")
        caption = f"Mean of {trend['worlds']} worlds; {_level(results)} intervals over worlds."
        return Lines(title, _axis(panel["dial"]), "gain", [series], caption, level=(0.0, "no gain"))
    if len(across["values"]) == 1:
        low, high = ([None if one["lift_ci"] is None else one["lift_ci"][end] for one in squares] for end in (0, 1))
        lifts = [one["lift"] for one in squares]
        series = Series("gain", [one["dial"] for one in squares], lifts, low, high, "first", "dots")
        caption = f"{_axis(across)} {across['values'][0]:g}; {_level(results)} intervals over training seeds and users."
        return Lines(title, _axis(panel["dial"]), "gain", [series], caption, level=(0.0, "no gain"))
    known = [abs(one["lift"]) for one in results["squares"] if one["metric"] == metric and one["lift"] is not None]
    return HeatMap(
        title,
        _axis(panel["dial"]),
        _axis(across),
        [f"{value:g}" for value in panel["dial"]["values"]],
        [f"{value:g}" for value in across["values"]],
        [_heat_square(one, panel["dial"]["values"], across["values"]) for one in squares],
        max(known, default=0.0),
        f"{_level(results)} intervals over training seeds and users. A dashed square's interval covers 0. Colours are "
        "as strong in every map of this report.",
    )


def square_tables(results: Results) -> list[Table]:
    """The numbers of every map."""
    return [square_table(results, name, metric) for name in _maps(results) for metric in results["scenario"]["metrics"]]


def square_table(results: Results, name: str, metric: str) -> Table:
    """Every square of one map: both models, the gain with its interval, and the models without training."""
    scenario = results["scenario"]
    panel, squares = scenario["panels"][name], _squares(results, name, metric)
    labels = list(dict.fromkeys(label for one in squares for label in one["references"]))
    rows = [
        (
            f"{one['across']:g}, {one['dial']:g}",
            formatting.value(one["control"]),
            formatting.value(one["treatment"]),
            formatting.percent(one["lift"]),
            formatting.percent_interval(one["lift_ci"]),
            *(formatting.value(one["references"].get(label)) for label in labels),
        )
        for one in squares
    ]
    header = (
        f"{_axis(scenario['across'])}, {_axis(panel['dial'])}",
        *(scenario["rows"][panel[which]]["label"] for which in ("against", "row")),
        *("gain", f"{_level(results)} interval", *(baseline_label(label) for label in labels)),
    )
    return Table(f"{panel['label']}: {metric}", header, rows, ["Means over training seeds."])


def grid_table(results: Results, name: str, metric: str) -> Table:
    """One map as a table of its own shape, the highest row first, as the figure has it."""
    panel, across = results["scenario"]["panels"][name], results["scenario"]["across"]
    squares = {(one["across"], one["dial"]): one for one in _squares(results, name, metric)}
    rows = [
        (f"{value:g}", *(_cell(squares[value, dial]) for dial in panel["dial"]["values"]))
        for value in reversed(across["values"])
    ]
    dial = [f"{_axis(panel['dial'])} {value:g}" for value in panel["dial"]["values"]]
    notes = _trends(results, name) or [_summary(results, name)]
    return Table(f"{panel['label']}: gain in {metric}", (_axis(across), *dial), rows, notes)


def squares_csv(results: Results) -> str:
    """One line per map, metric and square."""
    labels = list(dict.fromkeys(label for one in results["squares"] for label in one["references"]))
    plain = ("map", "metric", "dial", "across", "dataset", "control", "treatment", "lift")
    rest = ("seeds_se", "users_se", "df", "outcome")
    lines = [
        (
            *(one[key] for key in plain),
            *(one["lift_ci"] or (None, None)),
            *(one[key] for key in rest),
            *(one["references"].get(label) for label in labels),
        )
        for one in results["squares"]
    ]
    return csv_text((*plain, "lift_low", "lift_high", *rest, *labels), lines)


def _heat_square(one: _SquareData, dials: Sequence[float], across: Sequence[float]) -> HeatSquare:
    ends = () if one["lift_ci"] is None else tuple(f"{100 * end:+.1f}".replace("-", "−") for end in one["lift_ci"])
    text = formatting.UNDEFINED if one["lift"] is None else f"{100 * one['lift']:+.1f} %".replace("-", "−")
    place = dials.index(one["dial"]), across.index(one["across"])
    return HeatSquare(*place, one["lift"], text, ends, _TONES[one["outcome"]])


def _cell(one: _SquareData) -> str:
    mark = {"gain": " +", "loss": " −", "open": ""}[one["outcome"]]
    return f"{formatting.percent(one['lift'])} {formatting.percent_interval(one['lift_ci'])}{mark}"


def _summary(results: Results, name: str) -> str:
    squares = [one for one in results["squares"] if one["map"] == name]
    counts = {kind: sum(one["outcome"] == kind for one in squares) for kind in ("gain", "loss", "open")}
    return (
        f"Of {len(squares)} squares {counts['gain']} show a gain, {counts['loss']} a loss, and {counts['open']} "
        "neither, as their intervals cover 0."
    )


def _trend(results: Results, name: str, metric: str) -> Mapping[str, Any] | None:
    """The gain over the dial, of a map whose other axis is the draw of the world."""
    return next((one for one in results.get("trends", []) if (one["map"], one["metric"]) == (name, metric)), None)


def _trends(results: Results, name: str) -> list[str]:
    """Mean gain at each dose, and slope, of each metric."""
    lines = []
    for one in (found for metric in results["scenario"]["metrics"] if (found := _trend(results, name, metric))):
        gains = ", ".join(
            f"{formatting.percent(gain)} {formatting.percent_interval(ends)} at {dial:g}"
            for dial, gain, ends in zip(one["dials"], one["gains"], one["gain_cis"], strict=True)
        )
        line = f"{one['metric']}, mean of {one['worlds']} worlds, intervals over worlds: {gains}."
        if one["slope"] is not None:
            ends = one["slope_ci"]
            interval = "" if ends is None else f" [{100 * ends[0]:+.2f}, {100 * ends[1]:+.2f}]"
            line += f" It changes by {100 * one['slope']:+.2f} points{interval} from 0 to 1 on the dial."
        lines.append(line)
    return lines


def _reading(results: Results) -> list[str]:
    seeds, worlds = len(results["seeds"]), len(results["datasets"])
    return [
        f"Each square is a world of its own ({worlds} in all), drawn with the values of its two dials and otherwise "
        f"the same keys; on each, both models were trained with {seeds} seeds. A gain is the model's HIT over "
        "that of the one it is compared with, minus 1.",
        f"The {_level(results)} interval holds both kinds of luck, that of training seeds and that of test users. The "
        "standard deviation over seeds is pooled over the squares of a map, which few seeds per square need and which "
        f"supposes that training is as noisy in all of them. {_draws(results)}",
        "Intervals are not adjusted for their number: of a hundred squares without any gain some five stand out.",
    ]


def _draws(results: Results) -> str:
    if results.get("trends"):
        return "The means and slopes over worlds hold the draw of the world as well."
    return "Another draw of the worlds is not in it: set world.seed."


def _world_table(results: Results) -> Table:
    rows = [
        (name, *(f"{facts[key]:,}" for key in ("users", "items", "clicks", "test")), facts["hash"])
        for name, facts in results["datasets"].items()
    ]
    return Table("Every world", ("world", "users", "items", "clicks", "test clicks", "hash"), rows, [], folded=True)


def _switches(results: Results) -> list[tuple[str, str]]:
    lines = [("preset", str(results["switches"]["preset"]))]
    for name, on in results["switches"]["maps"].items():
        label = results["scenario"]["panels"][name]["label"]
        lines.append((f"{label}, both models", keys_text(on["shared"])))
        rows = results["scenario"]["rows"]
        lines += [(f"{label}, {rows[row]['label']}", keys_text(keys)) for row, keys in on["rows"].items()]
    return lines


def _subtitle(results: Results) -> str:
    seeds = results["seeds"]
    preset = results["scenario"]["preset"]
    return f"{len(results['datasets'])} generated worlds; {formatting.seeds(seeds)}; preset {preset}."


def _provenance(results: Results) -> list[tuple[str, str]]:
    return [
        ("Command", results["command"] or "called from Python"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in results["versions"].items())),
        ("Run time", f"{results['runtime_s']:,.1f} s of training and tests"),
    ]


def _markdown(results: Results) -> Iterator[str]:
    yield f"# {escape(results['scenario']['title'])}"
    yield from ("", escape(_subtitle(results)))
    for part in map_sections(results):
        yield from ("", f"## {escape(part.title)}", "")
        if part.title.startswith("Switches"):
            yield from (f"- {escape(who)}: {code(keys)}" for who, keys in _switches(results))
            continue
        yield from (f"- {escape(line)}" for line in part.text)
        for block in part.blocks:
            if isinstance(block, Table):
                yield from ("", f"### {escape(block.title)}", "", *table_lines(block))
    yield from ("", "## How to repeat this", "")
    yield f"    {' '.join(results['command'].split()) or 'micrec run scenario.resolved.yaml'}"
    yield from ("", "The file `scenario.resolved.yaml` beside this report holds every key of the run.", "")
    yield from (f"- {escape(name)}: {escape(text)}" for name, text in _provenance(results))


def _maps(results: Results) -> dict[str, Mapping[str, Any]]:
    shown = dict.fromkeys(one["map"] for one in results["squares"])
    return {name: results["scenario"]["panels"][name] for name in shown}


def _squares(results: Results, name: str, metric: str) -> list[_SquareData]:
    return [one for one in results["squares"] if one["map"] == name and one["metric"] == metric]


def _axis(dial: Mapping[str, Any]) -> str:
    return str(dial["label"] or ", ".join(dial["keys"]))


def _level(results: Results) -> str:
    return f"{100 * (1 - results['scenario']['alpha']):.4g} %"
