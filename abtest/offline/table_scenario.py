"""The scenario of a table: rows of models on datasets, what is compared, and which orderings are claimed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PositiveFloat

from micrec.baselines import BASELINES, simple_baselines
from micrec.bounds import Repeats, Seed
from micrec.config import Config, Frozen
from micrec.item_loss_kinds import ITEM_LOSSES
from micrec.named import NameIn
from micrec.settings import build_config, merge
from simulator.world.world_config import WorldConfig

Loss = Annotated[str, NameIn(ITEM_LOSSES)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Family = Literal["primary", "secondary", "slice"]  # effects whose p-values Holm's method adjusts together
BASELINE, CEILING = "baseline", "ceiling"  # sorts of rows without training; no model is expected to pass a ceiling
EVERY_BASELINE = "baselines"  # among the rows that a row is compared with
ALL = "all"  # the slice that is everybody; and every baseline


def named_baselines(given: Any) -> Any:
    """The names that ``all`` stands for; any other value as it is."""
    if given == ALL:
        return simple_baselines()
    return tuple(given) if isinstance(given, list) else given


_Names = tuple[Annotated[str, NameIn(BASELINES)], ...]
BaselineNames = Annotated[_Names, BeforeValidator(named_baselines, json_schema_input_type=Literal["all"] | _Names)]


def reference_label(name: str) -> str:
    """A baseline or ceiling in results.json: ``ease (baseline)``."""
    return f"{name} ({CEILING if BASELINES[name].is_ceiling else BASELINE})"


class LogConfig(Frozen):
    """A raw click log, as ``micrec convert`` reads it."""

    path: Path = Field(
        description="File or folder of the log, relative to the working directory; a log that is not there is left "
        "out, and the run says so."
    )
    reader: str = Field("auto", description="Name of its reader, see micrec convert --list; auto recognises it.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Options of the reader, as for micrec convert.")


class DatasetConfig(Frozen):
    """One dataset of a table: a folder, a raw log, or a world that is drawn for it."""

    label: str | None = Field(None, description="Name of the dataset in tables; null = its own name.")
    data: Path | None = Field(
        None, description="Dataset folder, relative to the working directory; null = a log or a generated world."
    )
    log: LogConfig | None = Field(None, description="A raw log that the run converts, instead of a dataset folder.")
    world: WorldConfig = Field(default_factory=WorldConfig, description="The generated world, used if data is null.")
    scale: PositiveFloat = Field(
        1.0, description="Factor on the numbers of users, items, tags and providers of the world."
    )
    base: dict[str, Any] = Field(
        default_factory=dict, description="Config keys of all rows on this dataset, which override base."
    )
    rows: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Config keys of single rows on this dataset, which override the row's own."
    )
    paper: str | None = Field(None, description="Which of the paper's datasets is shown beside it; null = none.")

    @property
    def is_there(self) -> bool:
        """Whether it can be had: false of a raw log whose file is missing."""
        return self.log is None or self.log.path.exists()

    @property
    def is_world(self) -> bool:
        """Whether it is a generated world."""
        return self.data is None and self.log is None

    def world_config(self) -> WorldConfig:
        """The world at its scale."""
        if self.scale == 1.0:
            return self.world
        return WorldConfig.model_validate_json(json.dumps(self.world.scaled_keys(self.scale)))


class RowConfig(Frozen):
    """One model of a table."""

    label: str = Field(description="Name of the model in tables.")
    losses: tuple[Loss, ...] | None = Field(
        None, description="The item losses that are on, with the weights of base; the others are off. null = all."
    )
    config: dict[str, Any] = Field(default_factory=dict, description="Config keys of this row, which override base.")
    reference: str | None = Field(
        None, description="The row that its lift is relative to; null = the reference of the table."
    )

    def keys(self) -> dict[str, Any]:
        """Its config keys, those of the switched-off losses included."""
        off = [] if self.losses is None else [loss for loss in ITEM_LOSSES if loss not in self.losses]
        return merge({"contrast": {loss: {"weight": 0} for loss in off}} if off else {}, self.config)


class RowComparison(Frozen):
    """One row against others."""

    row: str = Field(description="The row that is compared.")
    against: tuple[str, ...] | None = Field(
        None,
        description="Rows and baselines it is compared with; baselines = every baseline of the table, null = all other "
        "rows.",
    )
    metrics: tuple[str, ...] | None = Field(None, description="Metrics that are compared; null = those of the table.")
    slices: tuple[str, ...] | None = Field(
        (ALL,),
        description="Slices that are tested; all = the whole test period, null = every slice except that.",
    )
    family: Family = Field(
        "primary",
        description="Holm's adjustment runs over all effects of one family in the table.",
    )


class Ordering(Frozen):
    """What the paper claims: rows in rising order, or one row above others."""

    claim: str = Field(description="The claim, as the report prints it.")
    rising: tuple[str, ...] = Field((), description="Rows, each of which is claimed to be better than the one before.")
    above: str | None = Field(None, description="A row that is claimed to be better than each row of below.")
    below: tuple[str, ...] = Field((), description="The rows that above is claimed to beat.")
    metrics: tuple[str, ...] | None = Field(None, description="Metrics that are compared; null = those of the table.")

    def steps(self) -> list[tuple[str, str]]:
        """Pairs (lower, higher) that must hold for the claim to hold."""
        pairs = list(zip(self.rising, self.rising[1:], strict=False))
        return pairs + [(lower, self.above) for lower in self.below if self.above is not None]


class PaperDataset(Frozen):
    """The paper's own numbers on one of its datasets, which are private: shown for shape, never a target."""

    label: str = Field(description="Name of the dataset in the paper.")
    rows: dict[str, dict[str, float]] = Field(description="The paper's numbers by row and metric.")


