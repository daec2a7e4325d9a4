"""Item-kNN: items met in one session with the user's latest clicks, by cosine of session counts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import BaselineScores
from micrec.data.dataset import Clicks
from micrec.data.sessions import assign_sessions
from micrec.evaluation.scores import ScoreBlock
from micrec.evaluation.task import EvalTask, expand_ranges

_BLOCK_ITEMS = 4096  # items whose similarities are counted together


@dataclass(frozen=True)
class ItemKNN:
    """Items are alike if the same baskets hold them; a user gets what is most like their latest clicks.

    Attributes:
        similarity: Cosine of the basket incidence of two items, c_ij / sqrt(c_i c_j), where c_ij counts baskets that
            hold both; float32, shape (N, N).
    """

    similarity: sp.csr_array

    @classmethod
    def fit(
        cls,
        clicks: Clicks,
        baskets: NDArray[np.int64],
        n_items: int,
        *,
        neighbours: int | None = None,
        self_similarity: bool = False,
    ) -> "ItemKNN":
        """Count co-occurrence and normalise it.

        Args:
            clicks: Train clicks.
            baskets: Basket or session number of each click, no matter in which order, shape (n,).
            n_items: Size of the catalogue.
            neighbours: Most similar items kept per item; None keeps all, which may need much memory.
            self_similarity: Whether an item is like itself (1), so that past clicks are retrieved again.

        Raises:
            ValueError: If there is not one basket per click.
        """
        if len(baskets) != len(clicks):
            raise ValueError(f"{len(baskets)} basket numbers for {len(clicks)} clicks: pass one per click.")
        numbers = np.unique(baskets, return_inverse=True)[1]
        shape = (int(numbers.max(initial=-1)) + 1, n_items)
        held = sp.csr_array((np.ones(len(clicks), dtype=np.float32), (numbers, clicks.item_ids)), shape=shape)
        held.data[:] = 1.0  # building it has added up repeats within a basket
        blocks = list(_similarity_blocks(held, neighbours, self_similarity))
        return cls(similarity=sp.csr_array(sp.vstack(blocks, format="csr")))

    def scores(self, task: EvalTask, *, history_length: int | None = 20) -> ScoreBlock:
        """Sum of similarities to the latest ``history_length`` clicks of the history (None = all), repeats included."""
        begin, end = task.begin, task.end
        if history_length is not None:
            begin = np.maximum(begin, end - history_length)

        def block(start: int, stop: int) -> Tensor:
            rows, positions = expand_ranges(begin[start:stop], end[start:stop])
            ones = np.ones(len(rows), dtype=np.float32)
            shape = (stop - start, self.similarity.shape[0])
            profile = sp.csr_array((ones, (rows, task.histories.items[positions])), shape=shape)
            return torch.from_numpy((profile @ self.similarity).toarray())

        return block

    def neighbours(self, items: NDArray[np.int64]) -> Tensor:
        """Similarities of ``items`` (B,) to all items, shape (B, N)."""
        return torch.from_numpy(self.similarity[items].toarray())


def _similarity_blocks(held: sp.csr_array, neighbours: int | None, self_similarity: bool) -> Iterator[sp.csr_array]:
    """Rows of the similarity matrix, a block of items at a time."""
    baskets_of = sp.csr_array(held.T)
    sizes = np.bincount(held.indices, minlength=held.shape[1]).astype(np.float64)  # baskets per item
    for first in range(0, held.shape[1], _BLOCK_ITEMS):
        block = sp.csr_array(baskets_of[first : first + _BLOCK_ITEMS] @ held)  # baskets that hold both
        rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        block.data = (block.data / np.sqrt(sizes[first + rows] * sizes[block.indices])).astype(np.float32)
        if not self_similarity:
            block.data[first + rows == block.indices] = 0.0
        if neighbours is not None:
            block.data[_weak(rows, block.indices, block.data, neighbours)] = 0.0
        block.eliminate_zeros()
        yield block


def _weak(rows: NDArray, columns: NDArray, values: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Entries that are not among the ``most`` largest of their row; among equals the lower column stays."""
    order = np.lexsort((columns, -values, rows))
    place = np.arange(len(order)) - np.searchsorted(rows, rows)  # rows are sorted, and stay so under ``order``
    return order[place >= most]


def item_knn(inputs: BaselineInputs) -> BaselineScores:
    """Item-kNN over the sessions of the training clicks, for the latest ``model.history_length`` clicks of a user."""
    task, train, config = inputs.task, inputs.train, inputs.config
    sessions = assign_sessions(train.user_ids, train.time_ms, config.sessions)
    knn = ItemKNN.fit(train, sessions, len(task.candidates))
    return BaselineScores(knn.scores(task, history_length=config.model.history_length), knn.neighbours)
