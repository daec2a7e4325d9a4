"""What of a config a dataset has the fields for; the rest is left out with a note before a run."""

import polars as pl

from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.schema import FieldType


def applicable_config(dataset: Dataset, config: Config) -> tuple[Config, list[str]]:
    """The config that this dataset can be trained with, and what was switched off for it, as sentences.

    Without a title a model has no numbers of titles (``model.options.title_dim``), which would all be zero. Without
    one, or where no two titles share a word, the semantic loss has no positives: its weight becomes 0. All else is left
    for ``contrast_sources`` to refuse.
    """
    config, titles = _without_titles(dataset, config)
    config, semantic = _without_semantic_loss(dataset, config)
    return config, [*titles, *semantic]


def _without_titles(dataset: Dataset, config: Config) -> tuple[Config, list[str]]:
    options = config.model.options
    if dataset.schema.roles.title is not None or not getattr(options, "title_dim", 0):
        return config, []
    model = config.model.model_copy(update={"options": options.model_copy(update={"title_dim": 0})})
    note = f"dataset.yaml of {dataset.name} names no title: the model has no numbers of titles."
    return config.model_copy(update={"model": model}), [note]


def _without_semantic_loss(dataset: Dataset, config: Config) -> tuple[Config, list[str]]:
    semantic, title = config.contrast.semantic, dataset.schema.roles.title
    if semantic.weight == 0 or semantic.source != "title" or semantic.encoder.endswith(".npy"):
        return config, []
    if title is None:
        why = f"dataset.yaml of {dataset.name} names no title"
    elif semantic.encoder == "tfidf" and title in dataset.items.frame.columns and not _share_words(dataset, title):
        why = f"no two items of {dataset.name} share a word in {title!r}"
    else:
        return config, []
    texts = [name for name, kind in dataset.schema.items.items() if kind is FieldType.TEXT and name != title]
    cure = f"set roles.title to {texts[0]}" if texts else "convert with a text field for roles.title"
    off = {"contrast": config.contrast.model_copy(update={"semantic": semantic.model_copy(update={"weight": 0.0})})}
    note = (
        f"The semantic loss is off: {why}. To have it, {cure}, or use other positives: contrast.semantic.source "
        "taxonomy or content."
    )
    return config.model_copy(update=off), [note]


def _share_words(dataset: Dataset, title: str) -> bool:
    """Whether any word stands in the titles of two items; without one no two titles are similar."""
    words = dataset.items.frame[title].cast(pl.String).str.to_lowercase().str.extract_all(r"\w+").list.unique()
    return bool(words.explode().drop_nulls().is_duplicated().any())
