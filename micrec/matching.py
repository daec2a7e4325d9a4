"""The matching loss L_S (Eq. 7): where its negatives come from and how they are scored."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from micrec.config import SoftmaxConfig
from micrec.losses import catalogue_softmax, full_softmax, row_softmax, sampled_softmax, shared_softmax
from micrec.losses.info_nce import Reduction
from micrec.models.pool import ItemPool
from micrec.models.score_terms import ScoreTerms
from micrec.sampling import PopularitySampler, draw_negatives
from micrec.shapes import is_fixed
from micrec.train_data import Batch, TrainData

REJECTION_ROUNDS = 8  # redraws of a negative that the user has clicked; what is left after that is masked


class NegativeDraw(NamedTuple):
    """Negatives of one step: per click (T, K), or shared by all rows (K,); the mask is True where usable."""

    items: Tensor
    mask: Tensor | None
    clicks: int  # T of the whole batch, the positives that were drawn along with them

    def part(self, clicks: slice) -> "NegativeDraw":
        """Those of some consecutive clicks of the batch."""
        if self.items.ndim == 1:
            return self
        return self._replace(items=self.items[clicks], mask=None if self.mask is None else self.mask[clicks])


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
            return NegativeDraw(items, mask & (items != batch.targets[:, None]), len(batch.targets))
        if kind == "full":
            return NegativeDraw(self.data.catalogue, None, len(batch.targets))
        shared = [batch.targets] if kind in ("in_batch", "mixed") else []  # the clicks of the batch, repeats allowed
        if kind in ("shared", "mixed"):
            shared.append(self._draw_one_by_one(num, generator))
        return NegativeDraw(torch.cat(shared), None, len(batch.targets))

    def _draw_one_by_one(self, count: int, generator: torch.Generator) -> Tensor:
        """Independent negatives, uniform over the clicked items or by popularity, shape (count,)."""
        if self._popular is not None:
            return self._popular.draw((count,), generator)
        catalogue = self.data.catalogue
        places = torch.randint(len(catalogue), (count,), generator=generator, device=generator.device)
        return catalogue[places.to(catalogue.device)]

    def __call__(self, user_emb: Tensor, batch: Batch, draw: NegativeDraw, pool: ItemPool) -> Tensor:
        """Loss of one step, shape (), nats; ``user_emb`` has a row for each row of the batch, (B, D)."""
        kind = self.config.negatives
        if batch.rows is not None or batch.terms is not None:
            return self._by_rows(user_emb, batch, draw, pool)
        common: dict[str, Any] = {"temperature": self.config.temperature, "reduction": self.reduction}
        if kind in ("uniform", "popularity"):
            return self._per_row(user_emb, batch, draw, pool)
        if kind == "full":
            rows = torch.searchsorted(draw.items, batch.targets)
            return full_softmax(user_emb, pool.embeddings(draw.items), rows, **common)
        target_emb = pool.embeddings(batch.targets)  # (B, D)
        negatives = draw.items
        return shared_softmax(
            user_emb,
            target_emb,
            pool.embeddings(negatives),
            positive_ids=batch.targets,
            negative_ids=negatives,
            user_clicked=self._clicked(batch, negatives),
            positive_log_q=self._log_q(batch.targets, draw.clicks),
            negative_log_q=self._log_q(negatives, draw.clicks),
            denominator=self.config.denominator,
            logq=self.config.logq,
            **common,
        )

    def _per_row(self, user_emb: Tensor, batch: Batch, draw: NegativeDraw, pool: ItemPool) -> Tensor:
        target_emb = pool.embeddings(batch.targets)  # (B, D)
        negative = pool.scores(user_emb, draw.items)  # (B, K)
        return sampled_softmax(
            (user_emb * target_emb).sum(dim=1),
            negative,
            negative_mask=draw.mask,
            positive_log_q=self._log_q(batch.targets, draw.clicks),
            negative_log_q=self._log_q(draw.items, draw.clicks),
            temperature=self.config.temperature,
            denominator=self.config.denominator,
            logq=self.config.logq,
            reduction=self.reduction,
        )

    def _by_rows(self, user_emb: Tensor, batch: Batch, draw: NegativeDraw, pool: ItemPool) -> Tensor:
        """The same where a row has several clicks to find, or its scores have terms beside the dot product."""
        config, rows = self.config, batch.rows
        if rows is None:
            rows = torch.arange(len(batch.targets), device=user_emb.device)
        terms = batch.terms or ScoreTerms(self.data.n_items)
        common: dict[str, Any] = {"denominator": config.denominator, "reduction": self.reduction}
        if config.negatives == "full" and config.denominator == "with_positive" and self.reduction == "mean":
            return catalogue_softmax(
                user_emb,
                pool.shared_embeddings(draw.items),
                rows,
                self.data.catalogue_place[batch.targets],
                temperature=config.temperature,
                **terms.of_all(draw.items, self.data.catalogue_place),
            )
        if config.negatives == "full":
            scores = terms.add(user_emb @ pool.embeddings(draw.items).T, draw.items) / config.temperature  # (B, N)
            columns = self.data.catalogue_place[batch.targets]
            return row_softmax(scores[rows, columns], scores, rows, own_columns=columns, **common)
        by_click = user_emb[rows]  # (T, D)
        positive = (by_click * pool.embeddings(batch.targets)).sum(dim=1) + terms.pairs(rows, batch.targets)
        corrections: dict[str, Any] = {"positive_log_q": self._log_q(batch.targets, draw.clicks)}
        if config.negatives in ("uniform", "popularity"):
            negative = pool.scores(by_click, draw.items)  # (T, K)
            negative = negative + terms.pairs(rows[:, None].expand_as(draw.items), draw.items)
            corrections |= {"negative_mask": draw.mask, "negative_log_q": self._log_q(draw.items, draw.clicks)}
            return sampled_softmax(
                positive, negative, temperature=config.temperature, logq=config.logq, **corrections, **common
            )
        columns = draw.items
        negative = terms.add(user_emb @ pool.embeddings(columns).T, columns)  # (B, K)
        corrections |= {"negative_log_q": self._log_q(columns, draw.clicks)}
        return row_softmax(
            positive / config.temperature,
            negative / config.temperature,
            rows,
            negative_mask=~self._to_find(batch, rows, columns, len(user_emb)),
            logq=config.logq,
            **corrections,
            **common,
        )

    def _to_find(self, batch: Batch, rows: Tensor, columns: Tensor, n_rows: int) -> Tensor:
        """Which columns are no negatives of a row, since it is to find them or its user has clicked them, (B, K)."""
        if self.config.reject_clicked:
            return self.data.clicked.grid(batch.tower_users, columns)  # what is to be found has been clicked
        if is_fixed(columns):
            return self._met(batch, rows, columns, n_rows)
        distinct, place = torch.unique(columns, return_inverse=True)
        column = torch.searchsorted(distinct, batch.targets).clamp_max(len(distinct) - 1)
        met = distinct[column] == batch.targets
        found = torch.zeros(n_rows, len(distinct), dtype=torch.bool, device=columns.device)
        found[rows[met], column[met]] = True
        return found[:, place]

    def _met(self, batch: Batch, rows: Tensor, columns: Tensor, n_rows: int) -> Tensor:
        """Which columns hold an item that the row is to find, (B, K): each item by one of its columns."""
        chosen = columns.new_full((self.data.n_items,), len(columns)).scatter_(0, columns, _places(columns))
        found = torch.zeros(n_rows, len(columns) + 1, dtype=torch.bool, device=columns.device)
        found.index_put_((rows, chosen[batch.targets]), found.new_ones(()))
        return found[:, chosen[columns]]

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


def _places(ids: Tensor) -> Tensor:
    return torch.arange(len(ids), device=ids.device)
