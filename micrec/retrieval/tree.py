"""A tree over item vectors, searched with a beam from its root to its leaves (after TDM, Zhu et al. 2018).

As in TDM the tree is binary and balanced, made by 2-means cut at the median, again and again. TDM trains a vector for
each node, so that a node scores about as its best item does. Here the vectors are those of the towers, and nodes are
not trained: a node of m items with means mu and variances s^2 scores

    q . mu + sqrt(2 ln m) sqrt(q^2 . s^2),

about the highest score of m items at random with these moments. Leaves hold 8 to 16 items, which are compared one by
one, and not one item as in TDM: half as many levels to descend, and fewer nodes than items.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from micrec.models.lookups import row_scores

LEAF_ITEMS = 8  # least of a leaf; the most are twice as many
BEAM = 128  # least nodes of a level that are looked into
POWER_ROUNDS, MEANS_ROUNDS = 3, 3  # of a cut: for its first direction, and of balanced 2-means after it
BLOCK_NUMBERS = 1 << 24  # of the vectors that are cut, or compared, at a time


@dataclass(frozen=True, eq=False)
class TreeIndex:
    """A balanced binary tree over M vectors of D numbers; it never changes.

    Node h has the children 2 h + 1 and 2 h + 2; level l begins at node 2^l - 1. Its node j holds the vectors of
    ``order`` from place floor(j M / 2^l) to before floor((j + 1) M / 2^l).

    Attributes:
        vectors: From the leftmost leaf to the rightmost, shape (M, D), float32.
        order: Their rows in the index, shape (M,), int64.
        means: Of each node's vectors, shape (nodes, D), float32.
        variances: Likewise, of each number by itself.
    """

    vectors: Tensor
    order: Tensor
    means: Tensor
    variances: Tensor

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> "TreeIndex":
        """Build the tree; the same vectors give the same tree."""
        rows = torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float32))
        depth = max(0, (len(rows) // LEAF_ITEMS).bit_length() - 1)
        order = torch.arange(len(rows))
        for level in range(depth):
            _cut_level(rows, order, level)
        ordered = rows[order]
        return cls(ordered, order, *_moments(ordered, depth))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "TreeIndex":
        """What ``tensors`` gave.

        Raises:
            ValueError: If the parts do not fit each other.
        """
        index = cls(*(tensors[name] for name in ("vectors", "order", "means", "variances")))
        n, nodes = len(index.vectors), len(index.means)
        if not torch.equal(index.order.sort().values, torch.arange(n)):
            raise ValueError("the leaves of the tree do not hold every item once")
        if (nodes + 1) & nodes or index.means.shape != index.variances.shape or index.means.shape[1] != index.d:
            raise ValueError("the nodes of the tree do not fit its items")
        return index

    def tensors(self) -> dict[str, Tensor]:
        """Its parts by name."""
        return {"vectors": self.vectors, "order": self.order, "means": self.means, "variances": self.variances}

    @property
    def ntotal(self) -> int:
        """Vectors in it, as of a FAISS index."""
        return len(self.vectors)

    @property
    def d(self) -> int:
        """Numbers of a vector, as of a FAISS index."""
        return self.vectors.shape[1]

    @property
    def depth(self) -> int:
        """Levels below the root."""
        return (len(self.means) + 1).bit_length() - 2

    def reconstruct(self) -> NDArray[np.float32]:
        """All vectors in the order of the rows, shape (M, D)."""
        vectors = torch.empty_like(self.vectors)
        vectors[self.order] = self.vectors
        return vectors.numpy()

    def beam(self, k: int) -> int:
        """Nodes of each level that are looked into for a list of k: k, as in TDM, but at least 128."""
        return min(1 << self.depth, max(BEAM, k))

    @torch.no_grad()
    def search(
        self, queries: NDArray[np.float32], k: int, params: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best of the vectors in the leaves that a beam search ends in, best first.

        Args:
            queries: Shape (Q, D).
            k: Length of the lists.
            params: Nodes of each level that are looked into; None: ``beam(k)``.

        Returns:
            Inner products, shape (Q, k), and rows, shape (Q, k); -inf and -1 where the leaves hold fewer than k.
        """
        beam = self.beam(k) if params is None else params
        asked = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32))
        size = max(1, BLOCK_NUMBERS // (2 * beam * LEAF_ITEMS * self.d))
        found = [self._items(block, self._leaves(block, beam), k) for block in asked.split(size)]
        return (
            torch.cat([scores for scores, _ in found]).numpy(),
            torch.cat([rows for _, rows in found]).numpy(),
        )

    def _leaves(self, queries: Tensor, beam: int) -> Tensor:
        """The leaves, by their places from the left, in which the search ends, shape (Q, beam)."""
        level = min(self.depth, beam.bit_length())  # above it there are no more nodes than the beam is wide
        first = (1 << level) - 1
        spread = self._spread(level)
        scores = queries @ self.means[first : 2 * first + 1].T
        scores += spread * (queries.square() @ self.variances[first : 2 * first + 1].T).clamp_min_(0).sqrt_()
        places = scores.topk(min(beam, scores.shape[1]), dim=1, sorted=False).indices
        while level < self.depth:
            level += 1
            children = torch.cat([2 * places, 2 * places + 1], dim=1)
            scores = self._node_scores(queries, children, level)
            chosen = scores.topk(min(beam, scores.shape[1]), dim=1, sorted=False).indices
            places = children.gather(1, chosen)
        return places

    def _node_scores(self, queries: Tensor, places: Tensor, level: int) -> Tensor:
        """Scores of the nodes at ``places`` (Q, n) of a level."""
        nodes = places + ((1 << level) - 1)
        spreads = row_scores(queries.square(), self.variances, nodes).clamp_min_(0).sqrt_()
        return row_scores(queries, self.means, nodes) + self._spread(level) * spreads

    def _spread(self, level: int) -> float:
        return float(np.sqrt(2.0 * np.log(max(1.0, self.ntotal / (1 << level)))))

    def _items(self, queries: Tensor, leaves: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k best vectors of the leaves (Q, beam)."""
        starts, stops = (((leaves + step) * self.ntotal) >> self.depth for step in (0, 1))
        longest = -(-self.ntotal >> self.depth) if self.depth else self.ntotal
        places = (starts[:, :, None] + torch.arange(longest)).flatten(1)  # (Q, beam * longest)
        beyond = places >= stops.repeat_interleave(longest, dim=1)
        places.clamp_max_(self.ntotal - 1)
        scores = row_scores(queries, self.vectors, places).masked_fill_(beyond, -torch.inf)
        best, chosen = scores.topk(min(k, scores.shape[1]), dim=1)
        rows = self.order[places.gather(1, chosen)].masked_fill_(best.isneginf(), -1)
        missing = (0, k - best.shape[1])
        return F.pad(best, missing, value=-torch.inf), F.pad(rows, missing, value=-1)


def _cut_level(rows: Tensor, order: Tensor, level: int) -> None:
    """Sort the vectors of each node of a level so that its children are its left and its right part, in place."""
    bounds = (torch.arange((1 << level) + 1) * len(rows)) >> level
    sizes = bounds.diff()
    for size in sizes.unique().tolist():  # two at most
        for starts in bounds[:-1][sizes == size].split(max(1, BLOCK_NUMBERS // (size * rows.shape[1]))):
            places = starts[:, None] + torch.arange(size)  # (n, size)
            members = order[places]
            order[places] = members.gather(1, _cut(rows[members]))


def _cut(vectors: Tensor) -> Tensor:
    """Orders of n groups of vectors, (n, m, D), by which a group's two halves are 2-means clusters of equal size."""
    vectors = vectors - vectors.mean(dim=1, keepdim=True)
    axis = vectors.square().sum(dim=1, keepdim=True).transpose(1, 2)  # (n, D, 1)
    for _ in range(POWER_ROUNDS):  # towards the direction of most variance
        axis = vectors.transpose(1, 2) @ (vectors @ axis)
        axis = axis / axis.norm(dim=1, keepdim=True).clamp_min(1e-30)
    order = (vectors @ axis).squeeze(2).argsort(dim=1, stable=True)
    half = vectors.shape[1] // 2
    for _ in range(MEANS_ROUNDS):
        left = vectors.gather(1, order[:, :half, None].expand(-1, -1, vectors.shape[2])).mean(dim=1)
        # of a centred group the other mean is opposite: what is nearer to it is on its side of the origin
        order = (vectors @ -left[:, :, None]).squeeze(2).argsort(dim=1, stable=True)
    return order


def _moments(ordered: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Means and variances of all nodes, from the root down, shape (nodes, D) each."""
    total = len(ordered)
    running = torch.zeros(total + 1, ordered.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(running)
    torch.cumsum(ordered, 0, out=running[1:])
    torch.cumsum(ordered.double().square(), 0, out=squares[1:])
    means, variances = [], []
    for bounds in _level_bounds(total, depth):
        counts = bounds.diff().clamp_min(1)[:, None]
        mean = running[bounds].diff(dim=0) / counts
        means.append(mean.float())
        variances.append((squares[bounds].diff(dim=0) / counts - mean.square()).clamp_min(0).float())
    return torch.cat(means), torch.cat(variances)


def _level_bounds(total: int, depth: int) -> Iterator[Tensor]:
    for level in range(depth + 1):
        yield (torch.arange((1 << level) + 1) * total) >> level
