"""Factorization machine as two towers: sums of field embeddings (paper 5.2, N22)."""

import torch
from torch import Tensor

from micrec.models.columns import Ragged
from micrec.models.two_tower import TwoTower
from micrec.tower_configs import FactorizationMachineConfig


class FactorizationMachine(TwoTower):
    """The user-item part of an FM's second-order term: (sum of user fields) . (sum of item fields).

    The user's fields are their own and the pooled fields of their clicks. With option ``item_terms`` the item's linear
    weights and the pairs within the item are one extra output dimension, which the user meets with a 1: the exact FM
    ranking, for terms of the user alone are the same for all items.
    """

    options: FactorizationMachineConfig

    @property
    def field_dim(self) -> int:
        return self.config.embedding_dim + int(self.options.item_terms)  # the last number is the linear weight

    @property
    def encoding_dim(self) -> int:
        return self.config.embedding_dim + int(self.options.item_terms)

    def build_item_tower(self) -> None:
        """Nothing but the field embeddings."""

    def build_user_tower(self) -> None:
        """Nothing but the field embeddings."""

    def encode_user(self, user_fields: Tensor, history: Ragged, item_fields: Tensor) -> Tensor:
        # a mean of sums is the sum of means, F times sooner; attention weighs each field by itself
        clicks = item_fields.sum(dim=1, keepdim=True) if self.pool is None else item_fields
        total = torch.cat([self.pool_history(history, clicks), user_fields], dim=1).sum(dim=1)  # (B, D)
        if self.options.item_terms:
            total = torch.cat([total[:, :-1], torch.ones_like(total[:, -1:])], dim=1)
        return total

    def encode_item(self, item_fields: Tensor) -> Tensor:
        total = item_fields.sum(dim=1)
        if self.options.item_terms:
            pairs = bi_interaction(item_fields[..., :-1]).sum(dim=1, keepdim=True)
            total = torch.cat([total[:, :-1], total[:, -1:] + pairs], dim=1)
        return total


def bi_interaction(fields: Tensor) -> Tensor:
    """Sum over all pairs of fields of their elementwise product: (n, F, D) to (n, D), in O(F D)."""
    total = fields.sum(dim=1)
    return 0.5 * (total * total - (fields * fields).sum(dim=1))
