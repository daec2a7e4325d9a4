"""Two-tower matching models over shared field embeddings; ``micrec.towers`` holds them by name."""

from collections.abc import Sequence

import torch

from micrec.config import ModelConfig
from micrec.models.columns import FieldSpec
from micrec.models.two_tower import TwoTower


def make_model(
    config: ModelConfig,
    user_specs: Sequence[FieldSpec],
    item_specs: Sequence[FieldSpec],
    *,
    sparse: bool,
    generator: torch.Generator,
) -> TwoTower:
    """The model that ``config.name`` names, with fresh weights drawn from ``generator``.

    Args:
        config: Architecture.
        user_specs: User fields, in order.
        item_specs: Item fields, in order; the item's own id first if it is embedded.
        sparse: Whether embedding tables give row-sparse gradients.
        generator: Source of the initial weights.
    """
    tower: type[TwoTower] = config.tower.load()
    return tower(config, user_specs, item_specs, sparse=sparse, generator=generator)
