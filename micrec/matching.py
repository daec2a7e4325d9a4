"""The matching loss L_S (Eq. 7): where its negatives come from and how they are scored."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from micrec.config import SoftmaxConfig
from micrec.losses import full_softmax, sampled_softmax, shared_softmax
from micrec.losses.info_nce import Reduction
from micrec.models.pool import ItemPool
from micrec.sampling import PopularitySampler, draw_negatives
from micrec.train_data import TrainData

REJECTION_ROUNDS = 8  # redraws of a negative that the user has clicked; what is left after that is masked


class Batch(NamedTuple):
    """B training clicks."""

    users: Tensor  # (B,) int64
    targets: Tensor  # (B,) int64


class NegativeDraw(NamedTuple):
    """Negatives of one step: per row (B, K), shared by all rows (K,), or none; the mask is True where usable."""

    items: Tensor | None
    mask: Tensor | None


class MatchingLoss:
    """Sampled softmax in the variant that the config names."""

    def __init__(self, config: SoftmaxConfig, data: TrainData, *, reduction: Reduction) -> None:
        self.config = config
        self.data = data
        self.reduction = reduction
        clicks = data.click_counts.double()
        self._click_share = clicks.clamp_min(0.5) / clicks.sum()  # (N,)
        weights = clicks**config.popularity_power * (clicks > 0)
        self._popular = PopularitySampler(weights) if config.negatives == "popularity" else None

    def draw(self, batch: Batch, generator: torch.Generator) -> NegativeDraw:
        """Draw this step's negatives."""
        kind, num = self.config.negatives, self.config.num_negatives
        forbidden = self.data.clicked if self.config.reject_clicked else None
        if kind in ("uniform", "popularity"):
            items, mask = draw_negatives(
                lambda count: self._draw_one_by_one(count, generator),
                len(batch.users),
                num,
                forbidden=forbidden,
                rows=batch.users,
                max_rounds=REJECTION_ROUNDS,
            )
            return NegativeDraw(items, mask & (items != batch.targets[:, None]))
        if kind in ("shared", "mixed"):
            return NegativeDraw(self._draw_one_by_one(num, generator), None)
        if kind == "full":
            return NegativeDraw(self.data.catalogue, None)
        return NegativeDraw(None, None)

    def _draw_one_by_one(self, count: int, generator: torch.Generator) -> Tensor:
        """Independent negatives, uniform over the clicked items or by popularity, shape (count,)."""
        if self._popular is not None:
            return self._popular.draw((count,), generator)
        catalogue = self.data.catalogue
        return catalogue[torch.randint(len(catalogue), (count,), generator=generator, device=catalogue.device)]

    def __call__(self, user_emb: Tensor, batch: Batch, draw: NegativeDraw, pool: ItemPool) -> Tensor:
        """Loss of one step, shape (), nats."""
        kind = self.config.negatives
        common: dict[str, Any] = {"temperature": self.config.temperature, "reduction": self.reduction}
        if kind in ("uniform", "popularity"):
            return self._per_row(user_emb, batch, draw, pool)
        if kind == "full":
            assert draw.items is not None
            rows = torch.searchsorted(draw.items, batch.targets)
            return full_softmax(user_emb, pool.embeddings(draw.items), rows, **common)
        target_emb = pool.embeddings(batch.targets)  # (B, D)
        columns = [batch.targets] if kind in ("in_batch", "mixed") else []
        columns += [] if draw.items is None else [draw.items]
        negatives = torch.cat(columns)
        return shared_softmax(
            user_emb,
            target_emb,
            pool.embeddings(negatives),
            positive_ids=batch.targets,
            negative_ids=negatives,
            user_clicked=self._clicked(batch, negatives),
            positive_log_q=self._log_q(batch.targets, len(batch.targets)),
            negative_log_q=self._log_q(negatives, len(batch.targets)),
            denominator=self.config.denominator,
            logq=self.config.logq,
            **common,
        )

    def _per_row(self, user_emb: Tensor, batch: Batch, draw: NegativeDraw, pool: ItemPool) -> Tensor:
        assert draw.items is not None
        target_emb = pool.embeddings(batch.targets)  # (B, D)
        negative = pool.scores(user_emb, draw.items)  # (B, K)
        return sampled_softmax(
            (user_emb * target_emb).sum(dim=1),
            negative,
            negative_mask=draw.mask,
            positive_log_q=self._log_q(batch.targets, len(batch.targets)),
            negative_log_q=self._log_q(draw.items, len(batch.targets)),
            temperature=self.config.temperature,
            denominator=self.config.denominator,
            logq=self.config.logq,
            reduction=self.reduction,
        )

    def _clicked(self, batch: Batch, columns: Tensor) -> Tensor | None:
        if not self.config.reject_clicked:
            return None
        return self.data.clicked.grid(batch.users, columns)

    def _log_q(self, items: Tensor, batch_size: int) -> Tensor | None:
        """Log expected count of the items among the negatives of a row, shape of ``items``."""
        if self.config.logq == "none":
            return None
        kind, num = self.config.negatives, self.config.num_negatives
        if self._popular is not None:
            return (math.log(num) + self._popular.log_q(items)).float()
        drawn = torch.full(items.shape, num / len(self.data.catalogue), device=items.device)
        if kind in ("uniform", "shared"):
            return torch.log(drawn)
        in_batch = (batch_size - 1) * self._click_share[items].float()
        return torch.log(in_batch if kind == "in_batch" else in_batch + drawn)
