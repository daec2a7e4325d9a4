"""The model library as one call per command, on plain objects: frames in, result objects out.

The names of this module are those of the package: ``import micrec`` and call ``micrec.train(...)``. Every function
takes a dataset as a ``Dataset`` or as the path of a dataset folder, and raises
``MicrecError`` for a mistake of the caller, with a message that says what to change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import polars as pl

from micrec.config import Config, EvalConfig, SessionsConfig, SplitConfig
from micrec.data.dataset import Dataset
from micrec.data.describe import DatasetStatistics
from micrec.data.describe import describe as count
from micrec.data.readers import DatasetFrames
from micrec.data.store import dataset_of_frames, read_dataset, write_dataset
from micrec.errors import MicrecError
from micrec.frames import Frame, as_frame
from micrec.notebook import Displayed, ResultTable
from micrec.progress import Progress
from micrec.settings import as_mapping, build_config, load_yaml, merge, nested, validate

if TYPE_CHECKING:
    from micrec.evaluation import EvalResult
    from micrec.fitting import Fitted
    from micrec.retrieval import Catalogue, IndexKind, Retriever
    from micrec.signals.headroom_result import Headroom

StrPath: TypeAlias = str | PathLike[str]
Part: TypeAlias = Literal["test", "valid"]
Settings: TypeAlias = Mapping[str, Any]
"""Keys of a config with their values; dots part levels, as in ``{"train.epochs": 2}``."""

MODEL, CHECKPOINT = "model", "checkpoint"  # folders in the one that ``train`` writes


# -- data ------------------------------------------------------------------------------------------------------------


def load(folder: StrPath, *, mapped: bool | None = None, progress: Progress | None = None) -> Dataset:
    """Read a dataset folder, with every check.

    Args:
        folder: A folder that ``micrec convert`` or ``micrec world`` wrote.
        mapped: Whether the clicks are mapped from encoded columns on disk, as after ``micrec encode``, instead of read
            into memory. None: where the folder has such columns, or the log would take half of the memory.
        progress: Where to report; ``micrec.LineProgress()`` prints.

    Returns:
        The dataset: encoded user and item tables, and the clicks in time order.

    Raises:
        MicrecError: Naming every error found, with file, column, count, first rows, and cure.

    Examples:
        >>> import micrec, simulator
        >>> world = simulator.make_world("tiny", scale=0.1, out="tiny")
        >>> len(micrec.load("tiny").clicks)
        4795
    """
    return read_dataset(Path(folder), mapped=mapped, progress=progress)


def convert(
    clicks: Frame | StrPath,
    out: StrPath | None = None,
    *,
    users: Frame | StrPath | None = None,
    items: Frame | StrPath | None = None,
    reader: str = "auto",
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    timezone: str | None = None,
    settings: Settings | None = None,
    overwrite: bool = False,
) -> Dataset:
    """Turn a click log, in memory or in files, into a dataset.

    Args:
        clicks: ``user_id, item_id, timestamp`` and any of ``dwell_s, like, follow``: a Polars or pandas frame, columns
            by name as NumPy arrays, or the path of a file or folder in a layout that a reader knows.
        out: Dataset folder to write; None keeps the dataset in memory.
        users: ``user_id`` and the user fields, a frame or a path; None makes the table of the ids in the clicks.
        items: ``item_id`` and the item fields, likewise.
        reader: Name of a reader, as ``micrec convert --list`` prints them, for paths; "auto" recognises the layout.
        name: Name of the dataset; by default that of the file, or ``clicks``.
        columns: Their names of columns by ours: ``{"user_id": "CustomerID"}``.
        timezone: Zone of times that name none, and of the days: ``Europe/Oslo``. Default: UTC.
        settings: Further options of the reader, such as ``{"types.genres": "text", "ids": "lower"}``.
        overwrite: Replace a dataset in ``out``.

    Returns:
        The dataset. What was left out and assumed stands in its ``repr``, and in ``schema.provenance``.

    Raises:
        MicrecError: If a table is invalid, all errors at once, an option is unknown, or ``out`` is taken.

    Examples:
        >>> import micrec, numpy as np
        >>> log = {"user_id": [1, 1, 2], "item_id": ["a", "b", "a"], "timestamp": np.array([0, 60, 90]) + 1_600_000_000}
        >>> micrec.convert(log, name="three").to_frame()["item_id"].to_list()
        ['a', 'b', 'a']
    """
    folder = None if out is None else Path(out)
    frames = _frames(clicks, users, items, folder, reader, columns, timezone, settings)
    schema = frames.schema if name is None else frames.schema.model_copy(update={"name": name})
    if folder is None:
        return dataset_of_frames(schema, frames.users, frames.items, frames.clicks)
    write_dataset(folder, schema, frames.users, frames.items, frames.clicks, overwrite=overwrite)
    return read_dataset(folder)


def describe(
    data: Dataset | StrPath,
    *,
    test_fraction: float | None = None,
    test_days: int | None = None,
    progress: Progress | None = None,
) -> DatasetStatistics:
    """Count a dataset as Table 1 of the paper does, and say how its clicks are spread.

    Args:
        data: The dataset, or its folder.
        test_fraction: Last share of the clicks that is the test period; default 0.2.
        test_days: Last whole days that are the test period, instead of a share.
        progress: Where to report.

    Returns:
        The figures as attributes; ``to_frame()`` and ``to_dict()`` have them all.

    Raises:
        MicrecError: If the dataset cannot be read, or the split leaves a part empty.

    Examples:
        >>> import micrec, simulator
        >>> figures = micrec.describe(simulator.make_world("tiny", scale=0.1).dataset, test_days=1)
        >>> figures.clicks, figures.test
        (4795, 431)
    """
    given = {"test_fraction": test_fraction, "test_days": test_days}
    split = validate(SplitConfig, {key: value for key, value in given.items() if value is not None}, where="split")
    return count(_dataset(data, progress), split, SessionsConfig(), progress=progress)


def headroom(
    data: Dataset | StrPath,
    *,
    test_fraction: float | None = None,
    test_days: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> "Headroom":
    """Measure, before any training, how well titles, tags, fields and sessions of a log predict later clicks.

    Args:
        data: The dataset, or its folder.
        test_fraction: Last share of the clicks that is to be predicted; default 0.2.
        test_days: Last whole days that are, instead of a share.
        seed: Of the sample of users and of the items that later clicks are compared with.
        progress: Where to report.

    Returns:
        For each signal an AUC with its interval over users, by how often the items had been clicked.

    Raises:
        MicrecError: If the dataset cannot be read, a part of the split is empty, or no user of the test has earlier
            clicks.

    Examples:
        >>> import micrec, simulator
        >>> found = micrec.headroom(simulator.make_world("tiny", scale=0.1).dataset)
        >>> [signal.name for signal in found.signals][:2]
        ['titles', 'tags']
    """
    from micrec.signals.headroom_result import measure

    given = {"test_fraction": test_fraction, "test_days": test_days}
    split = validate(SplitConfig, {key: value for key, value in given.items() if value is not None}, where="split")
    return measure(_dataset(data, progress), split, SessionsConfig(), seed=seed, progress=progress)


# -- one model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class TrainedModel(Displayed):
    """A trained two-tower model and the dataset it belongs to.

    Attributes:
        fitted: The towers, the encoded fields and the config, for the functions of the package.
        dataset: What it was trained on.
        folder: Where it lies on disk; None if it is in memory only.
    """

    fitted: "Fitted"
    dataset: Dataset
    folder: Path | None = None

    @property
    def config(self) -> Config:
        """Every switch of the training; losses that the data rule out are off in it."""
        return self.fitted.config

    def to_frame(self) -> pl.DataFrame:
        """The training epoch by epoch.

        Returns:
            ``phase`` (search or refit), ``epoch``, ``samples``, ``seconds``, ``validation`` (the value of
            ``train.metric``, null in a refit), and a column ``loss_…`` (nats) for each loss that was on.
        """
        rows = [
            {
                **{key: epoch[key] for key in ("phase", "epoch", "samples", "seconds")},
                "validation": epoch["metric"],
                **{f"loss_{name}": value for name, value in epoch["losses"].items()},
            }
            for epoch in self.fitted.state.log
        ]
        return pl.DataFrame(rows, infer_schema_length=None)

    def to_dict(self) -> dict[str, Any]:
        """The model's name, the switches that differ from its preset, and what the training cost."""
        from micrec.comparison import switches
        from micrec.config import model_label
        from micrec.experiment import training_info

        info = {key: value for key, value in training_info(self.fitted).items() if key != "log"}
        return {"model": model_label(self.config), "switches": switches(self.config), **info}

    def save(self, folder: StrPath, *, overwrite: bool = False) -> "TrainedModel":
        """Write the model to a folder that ``micrec evaluate``, ``micrec index`` and ``load_model`` read.

        Args:
            folder: Where to; it appears whole or not at all.
            overwrite: Replace a model that lies there.

        Returns:
            The same model, with its folder.

        Raises:
            MicrecError: If the folder is taken or cannot be written.
        """
        from micrec.model_folder import save_model

        save_model(self.fitted, self.dataset, Path(folder) / MODEL, overwrite=overwrite)
        return TrainedModel(self.fitted, self.dataset, Path(folder))

    def evaluate(self, *, part: Part = "test", settings: Settings | None = None) -> "Evaluation":
        """As ``evaluate`` of this model on its dataset."""
        return evaluate(self, part=part, settings=settings)

    def retriever(
        self, *, kind: "IndexKind" = "flat", catalogue: "Catalogue" = "train", k: int | None = None
    ) -> "Retriever":
        """Index the items for serving, as ``micrec index`` does.

        Args:
            kind: ``flat`` searches exactly, ``ivf``, ``ivfpq``, ``hnsw`` and ``tree`` approximately.
            catalogue: ``train``: items with training clicks; ``all``: every item.
            k: One more list length at which agreement with exact search is measured, beside 10, 50, 100 and 500.

        Returns:
            A ``Retriever``; its ``save`` writes a bundle.
        """
        from micrec.retrieval import Retriever

        return Retriever.build(self.fitted, self.dataset, kind=kind, catalogue=catalogue, k=k)

    def _lines(self) -> list[str]:
        told = self.to_dict()
        where = f", in {self.folder}" if self.folder is not None else ""
        head = f"{told['model']} on {self.dataset.name}{where}: {told['parameters']:,} parameters"
        return [head, told["switches"], f"best epoch {told['best_epoch']}, {told['train_s']:.1f} s of training"]


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
    dataset = group.one_first(lambda: _dataset(data, progress))
    if progress is not None:
        say_memory(progress, training_memory(dataset, resolved, keeps_checkpoint=folder is not None))
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

    path, dataset = Path(folder), present().one_first(lambda: _dataset(data))
    if not (path / MODEL).is_dir():
        if (path / CHECKPOINT).is_dir():
            raise MicrecError(f"{path}: its training is unfinished: give the same micrec train command again.")
        raise MicrecError(f"{path}: holds no trained model: give the folder that micrec train wrote.")
    return TrainedModel(read_model(path / MODEL, dataset, device=device), dataset, path)


