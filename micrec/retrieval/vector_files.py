"""A bundle as files for other systems: vectors as Parquet or as a collection of Qdrant, towers as ONNX."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.data.parquet_files import writable
from micrec.data.store import new_folder
from micrec.destination import check_destination
from micrec.errors import MicrecError
from micrec.retrieval.bundle import Bundle
from micrec.retrieval.exact_vectors import exact_vectors
from micrec.retrieval.onnx_files import require_onnx, write_towers
from micrec.retrieval.query import Query, query_of_known
from micrec.version import __version__

VectorFormat = Literal["parquet", "qdrant", "onnx"]
VECTOR_FORMATS: tuple[VectorFormat, ...] = ("parquet", "qdrant", "onnx")
COLLECTION = "items"
CARD = "vectors.json"  # what the folder holds
BLOCK = 16_384  # users whose vectors are made at a time
POINTS = 1_024  # points of one upload


class Exported(NamedTuple):
    """How much was written."""

    items: int
    users: int
    own_items: int  # pairs of a user and an item with a personal term
    dim: int  # numbers of a vector


def export_vectors(bundle: Bundle, out: Path, *, format: VectorFormat, overwrite: bool = False) -> Exported:
    """Write the vectors of a bundle's items and users into a folder, which appears whole or not at all.

    The score of a user and an item is the inner product of their vectors, the highest of several where a user has
    several interests, plus the term of the pair if it is among the own items.

    Args:
        bundle: What is served.
        out: Folder to write.
        format: ``parquet``, ``qdrant`` or ``onnx``, see the page Serving of the documentation.
        overwrite: Replace the folder if it is there.

    Raises:
        MicrecError: If the folder is taken or cannot be written, or a package is missing.
    """
    check_destination(out, what="the vectors")
    if format == "qdrant":
        _require_qdrant()
    if format == "onnx":
        require_onnx()
    with new_folder(out, overwrite=overwrite, mark=CARD, what="folder of vectors") as partial, writable(out):
        users, own = _write_users(bundle, partial)
        towers: dict[str, Any] = {}
        if format == "qdrant":
            _write_qdrant(bundle, partial / "qdrant")
        elif format == "onnx":
            towers = write_towers(bundle, partial)
        else:
            _items(bundle).write_parquet(partial / "items.parquet")
        written = Exported(len(bundle.candidates), users, own, bundle.model.score_dim)
        card = _card(bundle, format, written) | towers
        (partial / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return written


def _card(bundle: Bundle, format: VectorFormat, written: Exported) -> dict[str, Any]:
    """What the folder holds, and how a score is made of it."""
    own = " + term of the pair in own_items" if written.own_items else ""
    best = "highest over interests of " if bundle.model.interests is not None else ""
    return {
        "format": format,
        "model": bundle.model.config.name,
        "micrec_version": __version__,
        "score": f"{best}<user vector, item vector>{own}",
        **written._asdict(),
    }


def _items(bundle: Bundle) -> pl.DataFrame:
    """``item_id``, ``vector`` and ``title`` where the dataset has titles, in the order of the index."""
    chosen = bundle.candidates
    titles = {} if bundle.titles is None else {"title": bundle.titles.gather(chosen)}
    return pl.DataFrame({"item_id": bundle.item_ids.gather(chosen), "vector": _arrays(exact_vectors(bundle)), **titles})


def _write_users(bundle: Bundle, folder: Path) -> tuple[int, int]:
    """Write ``users.parquet`` and ``own_items.parquet``; the number of rows of each."""
    frames, own = [pl.DataFrame(schema={"user_id": bundle.user_ids.dtype})], []
    for rows, query in _queries(bundle):
        frames.append(_user_rows(bundle.user_ids.gather(rows), query.embeddings))
        if query.own is not None:
            own.append(_own_rows(bundle, rows, query))
    users = pl.concat(frames[1:] or frames)
    users.write_parquet(folder / "users.parquet")
    if own:
        pl.concat(own).write_parquet(folder / "own_items.parquet")
    return len(bundle.user_ids), sum(map(len, own))


def _queries(bundle: Bundle) -> Iterator[tuple[NDArray[np.int64], Query]]:
    n = len(bundle.user_ids)
    for start in range(0, n, BLOCK):
        rows = np.arange(start, min(start + BLOCK, n))
        yield rows, query_of_known(bundle, rows)


def _user_rows(ids: pl.Series, embeddings: NDArray[np.float32]) -> pl.DataFrame:
    """``user_id`` and ``vector``; of K interests, K rows per user that ``interest`` counts from 0."""
    if embeddings.ndim == 2:
        return pl.DataFrame({"user_id": ids, "vector": _arrays(embeddings)})
    n, k, _ = embeddings.shape
    interest = pl.Series(np.tile(np.arange(k, dtype=np.int32), n))
    repeated = ids.gather(np.repeat(np.arange(n), k))
    return pl.DataFrame({"user_id": repeated, "interest": interest, "vector": _arrays(embeddings.reshape(n * k, -1))})


def _own_rows(bundle: Bundle, rows: NDArray[np.int64], query: Query) -> pl.DataFrame:
    """``user_id``, ``item_id`` and ``term`` of own items that the index holds."""
    assert query.own is not None
    assert query.own.weights is not None
    items = query.own.values.numpy()
    listed = bundle.index_rows[items] >= 0
    return pl.DataFrame(
        {
            "user_id": bundle.user_ids.gather(rows[query.own.rows.numpy()[listed]]),
            "item_id": bundle.item_ids.gather(items[listed]),
            "term": query.own.weights.numpy()[listed],
        }
    )


def _arrays(vectors: NDArray[np.float32]) -> pl.Series:
    """Rows of a matrix as a column of arrays of float32."""
    flat = np.ascontiguousarray(vectors, dtype=np.float32)
    return pl.Series(flat, dtype=pl.Array(pl.Float32, flat.shape[1]))


def _require_qdrant() -> None:
    try:
        import qdrant_client  # noqa: F401
    except ModuleNotFoundError:
        raise MicrecError(
            '--format qdrant needs qdrant-client: pip install "micrec[qdrant]", or choose parquet.'
        ) from None


def _write_qdrant(bundle: Bundle, folder: Path) -> None:
    """The items as a collection with the distance Dot; a point's number is its place in the index."""
    from qdrant_client import QdrantClient
    from qdrant_client.models import Distance, PointStruct, VectorParams

    client = QdrantClient(path=str(folder))
    try:
        parameters = VectorParams(size=bundle.model.score_dim, distance=Distance.DOT)
        client.create_collection(COLLECTION, vectors_config=parameters)
        items = _items(bundle)
        for start in range(0, len(items), POINTS):
            part = items.slice(start, POINTS)
            payloads = part.drop("vector").rows(named=True)
            vectors = bundle.vectors[start : start + POINTS].tolist()
            points = [
                PointStruct(id=start + place, vector=vector, payload=payload)
                for place, (vector, payload) in enumerate(zip(vectors, payloads, strict=True))
            ]
            client.upsert(COLLECTION, points)
    finally:
        client.close()
