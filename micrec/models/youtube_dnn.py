"""YoutubeDNN: an MLP over the pooled clicks and the user fields (Covington et al. 2016; paper 5.2)."""

import torch
from torch import Tensor

from micrec.models.columns import Ragged
from micrec.models.two_tower import TwoTower


class YoutubeDNN(TwoTower):
    """User: 3-layer MLP on the concatenation of pooled clicks and user fields. Item: linear map of its fields (N21)."""

    default_item_tower = "linear"

    def build_user_tower(self) -> None:
        width = self.item_fields.width + self.user_fields.width
        self.user_mlp = self.tower_mlp(width, dropout=self.config.dropout)

    def encode_user(self, user_fields: Tensor, history: Ragged, item_fields: Tensor) -> Tensor:
        behaviour = self.pool_history(history, item_fields)
        return self.user_mlp(torch.cat([behaviour.flatten(1), user_fields.flatten(1)], dim=1))