@dataclass(frozen=True, repr=False)
class Evaluation(Displayed):
    """All offline metrics of a model on one part of the clicks, with the baselines beside.

    Attributes:
        dataset: Name of the dataset.
        part: ``test`` or ``valid``.
        switches: Preset and keys that the model was trained with, in one line.
        models: Results by name, the trained model first, the baselines after it.
    """

    dataset: str
    part: Part
    switches: str
    models: "Mapping[str, EvalResult]" = field(repr=False)

    @property
    def model(self) -> str:
        """Name of the trained model."""
        return next(iter(self.models))

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric of the trained model by its full name, such as ``hit@50``."""
        return dict(self.models[self.model].metrics)

    @property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Every metric of each baseline, by its name."""
        return {name: dict(found.metrics) for name, found in self.models.items() if name != self.model}

    def to_frame(self) -> pl.DataFrame:
        """One row per model, slice and metric.

        Returns:
            ``model``, ``slice`` (``all`` for everybody), ``metric``, ``value``, and ``users`` and ``lines``: how many
            users and test clicks the value is made of.
        """
        rows = [
            (name, part, metric, value, users, lines)
            for name, found in self.models.items()
            for part, users, lines, metrics in (
                ("all", found.users, found.lines, found.metrics),
                *((key, one.users, one.lines, one.metrics) for key, one in found.slices.items()),
            )
            for metric, value in metrics.items()
        ]
        schema = {"model": pl.String, "slice": pl.String, "metric": pl.String, "value": pl.Float64}
        return pl.DataFrame(rows, schema={**schema, "users": pl.Int64, "lines": pl.Int64}, orient="row")

    @property
    def verdict(self) -> str:
        """Whether the model's HIT is above that of the baselines over the test users, as a sentence."""
        from micrec.evaluation.standing import standings, verdict

        return verdict(standings(self.models), self.models[self.model])

    def to_dict(self) -> dict[str, Any]:
        """What ``micrec evaluate --json`` prints."""
        from micrec.comparison import results_as_dict

        head = {"dataset": self.dataset, "part": self.part, "switches": self.switches}
        return {**head, **results_as_dict(dict(self.models), self.part)}

    def _lines(self) -> list[str]:
        from micrec.evaluation.notes import judged_lines

        told = self.to_dict()
        return [
            f"{self.model} on {self.dataset}, {self.part} part",
            f"Verdict: {self.verdict}.",
            *judged_lines(self.models[self.model].reach, self.part),
            *(f"warning: {text}" for text in told["warnings"]),
            *(f"note: {text}" for text in told["notes"]),
            self.switches,
        ]

    def _tables(self) -> list[ResultTable]:
        from micrec.comparison import other_metrics

        found = self.models[self.model]
        ceilings = {"random lists": found.reach.chance, "highest possible": found.reach.ceiling}
        others = [metric for metrics in other_metrics(dict(self.models)).values() for metric in metrics]
        rows = [
            (name, *(f"{one.metrics[name]:.4f}" if name in one.metrics else "" for one in self.models.values()))
            for name in others
        ]
        return [
            self._by_cutoff("HIT@N", "hit", ceilings),
            self._by_cutoff("coverage@N", "coverage", {}),
            ResultTable("Every other metric", ("metric", *self.models), rows, folded=True),
        ]

    def _by_cutoff(self, title: str, kind: str, more: Mapping[str, Mapping[int, float]]) -> ResultTable:
        from micrec.comparison import told_s

        cutoffs = self.models[self.model].cutoffs
        values = {name: {n: one.metrics[f"{kind}@{n}"] for n in cutoffs} for name, one in self.models.items()}
        rows = [(name, *(f"{of[n]:.4f}" for n in cutoffs)) for name, of in {**values, **more}.items()]
        if kind != "hit":
            return ResultTable("", (title, *map(str, cutoffs)), rows)
        seconds = {name: told_s(one.seconds) for name, one in self.models.items()}
        timed = [(*row, seconds.get(row[0], "")) for row in rows]
        return ResultTable("", (title, *map(str, cutoffs), "seconds"), timed)


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
    from micrec.comparison import compare_with_baselines, switches

    if part not in ("test", "valid"):
        raise MicrecError(f"part: must be one of test, valid, got {part}.")
    if not isinstance(model, TrainedModel):
        if data is None:
            raise MicrecError(f"{model}: a model in a folder needs its data: evaluate(folder, data).")
        model = load_model(model, data, device=device)
    dataset = model.dataset if data is None else _dataset(data)
    if dataset.fingerprint != model.dataset.fingerprint:
        raise MicrecError(
            f"{dataset.name}: has other user or item ids than {model.dataset.name}, on which the model was trained: "
            "evaluate it on that, or train anew."
        )
    if not isinstance(settings, EvalConfig):
        given = merge(model.config.evaluation.model_dump(), nested(settings or {}))
        settings = validate(EvalConfig, given, where="settings")
    fitted = model.fitted.with_evaluation(settings)
    return Evaluation(dataset.name, part, switches(fitted.config), compare_with_baselines(fitted, dataset, part))


