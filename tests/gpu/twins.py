"""Trainers that differ by the layout of a step, or by the device, and by nothing else."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from micrec.config import Config
from micrec.contrast import ContrastDraw
from micrec.data.dataset import Dataset
from micrec.data.split import temporal_split
from micrec.item_losses.feature_loss import FeatureDraw
from micrec.item_losses.pair_loss import PairDraw, PositivePairs
from micrec.item_losses.pseudo_clicks import PseudoClicks
from micrec.models.layers import SeededDropout
from micrec.presets import PRESETS
from micrec.settings import merge
from micrec.shapes import fixed_shapes
from micrec.towers import TOWERS
from micrec.training import Trainer
from tests.gpu.waits import Waits
from tests.micrec.factories import random_dataset

OFF = {"feature": {"weight": 0}, "semantic": {"weight": 0}, "session": {"weight": 0}}
FORMS = ("contrast", "momentum", "barlow_twins", "pseudo_clicks")
LOSSES = ("feature", "semantic", "session")
ROWS = 24  # of a step
SMALL = {
    "model": {"embedding_dim": 8, "hidden": [12, 8], "history_length": 6},
    "softmax": {"num_negatives": 5},
    "contrast": {
        "pool_size": 32,
        "group_size": 1,
        "uniform_anchors": 40,
        "feature": {"queue_size": 50},
        "semantic": {"svd_dim": 4, "top_k": 3, "negatives": 5, "queue_size": 50},
        "session": {"negatives": 5, "queue_size": 50},
    },
    "train": {"batch_size": ROWS},
    "optim": {"learning_rate": 0.01, "eps": 1e-2},  # what is zero but for rounding is not blown up to full steps
}
WITH_HEADS = ("ican", "autoint", "sasrec", "bert4rec", "esasrec")


def large_catalogue(folder: Path) -> Dataset:
    """More items than a step may need, so that sets of items are found, and lists of tags of up to three."""
    return random_dataset(folder / "large", np.random.default_rng(0), n_users=50, n_items=900, n_clicks=2500)


def config_of(base: str = "ican", **changes: Any) -> Config:
    """Tiny towers of a base model."""
    heads = {"options": {"heads": 2}} if base in WITH_HEADS else {}
    return Config.model_validate(merge(merge(SMALL, {"model": {"name": base, **heads}}), changes))


def preset_of(name: str, **changes: Any) -> Config:
    """A preset with tiny towers."""
    small = {"embedding_dim": 8, "hidden": [12, 8]}
    options = {"title_dim": 4} if name == "best" else {"heads": 2}
    keys = merge(
        PRESETS[name].model_dump(mode="json"), {"model": {**small, "options": options}, "train": {"batch_size": ROWS}}
    )
    return Config.model_validate(merge(keys, changes))


def trainer_of(dataset: Dataset, config: Config, *, device: str = "cpu", fixed: bool | None = None) -> Trainer:
    """A trainer in training mode whose draws come from the CPU, so that those of two devices are the same."""
    config = config.model_copy(update={"train": config.train.model_copy(update={"device": device})})
    trainer = Trainer(dataset, dataset.clicks[temporal_split(dataset.clicks, config.split).train], config, fixed=fixed)
    for name, generator in trainer.generators.items():
        trainer.generators[name] = torch.Generator().manual_seed(generator.initial_seed())
    trainer.model.noise = trainer.generators["noise"]
    for module in trainer.model.modules():
        if isinstance(module, SeededDropout):
            module.generator = trainer.generators["noise"]
    trainer.model.train()
    trainer.contrast.train()
    return trainer


def batches(trainer: Trainer, count: int) -> list[tuple[Tensor, int | None]]:
    """The first batches of an epoch, and the clicks that each has to find."""
    order, size = trainer.order(1), trainer.config.train.batch_size
    return [(order[at * size : (at + 1) * size], trainer.clicks_of_batches(order)[at]) for at in range(count)]


def steps(trainer: Trainer, count: int) -> list[list[float]]:
    """Losses of some steps."""
    return [trainer.step(*batch).tolist() for batch in batches(trainer, count)]


def waits(trainer: Trainer) -> list[str]:
    """What of a step, after one that warms up, a program would wait for on a GPU."""
    first, second = batches(trainer, 2)
    trainer.step(*first)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype feature")
            torch.cuda.set_sync_debug_mode("error")
        try:
            trainer.step(*second)
        except RuntimeError as fault:
            return [str(fault)]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return []
    with Waits() as seen:
        trainer.step(*second)
    return seen.found


def share_draws(exact: Trainer, fixed: Trainer) -> None:
    """Make the item losses of ``exact`` draw what those of ``fixed`` draw, as exact lists."""
    kinds = exact.contrast

    def draw(*args: Any) -> ContrastDraw:
        with fixed_shapes():
            drawn = type(kinds).draw(kinds, *args)
        return ContrastDraw(drawn.batch_items, {name: exact_draw(one) for name, one in drawn.losses.items()})

    kinds.draw = draw  # type: ignore[method-assign]
    assert fixed.contrast.names == kinds.names


def exact_draw(drawn: Any) -> Any:
    """Without what stands there to fill up."""
    if isinstance(drawn, FeatureDraw):
        return FeatureDraw(drawn.items if drawn.real is None else drawn.items[drawn.real])
    if isinstance(drawn, PseudoClicks):
        counts = drawn.counts
        return drawn._replace(rows=drawn.rows[counts], targets=drawn.targets[counts], counts=None)
    assert isinstance(drawn, PairDraw | PositivePairs)
    has = drawn.positive_mask.any(dim=1)
    kept = drawn._replace(
        anchors=drawn.anchors[has], positives=drawn.positives[has], positive_mask=drawn.positive_mask[has]
    )
    if isinstance(kept, PairDraw):  # in groups of one anchor
        kept = kept._replace(negatives=kept.negatives[has], negative_mask=kept.negative_mask[has])
    return kept


def parameters_of(trainer: Trainer) -> dict[str, Tensor]:
    """All parameters, up to date, on the CPU."""
    return trainer.parameters()


def assert_close(first: Trainer, second: Trainer, *, rtol: float, atol: float) -> None:
    """All parameters and buffers of two trainers agree."""
    one, other = parameters_of(first), parameters_of(second)
    for name in one:
        close = {"rtol": rtol, "atol": atol, "msg": lambda text, name=name: f"{name}: {text}"}
        torch.testing.assert_close(one[name], other[name], **close)


def bases(names: Iterable[str] = TOWERS) -> list[str]:
    """Base models by name."""
    return list(names)
