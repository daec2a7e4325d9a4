"""A package of somebody else's: one thing of each kind that micrec can be extended by, registered on import."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from pydantic import Field
from torch import Tensor

from abtest.analysis.expressions import parse
from abtest.analysis.metrics import BUILTIN, Metric
from abtest.scenario_kind import ScenarioKind
from abtest.scenario_kinds import SCENARIO_KINDS
from abtest.stats.estimate import Estimate, Group
from abtest.stats.estimators import ESTIMATORS, Comparison, Estimator
from micrec.baselines import BASELINES, BaselineModel
from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.config import Frozen
from micrec.data.convert import READERS
from micrec.data.readers import DatasetFrames, Reader
from micrec.data.schema import DatasetSchema
from micrec.item_loss_configs import ItemLossConfig
from micrec.item_loss_kinds import ITEM_LOSSES, ItemLossKind
from micrec.item_losses.item_loss import ItemLoss
from micrec.models.two_tower import TwoTower
from micrec.rank_metrics import RANK_METRICS
from micrec.towers import TOWERS, Tower
from simulator.channels import CHANNELS, Channel, ChannelConfig, ChannelTrainer
from simulator.channels.lists import shared_list
from simulator.model_options import ModelOptions
from simulator.ranking import RANKERS, RankingModel

# -- a channel: the items of the highest ids ---------------------------------------------------------------------------


class NewestConfig(ChannelConfig):
    length: int = Field(30, ge=1, description="Most items kept.")


class NewestTrainer(ChannelTrainer[NewestConfig]):
    kind = "newest"

    def learn(self, log):
        items = np.sort(log.items["item_id"].cast(pl.Int64).to_numpy())[::-1][: self.keys.length].copy()
        return {"items": items, "scores": np.linspace(1.0, 0.5, len(items), dtype=np.float32)}

    def serve(self, arrays):
        return _Newest(self, arrays)


class _Newest:
    def __init__(self, trainer, arrays):
        self._trainer, self._arrays = trainer, arrays

    def retrieve(self, requests, k):
        return shared_list(self._arrays["items"], self._arrays["scores"], k, self._trainer.hidden(requests))


# -- a ranking model: the lowest ids first, or the highest -------------------------------------------------------------


class IdOrderConfig(ModelOptions):
    highest: bool = Field(False, description="Highest ids first.")


class IdOrderTrainer:
    def __init__(self, keys):
        self.keys = keys

    def train(self, log, *, previous, folder, seed):
        folder.mkdir()

    def load(self, folder):
        return self

    def score(self, requests, items):
        scores = items if self.keys.highest else -items
        return np.where(items >= 0, scores, -np.inf).astype(np.float32)


# -- a tower: a user is the mean of the clicked items' fields, times a number of its options ---------------------------


class MeanOptions(Frozen):
    scale: float = Field(1.0, gt=0, description="Factor of the user's vector.")


class MeanTower(TwoTower):
    def build_user_tower(self):
        pass

    def encode_user(self, user_fields, history, item_fields):
        return self.options.scale * self.pool_history(history, item_fields).mean(dim=1)


# -- an item loss: projected embeddings of the batch's items, and of as many random ones, are pushed apart -------------


class SpreadConfig(ItemLossConfig):
    random_items: int = Field(8, ge=1, description="Random items beside the batch's.")


class SpreadLoss(ItemLoss):
    needs_pool = True

    def draw(self, items, pool, generator):
        chosen = torch.randint(len(pool), (self.config.random_items,), generator=generator)
        return SpreadDraw(torch.cat([items.exact(), pool[chosen]]))

    def forward(self, drawn, pool, model, generator) -> Tensor:
        vectors = self.projector(pool.embeddings(drawn.items))
        return (vectors @ vectors.T).square().mean()


class SpreadDraw:
    def __init__(self, items):
        self.items = items

    def item_ids(self):
        return [self.items]


# -- a baseline: items by their ids, a metric: half of hit, a reader, an experiment's metric, an estimator -------------


def by_id(inputs: BaselineInputs) -> BaselineScores:
    scores = torch.arange(len(inputs.dataset.items), dtype=torch.float32)
    return BaselineScores(lambda start, stop: scores.expand(stop - start, -1))


def half_hit(targets, n: int) -> float:
    return 0.5 * float(((targets.rank <= n) * targets.lines).sum() / targets.lines.sum())


class PairsOptions(Frozen):
    start: int = Field(0, ge=0, description="Time of the first line, s.")


def read_pairs(source: Path, options: PairsOptions) -> DatasetFrames:
    """Lines ``user item``, one second apart."""
    pairs = [line.split() for line in source.read_text(encoding="utf-8").splitlines()]
    times = [options.start + place for place in range(len(pairs))]
    clicks = pl.DataFrame({"user_id": [u for u, _ in pairs], "item_id": [i for _, i in pairs], "timestamp": times})
    users, items = (clicks.select(pl.col(key).unique(maintain_order=True)) for key in ("user_id", "item_id"))
    return DatasetFrames(DatasetSchema(name="pairs"), users, items, clicks, {})


PAIRS = Reader("Pairs: lines of a user and an item", PairsOptions, read_pairs, lambda path: path.suffix == ".pairs")


def plain_difference(asked: Comparison) -> Estimate:
    arms = [arm.users for arm in (asked.control, asked.treatment)]
    column = asked.metric if isinstance(asked.metric, str) else asked.metric[0]
    control, treatment = (Group(moments.n, moments.mean_of(column)) for moments in arms)
    return Estimate("no test", asked.alpha, control, treatment, difference=treatment.mean - control.mean)


# -- a kind of scenario: it counts the words of a text -----------------------------------------------------------------


class WordsScenario(Frozen):
    """Count words."""

    kind: Literal["words"] = Field(description="The question.")
    name: str = Field(description="Name of the run.")
    text: str = Field(description="The text.")

    def resolved(self) -> dict[str, Any]:
        return self.model_dump()


def run_words(scenario: WordsScenario, out: Path, *, resolved: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    out.mkdir(parents=True)
    results = {"kind": scenario.kind, "scenario": dict(resolved), "words": len(scenario.text.split())}
    (out / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return results


def show_words(results: dict[str, Any]) -> None:
    print(f"{results['words']} words")


WORDS = ScenarioKind(
    schema=WordsScenario, run=run_words, show=show_words, describe=lambda scenario: f"a text of {len(scenario.text)}"
)

THINGS = (
    (CHANNELS, "newest", Channel(NewestConfig, NewestTrainer)),
    (RANKERS, "id_order", RankingModel(IdOrderConfig, IdOrderTrainer)),
    (TOWERS, "mean", Tower(MeanTower, options=MeanOptions)),
    (ITEM_LOSSES, "spread", ItemLossKind(SpreadConfig, SpreadLoss)),
    (BASELINES, "by_id", BaselineModel("items by id", by_id)),
    (RANK_METRICS, "half_hit", half_hit),
    (BUILTIN, "views", Metric("views", "impressions per capita", parse("impressions"))),
    (READERS, "pairs", PAIRS),
    (ESTIMATORS, "plain", Estimator("the plain difference", plain_difference)),
    (SCENARIO_KINDS, "words", WORDS),
)
for registry, name, thing in THINGS:
    registry.register(name, thing)
