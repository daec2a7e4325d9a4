"""Ranking models by name: which candidates become the slate."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from micrec.registry import Registry, loaded
from micrec.settings import validate
from simulator.model_options import ModelOptions
from simulator.ports import RankerTrainer
from simulator.ranking.ctr import CtrRanker, CtrTrainer, requests_at
from simulator.ranking.ranker_config import RankerConfig


class RankingModel(NamedTuple):
    """A kind of ranking model.

    Attributes:
        config: Its keys, written under ``options`` of ``ranking`` in a pipeline.
        trainer: Makes of these keys a :class:`simulator.ports.RankerTrainer`, which learns a version from a log and
            serves it; or where that is, ``module:name``, imported only when a version is made.
    """

    config: type[ModelOptions]
    trainer: str | Callable[[Any], RankerTrainer]


RANKERS: Registry[RankingModel] = Registry(
    "ranking model",
    "rankers",
    {
        "ctr": RankingModel(RankerConfig, CtrTrainer),
    },
)


def ranker_options(kind: str, keys: Mapping[str, Any], *, where: str = "ranking.options") -> ModelOptions:
    """The checked options of a kind of ranking model; arguments and errors are those of ``ranker_trainer``."""
    return validate(RANKERS.get_named(kind, where=where).config, keys, where=where)


def ranker_trainer(kind: str, keys: Mapping[str, Any], *, where: str = "ranking.options") -> RankerTrainer:
    """The trainer of a kind of ranking model.

    Args:
        kind: One of ``RANKERS``.
        keys: Keys of that model; what is not given has its default.
        where: Where the keys were written, for messages.

    Raises:
        MicrecError: If there is no such model, or a key is unknown or wrong.
    """
    options = ranker_options(kind, keys, where=where)
    trainer: RankerTrainer = loaded(RANKERS[kind].trainer)(options)
    return trainer


__all__ = [
    "RANKERS",
    "CtrRanker",
    "CtrTrainer",
    "RankerConfig",
    "RankingModel",
    "ranker_options",
    "ranker_trainer",
    "requests_at",
]