class FigureConfig(Frozen):
    """The figure: a panel per metric, a group of bars per dataset or per group of rows."""

    metrics: tuple[str, ...] = Field(
        (), description="Metrics of the figure, one panel each; empty = the first and the last of the table."
    )
    groups: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Groups of rows by label, bars in the same order in each; empty = all rows."
    )
    bars: tuple[str, ...] = Field((), description="Names of the bars of a group; empty = the labels of the rows.")


class Chosen(NamedTuple):
    """A dataset that is in use, under its name."""

    name: str
    keys: DatasetConfig


class EffectQuestion(NamedTuple):
    """One comparison: a row against another by a metric on a slice."""

    row: str
    against: str
    metric: str
    slice: str = ALL
    family: Family = "primary"


class TableScenario(Frozen):
    """Train every row with the same seeds on every dataset and say which orderings hold."""

    other_keys: ClassVar[Mapping[str, str]] = {}  # where the scenario was written in another form: its key by ours

    kind: Literal["table"] = Field(description="The question.")
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = Field(description="Name of the run; default: the file's name.")
    title: str = Field("Models side by side", description="Heading of the report and caption of the table.")
    datasets: dict[Name, DatasetConfig] = Field(min_length=1, description="The datasets, by name.")
    data: Path | None = Field(None, description="One dataset folder in place of all datasets; null = the datasets.")
    seeds: Repeats = Field(5, description="Training seeds; every row uses the same ones.")
    first_seed: Seed = Field(0, description="The seeds are first_seed, first_seed + 1 …")
    choose_epochs: Literal["each_seed", "first_seed"] = Field(
        "each_seed",
        description="Whose validation clicks pick the number of epochs: each model's own, or the row's with its first "
        "seed, after which all its seeds train that long on everything before the test.",
    )
    preset: Literal["paper", "modern", "best"] = Field(
        "paper", description="Preset with the defaults of every row; one table has one preset."
    )
    base: dict[str, Any] = Field(
        default_factory=dict, description="Config keys of all rows, which override the preset."
    )
    rows: dict[Name, RowConfig] = Field(min_length=1, description="The models by name, in the order of the table.")
    reference: str | None = Field(None, description="The row that lifts are relative to; null = the first.")
    metrics: tuple[str, ...] = Field(
        ("hit@50", "hit@100", "hit@200", "hit@500"),
        min_length=1,
        description="Metrics in the columns of the table, which are tested.",
    )
    details: tuple[str, ...] = Field(
        (), description="Metrics of a second table, which are not tested; n/a where a dataset lacks one."
    )
    slices: tuple[str, ...] = Field((), description="Slices on which the table's metrics are shown but not tested.")
    comparisons: tuple[RowComparison, ...] = Field((), description="Which rows are tested against which.")
    orderings: tuple[Ordering, ...] = Field((), description="Claims about the order of rows, which are tested.")
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        0.05, description="Level of the tests; intervals have level 1 - alpha."
    )
    baselines: BaselineNames = Field(
        ALL,
        validate_default=True,
        description="Simple baselines that are evaluated beside the models: all, or a list of names.",
    )
    paper: dict[str, PaperDataset] = Field(
        default_factory=dict, description="The paper's own numbers, shown beside ours."
    )
    figure: FigureConfig = Field(default_factory=FigureConfig, description="The figure of the report.")

    @property
    def seed_numbers(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def reference_row(self) -> str:
        return self.reference or next(iter(self.rows))

    def chosen(self) -> list[Chosen]:
        """The datasets in use: ``data`` alone where it is given."""
        return chosen_datasets(self.data, self.datasets, self.paper)

    def config(self, dataset: DatasetConfig, row: str, seed: int, *, epochs: int | None = None) -> Config:
        """The full config of one trial; with ``epochs`` it trains that long on everything before the test."""
        own = dataset.rows.get(row, {})
        layers = (self.base, dataset.base, self.rows[row].keys(), own, {"train": {"seed": seed}})
        told = {} if epochs is None else {"split": {"valid_fraction": 0.0}, "train": {"epochs": epochs}}
        return build_config(self.preset, merge(*layers, told))

    def questions(self, slices: Sequence[str]) -> list[EffectQuestion]:
        """What is tested on a dataset, pair by pair in the order of the scenario, without repeats.

        Args:
            slices: Those that were evaluated, for comparisons that ask for every slice.
        """
        pairs: dict[tuple[str, str], dict[EffectQuestion, None]] = {}
        for one in self._asked(slices):
            pairs.setdefault((one.row, one.against), {})[one] = None
        return [question for pair in pairs.values() for question in pair]

    def _asked(self, slices: Sequence[str]) -> Iterator[EffectQuestion]:
        for one in self.comparisons:
            for other in self._others(one):
                for slice_ in slices if one.slices is None else one.slices:
                    for metric in self.metrics if one.metrics is None else one.metrics:
                        yield EffectQuestion(one.row, other, metric, slice_, one.family)
        for ordering in self.orderings:
            for lower, higher in ordering.steps():
                yield from (EffectQuestion(higher, lower, metric) for metric in ordering.metrics or self.metrics)

    def _others(self, one: RowComparison) -> list[str]:
        """The rows and labels of baselines that a comparison names; a row hides a baseline of its name."""
        if one.against is None:
            return [row for row in self.rows if row != one.row]
        found: dict[str, None] = {}
        for name in one.against:
            named = self.baselines if name == EVERY_BASELINE else (name,)
            found |= dict.fromkeys(other if other in self.rows else reference_label(other) for other in named)
        return list(found)

    def named_metrics(self) -> dict[str, tuple[str, ...]]:
        """Every list of metrics that are to be evaluated, by the key under which the user wrote it."""
        lists = {self.written("metrics"): self.metrics, self.written("details"): self.details}
        shown = {*self.metrics, *self.details}
        lists |= {f"orderings.{place}.metrics": one.metrics or () for place, one in enumerate(self.orderings)}
        lists |= {
            f"comparisons.{place}.metrics": tuple(metric for metric in one.metrics or () if metric not in shown)
            for place, one in enumerate(self.comparisons)
        }
        return lists

    def named_slices(self) -> dict[str, tuple[str, ...]]:
        """Every list of slices that are to be evaluated, by the key under which the user wrote it."""
        known = {ALL, *self.slices}
        return {self.written("slices"): self.slices} | {
            f"comparisons.{place}.slices": tuple(slice_ for slice_ in one.slices or () if slice_ not in known)
            for place, one in enumerate(self.comparisons)
        }

    def written(self, key: str) -> str:
        """A key as the user wrote it."""
        return self.other_keys.get(key, key)

    def work(self) -> str:
        """What a run does, in a line."""
        datasets, rows = [chosen.name for chosen in self.chosen()], list(self.rows)
        models = len(datasets) * len(rows) * self.seeds
        return (
            f"preset {self.preset}, datasets {', '.join(datasets)}, rows {', '.join(rows)}, {self.seeds} seeds: "
            f"{models} models{''.join(f'; {line}' for line in self.missing_logs())}"
        )

    def missing_logs(self) -> list[str]:
        """Which raw logs are left out because they are not there, a sentence each."""
        if self.data is not None:
            return []
        return [
            f"{name} is left out: {keys.log.path} is not there"
            for name, keys in self.datasets.items()
            if keys.log is not None and not keys.is_there
        ]

    def resolved(self) -> dict[str, Any]:
        """Plain data in which every key is explicit; ``base`` holds the whole config."""
        return plain({**self.model_dump(), "base": whole_config(self.preset, self.base)})


def chosen_datasets(data: Path | None, datasets: Mapping[str, DatasetConfig], paper: Mapping[str, Any]) -> list[Chosen]:
    """``data`` alone where it is given, beside the first of the paper's; else all datasets that are there."""
    if data is None:
        return [Chosen(name, keys) for name, keys in datasets.items() if keys.is_there]
    return [Chosen(folder_name(data.resolve().name), DatasetConfig(data=data, paper=next(iter(paper), None)))]


def folder_name(text: str) -> str:
    """A text as the name of a dataset, which names folders too."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", text).lstrip("_-") or "data"


def whole_config(preset: str, base: Mapping[str, Any]) -> dict[str, Any]:
    """Every config key of ``base`` over a preset, but those that the scenario sets itself."""
    return build_config(preset, base).model_dump(exclude={"preset": True, "train": {"seed"}})


def plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """Values that YAML and JSON can hold."""
    values = json.loads(json.dumps(data, default=str))
    assert isinstance(values, dict)
    return values
