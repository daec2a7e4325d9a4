"""A table's results as text cells: the table itself, the paper's numbers beside it, what was tested, what it cost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abtest.report import formatting
from abtest.report.pages.evidence_section import evidence_section
from abtest.report.sections import Section
from abtest.report.tables import (
    Model,
    Results,
    Table,
    baseline_label,
    costs_of,
    hit_cutoffs,
    keys_text,
    mean_of,
    missing_lines,
    way_table,
)
from micrec.shares import share_lines

STEPS = "Claims, step by step"  # the section in which a page draws each claim
SLICES = {  # what the parts of the test clicks are called, by their keys
    "head": "clicks on popular items",
    "tail": "clicks on the least clicked items",
    "cold_users": "clicks of users with few training clicks",
    "warm_users": "clicks of all other users",
    "new_users": "clicks of users without training clicks",
    "cold_items": "clicks on items with few training clicks",
    "new_items": "clicks on items without training clicks",
    "repeats": "clicks on items that the user had clicked before",
    "discoveries": "clicks on items that were new to the user",
}


def groups(results: Results, dataset: str) -> dict[str, list[Model]]:
    """The models of one dataset by row, those without training first under their names."""
    found: dict[str, list[Model]] = {}
    for model in results["models"]:
        if model["dataset"] == dataset:
            found.setdefault(model["arm"] or model["model"], []).append(model)
    return found


def label_of(results: Results, row: str) -> str:
    """A row's name in tables; that of a baseline if it is none of the scenario's rows."""
    rows = results["scenario"]["rows"]
    return str(rows[row]["label"]) if row in rows else baseline_label(row)


def paper_number(results: Results, dataset: str, row: str, metric: str) -> float | None:
    """What the paper prints there, on the data of its own that this dataset is shown beside."""
    papers, name = results["scenario"]["paper"], results["datasets"][dataset]["paper"]
    number = papers[name]["rows"].get(row, {}).get(metric) if name in papers else None
    return None if number is None else float(number)


def sections(results: Results) -> list[Section]:
    """The report in order: answers, the table on each dataset, what was tested, the rest."""
    datasets = list(results["datasets"])
    claims = _filled([claim_table(results)])
    parts = [evidence_section(results)] if "evidence" in results else []
    parts.append(Section("Do the orderings hold?", CLAIM_LINES if claims else (), claims))
    for name in datasets:
        blocks = [main_table(results, name), _way(results, name), lift_table(results, name), *_more(results, name)]
        title = f"{results['datasets'][name]['label']}"
        missing = missing_lines(results["datasets"][name])
        lines = (*dataset_lines(results, name), *passed_lines(results, name), *missing)
        parts.append(Section(title, lines, _filled(blocks)))
    parts += [search_section(results, name) for name in results.get("search", ())]
    tested = [effect_table(results, name) for name in datasets]
    parts.append(Section(STEPS, (), _filled([ordering_table(results)])))
    parts.append(Section("What was tested", test_lines(results), _filled(tested)))
    parts.append(Section("Cost", (), _filled([cost_table(results, name) for name in datasets])))
    parts.append(Section("Every run", (), _filled([seed_table(results, name) for name in datasets])))
    lines = tuple(f"{who}: {keys}" for who, keys in switch_lines(results))
    return [*(part for part in parts if part.text or part.blocks), Section("Switches that were on", lines)]


def search_section(results: Results, dataset: str) -> Section:
    """How a setting was chosen on one dataset: every trial, the losing ones too."""
    one = results["search"][dataset]
    names, trials = list(one["start"]), one["trials"]
    best = max(trial["mean"] for trial in trials)
    rows = []
    for trial in trials:
        marks = {"start": trial["setting"] == one["start"], "chosen": trial["setting"] == one["chosen"]}
        cells = [str(trial["setting"][name]) for name in names]
        behind = formatting.percent(_lift(trial["mean"], best))
        what = ", ".join(name for name, holds in marks.items() if holds)
        rows.append((*cells, formatting.mean_sd(trial["mean"], trial["sd"]), behind, what))
    header = (*names, f"validation {one['metric']}", "to the best", "")
    chosen = ", ".join(f"{name} {value}" for name, value in one["chosen"].items())
    kind = results["scenario"]["search"]
    text = (
        f"{len(trials)} trials, {kind} search, {len(trials[0]['values'])} training seed(s) each, by "
        f"{one['metric']} on the validation clicks; the test period was not looked at. Chosen: {chosen}.",
    )
    label = results["datasets"][dataset]["label"]
    return Section(f"The search on {label}", text, [Table(f"Every trial on {label}", header, rows, [])])


def main_table(results: Results, dataset: str, *, metrics: Sequence[str] = ()) -> Table:
    """Rows by metric, mean ± standard deviation over the seeds, with the paper's own numbers at the side."""
    tested = not metrics
    metrics = metrics or results["scenario"]["metrics"]
    papers = [m for m in metrics if any(paper_number(results, dataset, r, m) is not None for r in _rows(results))]
    marks = beaten(results, dataset)
    rows = []
    for row, models in groups(results, dataset).items():
        ours = [formatting.mean_sd(*mean_of(models, m)) + ("†" if (row, m) in marks else "") for m in metrics]
        theirs = [_plain(paper_number(results, dataset, row, metric)) for metric in papers]
        rows.append((label_of(results, row), *ours, *theirs))
    header = ("model", *metrics, *(f"paper {metric}" for metric in papers))
    notes = ["Mean ± standard deviation over training seeds."]
    if tested:
        first = {label_of(results, row): models[0] for row, models in groups(results, dataset).items()}
        notes += share_lines(first, hit_cutoffs(metrics))
    if marks:
        notes.append("†: above every row it was tested against, over seeds and users, after Holm over the table.")
    if papers:
        label = results["scenario"]["paper"][results["datasets"][dataset]["paper"]]["label"]
        notes.append(f"The paper's columns are its own numbers on {label}, private data: for shape, never a target.")
    return Table(f"{results['scenario']['title']} ({results['datasets'][dataset]['label']})", header, rows, notes)


