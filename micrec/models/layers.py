"""Building blocks of the towers: MLP, the two attention blocks, pooling of click histories."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micrec.models.columns import Ragged
from micrec.models.lookups import mean_rows, sum_rows
from micrec.models.padded import PaddedRows

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "linear": nn.Identity}

SHORT = 16  # most tokens for which two batched matrix products beat the fused CPU attention


def mlp(
    width: int,
    hidden: Sequence[int],
    out: int,
    *,
    activation: str,
    output_activation: str,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Linear layers width -> hidden -> out, an activation after each (paper 5.3: 128, 64 and 64)."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), ACTIVATIONS[activation]()]
        if dropout:
            layers.append(SeededDropout(dropout))
        width = size
    layers += [nn.Linear(width, out), ACTIVATIONS[output_activation]()]
    return nn.Sequential(*layers)


class SeededDropout(nn.Module):
    """Dropout that draws from a generator of its own, so that a resumed run repeats it bit for bit."""

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.generator: torch.Generator | None = None  # set by the trainer

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.generator is None:
            return x
        keep = torch.rand(x.shape, generator=self.generator, device=self.generator.device) >= self.ratio
        return x * keep.to(x.device) / (1.0 - self.ratio)


class TransformerBlock(nn.Module):
    """Multi-head self-attention, residual, LayerNorm, feed-forward, residual, LayerNorm (N6, default).

    Maps (B, T, D) to (B, T, D); ``mask`` (B, T) is True where a token exists.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm_attention = nn.LayerNorm(dim)
        self.norm_feed_forward = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = split_heads(self.qkv(tokens), 3, self.heads)
        attended = merge_heads(attend(q, k, v, mask))
        tokens = self.norm_attention(tokens + self.out(attended))
        return self.norm_feed_forward(tokens + self.feed_forward(tokens))


class IcanAttention(nn.Module):
    """The attention that ICAN's code calls: unscaled, no residual, no LayerNorm, no feed-forward (N6)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = split_heads(self.qkv(tokens), 3, self.heads)
        return self.out(merge_heads(attend(q, k, v, mask, scale=1.0)))


def split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, T, parts * D) to ``parts`` tensors of shape (B, heads, T, D / heads)."""
    batch, length, _ = x.shape
    return x.view(batch, length, parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def merge_heads(x: Tensor) -> Tensor:
    """(B, heads, T, D / heads) to (B, T, D)."""
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, scale: float | None = None) -> Tensor:
    """Softmax attention of (B, heads, T, d) tensors; ``mask`` (B, T) is True where a key exists.

    A handful of field tokens per user is too little for the fused CPU kernel: two batched products take two thirds of
    its time there.
    """
    if q.device.type == "cpu" and q.shape[2] <= SHORT:
        scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
        if mask is not None:
            scores = scores.masked_fill(~_key_mask(mask), -torch.inf)
        return torch.softmax(scores, dim=-1) @ v
    allowed = None if mask is None else _key_mask(mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=scale)


def _key_mask(mask: Tensor) -> Tensor:
    seen = mask | ~mask.any(dim=1, keepdim=True)  # an empty row attends to its zero tokens instead of to nothing
    return seen[:, None, None, :]


def mean_pool(history: Ragged | PaddedRows, vectors: Tensor) -> Tensor:
    """Mean over each user's clicks of ``vectors[click]``: history into (n, ...) gives (B, ...), zeros where empty.

    Clicks with weights count in proportion to them.
    """
    if isinstance(history, PaddedRows):
        return history.mean(vectors)
    flat = vectors.flatten(1)
    if len(history.values) == 0:
        return flat.new_zeros(len(history.offsets) - 1, *vectors.shape[1:])
    if history.weights is None:
        pooled = mean_rows(flat, history.values, history.offsets)
    else:
        pooled = sum_rows(flat, history.values, history.offsets, _shares(history, history.weights))
    return pooled.unflatten(1, vectors.shape[1:]) if vectors.dim() > 2 else pooled


def _shares(history: Ragged, weights: Tensor) -> Tensor:
    """Each click's share of the weights of its row, shape (nnz,)."""
    rows = history.rows
    totals = weights.new_zeros(len(history.offsets) - 1).index_add_(0, rows, weights)
    return weights / totals.clamp_min(torch.finfo(weights.dtype).tiny)[rows]


def pad_history(history: Ragged | PaddedRows, vectors: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Each user's clicks as a padded sequence, newest last: (B, length, ...) and a mask (B, length)."""
    if isinstance(history, PaddedRows):
        return history.sequence(vectors), history.mask
    lengths = history.offsets[1:] - history.offsets[:-1]
    position = torch.arange(length, device=vectors.device) - (length - lengths)[:, None]  # (B, length), < 0 = padding
    mask = position >= 0
    if len(history.values) == 0:
        return vectors.new_zeros(*mask.shape, *vectors.shape[1:]), mask
    where = (history.offsets[:-1, None] + position).clamp_min(0)
    picked = vectors[history.values[where * mask]]
    return picked * mask.view(*mask.shape, *[1] * (vectors.dim() - 1)), mask


class AttentionPool(nn.Module):
    """Vanilla attention over clicks, one per field: weights softmax(u . tanh(W x)) (ICAN's option, N5)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, dim)
        self.score = nn.Linear(dim, 1, bias=False)

    def forward(self, history: Ragged | PaddedRows, fields: Tensor) -> Tensor:
        """History into fields (n, F, D) gives (B, F, D), zeros where the history is empty."""
        if not isinstance(history, PaddedRows) and len(history.values) == 0:
            return fields.new_zeros(len(history.offsets) - 1, *fields.shape[1:])
        scores = self.score(torch.tanh(self.hidden(fields))).squeeze(-1)  # (n, F): depends on the item only
        weights = torch.exp(scores - scores.max(dim=0, keepdim=True).values.detach())
        weighted = torch.cat([fields * weights.unsqueeze(-1), weights.unsqueeze(-1)], dim=-1)  # (n, F, D + 1)
        if isinstance(history, PaddedRows):
            sums = history.weighted_sum(weighted, history.shares)
        else:
            sums = F.embedding_bag(
                history.values,
                weighted.flatten(1),
                history.offsets,
                mode="sum",
                per_sample_weights=history.weights,
                include_last_offset=True,
            ).unflatten(1, weighted.shape[1:])
        return sums[..., :-1] / sums[..., -1:].clamp_min(1e-12)


def initialise(
    module: nn.Module, generator: torch.Generator, *, bias: float = 0.0, attention_std: float = 0.02
) -> None:
    """Xavier weights for dense layers, N(0, attention_std) for attention (ICAN's code), from one generator."""
    for child in module.modules():
        if isinstance(child, (TransformerBlock, IcanAttention)):
            nn.init.normal_(child.qkv.weight, std=attention_std, generator=generator)
            nn.init.zeros_(child.qkv.bias)
    attention = {id(c.qkv) for c in module.modules() if isinstance(c, (TransformerBlock, IcanAttention))}
    for child in module.modules():
        if isinstance(child, nn.Linear) and id(child) not in attention:
            nn.init.xavier_uniform_(child.weight, generator=generator)
            if child.bias is not None:
                nn.init.constant_(child.bias, bias)
