"""Two-tower matching models over shared field embeddings."""

from collections.abc import Sequence

import torch

from micrec.config import ModelConfig
from micrec.models.autoint import AutoInt
from micrec.models.columns import FieldSpec
from micrec.models.deepfm import DeepFM
from micrec.models.fm import FactorizationMachine
from micrec.models.ican import Ican
from micrec.models.multi_interest import ComiRecDR, ComiRecSA, Mind
from micrec.models.sequence import Bert4Rec, SasRec
from micrec.models.two_tower import TwoTower
from micrec.models.youtube_dnn import YoutubeDNN

MODELS: dict[str, type[TwoTower]] = {
    "ican": Ican,
    "fm": FactorizationMachine,
    "youtube_dnn": YoutubeDNN,
    "deepfm": DeepFM,
    "autoint": AutoInt,
    "mind": Mind,
    "comirec_dr": ComiRecDR,
    "comirec_sa": ComiRecSA,
    "sasrec": SasRec,
    "bert4rec": Bert4Rec,
}


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
    return MODELS[config.name](config, user_specs, item_specs, sparse=sparse, generator=generator)
