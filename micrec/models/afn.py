"""AFN as two towers: field interactions of learned order by logarithmic neurons (Cheng, Shen and Huang 2020).

Neuron m of a tower over F fields e_f, taken by their sizes, is the product of powers

    y_m = product over f of |e_f|^w_mf = exp(sum over f of w_mf ln |e_f|)

for each of the D numbers by itself: a weight of 1 takes a field in, 0 leaves it out, so that the sum of the |w_mf| is
the order of the interaction. The neurons pass the 3-layer MLP of all towers here.
"""

import torch
from torch import Tensor, nn

from micrec.models.columns import Ragged
from micrec.models.two_tower import TwoTower
from micrec.tower_configs import AfnConfig

LEAST = 1e-4  # smaller numbers count as this much, as in the authors' code; their logarithm is no large negative number


class Afn(TwoTower):
    """Per tower: logarithmic neurons over the field embeddings, flattened, then the MLP.

    Option ``dnn`` adds an MLP over the fields beside it, and a linear map of both (AFN+). The paper trains that MLP on
    embeddings of its own; here the two share them, as all models here share theirs.
    """

    options: AfnConfig

    @property
    def normalises_items(self) -> bool:  # type: ignore[override]
        return self.options.batch_norm

    def build_item_tower(self) -> None:
        self.item_cell = AfnCell(self, len(self.item_fields.specs))

    def build_user_tower(self) -> None:
        self.user_cell = AfnCell(self, len(self.item_fields.specs) + len(self.user_fields.specs))

    def encode_user(self, user_fields: Tensor, history: Ragged, item_fields: Tensor) -> Tensor:
        return self.user_cell(torch.cat([self.pool_history(history, item_fields), user_fields], dim=1))

    def encode_item(self, item_fields: Tensor) -> Tensor:
        return self.item_cell(item_fields)


class AfnCell(nn.Module):
    """Fields (n, F, D) to an embedding (n, D)."""

    def __init__(self, tower: Afn, n_fields: int) -> None:
        super().__init__()
        options, dim = tower.options, tower.config.embedding_dim
        self.neurons = LogarithmicNeurons(n_fields, options.neurons, normalised=options.batch_norm)
        self.mlp = tower.tower_mlp(options.neurons * dim)
        self.deep = tower.tower_mlp(n_fields * dim) if options.dnn else None
        self.out = nn.Linear(2 * dim, dim) if options.dnn else None

    def forward(self, fields: Tensor) -> Tensor:
        embedding = self.mlp(self.neurons(fields).flatten(1))
        if self.deep is None or self.out is None:
            return embedding
        return self.out(torch.cat([embedding, self.deep(fields.flatten(1))], dim=1))


class LogarithmicNeurons(nn.Module):
    """Fields (n, F, D) to M products of their powers, (n, M, D).

    With ``normalised`` batch normalisation follows the logarithm and the exponential, as in the paper: per field and
    per neuron, over the rows and the D numbers; outside training by the running moments.
    """

    def __init__(self, n_fields: int, neurons: int, *, normalised: bool) -> None:
        super().__init__()
        self.powers = nn.Linear(n_fields, neurons, bias=False)
        self.norm_logs = nn.BatchNorm1d(n_fields) if normalised and n_fields else nn.Identity()
        self.norm_products = nn.BatchNorm1d(neurons) if normalised else nn.Identity()

    def forward(self, fields: Tensor) -> Tensor:
        with torch.autocast(fields.device.type, enabled=False):  # powers of bfloat16 numbers are rough
            logs = self.norm_logs(fields.float().abs().clamp_min(LEAST).log())
            return self.norm_products(torch.exp(self.powers.weight @ logs))  # (n, M, D)
