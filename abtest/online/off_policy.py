"""Off-policy estimates from a world in which control explores, beside the truth that only a simulator knows.

A choice is what stood on the last place of one slate; its reward is a click. A policy in question is deterministic: it
would put one known candidate there. The truth is that of the same requests: each user answered each policy's slate as
well, and was put back, see ``Service``; so it holds no luck but that of the users who came, and what a policy would
change in later requests is neither in the estimates nor in it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from abtest.online.day_logs import scan
from abtest.report.figures import Intervals, Row
from abtest.report.sections import Block, Section
from abtest.report.tables import Table
from abtest.stats.inverse_propensity import OffPolicyValue, Overlap, off_policy_values, overlap

CHOICES_FILE = "choices.parquet"
FOLDS = 4
_REQUEST = ["day", "visit", "request"]

Floats = NDArray[np.float64]


class PolicyFound(NamedTuple):
    """What is known of one policy.

    Attributes:
        policy: Its name.
        truth: Clicks per choice if it had chosen in these very requests.
        values: By each estimator, from the log alone.
        overlap: How far the log tells.
    """

    policy: str
    truth: float
    values: tuple[OffPolicyValue, ...]
    overlap: Overlap


def choices_of(folders: list[Path], last: int) -> pl.DataFrame:
    """One row per full slate and policy.

    Columns: ``user_id, policy``; of the policy's choice ``item_id, propensity, channel, channel_place, score`` and
    ``truth``, whether it would have been clicked; of what was shown ``shown_item, shown_propensity, shown_channel,
    shown_place, shown_score, clicked``.

    Args:
        folders: Folders of the days.
        last: The last position, from 0.
    """
    truth = pl.concat([pl.scan_parquet(one / "ground_truth/ground_truth_policies-*.parquet") for one in folders])
    shown = (
        scan(folders, "impressions")
        .filter(pl.col("position") == last)
        .select(
            *_REQUEST,
            pl.col("item_id").alias("shown_item"),
            pl.col("propensity").alias("shown_propensity"),
            pl.col("channel").cast(pl.String).alias("shown_channel"),
            pl.col("channel_place").alias("shown_place"),
            pl.col("score").alias("shown_score"),
            "clicked",
        )
    )
    own = ["user_id", "policy", "item_id", "propensity", "channel", "channel_place", "score"]
    chosen = scan(folders, "policies").select(*_REQUEST, *own)
    return (
        chosen.with_columns(pl.col("policy", "channel").cast(pl.String))
        .join(truth.select(*_REQUEST, pl.col("policy").cast(pl.String), truth="clicked"), on=[*_REQUEST, "policy"])
        .join(shown, on=_REQUEST)
        .sort("policy", *_REQUEST)
        .collect()
    )


def estimate(choices: pl.DataFrame, policies: Sequence[str], *, alpha: float, seed: int) -> list[PolicyFound]:
    """Every policy's value.

    Args:
        choices: See :func:`choices_of`.
        policies: In the order of the report.
        alpha: Intervals are at 1 - alpha.
        seed: Of the folds of users on which the reward model is fitted.
    """
    found = []
    for policy in policies:
        own = choices.filter(pl.col("policy") == policy)
        if own.is_empty():
            continue
        users = own["user_id"].to_numpy()
        chance = own["shown_propensity"].to_numpy().astype(float)
        weight = np.where(own["item_id"].to_numpy() == own["shown_item"].to_numpy(), 1.0 / chance, 0.0)
        logged, wanted = reward_model(own, seed=seed)
        values = off_policy_values(
            own["clicked"].to_numpy(), weight, users, model_logged=logged, model_policy=wanted, alpha=alpha
        )
        supported = (own["propensity"].to_numpy() > 0.0).astype(float)
        found.append(
            PolicyFound(policy, float(own["truth"].to_numpy().mean()), tuple(values), overlap(weight, users, supported))
        )
    return found


def reward_model(choices: pl.DataFrame, *, seed: int) -> tuple[Floats, Floats]:
    """Chance of a click on what was shown and on what the policy would choose, each by a model of other users.

    A logistic regression on the channel that brought the item, its place there, and its score in ranking; of
    ``FOLDS`` folds of users, each is predicted by a model of the others.

    Args:
        choices: Of one policy, see :func:`choices_of`.
        seed: Of the folds.
    """
    from sklearn.linear_model import LogisticRegression

    clicked = choices["clicked"].to_numpy()
    channels = choices["shown_channel"].unique().drop_nulls().sort().to_list()
    shown = _features(choices, "shown_", channels)
    wanted = _features(choices.rename({"channel_place": "place"}), "", channels)
    users, of_user = np.unique(choices["user_id"].to_numpy(), return_inverse=True)
    fold = np.random.default_rng(seed).integers(FOLDS, size=len(users))[of_user]
    logged, chosen = np.empty(len(clicked)), np.empty(len(clicked))
    for number in range(FOLDS):
        mine, others = fold == number, fold != number
        if not mine.any():
            continue
        if not clicked[others].any() or clicked[others].all():
            logged[mine] = chosen[mine] = float(clicked[others].mean()) if others.any() else 0.0
            continue
        model = LogisticRegression(max_iter=200).fit(shown[others], clicked[others])
        logged[mine], chosen[mine] = (model.predict_proba(part[mine])[:, 1] for part in (shown, wanted))
    return logged, chosen


def off_policy_section(found: Sequence[PolicyFound], explore: float, alpha: float) -> Section:
    """Estimates beside the truth, and how far they can be trusted."""
    poor = [one for one in found if one.overlap.warnings]
    text = [
        f"Control put a random one of the next candidates on the last place of {explore:.0%} of its slates and logged "
        "each chance. From that log alone: clicks per slate on that place if a policy had chosen. The truth asks the "
        "same users in the same requests; what a policy changes later is in neither.",
        *(f"POOR OVERLAP, do not rely on {one.policy}: {'; '.join(one.overlap.warnings)}." for one in poor),
    ]
    level = f"{100 * (1 - alpha):.4g} %"
    rows = []
    for one in found:
        cells = [_cell(value) for value in one.values]
        seen = one.overlap
        rows.append(
            (
                one.policy,
                f"{1000 * one.truth:.1f}",
                *cells,
                f"{seen.matched:,} of {seen.choices:,}",
                f"{seen.effective:,.0f}",
                f"{seen.unsupported:.1%}",
            )
        )
    methods = [value.method for value in found[0].values] if found else []
    header = (
        *("policy for the last place", "truth"),
        *(f"{name} [{level}]" for name in methods),
        *("choices that it shares", "effective", "without a chance"),
    )
    notes = [
        "Clicks per 1,000 slates. IPS: inverse propensity scores; SNIPS: the same, normalised by the weights; DR: "
        "doubly robust, with a reward model of other users' choices. Intervals are over users. Effective: how many "
        "equally weighted choices the weights are worth; without a chance: choices of the policy that the log cannot "
        "hold, for which IPS counts no click, SNIPS the mean of the others, and DR what its model thinks.",
    ]
    blocks: list[Block] = [Table("Off-policy estimates", header, rows, notes)]
    figure = [
        Row(f"{one.policy}, {value.method}", _cell(value), value.value, low, high, mark=one.truth)
        for one in found
        for value in one.values
        if value.value is not None
        for low, high in [value.ci or (None, None)]
    ]
    caption = "Clicks per slate on the last place, estimated from the log; the diamond is the truth."
    return Section("From the log alone: off-policy estimates", text, [Intervals("Estimates", figure, caption), *blocks])


def off_policy_data(found: Sequence[PolicyFound]) -> list[dict[str, Any]]:
    """Plain values for results.json."""
    return [
        {
            "policy": one.policy,
            "truth": one.truth,
            "values": [value._asdict() for value in one.values],
            "overlap": one.overlap._asdict(),
        }
        for one in found
    ]


def _features(choices: pl.DataFrame, prefix: str, channels: Sequence[str]) -> Floats:
    """Features of the items named with a prefix, shape (n, S + 2)."""
    channel = choices[f"{prefix}channel"].cast(pl.String).to_numpy()
    place = np.maximum(choices[f"{prefix}place"].fill_null(-1).to_numpy(), -1).astype(float)
    score = np.nan_to_num(choices[f"{prefix}score"].to_numpy().astype(float), neginf=0.0)
    height = np.where(place < 0, 0.0, 1.0 / np.log2(2.0 + np.maximum(place, 0.0)))
    odds = np.log(np.clip(score, 1e-6, 1 - 1e-6) / (1 - np.clip(score, 1e-6, 1 - 1e-6)))
    return np.column_stack([*(channel == name for name in channels), height, odds]).astype(float)


def _cell(value: OffPolicyValue) -> str:
    if value.value is None:
        return "–"
    interval = "" if value.ci is None else f" [{1000 * value.ci[0]:.1f}, {1000 * value.ci[1]:.1f}]"
    return f"{1000 * value.value:.1f}{interval}"