def lift_table(results: Results, dataset: str) -> Table:
    """Each row relative to its reference row, here and in the paper."""
    metrics, found = results["scenario"]["metrics"], groups(results, dataset)
    own = {row: keys["reference"] or results["reference"] for row, keys in results["scenario"]["rows"].items()}
    several = len(set(own.values())) > 1
    rows = []
    for row, reference in own.items():
        if row == reference:
            continue
        ours = [formatting.percent(_lift(mean_of(found[row], m)[0], mean_of(found[reference], m)[0])) for m in metrics]
        pairs = [[paper_number(results, dataset, name, metric) for name in (row, reference)] for metric in metrics]
        theirs = [formatting.percent(_lift(*pair)) for pair in pairs]
        cells = [a if b == formatting.UNDEFINED else f"{a} ({b})" for a, b in zip(ours, theirs, strict=True)]
        over = f" over {label_of(results, reference)}" if several else ""
        rows.append((f"{label_of(results, row)}{over}", *cells))
    has_paper = results["datasets"][dataset]["paper"] is not None
    notes = ["In brackets: the same lift by the paper's own numbers."] if has_paper else []
    title = "Lift" if several else f"Lift over {label_of(results, results['reference'])}"
    return Table(title, ("model", *metrics), rows, notes)


def slice_table(results: Results, dataset: str, slice_: str) -> Table:
    """The table's metrics on a part of the test clicks or users."""
    metrics = results["scenario"]["metrics"]
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for row, models in groups(results, dataset).items():
        rows.append((label_of(results, row), *(formatting.mean_sd(*mean_of(models, m, slice_)) for m in metrics)))
        size = models[0]["slices"].get(slice_, {})
        if not notes and {"users", "lines"} <= set(size):
            notes.append(f"{size['users']:,.0f} users, {size['lines']:,.0f} clicks.")
    title = f"The same on {SLICES.get(slice_, slice_)}"
    return Table(title, ("model", *metrics), rows, notes, folded=True)


def ordering_table(results: Results) -> Table:
    """Every step of every claim, with its interval."""
    several = len(results["datasets"]) > 1
    rows = [
        (
            f"{label_of(results, step['higher'])} over {label_of(results, step['lower'])}",
            *((results["datasets"][step["dataset"]]["label"],) if several else ()),
            step["metric"],
            formatting.percent(step["lift"]),
            formatting.percent_interval(step["lift_ci"]),
            step["verdict"],
            step["why"],
        )
        for one in results["orderings"]
        for step in one["steps"]
    ]
    level = f"{1 - results['scenario']['alpha']:.0%}".replace("%", " %")
    header = ("claim", *(("dataset",) if several else ()), "metric", "lift", f"{level} over seeds", "verdict", "why")
    return Table("Every step of the claims", header, list(dict.fromkeys(rows)), [], folded=True)


