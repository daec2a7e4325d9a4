"""Keys of the platform, through the scenario: each moves its own figure of the log, in the direction it says.

One run may serve several keys, where each has a figure of its own that the others leave alone.
"""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from simulator.world.item_table import item_frame
from simulator.world.world import World
from tests.abtest.online.tiny_runs import Run, run

Statistic = Callable[[Run], float]

PIPELINE = "platform.pipeline"
POPULAR, ITEM_CF, RANKING = f"{PIPELINE}.channels.popular", f"{PIPELINE}.channels.item_cf", f"{PIPELINE}.ranking"


class Effect(NamedTuple):
    """``statistic`` is at least ``by`` larger under ``more`` than under ``less``."""

    less: Sequence[str]
    more: Sequence[str]
    statistic: Statistic
    by: float

    def check(self) -> None:
        less, more = self.statistic(run(*self.less)), self.statistic(run(*self.more))
        assert more - less >= self.by, (less, more)


def of_stage(stage: str, expression: pl.Expr, *, from_day: float = 0.0, to_day: float = 99.0) -> Statistic:
    """An aggregate of the serving rows of one stage, between two moments of the experiment."""

    def statistic(of: Run) -> float:
        day = pl.col("arrived_s") / 86_400 - of.scenario.experiment_day
        rows = of.table("serving").filter(pl.col("stage") == stage, day >= from_day, day < to_day)
        return float(rows.select(expression).item())

    return statistic


def of_models(stage: str, expression: pl.Expr) -> Statistic:
    """An aggregate over the mornings of one model."""
    return lambda of: float(of.table("snapshots").filter(pl.col("name") == stage).select(expression).item())


def of_table(table: str, expression: pl.Expr) -> Statistic:
    return lambda of: float(of.table(table).select(expression).item())


def outcome(name: str) -> pl.Expr:
    return (pl.col("outcome") == name).mean()


def both(*sets: str) -> tuple[str, ...]:
    """The same keys for a channel and for ranking, in one run: each stage is looked at by itself."""
    return tuple(f"{place}.{one}" for one in sets for place in (POPULAR, RANKING))


AGE = (pl.col("day") - pl.col("version")).mean()
LONGER = ("days=3",)
PATIENT = "population.lifecycle.wait_s=100000"
BUSY = ("latency={kind: constant, mean_ms: 200000}", "deadline_ms=1000000000")
MEAN, SPREAD = both("latency.mean_ms=50"), both("latency.log_sd=1.2", "window_ms=100")
BROKEN = both(  # a fault of each kind, one after another
    "faults=[{from_day: 1, to_day: 1.5, down: true}, {from_day: 1.5, to_day: 1.75, slow: 5}, "
    "{from_day: 1.75, to_day: 2, error_rate: 0.9}]"
)


def stage_effects(stage: str) -> dict[str, Effect]:
    """Keys that channels and ranking have alike."""
    served, waited = pl.col("service_ms"), pl.col("wait_ms")
    place = "platform.pipeline." + ("ranking" if stage == "ranking" else f"channels.{stage}")
    queue = (PATIENT, *(f"{place}.{key}" for key in BUSY))  # of this stage alone: behind a slow one nobody waits
    return {
        "servers": Effect(
            (*queue, f"{place}.servers=50"), (*queue, f"{place}.servers=1"), of_stage(stage, waited.mean()), 1e3
        ),
        "latency.kind": Effect((), both("latency.kind=exponential"), of_stage(stage, served.skew(), from_day=1), 0.2),
        "latency.mean_ms": Effect((), MEAN, of_stage(stage, served.mean(), from_day=1), 20),
        "latency.log_sd": Effect((), SPREAD, of_stage(stage, served.log().std(), from_day=1), 0.5),
        "window_ms": Effect((), SPREAD, of_stage(stage, waited.mean(), from_day=1), 30),
        "deadline_ms": Effect((), both("deadline_ms=4"), of_stage(stage, outcome("late"), from_day=1), 0.5),
        "faults.*.from_day": Effect((), BROKEN, of_stage(stage, outcome("down"), from_day=1, to_day=1.2), 1),
        "faults.*.to_day": Effect((), BROKEN, of_stage(stage, outcome("down"), from_day=1.4, to_day=1.5), 1),
        "faults.*.down": Effect((), BROKEN, of_stage(stage, outcome("down"), from_day=1, to_day=1.5), 1),
        "faults.*.slow": Effect((), BROKEN, of_stage(stage, served.mean(), from_day=1.5, to_day=1.75), 20),
        "faults.*.error_rate": Effect((), BROKEN, of_stage(stage, outcome("error"), from_day=1.75), 0.7),
        "faults.*.frozen": Effect(
            LONGER, (*LONGER, *both("faults=[{from_day: 2, to_day: 3, frozen: true}]")), of_models(stage, AGE), 0.3
        ),
        "every_days": Effect(LONGER, (*LONGER, *both("every_days=2")), of_models(stage, AGE), 0.3),
        "lag_days": Effect(LONGER, (*LONGER, *both("lag_days=1")), of_models(stage, AGE), 0.3),
    }


def newness(of: Run) -> float:
    """How late the shown items were published, hours."""
    return float(of.table("impressions").join(of.published_s(), on="item_id")["published_s"].mean()) / 3_600


