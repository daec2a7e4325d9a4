"""What is asked of a loss, and which metrics answer; the metrics are defined where they are computed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

GEOMETRY = ("uniformity", "alignment_", "nearer_", "anisotropy", "effective_rank", "norm_popularity")


class DiagnosisQuestion(NamedTuple):
    """One block of the answer.

    Attributes:
        title: The question.
        metrics: Starts of the metrics that answer it; a slice's metric is ``slice: metric``.
        reading: What more and less of them mean.
    """

    title: str
    metrics: tuple[str, ...]
    reading: str


QUESTIONS = (
    DiagnosisQuestion(
        "Does it find more of what users click?",
        ("hit@", "hit_pairs@", "user_hit@", "recall@", "ndcg@", "mrr"),
        "More is better.",
    ),
    DiagnosisQuestion(
        "Rare items?",
        ("head: ", "tail: ", "cold_items: ", "new_items: ", "tail_exposure@", "tail_coverage@"),
        "Hits on clicks of rare items, places that rare items get, and how many of them are reached at all. "
        "More is better; the head is there to see what they cost.",
    ),
    DiagnosisQuestion(
        "Cold users, and what is new to a user?",
        ("cold_users: ", "new_users: ", "warm_users: ", "repeats: ", "discoveries: "),
        "More is better.",
    ),
    DiagnosisQuestion(
        "What do all lists show together?",
        ("coverage@", "gini@", "popularity_percentile@"),
        "More coverage is more of the catalogue. A lower Gini is more even; a lower percentile is less popular.",
    ),
    DiagnosisQuestion(
        "How are the items spread?",
        ("uniformity", "anisotropy", "effective_rank", "norm_popularity"),
        "Lower uniformity and anisotropy, and a higher rank, are a wider spread, which is neither good nor bad alone. "
        "norm_popularity near 1 means that long embeddings are popular items.",
    ),
    DiagnosisQuestion(
        "What comes to lie close together?",
        ("alignment_", "nearer_"),
        "Lower alignment is closer, but all items may have come closer; a higher nearer_ is closer than a random item.",
    ),
    DiagnosisQuestion(
        "Are planted links found?",
        ("link_recall",),
        "More is better; only worlds whose links are known can tell.",
    ),
)

_WAYS = {  # by how a metric's name starts: what a higher or lower value means
    "uniformity": "lower: more spread out",
    "alignment_": "lower: closer",
    "nearer_": "higher: closer",
    "anisotropy": "lower: more spread out",
    "effective_rank": "higher: more spread out",
    "norm_popularity": "higher: longer where popular",
    "gini@": "lower: more even",
    "popularity_percentile@": "lower: less popular",
    "coverage@": "higher: more of the catalogue",
    "tail_coverage@": "higher: more rare items",
    "tail_exposure@": "higher: more rare items",
}


def way_of(name: str) -> str:
    """What a higher or lower value of a metric means; of a metric behind its slice, higher is better."""
    return next((way for start, way in _WAYS.items() if name.startswith(start)), "higher: better")


def is_diagnosis(results: Mapping[str, Any]) -> bool:
    """Whether a run asked for any figure of the geometry."""
    metrics = results["scenario"]["metrics"]
    return any(metric.startswith(GEOMETRY) for metric in [*metrics["primary"], *metrics["secondary"]])


def name_of(effect: Mapping[str, Any]) -> str:
    """An effect's metric, behind its slice where it has one."""
    return str(effect["metric"]) if effect["slice"] == "all" else f"{effect['slice']}: {effect['metric']}"
