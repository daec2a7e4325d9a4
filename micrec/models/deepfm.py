"""DeepFM as two towers: FM interaction and DNN in parallel inside each tower (Guo et al. 2017; N23)."""

import torch
from torch import Tensor, nn

from micrec.models.columns import Ragged
from micrec.models.fm import bi_interaction
from micrec.models.two_tower import TwoTower


class DeepFM(TwoTower):
    """Per tower: bi-interaction vector and MLP output, concatenated, then one linear map to D."""

    def build_item_tower(self) -> None:
        self.item_cell = DeepFMCell(self, self.item_fields.width)

    def build_user_tower(self) -> None:
        width = self.item_fields.width + self.user_fields.width
        self.user_cell = DeepFMCell(self, width)

    def encode_user(self, user_fields: Tensor, history: Ragged, item_fields: Tensor) -> Tensor:
        return self.user_cell(torch.cat([self.pool_history(history, item_fields), user_fields], dim=1))

    def encode_item(self, item_fields: Tensor) -> Tensor:
        return self.item_cell(item_fields)


class DeepFMCell(nn.Module):
    """Fields (n, F, D) to an embedding (n, D)."""

    def __init__(self, tower: TwoTower, width: int) -> None:
        super().__init__()
        dim = tower.config.embedding_dim
        self.deep = tower.tower_mlp(width)
        self.out = nn.Linear(2 * dim, dim)

    def forward(self, fields: Tensor) -> Tensor:
        return self.out(torch.cat([bi_interaction(fields), self.deep(fields.flatten(1))], dim=1))
