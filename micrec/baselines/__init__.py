"""Baselines by name: models without training that stand beside every trained one. Nothing here needs torch.

To add one, write its function in a file of this folder and name it here. Another package calls
``BASELINES.register`` or declares an entry point of the group ``micrec.baselines``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from micrec.registry import Registry, loaded


@dataclass(frozen=True)
class BaselineModel:
    """A model that needs no training.

    Attributes:
        label: Its name in prose.
        fit: Function of a ``micrec.baselines.baseline_inputs.BaselineInputs`` that returns
            ``micrec.baselines.baseline_scores.BaselineScores``; or where it is, as ``module:function``.
        most_items: With clicks, above which it is not asked, since its memory grows with their square; None: any.
        missing: Function of a ``Dataset`` that returns what it lacks for this baseline, as "it has no titles", or None
            where it lacks nothing; or where it is; None: every dataset will do.
        is_ceiling: Whether it knows what no model can know, such as a world's ground truth: it stands in the tables,
            and no model is blamed for not passing it.
    """

    label: str
    fit: str | Callable[..., Any]
    most_items: int | None = None
    missing: str | Callable[..., str | None] | None = None
    is_ceiling: bool = False

    def load(self) -> Any:
        """The function; imports torch."""
        return loaded(self.fit)

    def lacks(self, dataset: Any) -> str | None:
        """Why it cannot be asked on a dataset; None if it can."""
        return None if self.missing is None else loaded(self.missing)(dataset)


BASELINES: Registry[BaselineModel] = Registry(
    "baseline",
    "baselines",
    {
        "popularity": BaselineModel("popularity", "micrec.baselines.popularity:popularity"),
        "recent_popularity": BaselineModel("recent popularity", "micrec.baselines.recent_popularity:recent_popularity"),
        "segment_popularity": BaselineModel(
            "segment popularity",
            "micrec.baselines.segment_popularity:segment_popularity",
            missing="micrec.baselines.segment_popularity:no_user_fields",
        ),
        "item_knn": BaselineModel("item-kNN", "micrec.baselines.item_knn:item_knn"),
        "item_knn_bm25": BaselineModel("item-kNN with BM25", "micrec.baselines.item_knn_bm25:item_knn_bm25"),
        "ease": BaselineModel("EASE", "micrec.baselines.ease:ease", most_items=200_000),
        "ials": BaselineModel("iALS", "micrec.baselines.ials:ials", missing="micrec.baselines.ials:not_installed"),
        "title_knn": BaselineModel(
            "title-kNN",
            "micrec.baselines.title_knn:title_knn",
            most_items=100_000,
            missing="micrec.baselines.title_knn:no_titles",
        ),
        "tag_knn": BaselineModel(
            "tag-kNN",
            "micrec.baselines.tag_knn:tag_knn",
            most_items=100_000,
            missing="micrec.baselines.tag_knn:no_tags",
        ),
        "field_counts": BaselineModel(
            "counts of a field",
            "micrec.baselines.field_counts:field_counts",
            missing="micrec.baselines.field_counts:no_fields",
        ),
        "transitions": BaselineModel("transitions", "micrec.baselines.transitions:transitions"),
    },
)


def simple_baselines() -> tuple[str, ...]:
    """Every registered baseline that knows no more than a model may: what ``baselines: all`` stands for."""
    return tuple(name for name, model in BASELINES.items() if not model.is_ceiling)
