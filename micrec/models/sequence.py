"""SASRec and BERT4Rec as user towers: self-attention over the clicks in their order.

Both read a click as the mean of its item's field vectors, so that fields and items without a row of their own count,
and join what they make of the sequence with the user fields in the 3-layer MLP of all towers. Loss and negatives are
those of every model here: the next click against sampled items.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micrec.models.click_sequences import by_length, click_vectors, pad_clicks, worth_cutting
from micrec.models.columns import Ragged
from micrec.models.layers import ACTIVATIONS, SeededDropout, TransformerBlock, merge_heads, split_heads
from micrec.models.two_tower import TwoTower
from micrec.tower_configs import SequenceConfig


class SequenceTower(TwoTower):
    """Positions, attention blocks, and an MLP over the newest state and the user fields."""

    options: SequenceConfig
    n_positions_beside_clicks = 0

    def build_user_tower(self) -> None:
        config, dim = self.config, self.config.embedding_dim
        n_positions = config.history_length + self.n_positions_beside_clicks
        self.positions = nn.Parameter(torch.zeros(n_positions, dim)) if self.options.positions else None
        self.blocks = nn.ModuleList(self.make_block() for _ in range(self.options.layers))
        self.dropout = SeededDropout(config.dropout) if config.dropout else nn.Identity()
        self.user_mlp = self.tower_mlp(dim + self.user_fields.width, dropout=config.dropout)

    @abstractmethod
    def make_block(self) -> "SequenceBlock":
        """One attention block."""

    @abstractmethod
    def state(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The sequence (B, T, D), newest last, as one vector, shape (B, D); ``mask`` (B, T), True where a click is."""

    def draw_start(self, generator: torch.Generator) -> None:
        if self.positions is not None:
            nn.init.normal_(self.positions, std=0.02, generator=generator)

    def attend_newest(self, tokens: Tensor, allowed: Tensor) -> Tensor:
        """All blocks over (B, T, D); what the last position makes of them, shape (B, D).

        Only that position is read, so the last block computes no other.
        """
        placed = tokens if self.positions is None else tokens + self.positions[-tokens.shape[1] :]
        tokens = self.dropout(placed)
        for block in self.blocks[:-1]:
            tokens = block(tokens, allowed)
        newest: Tensor = self.blocks[-1](tokens, allowed, newest_only=True).squeeze(1)
        return newest

    def encode_user(self, user_fields: Tensor, history: Ragged, item_fields: Tensor) -> Tensor:
        vectors = click_vectors(item_fields)

        def state_of(clicks: Ragged, length: int) -> Tensor:
            return self.state(*pad_clicks(clicks, vectors, length))

        length = self.config.history_length
        cut = self.training and worth_cutting(history)
        state = by_length(history, length, state_of) if cut else state_of(history, length)
        vector: Tensor = self.user_mlp(torch.cat([state, user_fields.flatten(1)], dim=1))
        return vector


class SasRec(SequenceTower):
    """Causal self-attention, LayerNorm before each part and at the end (Kang and McAuley 2018).

    The state of the newest click is the sequence; a user without clicks has the zero state. With one sample per click
    the earlier states are not trained on as the paper's are, they only feed the newest.
    """

    def build_user_tower(self) -> None:
        super().build_user_tower()
        self.norm = nn.LayerNorm(self.config.embedding_dim)

    def make_block(self) -> "SequenceBlock":
        config = self.config
        return SequenceBlock(config.embedding_dim, self.options.heads, norm_first=True, dropout=config.dropout)

    def state(self, tokens: Tensor, mask: Tensor) -> Tensor:
        newest: Tensor = self.norm(self.attend_newest(tokens, causal_mask(mask)))
        return newest * mask[:, -1:]


class Bert4Rec(SequenceTower):
    """Bidirectional self-attention over the clicks and a [mask] token in the place of the next (Sun et al. 2019).

    This is BERT4Rec as it is served, and its training on sequences whose last item alone is masked; its random masks
    within the history need a cloze loss of its own and are left out, so that base models differ by their towers only.
    """

    n_positions_beside_clicks = 1

    def build_user_tower(self) -> None:
        super().build_user_tower()
        self.mask_token = nn.Parameter(torch.zeros(self.config.embedding_dim))

    def make_block(self) -> "SequenceBlock":
        config, dim = self.config, self.config.embedding_dim
        inner = {"inner": 4 * dim, "activation": "gelu"}
        return SequenceBlock(dim, self.options.heads, norm_first=False, dropout=config.dropout, **inner)  # type: ignore[arg-type]

    def draw_start(self, generator: torch.Generator) -> None:
        super().draw_start(generator)
        nn.init.normal_(self.mask_token, std=0.02, generator=generator)

    def state(self, tokens: Tensor, mask: Tensor) -> Tensor:
        tokens = torch.cat([tokens, self.mask_token.expand(tokens.shape[0], 1, -1)], dim=1)
        keys = F.pad(mask, (0, 1), value=True)  # (B, T + 1)
        return self.attend_newest(tokens, keys[:, None, :])


class SequenceBlock(TransformerBlock):
    """Multi-head self-attention and feed-forward over (B, T, D), each with a residual and a LayerNorm."""

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        norm_first: bool,
        inner: int | None = None,
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        """LayerNorm before each part (SASRec) or after each residual (BERT4Rec); ``inner`` null: D."""
        super().__init__(dim, heads)
        self.norm_first = norm_first
        inner = inner or dim
        self.feed_forward = nn.Sequential(nn.Linear(dim, inner), ACTIVATIONS[activation](), nn.Linear(inner, dim))
        self.dropout = SeededDropout(dropout) if dropout else nn.Identity()

    def forward(  # type: ignore[override]
        self, tokens: Tensor, allowed: Tensor, *, newest_only: bool = False
    ) -> Tensor:
        """Map (B, T, D) to (B, T, D), or to (B, 1, D) for the last position alone.

        Args:
            tokens: The sequence.
            allowed: True at (query, key) that may meet, shape (B or 1, T or 1, T), at least one key for each query.
            newest_only: Compute the last position only.
        """
        keys = self.norm_attention(tokens) if self.norm_first else tokens
        queries = keys
        if newest_only:
            tokens, queries, allowed = tokens[:, -1:], keys[:, -1:], allowed[:, -1:]
        attended = self.dropout(self.out(self._attend(queries, keys, allowed)))
        if self.norm_first:
            tokens = tokens + attended
            return tokens + self.dropout(self.feed_forward(self.norm_feed_forward(tokens)))
        tokens = self.norm_attention(tokens + attended)
        return self.norm_feed_forward(tokens + self.dropout(self.feed_forward(tokens)))

    def _attend(self, queries: Tensor, keys: Tensor, allowed: Tensor) -> Tensor:
        dim = keys.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        if queries is keys:
            q, k, v = split_heads(self.qkv(keys), 3, self.heads)
        else:
            (q,) = split_heads(F.linear(queries, weight[:dim], bias[:dim]), 1, self.heads)
            k, v = split_heads(F.linear(keys, weight[dim:], bias[dim:]), 2, self.heads)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, heads, T or 1, T)
        scores = scores.masked_fill(~allowed.unsqueeze(1), -torch.inf)
        return merge_heads(torch.softmax(scores, dim=-1) @ v)


def causal_mask(mask: Tensor) -> Tensor:
    """A click may read itself and the ones before it; padding (``mask`` False) reads itself only: (B, T, T)."""
    place = torch.arange(mask.shape[1], device=mask.device)
    return (mask[:, None, :] & (place[:, None] >= place)) | (place[:, None] == place)
