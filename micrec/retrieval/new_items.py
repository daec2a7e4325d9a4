"""Items that came after the training: into the index by their fields alone, with the unknown id."""

from collections.abc import Iterable
from dataclasses import replace

import faiss
import numpy as np
import polars as pl

from micrec.data.encoding import IdMap
from micrec.errors import MicrecError
from micrec.retrieval.build import item_vectors
from micrec.retrieval.bundle import Bundle

ITEM_ID = "item_id"
EXAMPLES = 5  # most faulty ids that a message names


def with_items(bundle: Bundle, frame: pl.DataFrame) -> Bundle:
    """Another bundle with new items behind the known ones; the given one stays as it is, its index too.

    Args:
        bundle: What there is.
        frame: ``item_id``, any item fields that the model reads, and the title field if the dataset has one.

    Raises:
        MicrecError: If an id is missing, known already or there twice, or a field is unknown; nothing is added then.
    """
    ids = _new_ids(bundle.item_ids, frame)
    title = bundle.manifest["title_field"]
    columns = bundle.item_encoder.encode(frame.drop(ITEM_ID, *([title] if title in frame.columns else [])), len(ids))
    titles = frame[title] if title in frame.columns else pl.repeat(None, len(ids), eager=True)
    added = np.arange(len(ids), dtype=np.int32)
    index = faiss.clone_index(bundle.index)
    index.add(item_vectors(bundle.model, columns, added))
    return replace(
        bundle,
        index=index,
        items=bundle.items.concat(columns),
        item_ids=pl.concat([bundle.item_ids, ids]),
        titles=None if bundle.titles is None else pl.concat([bundle.titles, titles.cast(pl.String)]),
        candidates=np.concatenate([bundle.candidates, np.int32(len(bundle.item_ids)) + added]),
    )


def _new_ids(known: pl.Series, frame: pl.DataFrame) -> pl.Series:
    """The outside ids of ``frame``, in the type of the known ones."""
    if ITEM_ID not in frame.columns:
        raise MicrecError(f"new items: no column {ITEM_ID} (there are: {', '.join(frame.columns)}): add it.")
    given = frame[ITEM_ID]
    ids = given.cast(known.dtype, strict=False)
    rules = {
        "missing, give each item one": given.is_null(),
        "no integer, as the known ids are, give an integer": ids.is_null() & given.is_not_null(),
        "known already, give a new one": pl.Series(IdMap(known).positions(ids) >= 0),
        "there twice, keep one row of it": ids.is_duplicated() & ids.is_not_null(),
    }
    faults = [f"{listed(given.filter(bad))}: {rule}" for rule, bad in rules.items() if bad.any()]
    if faults:
        raise MicrecError.of(f"new items, {ITEM_ID}", faults)
    return ids


def listed(ids: Iterable[object]) -> str:
    """The first few distinct ids for a message."""
    shown = [str(value) for value in dict.fromkeys(ids)]
    return ", ".join(shown[:EXAMPLES]) + (f" and {len(shown) - EXAMPLES:,} more" if len(shown) > EXAMPLES else "")
