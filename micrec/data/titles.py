"""Title embeddings (paper 3.4): TF-IDF + SVD, static token vectors, a sentence-transformers model, or a file.

``ENCODERS`` holds those that have a name; any other name is a sentence-transformers model.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from micrec.errors import MicrecError

KEY = "contrast.semantic.encoder"


def encode_titles(titles: Sequence[str | None], *, encoder: str, svd_dim: int) -> NDArray[np.float32]:
    """Embed the title of every item.

    Args:
        titles: One title per item, in the order of the dense ids, length N; null or blank = missing.
        encoder: ``tfidf``; ``static``; the path of an ``.npy`` file with one row per item in that order; else the name
            or folder of a sentence-transformers model.
        svd_dim: Dimensions kept by ``tfidf``; unused by the others.

    Returns:
        Embeddings, shape (N, D), each of length 1, or zero: a missing title, one without a word (``tfidf``), or a
        zero row of the file. The rows of a file are taken as they are, whatever the titles.

    Raises:
        MicrecError: If the file, the model, or the package it needs cannot be used.
    """
    if encoder.endswith(".npy"):
        return _unit_rows(_load_embeddings(Path(encoder), len(titles)))
    rows = [row for row, title in enumerate(titles) if title is not None and title.strip()]
    texts = [str(titles[row]).strip() for row in rows]
    if not texts:
        return np.zeros((len(titles), 1), dtype=np.float32)
    named = ENCODERS.get(encoder)
    found = _encode_sentences(texts, encoder) if named is None else named(texts, svd_dim)
    embeddings = np.zeros((len(titles), found.shape[1]), dtype=np.float32)
    embeddings[rows] = _unit_rows(found)
    return embeddings


def _unit_rows(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; zero rows stay zero."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.divide(embeddings, norms, out=np.zeros_like(embeddings), where=norms > 0)


def _encode_tfidf(texts: list[str], svd_dim: int) -> NDArray[np.float32]:
    """TF-IDF of words and word pairs, reduced by a truncated SVD; a smaller vocabulary is kept whole.

    Every row is projected on its own, so that equal titles have equal embeddings. The SVD is seeded.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", sublinear_tf=True, dtype=np.float32)
    try:
        tfidf = vectorizer.fit_transform(texts)  # (N, words and pairs), sparse
    except ValueError as fault:
        if "empty vocabulary" not in str(fault):
            raise
        return np.zeros((len(texts), 1), dtype=np.float32)
    if tfidf.shape[1] <= svd_dim:
        return tfidf.toarray()
    svd = TruncatedSVD(n_components=min(svd_dim, len(texts)), random_state=0).fit(tfidf)
    return svd.transform(tfidf)


def _load_embeddings(path: Path, n_items: int) -> NDArray[np.float32]:
    """A float matrix with one finite row per item, read without pickle."""
    try:
        embeddings = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise MicrecError(f"{KEY}: {path}: no such file: give the path of an .npy file, or set it to tfidf.") from None
    except (OSError, ValueError, EOFError) as fault:
        raise MicrecError(
            f"{KEY}: {path}: not a readable array ({fault}): write it with numpy.save from a float32 matrix."
        ) from None
    if not isinstance(embeddings, np.ndarray) or not np.issubdtype(embeddings.dtype, np.floating):
        kind = getattr(embeddings, "dtype", type(embeddings).__name__)
        raise MicrecError(f"{KEY}: {path}: holds {kind}: it must hold floats; save it as float32.")
    if embeddings.ndim != 2 or len(embeddings) != n_items or not embeddings.shape[1]:
        raise MicrecError(
            f"{KEY}: {path}: shape {embeddings.shape} does not fit {n_items:,} items: it must be ({n_items}, D), "
            "row i for the i-th row of items.parquet."
        )
    with np.errstate(over="ignore"):
        embeddings = embeddings.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        raise MicrecError(
            f"{KEY}: {path}: {len(bad):,} of {n_items:,} rows hold NaN or infinity, first rows "
            f"{', '.join(map(str, bad[:5]))}: write zeros for items without an embedding."
        )
    return embeddings


def _encode_sentences(texts: list[str], model_name: str) -> NDArray[np.float32]:
    """Embed with sentence-transformers; equal titles are encoded once. Weights are read from safetensors only."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise MicrecError(
            f"{KEY}: {model_name!r} is a sentence-transformers model, and that package is not installed: "
            'pip install "micrec[bert]", or set it to tfidf, static or an .npy file.'
        ) from None
    try:
        model = SentenceTransformer(model_name, model_kwargs={"use_safetensors": True})
    except (OSError, ValueError) as fault:
        raise MicrecError(
            f"{KEY}: cannot load the sentence-transformers model {model_name!r} ({fault}): check the name or the "
            "folder, or set it to tfidf, static or an .npy file."
        ) from fault
    distinct, inverse = np.unique(np.asarray(texts, dtype=object), return_inverse=True)
    embeddings = np.asarray(model.encode(distinct.tolist(), convert_to_numpy=True, show_progress_bar=False))
    return embeddings[inverse].astype(np.float32)


def _static(texts: list[str], svd_dim: int) -> NDArray[np.float32]:
    from micrec.data.static_titles import encode_static

    return encode_static(texts)


ENCODERS: Mapping[str, Callable[[list[str], int], NDArray[np.float32]]] = {"tfidf": _encode_tfidf, "static": _static}
"""Encoders by name: functions of texts, none blank, and of the dimensions to keep, that return rows (N, D)."""
