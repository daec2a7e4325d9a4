"""What the words of a report mean: each metric by name and formula, each interval and p-value by what it promises."""

import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, metadata

from abtest.report.sections import Section
from abtest.report.tables import Results, Table

TITLE = "What the words mean"
OFFLINE = {  # by the part of the name before @
    "hit": "share of test clicks whose item is among the user's top N of the whole catalogue",
    "hit_pairs": "share of distinct pairs of user and test item whose item is among the top N",
    "user_hit": "share of users with at least one test item among their top N",
    "recall": "share of a user's distinct test items among the top N, averaged over users",
    "mrr": "1 / rank of a user's best test item, however deep it stands, averaged over users",
    "ndcg": "discounted gain of the test items in the top N over the best possible, averaged over users",
    "coverage": "share of the catalogue that is in the top N of at least one user",
    "link_recall": "share of an item's planted partners among its N nearest items",
    "link_recall_cross": "the same among the N nearest items of other categories",
    "gini": "inequality of how often items are in a top N: 0 all alike, 1 one item alone; lower is more even",
    "popularity_percentile": "mean popularity rank of what is in the top N, 0 to 1; lower is less popular",
    "tail_coverage": "share of the least clicked items that are in the top N of at least one user",
    "tail_exposure": "share of the places of all top N that the least clicked items take",
    "uniformity": "log of the mean of exp(-2 distance²) over pairs of items of length 1; lower is more spread out",
    "uniformity_clicks": "the same over pairs of items drawn by their clicks; lower is more spread out",
    "alignment_clicks": "mean squared distance of a user's clicked item from the user; lower is closer",
    "alignment_sessions": "mean squared distance of items clicked in one session; lower is closer",
    "alignment_titles": "mean squared distance of items with near titles; lower is closer",
    "nearer_clicks": "share of clicks whose item is nearer to the user than a random item is (chance: 0.5)",
    "nearer_sessions": "share of pairs of one session nearer to each other than to a random item (chance: 0.5)",
    "nearer_titles": "share of pairs with near titles nearer to each other than to a random item (chance: 0.5)",
    "nearer_links": "share of planted pairs nearer to each other than to a random item (chance: 0.5)",
    "anisotropy": "mean cosine of two different items, -1 to 1; lower is a wider spread",
    "effective_rank": "number of dimensions that the item embeddings use in effect; higher is a wider spread",
    "norm_popularity": "rank correlation of an embedding's length with its item's training clicks, -1 to 1",
}
ONLINE = {
    "ACC": "clicks / users of the arm",
    "ADT": "seconds of dwell / users of the arm",
    "ALR": "likes / users of the arm",
    "AFR": "follows / users of the arm",
    "ACC-c": "clicks of cold-start users / cold-start users of the arm",
    "ADT-c": "seconds of dwell of cold-start users / cold-start users of the arm",
    "stay": "pairs of a day on which a user was there and the next / days whose next day lies in the test",
    "stay-c": "the same of cold-start users",
    "CTR": "clicks / impressions of the arm",
}
INTERVALS = {
    "final": ("interval", "holds the true lift in 95 of 100 tests that are read once, at their end"),
    "daily": (
        "repeated interval",
        "holds although the test is read every day: wider than a plain interval, above all in the first days",
    ),
    "open": ("anytime interval", "holds however often and however long one looks"),
}


def online_glossary(results: Results) -> Section:
    """The words of an experiment's report."""
    scenario = results["scenario"]
    rows = [(name, _formula(results, name)) for name in dict.fromkeys(one["metric"] for one in results["effects"])]
    name, promise = INTERVALS[scenario["looks"]]
    level = f"{100 * (1 - scenario['alpha']):g}"
    rows.append((f"{level} % {name}", promise.replace("95", level)))
    rows.append(("lift", "treatment / control - 1; difference: treatment - control, in the metric's own unit"))
    if scenario["looks"] != "final":
        rows.append(("nominal p", "p of Welch's test as if this were the only look; the adjusted p counts all looks"))
    rows.append(
        (
            "Holm p",
            "p after Holm's adjustment over the primary metrics and treatments that have a p; significant below alpha",
        )
    )
    rows.append(("BH p", "p after Benjamini and Hochberg's adjustment: among those below alpha few are false"))
    if any(one["truth"] for one in results["effects"]):
        rows.append(("true lift", "from worlds in which everybody is under one arm, with the same noise"))
    return _section(rows)


def word_anchors(section: Section) -> dict[str, str]:
    """Where on the page each word of a glossary is explained."""
    words = [row[0] for table in section.tables for row in table.rows]
    return {word: "word-" + re.sub("[^a-z0-9]+", "-", word.lower()).strip("-") for word in words}


def documented_glossary() -> str | None:
    """Address of the documentation's glossary, as the installed package names its documentation; None without one."""
    try:
        addresses = metadata("micrec").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    for line in addresses:
        label, _, address = line.partition(",")
        if label.strip().lower() == "documentation":
            return f"{address.strip().rstrip('/')}/glossary.html"
    return None


def offline_glossary(metrics: Sequence[str], level: str) -> Section:
    """The words of a table of models."""
    found = {}
    for metric in metrics:
        kind, at, depth = metric.partition("@")
        if kind in OFFLINE:
            name = "HIT" if kind == "hit" else kind
            found[f"{name}{at}{'N' if depth else ''}"] = OFFLINE[kind]
    rows = list(found.items())
    if "HIT@N" in found:
        rows.append(("judged", "test clicks of users who had clicked before the test; no metric sees the others"))
        rows.append(
            ("can be hit", "judged clicks whose item may stand in a list: clicked before the test, not filtered")
        )
        rows.append(("highest possible HIT", "that of lists which hold, of what can be hit, the N items clicked most"))
    rows.append((f"{level} over seeds", "what other training seeds would give on these users (paired t, Fieller)"))
    rows.append((f"{level} over users", "what these trained models would give for other users of the same kind"))
    rows.append(("Holm p", "p after Holm's adjustment within the table; significant below alpha"))
    return _section(rows)


def _formula(results: Results, name: str) -> str:
    if name in ONLINE:
        return ONLINE[name]
    effect = next(one for one in results["effects"] if one["metric"] == name)
    label = effect["label"] if effect["label"] != name else ""
    down = "less is better" if effect["direction"] == "down" else ""
    return "; ".join(part for part in (label, down) if part) or "as named in --metrics"


def _section(rows: Sequence[tuple[str, str]]) -> Section:
    return Section(TITLE, (), [Table("Names, formulas, intervals", ("word", "meaning"), list(rows), [])])
