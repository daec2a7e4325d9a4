"""Title embeddings from static token vectors of a pretrained model: files of the package ``wordllama``, read offline.

The package (MIT; D. L. Miller, github.com/dleemiller/WordLlama) ships 32,000 token vectors of 256 numbers and the
tokenizer they belong to. They are read straight from its files: its own loader may ask the network.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.errors import MicrecError

KEY = "contrast.semantic.encoder"
WEIGHTS, VECTORS = "weights/l2_supercat_256.safetensors", "embedding.weight"
TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_CURE = 'pip install "micrec[static]", or set it to tfidf or to an .npy file.'


class StaticModel(NamedTuple):
    """Token vectors and the tokenizer they belong to."""

    vectors: NDArray[np.float32]  # (tokens, 256)
    tokenizer: Any


def encode_static(texts: list[str]) -> NDArray[np.float32]:
    """Mean of the vectors of a text's tokens, shape (N, 256); zero for a text without one.

    No token spans two words, so each distinct word is cut into tokens once, and a text is the sum of its words. White
    space counts as one space. Equal texts have equal embeddings.

    Raises:
        MicrecError: If the package is missing or its files are not as expected.
    """
    model = load_static()
    lists = pl.Series(texts, dtype=pl.String).str.extract_all(r"\S+")
    codes, words = _codes(lists.list.explode(empty_as_null=False))
    of_texts = _counts(codes, lists.list.len().to_numpy(), len(words))  # (N, W)
    found = model.tokenizer.encode_batch(words, add_special_tokens=False)
    ids = np.array([token for one in found for token in one.ids], dtype=np.int64)
    lengths = np.array([len(one.ids) for one in found], dtype=np.int64)
    of_words = _counts(ids, lengths, len(model.vectors))  # (W, tokens)
    total, tokens = of_texts @ (of_words @ model.vectors), of_texts @ lengths.astype(np.float32)
    return total / np.maximum(tokens, 1.0)[:, None]


@cache
def load_static() -> StaticModel:
    """The vectors and the tokenizer of the installed package; read once per process.

    Raises:
        MicrecError: If the package is missing or its files are not as expected.
    """
    found = importlib.util.find_spec("wordllama")  # finds it without importing it
    if found is None or not found.submodule_search_locations:
        raise MicrecError(f"{KEY}: static reads the files of the package wordllama, which is not installed: {_CURE}")
    folder = Path(next(iter(found.submodule_search_locations)))
    try:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        vectors = load_file(folder / WEIGHTS)[VECTORS].astype(np.float32)
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as fault:  # tokenizers raises plain Exception
        raise MicrecError(
            f"{KEY}: static cannot read {WEIGHTS} and {TOKENIZER} of the package wordllama ({fault}): reinstall it, "
            f"{_CURE}"
        ) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return StaticModel(vectors, tokenizer)


def _codes(words: pl.Series) -> tuple[NDArray[np.int64], list[str]]:
    """Each word's place among the distinct ones, and those."""
    distinct = words.unique(maintain_order=True)
    places = pl.DataFrame({"word": distinct, "place": np.arange(len(distinct))})
    codes = words.to_frame("word").join(places, on="word", how="left", maintain_order="left")["place"]
    return codes.to_numpy(), distinct.to_list()


def _counts(parts: NDArray[np.int64], lengths: NDArray[np.integer], n: int) -> Any:
    """A sparse matrix (len(lengths), n): how often each row holds each part, given the parts row by row."""
    from scipy.sparse import csr_matrix

    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return csr_matrix((np.ones(len(parts), np.float32), parts, ends), shape=(len(lengths), n))
