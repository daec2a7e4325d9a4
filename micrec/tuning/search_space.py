"""What a search may try: branches, each a preset with own keys, and for every searched key its values or range."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from micrec.config import Config
from micrec.errors import MicrecError
from micrec.frozen import Frozen
from micrec.presets import PRESETS
from micrec.settings import apply_overrides, build_config, check, flatten, load_yaml, merge, nested, validate

SHIPPED_SPACE = Path(__file__).with_name("space.yaml")
SAME_PARTS = ("split", "evaluation", "sessions")  # of a config: the same in every trial
SAME_KEYS = ("preset", "train.seed", "train.refit", "train.metric", "train.device", "train.threads")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Number = int | float


class SearchDimension(Frozen):
    """What one key may be: listed values, or a range."""

    values: tuple[Any, ...] | None = Field(None, description="Values that are tried; null = low and high are given.")
    low: Number | None = Field(None, description="Lower end of a range.")
    high: Number | None = Field(None, description="Upper end; whole numbers are tried if both ends are whole.")
    log: bool = Field(False, description="Draw the logarithm evenly.")

    @model_validator(mode="after")
    def _is_one_of_the_two(self) -> Self:
        if (self.values is None) == (self.low is None) or (self.low is None) != (self.high is None):
            raise ValueError("needs either values, or low and high")
        if self.values is not None and len(set(map(as_text, self.values))) < max(2, len(self.values)):
            raise ValueError("values: needs two or more, each once")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.log and not (self.low is not None and self.low > 0):
            raise ValueError("log needs a range with low > 0")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether a range has whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values, or both ends of the range: what a check has to look at."""
        return (self.low, self.high) if self.values is None else self.values

    def holds(self, value: Any) -> bool:
        """Whether a plain value lies in it."""
        if self.values is not None:
            return as_text(value) in map(as_text, self.values)
        is_number = isinstance(value, int if self.is_whole else Number) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high

    def place(self, value: Any) -> float:
        """Where a value lies in it, from 0 to 1, evenly spaced for listed values."""
        import math

        if self.values is not None:
            return [as_text(one) for one in self.values].index(as_text(value)) / (len(self.values) - 1)
        assert self.low is not None
        assert self.high is not None
        low, at, high = (math.log(one) if self.log else float(one) for one in (self.low, value, self.high))
        return (at - low) / (high - low)


class SpaceBranch(Frozen):
    """A preset with keys laid over it, and the keys that are searched from there."""

    preset: Literal["paper", "modern", "best"] = Field(description="Defaults of the branch.")
    config: dict[str, Any] = Field(default_factory=dict, description="Config keys laid over the preset.")
    search: dict[str, SearchDimension] = Field(
        default_factory=dict, description="Searched keys, with dots, and what each may be."
    )


class SearchSpace(Frozen):
    """All that a search may try."""

    base: dict[str, Any] = Field(default_factory=dict, description="Config keys of every trial.")
    branches: dict[Name, SpaceBranch] = Field(
        min_length=1, description="Parts of the space, by name, in the order in which their starting points are tried."
    )

    def without(self, keys: Sequence[str]) -> "SearchSpace":
        """The space in which these keys are not searched."""
        branches = {
            name: branch.model_copy(update={"search": {k: one for k, one in branch.search.items() if k not in keys}})
            for name, branch in self.branches.items()
        }
        return self.model_copy(update={"branches": branches})

    def config(self, branch: str, settings: Mapping[str, Any], same: Mapping[str, Any]) -> Config:
        """The config of one trial.

        Args:
            branch: Its branch.
            settings: Values of searched keys, with dots.
            same: Keys of every trial, nested, which override all else.

        Raises:
            MicrecError: If the settings do not fit each other.
        """
        own = self.branches[branch]
        layers = merge(own.config, self.base, nested(settings), same)
        return build_config(own.preset, layers, where=f"branch {branch}")

    def start(self, branch: str, same: Mapping[str, Any]) -> dict[str, Any]:
        """The branch's own value of every searched key, where the search begins."""
        known = flatten(self.config(branch, {}, same).model_dump(mode="json"))
        return {key: known.get(key) for key in self.branches[branch].search}


def load_space(file: Path | None, sets: Sequence[str] = ()) -> tuple[SearchSpace, dict[str, Any]]:
    """The space of a file, or the shipped one, and the keys that ``--set`` gives to every trial.

    Args:
        file: YAML; None = the shipped space.
        sets: ``key=value`` overrides; their keys are not searched.

    Raises:
        MicrecError: All errors at once, each with its key.
    """
    path = file or SHIPPED_SPACE
    same = apply_overrides({}, sets)
    space = validate(SearchSpace, load_yaml(path), where=str(path)).without(list(flatten(same)))
    if faults := [*_set_faults(same), *space_faults(space, same)]:
        raise MicrecError.of(str(path) if file else "search space", list(dict.fromkeys(faults)))
    return space, same


def space_faults(space: SearchSpace, same: Mapping[str, Any]) -> Iterator[str]:
    """What the keys cannot say one by one, and every searched value that a config would refuse."""
    layers = [("base", space.base), *((f"branches.{name}.config", one.config) for name, one in space.branches.items())]
    for where, keys in layers:
        yield from (f"{where}.{key}: {reason}" for key in flatten(keys) if (reason := _sameness(key, fixed=where)))
    for name, branch in space.branches.items():
        at = f"branches.{name}"
        start = merge(PRESETS[branch.preset].model_dump(), branch.config, space.base, same)
        config, faults = check(Config, start, at=f"{at}.config")
        if config is None:
            yield from faults
            continue
        if config.split.valid_fraction == 0:
            yield f"{at}: split.valid_fraction is 0, and settings are chosen on validation clicks: set it above 0"
        known = flatten(config.model_dump(mode="json"))
        for key, dimension in branch.search.items():
            if reason := _sameness(key, fixed=""):
                yield f"{at}.search.{key}: {reason}"
                continue
            for value in dimension.ends:
                yield from check(Config, merge(start, nested({key: value})), at=f"{at}.search")[1]
            if key not in known:
                yield f"{at}.search.{key}: the branch has no such key where it starts: set it in config"
            elif not dimension.holds(known[key]):
                yield f"{at}.search.{key}: the search starts at {as_text(known[key])}: it must be one of its values"


def as_text(value: Any) -> str:
    """A plain value as JSON text."""
    return json.dumps(value)


def _sameness(key: str, *, fixed: str) -> str | None:
    """Why a key may not differ between trials; keys of ``base`` are the same in all."""
    if fixed == "base" and key not in SAME_KEYS:
        return None
    if key.split(".")[0] in SAME_PARTS or key in SAME_KEYS:
        return (
            "must be the same in every trial: use --set, or base of the space"
            if key not in SAME_KEYS
            else ("is set by the search itself: leave it out")
        )
    return None


def _set_faults(same: Mapping[str, Any]) -> Iterator[str]:
    own = {"preset": "--space", "train.seed": "--seed", "train.refit": "nothing", "train.metric": "--metric"}
    for key in flatten(same):
        if key in own:
            yield f"--set {key}: is set by the search itself: use {own[key]} instead"
