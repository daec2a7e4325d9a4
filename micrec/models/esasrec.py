"""eSASRec: SASRec's causal attention in gated LiGR blocks (Tikhonovich et al. 2025; blocks of Borisyuk et al. 2025)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micrec.models.sequence import SequenceBlock, SequenceTower, causal_mask
from micrec.tower_configs import EsasRecConfig


class EsasRec(SequenceTower):
    """The state of the newest click after LiGR blocks; a user without clicks has the zero state.

    The paper's third part, sampled softmax with many negatives, is a setting of the matching loss:
    ``softmax: {negatives: shared, num_negatives: 256}``. As in SASRec here, there is one sample per click.
    """

    options: EsasRecConfig

    def make_block(self) -> "LigrBlock":
        options, config = self.options, self.config
        return LigrBlock(
            config.embedding_dim, options.heads, inner=options.widening * config.embedding_dim, dropout=config.dropout
        )

    def state(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.attend_newest(tokens, causal_mask(mask)) * mask[:, -1:]


class LigrBlock(SequenceBlock):
    """x + sigmoid(W x + b) * Attention(LN(x)), then the same with SwiGLU in the place of the attention."""

    def __init__(self, dim: int, heads: int, *, inner: int, dropout: float = 0.0) -> None:
        """``inner`` is the hidden width of SwiGLU."""
        super().__init__(dim, heads, norm_first=True, dropout=dropout)
        self.feed_forward = SwiGlu(dim, inner)  # type: ignore[assignment]
        self.gate_attention = nn.Linear(dim, dim)
        self.gate_feed_forward = nn.Linear(dim, dim)

    def forward(  # type: ignore[override]
        self, tokens: Tensor, allowed: Tensor, *, newest_only: bool = False
    ) -> Tensor:
        """As ``SequenceBlock.forward``."""
        keys = self.norm_attention(tokens)
        queries = keys
        if newest_only:
            tokens, queries, allowed = tokens[:, -1:], keys[:, -1:], allowed[:, -1:]
        attended = self.dropout(self.out(self._attend(queries, keys, allowed)))
        tokens = tokens + torch.sigmoid(self.gate_attention(tokens)) * attended
        fed = self.dropout(self.feed_forward(self.norm_feed_forward(tokens)))
        return tokens + torch.sigmoid(self.gate_feed_forward(tokens)) * fed


class SwiGlu(nn.Module):
    """W3 (silu(W1 x) * W2 x), without biases (Shazeer 2020)."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, inner, bias=False)
        self.up = nn.Linear(dim, inner, bias=False)
        self.down = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))