def resolve_config(
    preset: str | None = None,
    config: Config | Mapping[str, Any] | StrPath | None = None,
    settings: Settings | None = None,
    device: str | None = None,
) -> Config:
    """The whole config of a training: a preset, keys over it, and settings over those.

    Args:
        preset: ``paper`` or ``modern``; None: that of ``config``, else ``paper``.
        config: A whole config, a mapping of its keys, or a YAML file of them.
        settings: Keys with dots, laid over the config.
        device: Laid over the rest as ``train.device``, if it is given.

    Raises:
        MicrecError: If a key is unknown or out of range, or two presets are named.
    """
    if isinstance(config, Config):
        keys: Mapping[str, Any] = config.model_dump()
    elif isinstance(config, Mapping):
        keys = nested(config, where="config")
    else:
        keys = load_yaml(Path(config)) if config is not None else {}
    more = {"train": {"device": device}} if device is not None else {}
    chosen = preset if preset is not None else str(keys.get("preset", "paper"))
    return build_config(chosen, merge(keys, nested(settings or {}), more))


# -- helpers ---------------------------------------------------------------------------------------------------------


def _dataset(data: Dataset | StrPath, progress: Progress | None = None) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, str | PathLike):
        raise MicrecError(
            f"data: is a {type(data).__name__}: give a dataset, as convert and load return, or its folder."
        )
    return load(data, progress=progress)


