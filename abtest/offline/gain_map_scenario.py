"""The scenario of a gain map: worlds along two dials, and on each what a row gains over the one it stands on."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from abtest.offline.table_checks import nearest
from abtest.offline.table_scenario import (
    BaselineNames,
    Chosen,
    DatasetConfig,
    Name,
    RowComparison,
    RowConfig,
    TableScenario,
    plain,
    whole_config,
)
from micrec.bounds import Seed
from micrec.config import Frozen
from micrec.settings import check, merge, nested
from simulator.world.world_config import WorldConfig

DialValue = Annotated[float, Field(allow_inf_nan=False)]


class DialConfig(Frozen):
    """Keys of the world that all get the same value, and the values they get in turn."""

    label: str | None = Field(None, description="Name of the axis; null = the keys.")
    keys: tuple[str, ...] = Field(min_length=1, description="Keys of the world, such as signals.titles.")
    values: tuple[DialValue, ...] = Field(min_length=1, max_length=8, description="Their values, rising.")

    @property
    def name(self) -> str:
        """What the axis is called."""
        return self.label or ", ".join(self.keys)

    def at(self, place: int) -> dict[str, Any]:
        """The keys of the world at one of the values."""
        value = self.values[place]
        whole = int(value) if value.is_integer() else value  # some keys are whole numbers
        return merge(*(nested({key: whole}) for key in self.keys))


class PanelConfig(Frozen):
    """One map: what a row gains over another along a dial."""

    label: str = Field(description="Its title.")
    row: Name = Field(description="The row whose gain is shown.")
    against: Name = Field(description="The row it is compared with.")
    dial: DialConfig = Field(description="The horizontal axis.")
    world: dict[str, Any] = Field(default_factory=dict, description="Keys of this map's worlds, laid over world.")


class Square(NamedTuple):
    """One world of a map: the places of its values on both axes, and the name of its dataset."""

    dial: int
    across: int
    dataset: str


class GainMapScenario(Frozen):
    """Draw a world for every pair of values of two dials, and say on each what a row gains over another."""

    kind: Literal["gain_map"] = Field(description="The question.")
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = Field(description="Name of the run; default: the file's name.")
    title: str = Field("Gain by world", description="Heading of the report.")
    world: WorldConfig = Field(default_factory=WorldConfig, description="The world whose dials are moved.")
    across: DialConfig = Field(description="The vertical axis, the same in every map.")
    panels: dict[Name, PanelConfig] = Field(min_length=1, description="The maps, by name.")
    only: tuple[str, ...] = Field((), description="The maps that are drawn; empty = all.")
    seeds: Annotated[int, Field(ge=2, le=10_000)] = Field(
        3, description="Training seeds; every row uses the same ones."
    )
    first_seed: Seed = Field(0, description="The seeds are first_seed, first_seed + 1 …")
    preset: Literal["paper", "modern", "best"] = Field(
        "paper", description="Defaults of every row; never mixed in one map."
    )
    base: dict[str, Any] = Field(default_factory=dict, description="Config keys of all rows, laid over the preset.")
    rows: dict[Name, RowConfig] = Field(min_length=1, description="The models that the maps compare.")
    metrics: tuple[str, ...] = Field(("hit@50",), min_length=1, description="One map each; HIT only.")
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(0.05, description="Level of the tests; intervals 1 - alpha.")
    baselines: BaselineNames = Field(
        ("popularity",), description="Models without training, tested on every world: all, or a list of names."
    )

    @property
    def seed_numbers(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def across_worlds(self) -> bool:
        """Whether the vertical axis has worlds drawn anew, and so replications."""
        return self.across.keys == ("seed",)

    def shown(self) -> dict[str, PanelConfig]:
        """The panels in use, by name."""
        return {name: panel for name, panel in self.panels.items() if not self.only or name in self.only}

    def world_keys(self, panel: PanelConfig, dial: int, across: int) -> dict[str, Any]:
        """The keys of one square's world."""
        own = (panel.world, panel.dial.at(dial), self.across.at(across))
        return merge(self.world.model_dump(mode="json"), *own)

    def worlds(self) -> dict[str, WorldConfig]:
        """Every world once, by the name of its dataset, in the order in which the squares need them.

        Raises:
            ValueError: If the dials make what is no world; ``gain_map_faults`` has said so before.
        """
        return self._placed()[0]

    def squares(self, panel: str) -> list[Square]:
        """The squares of a panel, row by row from below; squares of the same world share its dataset."""
        return self._placed()[1][panel]

    def tables(self) -> dict[str, TableScenario]:
        """Each panel as a table of its two rows on its worlds."""
        worlds, squares = self._placed()
        return {
            name: TableScenario(
                kind="table",
                name=self.name,
                datasets={one.dataset: DatasetConfig(world=worlds[one.dataset]) for one in squares[name]},
                seeds=self.seeds,
                first_seed=self.first_seed,
                preset=self.preset,
                base=self.base,
                rows={row: self.rows[row] for row in (panel.against, panel.row)},
                reference=panel.against,
                metrics=self.metrics,
                comparisons=(RowComparison(row=panel.row, against=(panel.against,)),),
                alpha=self.alpha,
                baselines=self.baselines,
            )
            for name, panel in self.shown().items()
        }

    def chosen(self) -> list[Chosen]:
        """Every world as a dataset."""
        return [Chosen(name, DatasetConfig(world=world)) for name, world in self.worlds().items()]

    def work(self) -> str:
        """What a run does, in a line."""
        trials = {
            (square.dataset, row)
            for name, panel in self.shown().items()
            for square in self.squares(name)
            for row in (panel.against, panel.row)
        }
        return (
            f"preset {self.preset}, maps {', '.join(self.shown())}, {len(self.worlds())} worlds, {self.seeds} seeds: "
            f"{len(trials) * self.seeds} models"
        )

    def resolved(self) -> dict[str, Any]:
        """Plain data in which every key is explicit; ``base`` holds the whole config."""
        return plain({**self.model_dump(), "base": whole_config(self.preset, self.base)})

    def _placed(self) -> tuple[dict[str, WorldConfig], dict[str, list[Square]]]:
        names: dict[str, str] = {}  # by the world's keys
        worlds: dict[str, WorldConfig] = {}
        squares: dict[str, list[Square]] = {name: [] for name in self.shown()}
        for name, panel in self.shown().items():
            for across in range(len(self.across.values)):
                for dial in range(len(panel.dial.values)):
                    world, faults = check(WorldConfig, self.world_keys(panel, dial, across))
                    if world is None:
                        raise ValueError("; ".join(faults))
                    dataset = names.setdefault(world.model_dump_json(), f"{name}-{dial}-{across}")
                    worlds.setdefault(dataset, world)
                    squares[name].append(Square(dial, across, dataset))
        return worlds, squares


