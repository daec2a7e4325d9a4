"""Items that are added to the index after the training, from their fields alone, and items that are removed."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from micrec.data.encoding import IdMap
from micrec.data.title_kernel import placed_vectors
from micrec.errors import MicrecError
from micrec.models.columns import TITLES, WORDS, FieldColumns, Ragged
from micrec.retrieval.build import item_vectors, popularity_of
from micrec.retrieval.bundle import Bundle
from micrec.retrieval.exact_vectors import exact_vectors
from micrec.retrieval.index import build_index, extended, index_kind
from micrec.retrieval.spelling import listed, listed_with_near

ITEM_ID = "item_id"


def with_items(bundle: Bundle, frame: pl.DataFrame) -> Bundle:
    """Another bundle with more items in the index; the given one stays as it is, its index too.

    An item that the bundle knows but does not list, since it was taken out or had no training clicks, is listed by what
    is known of it; fields that the frame gives take the place of the known ones.

    Args:
        bundle: What there is.
        frame: ``item_id``, any item fields that the model reads, and the title field if the dataset has one.

    Raises:
        MicrecError: If an id is missing, listed already or there twice, or a field is unknown or of another type;
            nothing is added then.
    """
    ids = _new_ids(bundle, frame)
    known, n = IdMap(bundle.item_ids).positions(ids), len(bundle.item_ids)
    is_new = known < 0
    rows = np.where(is_new, n + np.cumsum(is_new) - 1, known).astype(np.int32)  # where each item stands
    title = bundle.manifest["title_field"]
    given = [name for name in frame.columns if name not in (ITEM_ID, title)]
    columns = bundle.item_encoder.encode(frame.select(given), len(ids))
    if bundle.words is not None:
        _add_titles(columns, bundle, frame[title] if title in frame.columns else None)
        given = [*given, *([WORDS, TITLES] if title in frame.columns else [])]
    items = _merged(bundle.items, columns, rows, given)
    popularity = popularity_of(replace(bundle, items=items))
    index = extended(bundle.index, item_vectors(bundle.model, items, rows, popularity))
    return replace(
        bundle,
        index=index,
        items=items,
        item_ids=pl.concat([bundle.item_ids, ids.filter(pl.Series(is_new))]),
        titles=_titles(bundle.titles, frame[title] if title in frame.columns else None, rows, is_new),
        candidates=np.concatenate([bundle.candidates, rows]),
    )


def without_items(bundle: Bundle, ids: Sequence[object]) -> Bundle:
    """Another bundle whose index lacks some items; they stay known, so that histories may hold them.

    The index is built anew over the vectors that stay.

    Raises:
        MicrecError: If an id is unknown or not in the index, or none would stay; nothing is taken out then.
    """
    if isinstance(ids, str):
        raise MicrecError(f"items to remove: must be a list of ids, got {ids!r} (str): put it into a list.")
    rows = positions(IdMap(bundle.item_ids), ids)
    unlisted = (rows >= 0) & ~np.isin(rows, bundle.candidates)
    faults = []
    if (rows < 0).any():
        unknown = listed_with_near([item for item, row in zip(ids, rows, strict=True) if row < 0], bundle.item_ids)
        faults.append(f"{unknown}: none of the {len(bundle.item_ids):,} items of the bundle, leave it out")
    if unlisted.any():
        names = listed(item for item, bad in zip(ids, unlisted, strict=True) if bad)
        faults.append(f"{names}: not in the index, leave it out")
    if faults:
        raise MicrecError.of("items to remove", faults)
    stays = ~np.isin(bundle.candidates, rows)
    if not stays.any():
        raise MicrecError("items to remove: would leave no item in the index: leave at least one.")
    index = build_index(exact_vectors(bundle, stays), index_kind(bundle.index))
    return replace(bundle, index=index, candidates=bundle.candidates[stays])


def positions(ids: IdMap, outside: Sequence[object]) -> NDArray[np.int64]:
    """Dense ids of outside ids, -1 = unknown; text of digits finds an integer id too."""
    return ids.positions(pl.Series([str(value) for value in outside], dtype=pl.String)).astype(np.int64)


def _new_ids(bundle: Bundle, frame: pl.DataFrame) -> pl.Series:
    """The outside ids of ``frame``, in the type of the known ones."""
    known = bundle.item_ids
    if ITEM_ID not in frame.columns:
        raise MicrecError(f"new items: no column {ITEM_ID} (there are: {', '.join(frame.columns)}): add it.")
    given = frame[ITEM_ID]
    ids = _as_known(given, known.dtype)
    rows = IdMap(known).positions(ids)
    kind, cure = ("integer", "an integer") if known.dtype == pl.Int64 else ("text", "text")
    rules = {
        "missing, give each item one": given.is_null(),
        f"no {kind}, as the known ids are, give {cure}": ids.is_null() & given.is_not_null(),
        "known already, give a new one": pl.Series(np.isin(rows, bundle.candidates)),
        "there twice, keep one row of it": ids.is_duplicated() & ids.is_not_null(),
    }
    faults = [f"{listed(given.filter(bad))}: {rule}" for rule, bad in rules.items() if bad.any()]
    if faults:
        raise MicrecError.of(f"new items, {ITEM_ID}", faults)
    return ids


def _as_known(given: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Ids in the type of the known ones, null where they are none; nothing is rounded or spelt anew."""
    if given.dtype in (pl.Categorical, pl.Enum):
        given = given.cast(pl.String)
    if given.dtype == pl.String or given.dtype.is_integer():
        return given.cast(dtype, strict=False)
    if given.dtype.is_float() and dtype == pl.Int64:
        is_whole = given % 1 == 0
        return given.zip_with(is_whole.fill_null(False), pl.Series(given.name, [None], pl.Float64)).cast(pl.Int64)
    return pl.repeat(None, len(given), dtype=dtype, eager=True)