def _frames(
    clicks: Frame | StrPath,
    users: Frame | StrPath | None,
    items: Frame | StrPath | None,
    out: Path | None,
    reader: str,
    columns: Mapping[str, str] | None,
    timezone: str | None,
    settings: Settings | None,
) -> DatasetFrames:
    """What a reader makes of paths, or the reader of plain tables of frames."""
    from micrec.data.convert import TableReaderConfig, check_out, choose_reader, read_tables
    from micrec.destination import check_destination

    tables = {name: _table(name, one) for name, one in (("clicks", clicks), ("users", users), ("items", items))}
    own = {"columns": as_mapping("columns", columns) or None, "timezone": timezone}
    options = merge(nested(settings or {}), {key: value for key, value in own.items() if value is not None})
    log = tables["clicks"]
    if isinstance(log, Path) and not any(isinstance(one, pl.DataFrame) for one in tables.values()):
        beside = {name: str(tables[name]) for name in ("users", "items") if tables[name] is not None}
        _, chosen, checked = choose_reader(reader, log, merge(options, beside))
        if out is not None:
            check_out(out, log, checked)
        return chosen.read(log, checked)
    if reader not in ("auto", "table"):
        raise MicrecError(f"reader: {reader!r} reads files: give paths, or leave the reader out for frames.")
    if out is not None:
        read = [one for one in tables.values() if isinstance(one, Path)]
        check_destination(out, *read, replaced=True, what="the dataset")
    plain = validate(TableReaderConfig, options, where="settings")
    assert log is not None
    return read_tables(log, plain, users=tables["users"], items=tables["items"], schema=plain.schema_file)


def _table(name: str, given: Frame | StrPath | None) -> Path | pl.DataFrame | None:
    return Path(given) if isinstance(given, str | PathLike) else None if given is None else as_frame(given, name)


def _use_threads(config: Config) -> None:
    if config.train.threads is not None:
        from micrec.threads import use_threads

        use_threads(config.train.threads)