def gain_map_faults(scenario: GainMapScenario) -> Iterator[str]:
    """What the keys cannot say one by one."""
    for name in scenario.only:
        if name not in scenario.panels:
            yield f"only: no map {name}: {nearest(name, scenario.panels)}"
    dials = {"across": scenario.across, **{f"panels.{name}.dial": one.dial for name, one in scenario.panels.items()}}
    for where, dial in dials.items():
        if any(low >= high for low, high in zip(dial.values, dial.values[1:], strict=False)):
            yield f"{where}.values: must rise, got {', '.join(f'{value:g}' for value in dial.values)}"
    for metric in scenario.metrics:
        if not metric.startswith("hit@"):
            yield f"metrics: {metric} has no hits of single users, which the intervals need: choose hit@50 or the like"
    for name, panel in scenario.panels.items():
        for key, row in (("row", panel.row), ("against", panel.against)):
            if row not in scenario.rows:
                yield f"panels.{name}.{key}: no row {row}: {nearest(row, scenario.rows)}"
        if panel.row == panel.against:
            yield f"panels.{name}: {panel.row} is compared with itself: name another row"
        twice = set(panel.dial.keys) & set(scenario.across.keys)
        if twice:
            yield f"panels.{name}.dial.keys: {', '.join(sorted(twice))} is the other axis as well: name another key"
        yield from _world_faults(scenario, name, panel)


def _world_faults(scenario: GainMapScenario, name: str, panel: PanelConfig) -> list[str]:
    """What is wrong with the worlds of one panel, each fault once."""
    places = [(dial, across) for across in range(len(scenario.across.values)) for dial in range(len(panel.dial.values))]
    faults: Mapping[str, None] = {
        fault: None
        for dial, across in places
        for fault in check(WorldConfig, scenario.world_keys(panel, dial, across), at=f"panels.{name}: world")[1]
    }
    return list(faults)
