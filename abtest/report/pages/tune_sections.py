"""The report of ``micrec tune``: does the winner pass, what mattered, the search, every trial, and the tested table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from abtest.report import formatting, terminal
from abtest.report.figures import Bars, Intervals, Lines, Row, Series, Tone
from abtest.report.pages.table_csv import table_csv, trials_csv
from abtest.report.pages.table_figure import figure_files
from abtest.report.pages.table_latex import latex_table
from abtest.report.pages.table_layout import main_table, sections
from abtest.report.pages.table_page import html_page, markdown_report
from abtest.report.sections import Block, Section
from abtest.report.tables import Results, Table, baseline_label, keys_text
from abtest.report.terminal import plain_console
from abtest.run_folder import HTML_FILE, LATEX_FILE, REPORT_FILE, write_bytes, write_text

_TONES: dict[str, Tone] = {"gain": "gain", "loss": "loss", "open": "even"}
_OUTCOMES = {"gain": "above", "loss": "below", "open": "not distinguishable from"}
_NO_GAP = None


def write_tuned(out: Path, results: Results) -> None:
    """Every file of a tuned run but results.json, from its contents and nothing else."""
    parts = tuned_sections(results)
    write_text(out / REPORT_FILE, markdown_report(results, parts))
    write_text(out / HTML_FILE, html_page(results, parts))
    write_text(out / LATEX_FILE, latex_table(results))
    write_text(out / "table.csv", table_csv(results))
    write_text(out / "trials.csv", trials_csv(results))
    for name, content in figure_files(results).items():
        write_bytes(out / name, content)


def tuned_sections(results: Results) -> list[Section]:
    """The report in order."""
    return [standing_section(results), mattered_section(results), search_section(results), *sections(results)]


def print_tuned(results: Results, console: Console | None = None) -> None:
    """The table of the test, the search in a few lines, and which baselines the winner does not pass."""
    console = console or plain_console()
    for name in results["datasets"]:
        terminal.print_table(main_table(results, name), console)
    for line in (*search_lines(results), *mattered_lines(results), *standing_lines(results)):
        console.print(Text(line))


def standing_section(results: Results) -> Section:
    """The winner against presets and baselines, with intervals."""
    metrics = list(dict.fromkeys(one["metric"] for one in _standings(results)))
    blocks: list[Block] = []
    for metric in metrics:
        own = [one for one in _standings(results) if one["metric"] == metric and one["kind"] != "ceiling"]
        blocks.append(Intervals(f"Gain of the tuned model in {metric}", [_row(one) for one in own], _CAPTION))
    return Section("Does the tuned model pass?", standing_lines(results), [*blocks, standing_table(results)])


_CAPTION = (
    "HIT of the tuned model over that of each other model, minus 1; 95 % intervals over training seeds and test users "
    "together. Right of 0 the tuned model is ahead."
)


def standing_lines(results: Results) -> list[str]:
    """Which baselines, and which presets, the winner does not pass at every N."""
    lines = []
    for kind, what in (("baseline", "simple baselines"), ("preset", "presets")):
        by_other: dict[str, list[Mapping[str, Any]]] = {}
        for one in _standings(results):
            if one["kind"] == kind:
                by_other.setdefault(baseline_label(one["label"]).removesuffix(f" ({kind})"), []).append(one)
        if not by_other:
            continue
        passed = [name for name, of in by_other.items() if all(one["outcome"] == "gain" for one in of)]
        missed = {name: of for name, of in by_other.items() if name not in passed}
        parts = [f"{name} ({_where(of)})" for name, of in missed.items()]
        first = f"The tuned model does not pass {'; '.join(parts)}" if parts else f"The tuned model passes all {what}"
        rest = (
            f"; at every N it is above {', '.join(passed)}" if parts and passed else " at every N" if not parts else ""
        )
        lines.append(f"{first}{rest} (each at 95 % over seeds and users).")
    return lines


def standing_table(results: Results) -> Table:
    """The same numbers as text."""
    rows = [
        (
            baseline_label(one["label"]),
            one["metric"],
            formatting.value(one["tuned"]),
            formatting.value(one["value"]),
            formatting.percent(one["lift"]),
            formatting.percent_interval(one["lift_ci"]),
            _OUTCOMES[one["outcome"]],
        )
        for one in _standings(results)
    ]
    header = ("against", "metric", "tuned", "other", "gain", "95 % over seeds and users", "the tuned model is")
    note = "The noise of training is pooled over the comparisons of a metric; not adjusted for their number."
    return Table("The tuned model against every other", header, rows, [note], folded=True)


def mattered_section(results: Results) -> Section:
    """Importances, and where good settings lie."""
    found = results["tuning"]["importance"]["keys"]
    blocks: list[Block] = [
        Bars(
            f"What mattered in branch {branch}",
            [(key, share, f"{share:.1%}".replace("%", " %")) for key, share in one["keys"].items()],
            f"fANOVA over {one['trials']} finished trials: share of the variance that each key explains.",
        )
        for branch, one in found.items()
    ]
    blocks += [figure for branch in found if (figure := parallel_figure(results, branch)) is not None]
    return Section("What mattered", mattered_lines(results), blocks)


def mattered_lines(results: Results) -> list[str]:
    """The importances in words."""
    found, lines = results["tuning"]["importance"], []
    if found["branches"] is not None:
        lines.append(f"{100 * found['branches']:.0f} % of the variance between finished trials lies between branches.")
    for branch, one in found["keys"].items():
        top = [f"{key} {100 * share:.0f} %" for key, share in list(one["keys"].items())[:3]]
        lines.append(f"Within {branch} ({one['trials']} finished trials): {', '.join(top)}.")
    if not found["keys"]:
        lines.append("No branch has the ten finished trials that importances of keys need.")
    return lines


def search_section(results: Results) -> Section:
    """History and every trial."""
    trials = results["tuning"]["trials"]
    rows = [
        (
            str(one["index"]),
            str(one["branch"] or ""),
            formatting.value(one["value"]),
            one["state"] + (" (starting point)" if one["start"] else ""),
            str(len(one["by_epoch"])),
            "" if one["seconds"] is None else f"{one['seconds']:,.1f}",
            keys_text(one["settings"]),
            str(one["reason"] or ""),
        )
        for one in trials
    ]
    metric = results["tuning"]["metric"]
    header = ("trial", "branch", f"validation {metric}", "state", "epochs", "seconds", "settings", "reason")
    every = Table("Every trial", header, rows, [], folded=True)
    return Section("The search", search_lines(results), [history_figure(results), every])


def search_lines(results: Results) -> list[str]:
    """What was searched, for how long, what failed, and what was found."""
    tuning = results["tuning"]
    trials, best = tuning["trials"], tuning["best"]
    counts = {state: sum(one["state"] == state for one in trials) for state in ("finished", "pruned", "failed")}
    lines = [
        f"{len(trials)} trials in {tuning['used_s'] / 60:.1f} minutes with {tuning['workers']} worker(s): "
        f"{counts['finished']} finished, {counts['pruned']} pruned, {counts['failed']} failed; seed {tuning['seed']}. "
        "The test part was not read.",
        f"Best: trial {best['index']}, branch {best['branch']}, {best['model']}: validation {tuning['metric']} "
        f"{formatting.value(best['value'])}, the highest of {counts['finished']} and so biased upwards.",
        f"It differs from the preset {best['preset']} in: {keys_text(_told(best['changed']))}.",
    ]
    reasons: dict[str, list[str]] = {}
    for one in trials:
        if one["state"] == "failed":
            reasons.setdefault(str(one["reason"]), []).append(str(one["index"]))
    return lines + [f"Failed: trial {', '.join(places)}: {reason}" for reason, places in reasons.items()]


def history_figure(results: Results) -> Lines:
    """Each trial's value, and the best so far."""
    trials, metric = results["tuning"]["trials"], results["tuning"]["metric"]
    finished = [one for one in trials if one["state"] == "finished"]
    pruned = [one for one in trials if one["state"] == "pruned" and one["by_epoch"]]
    best: list[float] = []
    for one in finished:
        best.append(max([one["value"], *best[-1:]]))
    series = [Series("best so far", [one["index"] for one in finished], best, tone="first")]
    series.append(_dots("finished", finished, [one["value"] for one in finished], "gain"))
    if pruned:
        series.append(_dots("pruned, their best epoch", pruned, [max(one["by_epoch"]) for one in pruned], "even"))
    title = f"Validation {metric} by trial"
    return Lines(title, "trial", metric, series, "The first trials are the branches' starting points.", y_percent=False)


