"""Serving: a FAISS index over the item tower, and the user tower that asks it (paper 4.2)."""

from micrec.retrieval.build import CATALOGUES, Catalogue, bundle_bytes
from micrec.retrieval.bundle import Bundle, load_bundle, save_bundle
from micrec.retrieval.index import (
    DEPTHS,
    INDEX_KINDS,
    DepthRecall,
    IndexKind,
    IndexReport,
    build_index,
    measure_recall,
    search,
    search_width,
)
from micrec.retrieval.many import ListRequest
from micrec.retrieval.retriever import Recommendation, Retriever

__all__ = [
    "CATALOGUES",
    "DEPTHS",
    "INDEX_KINDS",
    "Bundle",
    "Catalogue",
    "DepthRecall",
    "IndexKind",
    "IndexReport",
    "ListRequest",
    "Recommendation",
    "Retriever",
    "build_index",
    "bundle_bytes",
    "load_bundle",
    "measure_recall",
    "save_bundle",
    "search",
    "search_width",
]
