"""Link recall@k: does a model place the items of planted links next to each other? For generated worlds only.

A generated world plants links between hidden groups of items of different categories, each from a source to a target
group, and writes them to ``ground_truth/``, which evaluation alone reads. An item of a source group asks for its k
nearest neighbours; all items of the groups it is linked to are its targets.

=====================  =============================================================================================
link_recall@k          mean over source items of (targets among the k nearest) / min(k, number of targets), the
                       candidates being all other items
link_recall_cross@k    the same with candidates of other categories than the source's, where all targets are; items
                       of the own category no longer fill the first places
link_recall_cold@k     link_recall_cross@k over source items with few training clicks (``evaluation.cold_clicks``)
…@k_chance             what neighbours in random order score
=====================  =============================================================================================

Exact: every source item is compared with every candidate, in blocks; where items tie at the k-th place, the expected
value over their random order counts. Beyond ``MOST_SOURCES`` source items an even sample of them asks, the same for
every model. Without a category only link_recall@k is defined, without cold source items no link_recall_cold@k.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.data.dataset import Dataset
from micrec.errors import MicrecError

NeighbourScores = Callable[[NDArray[np.int64]], Tensor]
"""Likeness of items (B,) to every item of the catalogue, float, shape (B, N)."""

MOST_SOURCES = 4_096
_COLUMNS = {"links": ("source_group", "target_group"), "items": ("item_id", "link_group")}


@dataclass(frozen=True)
class Links:
    """The planted links of a world, in dense item ids.

    Attributes:
        group: Hidden group of each item, shape (N,).
        pairs: Source and target group of each link, distinct, shape (L, 2).
        category: Category code of each item, 0 = unknown, shape (N,); None = the dataset has none.
    """

    group: NDArray[np.int64]
    pairs: NDArray[np.int64]
    category: NDArray[np.int32] | None


def read_links(dataset: Dataset) -> Links | None:
    """The links in the dataset's ``ground_truth/``, or None where there are none.

    Raises:
        MicrecError: If the ground truth is there but cannot be read, or speaks of other items than the dataset.
    """
    if dataset.folder is None:
        return None
    if (dataset.folder / "oracle" / "links.parquet").is_file():
        raise MicrecError(f"{dataset.folder}/oracle: is called ground_truth now: rename the folder.")
    if not (dataset.folder / "ground_truth" / "links.parquet").is_file():
        return None
    links, items = (_read(dataset, name) for name in ("links", "items"))
    if not len(links):
        return None
    ids = pl.DataFrame({"item_id": dataset.items.ids})
    if items["item_id"].dtype != ids["item_id"].dtype:
        items = items.with_columns(pl.col("item_id").cast(ids["item_id"].dtype, strict=False))
    group = ids.join(items.unique("item_id"), on="item_id", how="left", maintain_order="left")["link_group"]
    if group.null_count():
        raise MicrecError(
            f"{dataset.folder}/ground_truth/items.parquet: has no link_group for {group.null_count():,} of "
            f"{len(ids):,} items of the dataset: generate the world anew, or remove its ground_truth folder to go "
            "without link recall."
        )
    role = dataset.schema.roles.category
    return Links(
        group=group.cast(pl.Int64).to_numpy(),
        pairs=links.unique(maintain_order=True).cast(pl.Int64).to_numpy(),
        category=None if role is None else dataset.items.columns[role].codes,
    )


def link_recall(
    scores: NeighbourScores,
    links: Links,
    *,
    train_clicks: NDArray[np.int64],
    cutoffs: Sequence[int],
    cold_clicks: int,
    block_bytes: int = 128 << 20,
) -> dict[str, float]:
    """Link recall of a model at every k of ``cutoffs``, each figure beside its chance level, by full name.

    Args:
        scores: Likeness of items to all others, such as :func:`cosine_scores`.
        links: The truth.
        train_clicks: Training clicks of each item, shape (N,).
        cutoffs: Values of k.
        cold_clicks: A source item with at most as many training clicks is cold.
        block_bytes: Memory for one block of scores.
    """
    asking = _Asking(links)
    rows = max(1, block_bytes // (4 * len(links.group)))
    found = [
        _block(scores, asking, asking.sources[start : start + rows], cutoffs)
        for start in range(0, len(asking.sources), rows)
    ]
    by_name = {name: np.concatenate([block[name] for block in found]) for name in found[0]} if found else {}
    cold = train_clicks[asking.sources] <= cold_clicks
    if cold.any():
        crossing = {name: values for name, values in by_name.items() if name.startswith("link_recall_cross")}
        by_name |= {name.replace("cross", "cold"): values[cold] for name, values in crossing.items()}
    return {name: float(np.nanmean(values)) for name, values in by_name.items() if not np.isnan(values).all()}


def cosine_scores(item_emb: Tensor) -> NeighbourScores:
    """Likeness by the angle between item embeddings (N, D), as their length tells more of popularity than of kind."""
    unit = torch.nn.functional.normalize(item_emb.detach().float(), dim=1)
    return lambda items: unit[torch.from_numpy(items).to(unit.device)] @ unit.T


class _Asking:
    """The source items, and which groups each of them looks for."""

    def __init__(self, links: Links) -> None:
        self.links = links
        self.n_groups = 1 + int(max(links.group.max(initial=0), links.pairs.max(initial=0)))
        is_source = np.zeros(self.n_groups, dtype=bool)
        is_source[links.pairs[:, 0]] = True
        sources = np.flatnonzero(is_source[links.group])
        if len(sources) > MOST_SOURCES:
            sources = sources[np.linspace(0, len(sources) - 1, MOST_SOURCES).astype(np.int64)]
        self.sources = sources
        self._order = np.argsort(links.pairs[:, 0], kind="stable")
        self._begin = np.searchsorted(links.pairs[self._order, 0], np.arange(self.n_groups + 1))

    def targets(self, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which items are targets of each of ``items`` (B,), shape (B, N)."""
        wanted = np.zeros((len(items), self.n_groups), dtype=bool)
        for row, group in enumerate(self.links.group[items]):
            mine = self._order[self._begin[group] : self._begin[group + 1]]
            wanted[row, self.links.pairs[mine, 1]] = True
        return wanted[:, self.links.group]

    def views(self, items: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Name of each figure, and which items are candidates of each of ``items`` (B,), shape (B, N)."""
        others = np.ones((len(items), len(self.links.group)), dtype=bool)
        others[np.arange(len(items)), items] = False
        yield "link_recall", others
        category = self.links.category
        if category is not None:
            yield "link_recall_cross", others & (category[items][:, None] != category[None, :])


class _Ranked(NamedTuple):
    """The candidates of B items from the best on; beyond the candidates, score -inf."""

    scores: Tensor  # (B, N), -inf where no candidate
    target: Tensor  # (B, N) bool, candidates only
    top: Tensor  # (B, K) scores of the best K
    found: Tensor  # (B, K) targets among the best 1 … K


def _block(
    scores: NeighbourScores, asking: _Asking, items: NDArray[np.int64], cutoffs: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """Recall and chance of each item, shape (B,) each; nan where it has no target among the candidates."""
    given = scores(items).detach().float()
    targets = torch.from_numpy(asking.targets(items)).to(given.device)
    figures: dict[str, NDArray[np.float64]] = {}
    for name, candidates in asking.views(items):
        allowed = torch.from_numpy(candidates).to(given.device)
        ranked = _rank(given.masked_fill(~allowed, -torch.inf), targets & allowed, max(cutoffs))
        n_candidates = candidates.sum(axis=1).astype(np.float64)
        n_targets = ranked.target.sum(dim=1).cpu().numpy().astype(np.float64)
        for k in cutoffs:
            with np.errstate(invalid="ignore", divide="ignore"):
                most = np.where(n_targets > 0, np.minimum(k, n_targets), np.nan)
                figures[f"{name}@{k}"] = _hits(ranked, k) / most
                figures[f"{name}@{k}_chance"] = np.minimum(k, n_candidates) * n_targets / n_candidates / most
    return figures


def _rank(scores: Tensor, target: Tensor, most: int) -> _Ranked:
    top, places = scores.topk(min(most + 1, scores.shape[1]), dim=1)
    found = (target.gather(1, places) & (top > -torch.inf)).cumsum(dim=1)
    return _Ranked(scores, target, top, found)


def _hits(ranked: _Ranked, k: int) -> NDArray[np.float64]:
    """Targets among the best k of each row; of those that tie at the k-th place, the expected number. Shape (B,)."""
    last = min(k, ranked.top.shape[1]) - 1
    hits = ranked.found[:, last].cpu().numpy().astype(np.float64)
    if last + 1 == ranked.top.shape[1]:  # the best k are all there are
        return hits
    kth = ranked.top[:, last]
    for row in torch.nonzero((kth == ranked.top[:, last + 1]) & (kth > -torch.inf)).flatten().tolist():
        above, level = ranked.scores[row] > kth[row], ranked.scores[row] == kth[row]
        room = (k - int(above.sum())) / int(level.sum())
        hits[row] = int((ranked.target[row] & above).sum()) + room * int((ranked.target[row] & level).sum())
    return hits


def _read(dataset: Dataset, name: str) -> pl.DataFrame:
    path = f"{dataset.folder}/ground_truth/{name}.parquet"
    try:
        return pl.read_parquet(path, columns=list(_COLUMNS[name]))
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise MicrecError(
            f"{path}: cannot be read ({str(fault).splitlines()[0]}): it must hold {' and '.join(_COLUMNS[name])}; "
            "generate the world anew, or remove its ground_truth folder to evaluate without link recall."
        ) from fault