def effect_table(results: Results, dataset: str) -> Table:
    """Every test on one dataset."""
    effects = [effect for effect in results["effects"] if effect["dataset"] == dataset]
    level = f"{1 - results['scenario']['alpha']:.0%}".replace("%", " %")
    seeds = ("row", "against", "metric", "lift", f"{level} over seeds", "paired p", "Holm p", "Welch p")
    header = (*seeds, f"{level} over users", "users p", "users Holm p")
    rows = [_effect_row(results, effect) for effect in effects]
    reasons = {effect["reason"] for effect in effects if effect["reason"]}
    label = results["datasets"][dataset]["label"]
    return Table(f"Tests on {label}", header, rows, [f"n/a: {reason}." for reason in sorted(reasons)], folded=True)


def cost_table(results: Results, dataset: str) -> Table:
    """What training cost, mean over the seeds, and how long the rows without training took."""
    found = {label_of(results, row): models for row, models in groups(results, dataset).items()}
    return costs_of(found, f"Cost on {results['datasets'][dataset]['label']} (mean over training seeds)", folded=True)


def seed_table(results: Results, dataset: str) -> Table:
    """Every raw run."""
    metrics = results["scenario"]["metrics"]
    rows = [
        (label_of(results, row), str(model["seed"]), *(formatting.value(model.get(metric)) for metric in metrics))
        for row, models in groups(results, dataset).items()
        for model in models
        if model["seed"] is not None
    ]
    return Table(f"Runs on {results['datasets'][dataset]['label']}", ("model", "seed", *metrics), rows, [], folded=True)


CLAIM_LINES = (
    "Each claim is tested on every metric and dataset, p-values adjusted by Holm over the whole table.",
    "For: tests in which the claim is significant, over training seeds and, for HIT, over test users too.",
    "Against: tests in which the opposite is significant. Open: tests that show neither.",
)


def claim_table(results: Results) -> Table:
    """Every claim with its answer, and what speaks for it, against it, and for neither."""
    rows = []
    for one in results["orderings"]:
        counts, inside = one["counts"], one["intervals"]
        alone = f"{inside['above']} above, {inside['below']} below"
        answer = one["verdict"]
        rows.append(
            (one["claim"], answer, *(str(counts[kind]) for kind in ("holds", "does not hold", "not shown")), alone)
        )
    header = ("claim", "answer", "for", "against", "open", "intervals over seeds, not adjusted")
    return Table("The claims", header, rows, [])


def test_lines(results: Results) -> tuple[str, ...]:
    """How the tests are to be read."""
    effects = results["effects"]
    if not effects:
        return ()
    families = {effect["family"] for effect in effects}
    over = (
        f"over each family of the table ({', '.join(sorted(families))})"
        if len(families) > 1
        else "over the whole table"
    )
    users = sum(effect["users"] is not None for effect in effects)
    return (
        f"{len(effects)} tests over training seeds (paired t-tests; Welch's t-test is shown beside) and {users} over "
        f"test users (paired ratio tests). P-values of each kind are adjusted by Holm {over}, at level "
        f"{results['scenario']['alpha']:g}; intervals are not adjusted.",
        "A claim holds in a test where it is significant over seeds and, for HIT, over users too. It does not hold "
        "where the opposite is significant. Otherwise it is not shown.",
    )


def dataset_lines(results: Results, dataset: str) -> tuple[str, ...]:
    """A dataset in one line."""
    facts = results["datasets"][dataset]
    links = " Planted links are on." if facts["links"] else ""
    return (
        f"{facts['name']} (hash {facts['hash']}): {facts['users']:,} users, {facts['items']:,} items, "
        f"{facts['sessions']:,} sessions, {facts['clicks']:,} clicks, of which {facts['test']:,} test; "
        f"{len(facts['fields'])} fields.{links}",
    )


