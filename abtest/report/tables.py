"""The tables of the offline report, as plain text cells: each form of the report draws and escapes them its own way."""

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from abtest.report import formatting
from micrec.baselines import BASELINES
from micrec.shares import share_lines, share_of_the_way

Results = Mapping[str, Any]  # the contents of results.json
Model = Mapping[str, Any]  # one of its models

WAY = "Share of the way from popularity to the ceiling"
POPULARITY = "popularity (baseline)"  # the row at which that way begins
COST_NOTE = (
    "Seconds in all: training and test of one model; of a row without training, its fit, its scores and its test."
)

_COSTS = {
    "seconds": "seconds in all",
    "parameters": "parameters",
    "best_epoch": "best epoch",
    "train_s": "training s",
    "train_samples_per_s": "training samples/s",
    "peak_memory_mb": "peak memory MB",
}


class Table(NamedTuple):
    """Rows of text under a header; ``notes`` say why something is undefined, ``folded`` ones open on demand.

    ``data`` holds the same rows as plain values, for programs, where somebody asks for them.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: list[str]
    folded: bool = False
    data: Sequence[Mapping[str, Any]] = ()


def report_tables(results: Results) -> list[Table]:
    """All tables, in the order of the report; empty ones are left out."""
    tables = [
        model_table(results),
        way_table(models_by_label(results), metric_names(results)),
        effect_table(results, "primary", "Primary metrics"),
        effect_table(results, "secondary", "Secondary metrics"),
        effect_table(results, "slice", "Primary metrics by slice"),
        cost_table(results),
        seed_table(results),
    ]
    return [table for table in tables if table.rows and len(table.header) > 1]


def model_table(results: Results) -> Table:
    """Baselines and arms by metric, mean ± standard deviation over seeds."""
    metrics = metric_names(results)
    rows = [
        (label, *(formatting.mean_sd(*mean_of(models, metric)) for metric in metrics))
        for label, models in models_by_label(results).items()
    ]
    notes = share_lines(
        {label: model for label, models in models_by_label(results).items() for model in models[:1]},
        hit_cutoffs(metrics),
    )
    return Table("Models (mean ± standard deviation over training seeds)", ("model", *metrics), rows, notes)


def way_table(found: Mapping[str, Sequence[Model]], metrics: Sequence[str]) -> Table:
    """Where ceilings are known, how far each row comes on the way from popularity to the highest; else empty.

    Args:
        found: Models by the label of their row.
        metrics: Those of the tables; HIT@N count.
    """
    hits = [f"hit@{n}" for n in hit_cutoffs(metrics)]
    ceilings = [row for row in found if row.endswith("(ceiling)")]
    if not ceilings or POPULARITY not in found:
        return Table(WAY, (), [], [])
    means = {row: [mean_of(models, metric)[0] or 0.0 for metric in hits] for row, models in found.items()}
    low, best = means[POPULARITY], max(ceilings, key=lambda row: sum(means[row]))
    rows = []
    for row in (one for one in found if one not in (POPULARITY, best)):
        ends = list(zip(means[row], low, means[best], strict=True))
        shares = [share_of_the_way(*end) if end[2] > end[1] else None for end in ends]
        cells = [formatting.UNDEFINED if share is None else f"{100 * share:.1f} %" for share in shares]
        rows.append((row, *cells))
    return Table(WAY, ("model", *hits), rows, [f"0 % is popularity, 100 % is {best}; means over training seeds."])


def hit_cutoffs(metrics: Sequence[str]) -> list[int]:
    """The N of those metrics that are HIT@N, in order."""
    return [int(metric.removeprefix("hit@")) for metric in metrics if re.fullmatch("hit@[0-9]+", metric)]


def effect_table(results: Results, family: str, title: str) -> Table:
    """One row per metric (and slice, and treatment): lift, its intervals, and every p-value."""
    effects = [effect for effect in results["effects"] if effect["family"] == family]
    several = len({effect["treatment"]["arm"] for effect in effects}) > 1
    by_user = any(effect["users"] for effect in effects)
    level = f"{1 - results['scenario']['alpha']:.0%}".replace("%", " %")
    header = ["metric", "control", "treatment", "lift", f"{level} over seeds", "paired p", "Holm p", "Welch p"]
    header += [f"{level} over users", "users p", "users Holm p"] if by_user else []
    header += ["significant"]
    rows = []
    for effect in effects:
        users = _user_cells(effect) if by_user else ()
        rows.append((_name(effect, results, several=several), *_seed_cells(effect), *users, significance(effect)))
    return Table(title, tuple(header), rows, _notes(effects, results, several=several))


def cost_table(results: Results) -> Table:
    """What training cost, mean over seeds, and how long the rows without training took."""
    return costs_of(models_by_label(results), "Cost (mean over training seeds)")


def costs_of(groups: Mapping[str, Sequence[Model]], title: str, *, folded: bool = False) -> Table:
    """What the models of each label cost, mean over their seeds."""
    keys = [key for key in _COSTS if any(key in model for models in groups.values() for model in models)]
    rows = [(label, *(_plain_mean(models, key) for key in keys)) for label, models in groups.items()]
    return Table(title, ("model", *(_COSTS[key] for key in keys)), rows, [COST_NOTE], folded)


def seed_table(results: Results) -> Table:
    """Every raw run."""
    metrics = results["scenario"]["metrics"]["primary"]
    trained = [model for model in results["models"] if model["arm"] is not None]
    rows = [
        (model["model"], str(model["seed"]), *(formatting.value(model.get(metric)) for metric in metrics))
        for model in trained
    ]
    return Table("Every run", ("model", "seed", *metrics), rows, [])


def turned(table: Table) -> Table:
    """A table of many columns and few rows with its rows as columns; any other as it is."""
    if len(table.header) - 1 <= len(table.rows):
        return table
    header = ("metric", *(row[0] for row in table.rows))
    rows = [(name, *(row[place] for row in table.rows)) for place, name in enumerate(table.header) if place]
    return table._replace(header=header, rows=rows)


def metric_names(results: Results) -> list[str]:
    """Primary and secondary metrics, without repeats."""
    metrics = results["scenario"]["metrics"]
    return list(dict.fromkeys([*metrics["primary"], *metrics["secondary"]]))


def models_by_label(results: Results) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of ``models`` by their name in tables; arms of equal label stay apart."""
    labels = [arm["label"] for arm in results["scenario"]["arms"].values()]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for model in results["models"]:
        name = model["model"]
        if model["arm"] is None:
            name = baseline_label(name)
        elif labels.count(name) > 1:
            name = f"{name} ({model['arm']})"
        groups.setdefault(name, []).append(model)
    return groups


