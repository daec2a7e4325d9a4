"""The model library as one call per command, on plain objects: frames in, result objects out.

The names of this package are those of ``micrec``: ``import micrec`` and call ``micrec.train(...)``. Every function
takes a dataset as a ``Dataset`` or as the path of a dataset folder, and raises
``MicrecError`` for a mistake of the caller, with a message that says what to change.
"""

from micrec.api.arguments import resolve_config
from micrec.api.datasets import convert, describe, headroom, load
from micrec.api.evaluation_result import Evaluation
from micrec.api.model_evaluation import evaluate
from micrec.api.model_training import check_model_folder, load_model, train
from micrec.api.trained_model import TrainedModel

__all__ = [
    "Evaluation",
    "TrainedModel",
    "check_model_folder",
    "convert",
    "describe",
    "evaluate",
    "headroom",
    "load",
    "load_model",
    "resolve_config",
    "train",
]