def parallel_figure(results: Results, branch: str) -> Lines | None:
    """Finished trials of a branch as lines over its keys, each from the lowest value (0) to the highest (1)."""
    search = results["tuning"]["space"]["branches"][branch]["search"]
    own = [one for one in results["tuning"]["trials"] if one["branch"] == branch and one["state"] == "finished"]
    keys = list(results["tuning"]["importance"]["keys"][branch]["keys"])[:8]
    if len(own) < 4 or len(keys) < 2:
        return None
    ranked = sorted(own, key=lambda one: -one["value"])
    quarter = max(1, len(ranked) // 4)
    groups: list[tuple[str, Sequence[Any], Tone]] = [
        ("other trials", ranked[quarter:], "even"),
        ("best quarter", ranked[1:quarter], "second"),
        ("best of the branch", ranked[:1], "gain"),
    ]
    series = [_lines(name, trials, keys, search, tone) for name, trials, tone in groups if trials]
    caption = "From the first or lowest value of each key below to the last or highest above; keys by importance."
    ticks = {key.rpartition(".")[2] if _single(keys, key) else key: float(place) for place, key in enumerate(keys)}
    return Lines(f"Settings of branch {branch}", "key", "value", series, caption, x_ticks=ticks, y_percent=False)


def _single(keys: Sequence[str], key: str) -> bool:
    last = key.rpartition(".")[2]
    return sum(one.rpartition(".")[2] == last for one in keys) == 1


def _lines(name: str, trials: Sequence[Any], keys: Sequence[str], search: Mapping[str, Any], tone: Tone) -> Series:
    from micrec.tuning.search_space import SearchDimension

    dimensions = {key: SearchDimension.model_validate(search[key]) for key in keys}
    x: list[float] = []
    y: list[float | None] = []
    for one in trials:
        x += [*map(float, range(len(keys))), float(len(keys) - 1)]
        y += [*(dimensions[key].place(one["settings"][key]) for key in keys), _NO_GAP]
    return Series(name, x, y, tone=tone)


def _dots(name: str, trials: Sequence[Any], values: Sequence[float], tone: Tone) -> Series:
    nothing = [None] * len(trials)
    return Series(name, [one["index"] for one in trials], values, nothing, nothing, tone, "dots")


def _row(one: Mapping[str, Any]) -> Row:
    low, high = one["lift_ci"] or (None, None)
    text = f"{formatting.percent(one['lift'])} {formatting.percent_interval(one['lift_ci'])}"
    return Row(baseline_label(one["label"]), text, one["lift"], low, high, tone=_TONES[one["outcome"]])


def _where(of: Sequence[Mapping[str, Any]]) -> str:
    groups: dict[str, list[str]] = {}
    for one in of:
        groups.setdefault(one["outcome"], []).append(one["metric"].removeprefix("hit@"))
    if len(groups) == 1:
        (only,) = groups
        return f"{_said(only)} at every N"
    return ", ".join(f"{_said(outcome)} at {_listed(ns)}" for outcome, ns in groups.items())


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _said(outcome: str) -> str:
    return {"gain": "above it", "loss": "below it", "open": "not distinguishable"}[outcome]


def _standings(results: Results) -> Sequence[Mapping[str, Any]]:
    standings: Sequence[Mapping[str, Any]] = results["tuning"]["standings"]
    return standings


def _told(changed: Mapping[str, Any]) -> dict[str, Any]:
    """Without what every search sets."""
    return {key: value for key, value in changed.items() if key not in ("train.metric", "train.seed", "train.device")}