def passed_lines(results: Results, dataset: str) -> tuple[str, ...]:
    """Which simple baselines each row does not pass on some metric, by its mean over seeds; rows alike share a line."""
    found, metrics = groups(results, dataset), results["scenario"]["metrics"]
    simple = {row: models for row, models in found.items() if _is_simple(models[0])}
    missed: dict[str, list[str]] = {}
    for row in _rows(results):
        below = [
            label_of(results, name).removesuffix(" (baseline)")
            for name, models in simple.items()
            if any(not _passes(mean_of(found[row], metric)[0], mean_of(models, metric)[0]) for metric in metrics)
        ]
        missed.setdefault(", ".join(below), []).append(label_of(results, row))
    if not simple:
        return ()
    heads = {names: f"Does not pass {names} on every metric" if names else "Passes every baseline" for names in missed}
    return tuple(f"{heads[names]}: {', '.join(who)} (by mean over seeds)." for names, who in missed.items())


def _is_simple(model: Model) -> bool:
    return model["arm"] is None and str(model["model"]).endswith(" (baseline)")


def _passes(ours: float | None, theirs: float | None) -> bool:
    """Whether a mean is above another; where either is undefined there is nothing to pass."""
    return ours is None or theirs is None or ours > theirs


def switch_lines(results: Results) -> list[tuple[str, str]]:
    """Who, and the config keys that differ from the paper's defaults, as ``key=value`` text; alike everywhere, once."""
    switches = results["switches"]
    lines = [("preset", str(switches["preset"]))]
    datasets = switches["datasets"]
    labels = {name: results["datasets"][name]["label"] for name in datasets}
    who = {"": {name: keys_text(on["shared"]) for name, on in datasets.items()}}
    who |= {row: {name: keys_text(on["rows"][row]) for name, on in datasets.items()} for row in _rows(results)}
    for row, texts in who.items():
        head = label_of(results, row) if row else "all rows"
        if len(set(texts.values())) == 1:
            lines.append((head, next(iter(texts.values()))))
        else:
            lines += [(f"{head}, {labels[name]}", text) for name, text in texts.items()]
    return lines


def beaten(results: Results, dataset: str) -> set[tuple[str, str]]:
    """(row, metric) where a row is significantly above every row it was tested against, two at least."""
    found: dict[tuple[str, str], list[bool]] = {}
    for effect in results["effects"]:
        if effect["dataset"] == dataset and effect["slice"] == "all":
            tests = [effect, *([effect["users"]] if effect["users"] else [])]
            won = all(test["significant"] and test["difference"] > 0 for test in tests)
            found.setdefault((effect["treatment"]["arm"], effect["metric"]), []).append(won)
    return {key for key, wins in found.items() if len(wins) > 1 and all(wins)}


def _way(results: Results, dataset: str) -> Table:
    found = {label_of(results, row): models for row, models in groups(results, dataset).items()}
    return way_table(found, results["scenario"]["metrics"])


def _more(results: Results, dataset: str) -> Iterator[Table]:
    scenario = results["scenario"]
    if scenario["details"]:
        table = main_table(results, dataset, metrics=scenario["details"])
        yield table._replace(title="Beside it, not tested")
    for slice_ in scenario["slices"]:
        yield slice_table(results, dataset, slice_)


def _effect_row(results: Results, effect: Mapping[str, Any]) -> tuple[str, ...]:
    users = effect["users"] or {"lift_ci": None, "p": None, "p_adjusted": None}
    return (
        label_of(results, effect["treatment"]["arm"]),
        label_of(results, effect["control"]["arm"]),
        effect["metric"] if effect["slice"] == "all" else f"{effect['metric']}, {effect['slice']}",
        formatting.percent(effect["lift"]),
        formatting.percent_interval(effect["lift_ci"]),
        formatting.p_value(effect["p"]),
        formatting.p_value(effect["p_adjusted"]),
        formatting.p_value(effect["welch"]["p"]),
        formatting.percent_interval(users["lift_ci"]),
        formatting.p_value(users["p"]),
        formatting.p_value(users["p_adjusted"]),
    )


def _rows(results: Results) -> list[str]:
    return list(results["scenario"]["rows"])


def _lift(number: float | None, base: float | None) -> float | None:
    return None if number is None or not base else number / base - 1.0


def _plain(number: float | None) -> str:
    return "" if number is None else formatting.value(number)


def _filled(tables: Sequence[Table]) -> list[Table]:
    return [table for table in tables if table.rows and len(table.header) > 1]