def mean_of(models: Sequence[Model], metric: str, slice_: str = "all") -> tuple[float | None, float | None]:
    """Mean and standard deviation over seeds; None where a seed lacks the metric."""
    values = [(model if slice_ == "all" else model["slices"].get(slice_, {})).get(metric) for model in models]
    known = [float(value) for value in values if value is not None]
    if not known or len(known) < len(values):
        return None, None
    return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None


def keys_text(values: Mapping[str, Any]) -> str:
    """Config keys as ``key=value`` text."""
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in values.items()) or "nothing more"


def baseline_label(name: str) -> str:
    """What a baseline is called in tables: ``item_knn (baseline)`` of results.json is item-kNN (baseline)."""
    key, bracket, rest = name.partition(" (")
    return f"{BASELINES[key].label}{bracket}{rest}" if key in BASELINES else name


def missing_lines(dataset: Mapping[str, Any]) -> list[str]:
    """Which baselines and ceilings a dataset's table lacks, and why; baselines with the same reason share a line."""
    names: dict[str, list[str]] = {}
    for name, reason in dataset.get("left_out", {}).items():
        names.setdefault(reason, []).append(baseline_label(name))
    return [f"Left out: {', '.join(who)}: {reason}." for reason, who in names.items()]


def arm_label(results: Results, arm: str) -> str:
    """What an arm is called in tables."""
    return str(results["scenario"]["arms"][arm]["label"])


def significance(effect: Mapping[str, Any]) -> str:
    """Which noise the effect stands out from, after Holm: training seeds, test users, both, or neither."""
    tests = {"seeds": effect["significant"], "users": (effect["users"] or {}).get("significant")}
    passed = [name for name, significant in tests.items() if significant]
    if passed:
        return " and ".join(passed) + (" only" if tests["seeds"] is not tests["users"] and effect["users"] else "")
    return formatting.UNDEFINED if all(significant is None for significant in tests.values()) else "no"


def switch_lines(results: Results) -> list[tuple[str, str]]:
    """Who, and the config keys that were on, as ``key=value`` text."""
    on = results["switches"]
    lines = [("preset", on["preset"]), ("all arms", keys_text(on["shared"]))]
    return lines + [(arm_label(results, arm), keys_text(keys)) for arm, keys in on["arms"].items()]


def _name(effect: Mapping[str, Any], results: Results, *, several: bool) -> str:
    name = effect["metric"] if effect["slice"] == "all" else f"{effect['metric']}, {effect['slice']}"
    if effect["size"]:
        name += f" ({effect['size']['users']:,} users, {effect['size']['lines']:,} clicks)"
    return f"{name}, {arm_label(results, effect['treatment']['arm'])}" if several else str(name)


def _seed_cells(effect: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        formatting.value(effect["control"]["mean"]),
        formatting.value(effect["treatment"]["mean"]),
        formatting.percent(effect["lift"]),
        formatting.percent_interval(effect["lift_ci"]),
        formatting.p_value(effect["p"]),
        formatting.p_value(effect["p_adjusted"]),
        formatting.p_value(effect["welch"]["p"]),
    )


def _user_cells(effect: Mapping[str, Any]) -> tuple[str, ...]:
    users = effect["users"] or {"lift_ci": None, "p": None, "p_adjusted": None}
    return (
        formatting.percent_interval(users["lift_ci"]),
        formatting.p_value(users["p"]),
        formatting.p_value(users["p_adjusted"]),
    )


def _notes(effects: Sequence[Mapping[str, Any]], results: Results, *, several: bool) -> list[str]:
    """Why something is undefined: one line per reason, with the rows it holds for."""
    rows: dict[str, list[str]] = {}
    for effect in effects:
        for test in (effect, effect["welch"], effect["users"] or {}):
            if test.get("reason"):
                reason = f"{test['test']}: {test['reason']}"
                rows.setdefault(reason, []).append(_name(effect, results, several=several))
    return [f"{reason} ({'; '.join(names)})." for reason, names in rows.items()]


def _plain_mean(models: Sequence[Mapping[str, Any]], key: str) -> str:
    known = [model[key] for model in models if isinstance(model.get(key), int | float)]
    if not known:
        return formatting.UNDEFINED
    mean = statistics.fmean(known)
    return f"{mean:,.0f}" if mean.is_integer() or mean >= 1000 else f"{mean:,.1f}"
