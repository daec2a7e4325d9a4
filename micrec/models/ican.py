"""ICAN without its multi-domain parts: the base model of MicRec (paper 3.6, Eq. 6)."""

import torch
from torch import Tensor, nn

from micrec.models.columns import Ragged
from micrec.models.layers import IcanAttention, TransformerBlock, pad_history
from micrec.models.two_tower import TwoTower
from micrec.tower_configs import IcanConfig


class Ican(TwoTower):
    """Self-attention over the behaviour tokens F^b, flattened, joined with the user fields, then a 3-layer MLP.

    ``behaviour_tokens: field`` (default): one token per item field, pooled over the clicks (N5).
    ``sequence``: one token per click, the mean of its field vectors, with optional positions.
    """

    options: IcanConfig

    def build_user_tower(self) -> None:
        config, options = self.config, self.options
        dim = config.embedding_dim
        block = TransformerBlock if options.block == "transformer" else IcanAttention
        self.blocks = nn.ModuleList(block(dim, options.heads) for _ in range(options.layers))
        sequence = options.behaviour_tokens == "sequence"
        n_tokens = config.history_length if sequence else len(self.item_fields.specs)
        self.positions = nn.Parameter(torch.zeros(n_tokens, dim)) if sequence and options.positions else None
        self.user_mlp = self.tower_mlp(n_tokens * dim + self.user_fields.width, dropout=config.dropout)

    def encode_user(self, user_fields: Tensor, history: Ragged, item_fields: Tensor) -> Tensor:
        if self.options.behaviour_tokens == "sequence":
            tokens, mask = pad_history(history, item_fields.mean(dim=1), self.config.history_length)
            if self.positions is not None:
                tokens = tokens + self.positions
        else:
            tokens, mask = self.pool_history(history, item_fields), None
        for block in self.blocks:
            tokens = block(tokens, mask)
        if mask is not None:
            tokens = tokens * mask.unsqueeze(-1)
        return self.user_mlp(torch.cat([tokens.flatten(1), user_fields.flatten(1)], dim=1))
