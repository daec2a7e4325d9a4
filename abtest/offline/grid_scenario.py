"""The scenario of a grid: which keys of one row are searched, on the validation slice, before the rows are tested."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from abtest.offline.table_checks import nearest
from abtest.offline.table_scenario import DatasetConfig, TableScenario
from micrec.bounds import Repeats, Seed
from micrec.config import Config, Frozen
from micrec.presets import PRESETS
from micrec.settings import build_config, check, flatten, merge

Value = bool | int | float | str
Setting = dict[str, Value]  # factor -> value


class Factor(Frozen):
    """One thing that is varied: a value of one config key, or the same value of several."""

    keys: tuple[str, ...] = Field(min_length=1, description="Config keys that are set to the value.")
    values: tuple[Value, ...] = Field(min_length=2, description="Values tried, in order.")


class GridScenario(TableScenario):
    """Search the settings of one row on validation clicks, then test the chosen one against the other rows."""

    kind: Literal["grid"] = Field(description="The question.")  # type: ignore[assignment]
    tune: str = Field(description="The row whose config is searched; it is tested with the chosen setting.")
    factors: dict[str, Factor] = Field(min_length=1, description="The factors that are varied, by name.")
    search: Literal["coordinate", "factorial"] = Field(
        "coordinate",
        description="factorial: every combination; coordinate: one factor after the other, the others at their best.",
    )
    rounds: Repeats = Field(
        1, description="For coordinate: largest number of passes over the factors; a pass without a change ends it."
    )
    search_seeds: Repeats = Field(1, description="Training seeds of each setting; their mean decides.")
    first_search_seed: Seed = Field(
        100, description="First seed of the search; by default its seeds differ from those of the test."
    )
    choose_by: str = Field("hit@100", description="Metric that is maximised on the validation clicks.")

    @property
    def search_seed_numbers(self) -> range:
        return range(self.first_search_seed, self.first_search_seed + self.search_seeds)

    def start(self, dataset: DatasetConfig) -> Setting:
        """What the row's config says of each factor, or the first value where it says what is not tried."""
        known = flatten(self.config(dataset, self.tune, 0).model_dump())
        return {
            name: next((value for value in factor.values if value == known.get(factor.keys[0])), factor.values[0])
            for name, factor in self.factors.items()
        }

    def keys_of(self, setting: Mapping[str, Value]) -> dict[str, Any]:
        """The config keys of a setting."""
        layers = [nested(key, setting[name]) for name, factor in self.factors.items() for key in factor.keys]
        return merge(*layers)

    def trial_config(self, dataset: DatasetConfig, setting: Mapping[str, Value], seed: int) -> Config:
        """The config of one trial, which never learns from the validation slice."""
        own = merge(dataset.rows.get(self.tune, {}), self.keys_of(setting), {"train": {"seed": seed, "refit": False}})
        return build_config(self.preset, merge(self.base, dataset.base, self.rows[self.tune].keys(), own))

    def combinations(self) -> list[Setting]:
        """Every setting of the factorial search."""
        values = itertools.product(*(factor.values for factor in self.factors.values()))
        return [dict(zip(self.factors, combination, strict=True)) for combination in values]

    def work(self) -> str:
        """What a run does, in a line."""
        sizes = [len(factor.values) for factor in self.factors.values()]
        trials = len(self.combinations()) if self.search == "factorial" else 1 + self.rounds * sum(n - 1 for n in sizes)
        most = trials * self.search_seeds * len(self.chosen())
        return f"{self.search} search, at most {most} trials; then {super().work()}"


def grid_faults(scenario: GridScenario) -> Iterator[str]:
    """What the keys of the search cannot say one by one."""
    if scenario.tune not in scenario.rows:
        yield f"tune: no row {scenario.tune}: {nearest(scenario.tune, scenario.rows)}"
        return
    base = build_config(scenario.preset, scenario.base)
    if base.split.valid_fraction == 0:
        yield "base.split.valid_fraction: must be > 0: a setting is chosen on the validation slice"
    start = PRESETS[scenario.preset].model_dump()
    owners: dict[str, str] = {}
    for name, factor in scenario.factors.items():
        for key in factor.keys:
            if key in owners:
                yield f"factors.{name}.keys: {key} is varied by {owners[key]} as well: name it once"
            owners[key] = name
            if key.split(".")[0] in ("split", "evaluation") or key in ("train.seed", "train.refit", "preset"):
                yield f"factors.{name}.keys: {key} must be the same in every trial: set it under base, or leave it"
                continue
            for value in factor.values:
                layers = (start, scenario.base, scenario.rows[scenario.tune].keys(), nested(key, value))
                yield from check(Config, merge(*layers, {"preset": scenario.preset}), at=f"factors.{name}")[1]


def nested(key: str, value: Value) -> dict[str, Any]:
    """a.b = value as nested mappings."""
    result: Any = value
    for part in reversed(key.split(".")):
        result = {part: result}
    assert isinstance(result, dict)
    return result


def setting_text(setting: Mapping[str, Any], names: Sequence[str] = ()) -> str:
    """A setting in words."""
    return ", ".join(f"{name} {setting[name]}" for name in names or setting)
