"""Training a model, and reading a trained one back."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from micrec.api.arguments import Settings, StrPath, resolve_config
from micrec.api.datasets import dataset_of
from micrec.api.trained_model import CHECKPOINT, MODEL, TrainedModel
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.progress import Progress


def train(
    data: Dataset | StrPath,
    out: StrPath | None = None,
    *,
    preset: str | None = None,
    config: Config | Mapping[str, Any] | StrPath | None = None,
    settings: Settings | None = None,
    device: str | None = None,
    start_from: StrPath | None = None,
    tensorboard: StrPath | None = None,
    mlflow: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> TrainedModel:
    """Train one two-tower model.

    Args:
        data: The dataset, or its folder.
        out: Folder for the model and its checkpoint: an interrupted training found there goes on where it stopped.
            None keeps the model in memory.
        preset: ``paper``, ``modern`` or ``best``: the defaults of every key; None: that of ``config``, else ``paper``.
        config: A whole config, a mapping of its keys, or a YAML file of them.
        settings: Keys laid over the config: ``{"model.name": "fm", "train.epochs": 3}``.
        device: ``auto``, ``cpu``, ``cuda`` …; short for ``settings={"train.device": …}``.
        start_from: Folder of an earlier model of the same base, trained on earlier days of a growing log: what it
            learned of users, items and values that are still there is where this training starts.
        tensorboard: Folder for TensorBoard's event files: losses and the validation metric while it trains.
        mlflow: Tracking URI of MLflow, for the same.
        overwrite: Replace a finished model in ``out``.
        progress: Where to report; ``micrec.LineProgress()`` prints.

    Returns:
        The model; ``to_frame()`` has the losses epoch by epoch.

    Raises:
        MicrecError: If a key is unknown or out of range, the data cannot be trained on, or ``out`` is taken.

    Examples:
        >>> import micrec, simulator
        >>> data = simulator.make_world("tiny", scale=0.1).dataset
        >>> model = micrec.train(data, settings={"model.name": "fm", "train.epochs": 1, "train.device": "cpu"})
        >>> model.to_frame()["phase"].to_list()
        ['search', 'refit']
    """
    from micrec.checkpoint import remove_checkpoint
    from micrec.estimates.memory import say_memory
    from micrec.estimates.training_memory import training_memory
    from micrec.fitting import fit
    from micrec.sharded.rank_group import present
    from micrec.tracking.tracking import tracked
    from micrec.warm_start import EarlierModel

    resolved = resolve_config(preset, config, settings, device)
    folder, group = None if out is None else Path(out), present()
    if folder is not None:
        source = data.folder if isinstance(data, Dataset) else Path(data)
        file = Path(config) if isinstance(config, str | PathLike) else None
        inputs, target = [path for path in (source, file) if path is not None], folder
        group.by_first(lambda: check_model_folder(target, *inputs, overwrite=overwrite))
    earlier = None if start_from is None else EarlierModel.read(Path(start_from) / MODEL)
    dataset = group.one_first(lambda: dataset_of(data, progress))
    if progress is not None:
        memory = training_memory(dataset, resolved, keeps_checkpoint=folder is not None, processes=group.size)
        each = "" if group.alone else f"each of {group.size} processes, the first of them at most,"
        say_memory(progress, memory, processes=group.size_here, each=each)
    _use_threads(resolved)
    with tracked(None if tensorboard is None else Path(tensorboard), mlflow):
        model = TrainedModel(fit(dataset, resolved, folder=folder, progress=progress, earlier=earlier), dataset)
    if folder is None:
        return model

    def save() -> None:
        model.save(target, overwrite=overwrite)
        remove_checkpoint(target / CHECKPOINT)

    group.by_first(save)
    return TrainedModel(model.fitted, dataset, folder)


def check_model_folder(folder: Path, *inputs: Path, overwrite: bool) -> None:
    """Stop before a training whose model could not be written to ``folder``, or would harm what it is made from.

    Raises:
        MicrecError: If the folder is taken, is or holds one of the inputs, cannot be written, or its disk is full.
    """
    from micrec.artifact import refuse_taken
    from micrec.destination import check_destination, refuse_around

    check_destination(folder, *inputs, what="the model")
    refuse_taken(folder / MODEL, "model", overwrite=overwrite)
    for part in (MODEL, CHECKPOINT):
        refuse_around(folder / part, *inputs)


def load_model(folder: StrPath, data: Dataset | StrPath, *, device: str = "auto") -> TrainedModel:
    """Read a model back for the dataset it was trained on.

    Args:
        folder: A folder that ``micrec train``, ``train`` or ``save`` wrote.
        data: The dataset it was trained on, or its folder.
        device: ``auto``, ``cpu``, ``cuda`` …

    Raises:
        MicrecError: If the folder holds no finished model, is damaged, or belongs to other data.

    Examples:
        >>> import micrec, simulator
        >>> data = simulator.make_world("tiny", scale=0.1).dataset
        >>> saved = micrec.train(data, "fm", settings={"model.name": "fm", "train.epochs": 1})
        >>> micrec.load_model("fm", data).config.model.name
        'fm'
    """
    from micrec.model_folder import load_model as read_model
    from micrec.sharded.rank_group import present

    path, dataset = Path(folder), present().one_first(lambda: dataset_of(data))
    if not (path / MODEL).is_dir():
        if (path / CHECKPOINT).is_dir():
            raise MicrecError(f"{path}: its training is unfinished: give the same micrec train command again.")
        raise MicrecError(f"{path}: holds no trained model: give the folder that micrec train wrote.")
    return TrainedModel(read_model(path / MODEL, dataset, device=device), dataset, path)


def _use_threads(config: Config) -> None:
    if config.train.threads is not None:
        from micrec.threads import use_threads

        use_threads(config.train.threads)
