"""AutoInt as two towers: self-attention over the fields inside each tower (Song et al. 2019; N23)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micrec.models.columns import Ragged
from micrec.models.layers import attend, merge_heads, split_heads
from micrec.models.two_tower import TwoTower
from micrec.tower_configs import AutoIntConfig


class AutoInt(TwoTower):
    """Per tower: interacting layers over the field embeddings, flattened, one linear map to D.

    Option ``dnn`` adds an MLP over the fields beside the attention (AutoInt+).
    """

    options: AutoIntConfig

    def build_item_tower(self) -> None:
        self.item_cell = AutoIntCell(self, len(self.item_fields.specs))

    def build_user_tower(self) -> None:
        self.user_cell = AutoIntCell(self, len(self.item_fields.specs) + len(self.user_fields.specs))

    def encode_user(self, user_fields: Tensor, history: Ragged, item_fields: Tensor) -> Tensor:
        return self.user_cell(torch.cat([self.pool_history(history, item_fields), user_fields], dim=1))

    def encode_item(self, item_fields: Tensor) -> Tensor:
        return self.item_cell(item_fields)


class AutoIntCell(nn.Module):
    """Fields (n, F, D) to an embedding (n, D)."""

    def __init__(self, tower: AutoInt, n_fields: int) -> None:
        super().__init__()
        options, dim = tower.options, tower.config.embedding_dim
        self.layers = nn.ModuleList(InteractingLayer(dim, options.heads) for _ in range(options.layers))
        self.deep = tower.tower_mlp(n_fields * dim) if options.dnn else None
        self.out = nn.Linear((n_fields + int(options.dnn)) * dim, dim)

    def forward(self, fields: Tensor) -> Tensor:
        attended = fields
        for layer in self.layers:
            attended = layer(attended)
        flat = attended.flatten(1)
        if self.deep is not None:
            flat = torch.cat([flat, self.deep(fields.flatten(1))], dim=1)
        return self.out(flat)


class InteractingLayer(nn.Module):
    """The cell of AutoInt's code: Q, K, V and residual all through ReLU, scaled, summed, ReLU, LayerNorm."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.residual = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, fields: Tensor) -> Tensor:
        q, k, v = split_heads(F.relu(self.qkv(fields)), 3, self.heads)
        attended = merge_heads(attend(q, k, v))
        return self.norm(F.relu(attended + F.relu(self.residual(fields))))
