"""Multi-granularity item-based contrastive learning for matching (Xie et al., DASFAA 2023).

``import micrec`` takes no time: each name below is imported when it is first used, PyTorch with the first model.

Examples:
    A model on your own log, from frames to a list of items:

    >>> import micrec, simulator
    >>> log = simulator.make_world("tiny", scale=0.1).dataset.to_frame()  # or your own frame of clicks
    >>> data = micrec.convert(log, name="shop")
    >>> micrec.describe(data).users
    300
    >>> model = micrec.train(data, settings={"model.name": "fm", "train.epochs": 1, "train.device": "cpu"})
    >>> result = micrec.evaluate(model)
    >>> 0.0 <= result.metrics["hit@50"] <= 1.0
    True
    >>> retriever = model.retriever()
    >>> len(retriever.recommend(log["user_id"][0], k=5).item_ids)
    5
"""

from typing import TYPE_CHECKING

from micrec.lazy_exports import lazy_exports
from micrec.version import __version__ as __version__

if TYPE_CHECKING:
    from micrec.api import Evaluation, TrainedModel, convert, describe, evaluate, headroom, load, load_model, train
    from micrec.data.dataset import Dataset
    from micrec.data.describe import DatasetStatistics
    from micrec.errors import MicrecError
    from micrec.progress import LineProgress
    from micrec.retrieval.retriever import Recommendation, Retriever
    from micrec.signals.headroom_result import Headroom
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "micrec.api": (
                *("convert", "describe", "evaluate", "headroom", "load", "load_model", "train"),
                *("Evaluation", "TrainedModel"),
            ),
            "micrec.data.dataset": ("Dataset",),
            "micrec.data.describe": ("DatasetStatistics",),
            "micrec.errors": ("MicrecError",),
            "micrec.progress": ("LineProgress",),
            "micrec.signals.headroom_result": ("Headroom",),
            "micrec.retrieval.retriever": ("Recommendation", "Retriever"),
        },
    )

__all__ = [
    "Dataset",
    "DatasetStatistics",
    "Evaluation",
    "Headroom",
    "LineProgress",
    "MicrecError",
    "Recommendation",
    "Retriever",
    "TrainedModel",
    "convert",
    "describe",
    "evaluate",
    "headroom",
    "load",
    "load_model",
    "train",
]
