"""Interleaving beside the A/B test on the same world: how many users each needs for the same certainty.

In the interleaved world everybody is served by both matchers at once, see :mod:`simulator.interleaving`; in the arms'
own worlds the same users, with the same noise, are served by one. So the sensitivity of both ways is known of the very
same users, and an A/B test's is that of its difference between whole worlds, free of the luck of one assignment.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from abtest.online.day_logs import scan
from abtest.online.lift_text import percent
from abtest.report.sections import Section
from abtest.report.tables import Table
from abtest.stats.preference import UsersNeeded, UsersRatio, adjusted, interleaved, split_test, users_ratio

CREDITS_FILE = "credits.parquet"
POWER = 0.8
ALL_CLICKS, OWN_CLICKS = "team draft", "team draft, items that one list alone offers"
SPLIT, CUPED = "A/B test", "A/B test with CUPED"


class Preference(NamedTuple):
    """What interleaving says of a treatment, beside the A/B test.

    Attributes:
        treatment: Label of the arm.
        users: Users of these worlds who came.
        clicks: Credited to control's matcher, and to the treatment's.
        z: Of the preference, positive for the treatment.
        lift: True lift of clicks per user between the arms' worlds.
        lift_se: Its Monte-Carlo error.
        ways: Each way of comparing, and the users that it needs.
        ratios: Users of the A/B test over those of interleaving: by the way of crediting and the kind of A/B test.
    """

    treatment: str
    users: int
    clicks: tuple[int, int]
    z: float
    lift: float
    lift_se: float
    ways: dict[str, UsersNeeded]
    ratios: dict[tuple[str, str], UsersRatio]


def credits_of(folders: list[Path], first: str, second: str, bits: tuple[int, int]) -> pl.DataFrame:
    """Clicks by user that each team is credited with.

    Columns: ``user_id, first, second``, and ``first_own, second_own``: of items that the other list did not offer.

    Args:
        folders: Folders of the days.
        first: Channel of control's matcher.
        second: Channel of the treatment's.
        bits: Their places among the bits of ``offered_by``.
    """
    both = (1 << bits[0]) | (1 << bits[1])
    clicked = scan(folders, "impressions").filter(pl.col("clicked") & pl.col("channel").is_in([first, second]))
    alone = (pl.col("offered_by").cast(pl.Int64) & both) != both
    by_team = {"first": pl.col("channel") == first, "second": pl.col("channel") == second}
    counts = {name: theirs.sum() for name, theirs in by_team.items()}
    counts |= {f"{name}_own": (theirs & alone).sum() for name, theirs in by_team.items()}
    sums = clicked.group_by("user_id").agg(**{name: one.cast(pl.Int64) for name, one in counts.items()})
    return sums.sort("user_id").collect()


def compare(
    control: pl.DataFrame,
    treatment: pl.DataFrame,
    joint: pl.DataFrame,
    credit: pl.DataFrame,
    label: str,
    *,
    users: int | None,
    alpha: float,
    seed: int,
) -> Preference:
    """Interleaving beside the A/B test.

    Args:
        control: User-days of the all-control world, see ``measures.user_days``.
        treatment: The same of the all-treatment world.
        joint: The same of the interleaved world.
        credit: Its ``credits_of``.
        label: Of the treatment.
        users: Only users 0 … ``users`` - 1 count; None: everybody.
        alpha: Level.
        seed: Of the resamples of users.
    """
    ids = pl.concat([one.select("user_id") for one in (control, treatment, joint)]).unique().sort("user_id")
    ids = ids if users is None else ids.filter(pl.col("user_id") < users)
    before, after = (_clicks(one, ids) for one in (control, treatment))
    table = ids.join(credit, on="user_id", how="left", maintain_order="left").fill_null(0)
    pre = _earlier(pl.concat([control, treatment], how="diagonal"), ids)
    first, second = (table[name].to_numpy().astype(float) for name in ("first", "second"))
    differences = {
        ALL_CLICKS: second - first,
        OWN_CLICKS: (table["second_own"] - table["first_own"]).to_numpy().astype(float),
    }
    splits = {SPLIT: (before, after), CUPED: (adjusted(before, pre), adjusted(after, pre))}
    ways = {name: interleaved(values, alpha=alpha, power=POWER) for name, values in differences.items()}
    ways |= {name: split_test(*pair, alpha=alpha, power=POWER) for name, pair in splits.items()}
    ratios = {
        (way, split): users_ratio(*pair, values, alpha=alpha, rng=np.random.default_rng([seed, number]))
        for number, (way, values) in enumerate(differences.items())
        for split, pair in splits.items()
    }
    spread = (after - after.mean()) - after.mean() / before.mean() * (before - before.mean())
    return Preference(
        label,
        len(ids),
        (int(first.sum()), int(second.sum())),
        ways[ALL_CLICKS].z_per_user * float(np.sqrt(len(ids))),
        float(after.mean() / before.mean() - 1.0),
        float(spread.std(ddof=1) / before.mean() / np.sqrt(len(ids))),
        ways,
        ratios,
    )


def interleaving_section(found: Sequence[Preference], alpha: float) -> Section:
    """Users that each way needs."""
    text = [sentence(one, alpha) for one in found]
    text.append(
        "Team draft at the merge of channels: both matchers pick in turns, ranking is not told who picked what, and a "
        "click is credited to the team that picked the item. A preference says which matcher is better, not by how "
        "much the platform would gain."
    )
    rows = [
        (
            *((one.treatment,) if len(found) > 1 else ()),
            name,
            f"{way.effect:+.4f}",
            f"{way.z_per_user * np.sqrt(one.users):+.1f}",
            f"{way.users:,}" if way.users is not None else "–",
            *(_ratio(one, name, split) for split in (SPLIT, CUPED)),
        )
        for one in found
        for name, way in one.ways.items()
    ]
    level = f"{100 * (1 - alpha):.4g} %"
    header = (
        *(("treatment",) if len(found) > 1 else ()),
        *("way", "clicks per user, treatment less control", "z here", f"users for {POWER:.0%} power"),
        *(f"the {split} needs so many times its users [{level}]" for split in (SPLIT, CUPED)),
    )
    note = (
        "z here: with all users of these worlds. The A/B test's difference is that of whole worlds with the same users "
        "and noise, so that its need is not the luck of one split; intervals are from resampled users."
    )
    return Section("Interleaving: the same question with fewer users", text, [Table("Users", header, rows, [note])])


def sentence(one: Preference, alpha: float) -> str:
    """The finding in one sentence."""
    first, second = one.clicks
    told = f"Of {first + second:,} credited clicks, {one.treatment} has {second / max(first + second, 1):.1%}"
    ratio = one.ratios[ALL_CLICKS, SPLIT]
    low, high = ratio.ci
    if ratio.ratio is None:
        return f"{told}: no difference at all, so there is nothing to compare."
    bound = f"{high:,.0f}" if high < 10_000 else "unbounded"
    needs = f"an A/B test needs {ratio.ratio:,.0f} times the users of interleaving [{low:,.1f}, {bound}]"
    if abs(one.lift) < 2 * one.lift_se:
        needs += f"; the true lift itself, {percent(one.lift)} (se {100 * one.lift_se:.1f}), may be nothing"
    agree = "agree" if one.lift * one.ways[ALL_CLICKS].effect > 0 else "disagree"
    return f"{told} (z {one.z:+.1f}); for the same certainty {needs}. Their signs {agree}."


def interleaving_data(found: Sequence[Preference]) -> list[dict[str, Any]]:
    """Plain values for results.json; an unbounded end of an interval is null."""
    return [
        {
            **{name: value for name, value in one._asdict().items() if name not in ("ways", "ratios")},
            "ways": {name: way._asdict() for name, way in one.ways.items()},
            "ratios": [
                {
                    "interleaving": way,
                    "split": split,
                    "ratio": ratio.ratio,
                    "ci": [end if np.isfinite(end) else None for end in ratio.ci],
                    "same_sign": ratio.same_sign,
                }
                for (way, split), ratio in one.ratios.items()
            ],
        }
        for one in found
    ]


def _ratio(one: Preference, way: str, split: str) -> str:
    ratio = one.ratios.get((way, split))
    if ratio is None or ratio.ratio is None:
        return "–"
    low, high = ratio.ci
    return f"{ratio.ratio:,.1f} [{low:,.1f}, {f'{high:,.1f}' if high < 10_000 else 'unbounded'}]"


def _clicks(days: pl.DataFrame, ids: pl.DataFrame) -> NDArray[np.float64]:
    sums = days.group_by("user_id").agg(pl.col("clicks").sum())
    values = ids.join(sums, on="user_id", how="left", maintain_order="left")["clicks"].fill_null(0)
    return values.cast(pl.Float64).to_numpy()


def _earlier(days: pl.DataFrame, ids: pl.DataFrame) -> NDArray[np.float64]:
    """Clicks of each user before the experiment, 0 where there was no warm-up or the user came later."""
    if "pre_clicks" not in days.columns:
        return np.zeros(len(ids))
    known = days.group_by("user_id").agg(pl.col("pre_clicks").first())
    values = ids.join(known, on="user_id", how="left", maintain_order="left")["pre_clicks"].fill_null(0.0)
    return values.to_numpy()