def _merged(items: FieldColumns, added: FieldColumns, rows: NDArray[np.int32], given: Collection[str]) -> FieldColumns:
    """The table with ``added`` at ``rows``: new rows behind it, and the fields ``given`` of rows that it has."""
    both = items.concat(added)
    if (rows >= items.n).all():
        return both
    n = max(items.n, int(rows.max()) + 1)
    known, ours = np.arange(n), np.arange(n)  # rows of ``both`` for fields that are not given, and for given ones
    at = items.n + np.arange(len(rows))
    ours[rows] = at
    known[rows[rows >= items.n]] = at[rows >= items.n]
    names = (*both.single, *both.multi, *both.numbers, *both.vectors)
    take = {name: torch.from_numpy(ours if name in given else known) for name in names}
    return FieldColumns(
        n=n,
        single={name: codes[take[name]] for name, codes in both.single.items()},
        multi={name: ragged.take(take[name]) for name, ragged in both.multi.items()},
        numbers={name: numbers[take[name]] for name, numbers in both.numbers.items()},
        vectors={name: vectors[take[name]] for name, vectors in both.vectors.items()},
    )


def _add_titles(columns: FieldColumns, bundle: Bundle, titles: pl.Series | None) -> None:
    """The words of new titles, and their vectors among those of the items that the bundle knows."""
    words, known = bundle.words, bundle.items
    assert words is not None
    texts = [None] * columns.n if titles is None else titles.cast(pl.String).to_list()
    codes, offsets = words.codes(texts)
    columns.multi[WORDS] = Ragged(torch.from_numpy(codes), torch.from_numpy(offsets))
    if TITLES in known.vectors:
        basis = words.rows(known.multi[WORDS].values.numpy(), known.multi[WORDS].offsets.numpy())
        vectors = placed_vectors(words.rows(codes, offsets), basis, known.vectors[TITLES].numpy())
        columns.vectors[TITLES] = torch.from_numpy(vectors)


def _titles(
    titles: pl.Series | None, given: pl.Series | None, rows: NDArray[np.int32], is_new: NDArray[np.bool_]
) -> pl.Series | None:
    if titles is None:
        return None
    if given is not None and given.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        raise MicrecError(f"new items, {given.name}: titles are text, got a column of {given.dtype}: give text.")
    texts = titles.to_list() + [None] * int(is_new.sum())
    if given is not None:
        for row, text in zip(rows.tolist(), given.cast(pl.String).to_list(), strict=True):
            texts[row] = text
    return pl.Series(texts, dtype=pl.String)
