"""Fit of the few numbers that stand beside the vectors of a model, before its first epoch.

The vectors do not move meanwhile. What they give is therefore computed once: a score is a fixed number, the products of
the titles times their factor, popularity times its weight, and the terms of the user's own items and of a field.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from micrec.models.columns import Ragged
from micrec.models.field_term import FieldTerms
from micrec.models.two_tower import TwoTower

STEPS, SETTLED = 30, 1e-6  # most iterations of L-BFGS, and the relative fall of the loss below which it ends
MOST_SCORES = 1 << 26  # rows times items up to which scores are kept: 256 MB for each of their parts
PART_SCORES = 1 << 21  # that are computed at a time


def minimise(numbers: Sequence[nn.Parameter], loss_and_gradient: Callable[[], Tensor]) -> None:
    """Move ``numbers``, shape () each, to where a loss is least, by L-BFGS.

    The function gives the loss, shape (), and puts its gradient into their ``grad``.
    """

    def at(values: NDArray[np.float64]) -> tuple[float, list[float]]:
        put(values)
        loss = float(loss_and_gradient().detach())
        return loss, [0.0 if number.grad is None else float(number.grad) for number in numbers]

    @torch.no_grad()
    def put(values: NDArray[np.float64]) -> None:
        for number, value in zip(numbers, values.tolist(), strict=True):
            number.fill_(value)

    start = np.array([float(number.detach()) for number in numbers])
    ends = {"maxiter": STEPS, "ftol": SETTLED}
    put(scipy.optimize.minimize(at, start, jac=True, method="L-BFGS-B", options=ends).x)
    for number in numbers:
        number.grad = None


@dataclass(frozen=True)
class ScoreParts:
    """Parts of the scores of R rows and N items, and the items to find.

    Attributes:
        model: Whose numbers weigh the parts.
        fixed: What no number changes, shape (R, N).
        scaled: What the number of ``TwoTower.scaled_block`` multiplies, shape (R, N); None: there is no such block.
        popularity: What the weight of popularity multiplies, shape (R, N); None: the model reads none.
        counted: Distinct items of each row's history with their clicks; None: there is no personal term.
        history: The history as the towers read it, by rows of ``codes``; None: there is no field term.
        codes: Codes of the values of all items, shape (N, room).
        rows: Row of each item to find, shape (T,), never falling.
        columns: The items to find, shape (T,).
        temperature: Of the matching loss.
    """

    model: TwoTower
    fixed: Tensor
    scaled: Tensor | None
    popularity: Tensor | None
    counted: Ragged | None
    history: Ragged | None
    codes: Tensor | None
    rows: Tensor
    columns: Tensor
    temperature: float

    def loss_and_gradient(self) -> Tensor:
        """Mean cross-entropy of the items to find, shape (); its gradient is in ``grad`` of the model's numbers."""
        for number in self.model.score_numbers():
            number.grad = torch.zeros_like(number)
        n_rows, n_items = self.fixed.shape
        size = max(1, PART_SCORES // n_items)
        values = None if self.codes is None else self._field_term().of_items(self.codes).T.contiguous()  # (V, N)
        total = self.fixed.new_zeros(())
        for start in range(0, n_rows, size):
            stop = min(start + size, n_rows)
            scores = self._scores(start, stop, values)
            first, last = torch.searchsorted(self.rows, torch.tensor([start, stop], device=self.rows.device)).tolist()
            found = torch.log_softmax(scores / self.temperature, dim=1)[
                self.rows[first:last] - start, self.columns[first:last]
            ]
            loss = -found.sum() / len(self.rows)
            loss.backward()
            total += loss.detach()
        return total

    def _field_term(self) -> FieldTerms:
        assert self.model.field_term is not None
        return self.model.field_term

    def _scores(self, start: int, stop: int, values: Tensor | None) -> Tensor:
        """Scores of some rows with all items, shape (stop - start, N)."""
        model, scores = self.model, self.fixed[start:stop]
        block = model.scaled_block()
        if self.scaled is not None and block is not None:
            scores = scores + block[0] * self.scaled[start:stop]
        if self.popularity is not None and model.prior is not None and model.prior.drift is not None:
            scores = scores + model.prior.drift * self.popularity[start:stop]
        if values is not None and self.history is not None and self.codes is not None:
            some = torch.arange(start, stop, device=scores.device)
            scores = scores + self._field_term()(self.history.take(some), self.codes) @ values
        if self.counted is not None and model.personal is not None:
            own = self.counted.take(torch.arange(start, stop, device=scores.device))
            assert own.weights is not None
            scores = scores.index_put((own.rows, own.values), model.personal(own.weights), accumulate=True)
        return scores
