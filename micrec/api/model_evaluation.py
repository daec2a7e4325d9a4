"""Evaluating a trained model, in memory or in a folder."""

from micrec.api.arguments import Part, Settings, StrPath
from micrec.api.datasets import dataset_of
from micrec.api.evaluation_result import Evaluation, evaluate_fitted
from micrec.api.model_training import load_model
from micrec.api.trained_model import TrainedModel
from micrec.config import EvalConfig
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError


def evaluate(
    model: TrainedModel | StrPath,
    data: Dataset | StrPath | None = None,
    *,
    part: Part = "test",
    settings: Settings | EvalConfig | None = None,
    device: str = "auto",
) -> Evaluation:
    """Rank the whole catalogue for every test user, exactly, and compute all metrics, with the baselines beside.

    Args:
        model: A trained model, or the folder of one.
        data: The dataset it was trained on, or its folder; may be left out for a model in memory.
        part: ``test``, or ``valid`` for a model trained with ``train.refit`` false.
        settings: Keys of the evaluation, such as ``{"history": "rolling", "cutoffs": (10, 50)}``, or all of them.
        device: For a model that is read from a folder: ``auto``, ``cpu``, ``cuda`` …

    Returns:
        The metrics of the model and of every baseline.

    Raises:
        MicrecError: If the model was trained on clicks of the part, does not belong to the data, or a key is invalid.

    Examples:
        >>> import micrec, simulator
        >>> data = simulator.make_world("tiny", scale=0.1).dataset
        >>> model = micrec.train(data, settings={"model.name": "fm", "train.epochs": 1})
        >>> sorted(micrec.evaluate(model).baselines)[:2]
        ['ease', 'field_counts']
    """
    if not isinstance(model, TrainedModel):
        if data is None:
            raise MicrecError(f"{model}: a model in a folder needs its data: evaluate(folder, data).")
        model = load_model(model, data, device=device)
    dataset = model.dataset if data is None else dataset_of(data)
    if dataset.fingerprint != model.dataset.fingerprint:
        raise MicrecError(
            f"{dataset.name}: has other user or item ids than {model.dataset.name}, on which the model was trained: "
            "evaluate it on that, or train anew."
        )
    return evaluate_fitted(model.fitted, dataset, part, settings)