def alike(of: Run) -> float:
    """Most items of one provider in a slate, averaged."""
    config = of.scenario.world_config(0)
    items = item_frame(config, World.build(config).catalogue).select("item_id", pl.col("provider").cast(pl.String))
    slate = ("day", "visit", "request")
    counts = of.table("impressions").join(items, on="item_id").group_by(*slate, "provider").len()
    return float(counts.group_by(*slate).agg(pl.col("len").max())["len"].mean())


def facts_of_last(name: str, fact: str) -> Statistic:
    """What the last version of a model says of itself."""

    def statistic(of: Run) -> float:
        manifest = json.loads((of.models(name)[-1] / "manifest.json").read_text(encoding="utf-8"))
        return float(manifest["facts"][fact])

    return statistic


def pairs_known(of: Run) -> float:
    """Pairs of items that the last version of item-CF has seen together."""
    return float(np.load(of.models("item_cf")[-1] / "arrays.npz", allow_pickle=False)["neighbours"].size)


def models_in_warm_up(of: Run) -> float:
    return of.table("snapshots", warm_up=True)["model"].n_unique()


FRESH = (f"{POPULAR}.kind=fresh",)
FEW, LESS = (
    f"{PIPELINE}.merge.candidates=12",
    (f"{ITEM_CF}.k=10", f"{RANKING}.options.most_rows=600"),
)
SPREAD_OUT = (f"{PIPELINE}.diversity={{field: provider, at_most: 1}}",)
SHORT = (f"{PIPELINE}.explore=1", f"{PIPELINE}.slate_size=4", f"{PIPELINE}.repeats=true")
OTHER = ("platform.warmup_days=1", "arms.treatment.pipeline.channels.popular.options.half_life_h=1")
visit_item = pl.struct("day", "visit", "item_id")

EFFECTS = {
    **{f"{PIPELINE}.channels.*.{key}": effect for key, effect in stage_effects("popular").items()},
    **{f"{PIPELINE}.ranking.{key}": effect for key, effect in stage_effects("ranking").items()},
    f"{PIPELINE}.channels.*.kind": Effect((), FRESH, newness, 2),
    f"{PIPELINE}.channels.*.options": Effect(
        (*FRESH, f"{POPULAR}.options.max_age_h=20"), FRESH, of_stage("popular", pl.col("offered").mean()), 2
    ),
    f"{PIPELINE}.channels.*.k": Effect(LESS, (), of_stage("item_cf", pl.col("offered").mean()), 10),
    f"{PIPELINE}.channels.*.quota": Effect(  # beyond the quotas, room that is left is filled
        (FEW, f"{POPULAR}.quota=5"), (FEW,), of_stage("popular", pl.col("merged").mean()), 3
    ),
    f"{PIPELINE}.merge.kind": Effect(
        (FEW,), (FEW, f"{PIPELINE}.merge.kind=snake"), of_stage("item_cf", pl.col("merged").mean()), 2
    ),
    f"{PIPELINE}.merge.candidates": Effect((FEW,), (), of_table("requests", pl.col("candidates").mean()), 10),
    f"{PIPELINE}.ranking.options": Effect(LESS, (), facts_of_last("ranking", "rows"), 100),
    f"{PIPELINE}.diversity.field": Effect(
        (*SPREAD_OUT, f"{PIPELINE}.diversity.field=null"), SPREAD_OUT, lambda of: -alike(of), 0.4
    ),
    f"{PIPELINE}.diversity.at_most": Effect(
        SPREAD_OUT, (*SPREAD_OUT, f"{PIPELINE}.diversity.at_most=9"), alike, 0.4
    ),
    f"{PIPELINE}.explore": Effect((), SHORT, of_table("impressions", (pl.col("propensity") < 1).mean()), 0.2),
    f"{PIPELINE}.slate_size": Effect(SHORT, (), of_table("requests", pl.col("shown").mean()), 4),
    f"{PIPELINE}.repeats": Effect((), SHORT, of_table("impressions", visit_item.is_duplicated().mean()), 0.1),
    "platform.warmup_days": Effect(
        (), ("platform.warmup_days=1",), lambda of: float(of.day("requests", 0)["ranked"].mean()), 0.9
    ),
    "platform.shadow_warm_up": Effect((*OTHER, "platform.shadow_warm_up=false"), OTHER, models_in_warm_up, 1),
    "platform.training": Effect(
        (), ("platform.training=diverted",), lambda of: of.table("snapshots")["model"].n_unique(), 3
    ),
    "platform.log_days": Effect(("platform.log_days=1",), (), pairs_known, 300),
}  # fmt: skip


@pytest.mark.parametrize("key", EFFECTS)
def test_key_moves_its_figure(key):
    EFFECTS[key].check()


def test_a_fault_lasts_from_its_first_to_its_last_moment():
    """Every refusal and error lies within its own fault, and none without one."""
    broken, sound = run(*BROKEN), run()
    for stage in ("popular", "ranking"):
        rows = broken.table("serving").filter(pl.col("stage") == stage)
        day = rows["arrived_s"] / 86_400 - broken.scenario.experiment_day
        rows, day = rows.filter(day >= 1), day.filter(day >= 1)  # ranking has no version on the first day
        assert ((rows["outcome"] == "down") == (day < 1.5)).all()
        assert (day.filter(rows["outcome"] == "error") >= 1.75).all()
    assert not sound.day("serving", 1)["outcome"].is_in(["down", "error"]).any()
