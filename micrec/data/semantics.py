"""Semantically similar items: the positive sets of the semantic-level loss (paper 3.4)."""

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from micrec.config import SemanticConfig
from micrec.data.dataset import EntityTable
from micrec.data.schema import Roles
from micrec.data.titles import encode_titles
from micrec.errors import MicrecError
from micrec.progress import NoProgress, Progress
from micrec.sampling import Positives, SharedTagNeighbours, WeightedNeighbours

SIMILARITY_STEPS = 1 << 20
"""Similarities are ranked in steps of about 1e-6: rounding in a matrix product must not decide between equals."""

CPU_BLOCK, GPU_BLOCK, STRIPE = 512, 16_384, 8_192
HEADING = "semantic positives"


def semantic_positives(
    items: EntityTable,
    roles: Roles,
    config: SemanticConfig,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Positives:
    """The positive sets P_i of the semantic-level loss, on the CPU.

    ``title`` and ``content``: the ``top_k`` nearest items by cosine of title or content embeddings; items at a cosine
    of 0 or less are no positives. ``taxonomy``: all items that share a tag, drawn in proportion to the tags shared.

    Args:
        items: The item table.
        roles: Which item field is the title, the taxonomy, the content.
        config: Source, encoder, number of neighbours, and what to do with equal titles.
        device: Where the neighbours are searched.
        progress: Where to report.

    Raises:
        MicrecError: If the field the source needs is missing or unfit, or no item has a positive.
    """
    check_roles(items, roles, config)
    if config.source == "taxonomy":
        return _with_positives(_shared_tags(items, str(roles.taxonomy)), config)
    if config.source == "content":
        embeddings = _vectors(items.frame[str(roles.content)])
    else:
        titles = items.frame[roles.title].to_list() if roles.title else [None] * len(items)
        embeddings = encode_titles(titles, encoder=config.encoder, svd_dim=config.svd_dim)
    groups = _title_groups(items.frame[str(roles.title)]) if config.same_title == "exclude" else None
    block = CPU_BLOCK if torch.device(device).type == "cpu" else GPU_BLOCK
    ids, similarities = nearest_items(
        embeddings, config.top_k, groups=groups, block=block, device=device, progress=progress
    )
    found = (ids >= 0) & (similarities > 0)
    offsets = np.concatenate([[0], np.cumsum(found.sum(axis=1))])
    return _with_positives(WeightedNeighbours.from_csr(offsets, ids[found]), config)


def check_roles(items: EntityTable, roles: Roles, config: SemanticConfig) -> None:
    """Refuse sources whose field is not there; an embedding file stands in for the titles."""
    faults = []
    field: str | None = getattr(roles, config.source)
    has_file = config.source == "title" and config.encoder.endswith(".npy")
    if field is None and not has_file:
        faults.append(
            f"contrast.semantic.source: {config.source} needs roles.{config.source}, which dataset.yaml leaves null: "
            "name an item field there, choose another source, or set contrast.semantic.weight to 0."
        )
    if field is not None and field not in items.frame.columns:
        faults.append(
            f"dataset.yaml, roles.{config.source}: {field!r} is not a column of items.parquet "
            f"({', '.join(items.frame.columns)}): name one of these."
        )
    if config.same_title == "exclude" and config.source == "taxonomy":
        faults.append("contrast.semantic.same_title: exclude has no effect on source taxonomy: set it to keep.")
    elif config.same_title == "exclude" and roles.title is None:
        faults.append(
            "contrast.semantic.same_title: exclude needs roles.title, which dataset.yaml leaves null: "
            "name a text field there, or set it to keep."
        )
    if faults:
        raise MicrecError.of(HEADING, faults)


def _with_positives(positives: Positives, config: SemanticConfig) -> Positives:
    if not positives.has(torch.arange(positives.n_items)).any():
        raise MicrecError(
            f"{HEADING}: no item has one by contrast.semantic.source {config.source}: fill in the item field, choose "
            "another source, or set contrast.semantic.weight to 0."
        )
    return positives


def _shared_tags(items: EntityTable, field: str) -> SharedTagNeighbours:
    column = items.columns.get(field)
    if column is not None and column.codes is not None:
        owners = np.flatnonzero(column.codes)  # 0 = missing
        tags = column.codes[owners]
    elif column is not None and column.values is not None and column.offsets is not None:
        owners = np.repeat(np.arange(len(items)), np.diff(column.offsets))
        tags = column.values
    else:
        kind = "not embeddable" if column is None else column.type.value
        raise MicrecError(
            f"dataset.yaml, roles.taxonomy: {field!r} is {kind}: name a categorical or multi_categorical field."
        )
    return SharedTagNeighbours.from_pairs(owners, tags, len(items), column.size)


def _title_groups(titles: pl.Series) -> NDArray[np.int64]:
    """One number per distinct title, shape (N,); an item without a title is a group of its own."""
    texts = titles.cast(pl.String).str.strip_chars()
    codes = texts.set(texts == "", None).rank("dense").cast(pl.Int64)
    return np.where(codes.is_null(), -1 - np.arange(len(codes)), codes.fill_null(0).to_numpy())


def _vectors(column: pl.Series) -> NDArray[np.float32]:
    """The matrix of a list column, shape (N, D); null becomes a zero row."""
    where = f"items.parquet, column {column.name!r}"
    if not isinstance(column.dtype, pl.List | pl.Array) or not column.dtype.inner.is_numeric():
        raise MicrecError(f"{where}: holds {column.dtype}: content embeddings must be lists of numbers.")
    lists = column.cast(pl.List(pl.Float32))
    present = lists.is_not_null().to_numpy()
    lengths = lists.drop_nulls().list.len().unique().sort().to_list()
    if len(lengths) != 1 or lengths[0] == 0:
        raise MicrecError(f"{where}: vectors of lengths {lengths}: all must have the same length, at least 1.")
    values = lists.drop_nulls().explode().to_numpy().reshape(-1, lengths[0])  # null becomes NaN
    bad = np.flatnonzero(present)[~np.isfinite(values).all(axis=1)]
    if len(bad):
        raise MicrecError(
            f"{where}: {len(bad):,} rows hold null, NaN or infinity, first rows {', '.join(map(str, bad[:5]))}: "
            "write null for items without a vector."
        )
    matrix = np.zeros((len(column), lengths[0]), dtype=np.float32)
    matrix[present] = values
    return matrix


def nearest_items(
    embeddings: NDArray[np.float32],
    k: int,
    *,
    groups: NDArray[np.int64] | None = None,
    block: int = 2048,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k items of highest cosine similarity to each item, by exact search.

    Items closer than 1e-6 in similarity are equals, and of equals the lower id comes first. An item is no neighbour
    of itself, nor of another in its group; a zero vector neither has nor is a neighbour. Memory is O(16 block ** 2),
    time O(N ** 2 D).

    Args:
        embeddings: Any finite vectors, shape (N, D).
        k: Neighbours per item.
        groups: Items of one group do not see each other, shape (N,); None = no groups.
        block: Items compared at a time with as many others, or up to 16 times as many.
        device: Where the products are computed.
        progress: Where to report.

    Returns:
        Neighbour ids, shape (N, k), best first, -1 where there are fewer; their similarities, shape (N, k), 0 there.

    Raises:
        ValueError: If a value is not finite.
    """
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings hold NaN or infinity.")
    n = len(embeddings)
    vectors = torch.nn.functional.normalize(torch.as_tensor(embeddings, dtype=torch.float32, device=device), dim=1)
    group_ids = None if groups is None else torch.as_tensor(groups, device=device)
    ids = np.full((n, k), -1, dtype=np.int32)
    similarities = np.zeros((n, k), dtype=np.float32)
    progress = progress or NoProgress()
    progress.start("preparing: most similar items", n, "items")
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        best = _best_keys(vectors, group_ids, rows, k, block)
        found, similarity = _unpack(best, n)
        ids[rows, : found.shape[1]] = found.cpu().numpy()
        similarities[rows, : found.shape[1]] = similarity.cpu().numpy()
        progress.advance(rows.stop - rows.start)
    progress.finish()
    return ids, similarities


def _best_keys(vectors: Tensor, groups: Tensor | None, rows: slice, k: int, block: int) -> Tensor:
    """The k highest keys of ``rows`` over all items, one stripe of items after the other, shape (B, <= k)."""
    best = torch.empty((rows.stop - rows.start, 0), dtype=torch.int64, device=vectors.device)
    stripe = max(block, min(STRIPE, 16 * block))
    for start in range(0, len(vectors), stripe):
        columns = slice(start, min(start + stripe, len(vectors)))
        similarity = _of_neighbours(vectors, groups, rows, columns)
        least = _reached(similarity, k)
        if best.shape[1] == k:
            least = torch.maximum(least, (best[:, -1:] >> 32).float() / SIMILARITY_STEPS - 1.0)
        keys = _rank_keys(similarity, least - 3.0 / SIMILARITY_STEPS, len(vectors) - 1 - start)  # 3: of rounding
        best = torch.cat([best, keys], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    return best


def _of_neighbours(vectors: Tensor, groups: Tensor | None, rows: slice, columns: slice) -> Tensor:
    """Cosines, shape (B, C); -inf for those who are no neighbours."""
    similarity = vectors[rows] @ vectors[columns].T
    first, last = max(rows.start, columns.start), min(rows.stop, columns.stop)
    both = torch.arange(first, max(first, last), device=vectors.device)
    similarity[both - rows.start, both - columns.start] = -torch.inf
    similarity[~vectors[rows].any(dim=1)] = -torch.inf
    empty = ~vectors[columns].any(dim=1)
    if empty.any():
        similarity[:, empty] = -torch.inf
    if groups is not None:
        similarity.masked_fill_(groups[rows, None] == groups[columns], -torch.inf)
    return similarity


def _reached(similarity: Tensor, k: int) -> Tensor:
    """What at least k of each row reach, shape (B, 1): the k-th highest of the maxima of disjoint sets of columns."""
    size = min(64, similarity.shape[1] // (4 * k))
    if size < 2:
        return similarity.new_full((len(similarity), 1), -torch.inf)
    sets = similarity.shape[1] // size
    maxima = similarity[:, : size * sets].unflatten(1, (size, sets)).amax(dim=1)
    return maxima.topk(k, dim=1).values[:, -1:]


def _rank_keys(similarity: Tensor, least: Tensor, last: int) -> Tensor:
    """One integer per pair of at least ``least`` (B, 1), distinct within a row: similarity first, then the lower id.

    Args:
        similarity: Similarity of the neighbours, shape (B, C); -inf for no neighbour.
        least: What is below needs no key.
        last: Key of the first column among equals, which falls by one per column.

    Returns:
        Shape (B, W), -1 as padding.
    """
    row, column = ((similarity >= least) & (similarity > -torch.inf)).nonzero(as_tuple=True)
    counts = torch.bincount(row, minlength=len(similarity))
    steps = similarity[row, column].add_(1.0).mul_(SIMILARITY_STEPS).round_().clamp_min_(0.0).long()
    keys = torch.full((len(similarity), int(counts.max())), -1, dtype=torch.int64, device=similarity.device)
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    keys[row, place] = steps.bitwise_left_shift_(32).add_(last - column)
    return keys


def _unpack(keys: Tensor, n_items: int) -> tuple[Tensor, Tensor]:
    """Ids and similarities of ``_rank_keys``; -1 and 0 where there is no neighbour."""
    missing = keys < 0
    ids = n_items - 1 - (keys & 0xFFFFFFFF)
    similarity = (keys >> 32).double() / SIMILARITY_STEPS - 1.0
    return ids.masked_fill(missing, -1), similarity.masked_fill(missing, 0.0).float()
