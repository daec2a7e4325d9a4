"""Scenario files: one YAML names one question, and every key has a documented default."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt

from micrec.config import Config, Frozen
from micrec.errors import MicrecError
from micrec.presets import PRESETS
from micrec.settings import Setting, apply_overrides, build_config, check, explain, load_yaml, merge
from simulator.world.config import WorldConfig

CONTROL = "control"

_SAME_IN_ALL_ARMS = ("split", "evaluation")
_ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Arm(Frozen):
    """One of the models that are compared."""

    label: str = Field(description="Name of the model in tables.")
    config: dict[str, Any] = Field(default_factory=dict, description="Config keys of this arm, laid over base.")


class Metrics(Frozen):
    """What is tested; each list is one family of Holm's adjustment."""

    primary: tuple[str, ...] = Field(
        ("hit@50", "hit@100", "hit@200", "hit@500"), description="Metrics the verdict rests on."
    )
    secondary: tuple[str, ...] = Field(("coverage@50", "coverage@500"), description="Metrics reported beside them.")
    slices: tuple[str, ...] | None = Field(
        None, description="Slices on which the primary metrics are reported; null = every slice, [] = none."
    )


class OfflineScenario(Frozen):
    """Train every arm with the same seeds on one dataset and compare them on its test period."""

    kind: Literal["offline_ab"] = Field(description="The question.")
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = Field(description="Name of the run; default: the file's name.")
    data: Path | None = Field(None, description="Dataset folder, from the working directory; null = a generated world.")
    world: WorldConfig = Field(default_factory=WorldConfig, description="The generated world, used if data is null.")
    seeds: PositiveInt = Field(5, description="Training seeds; every arm uses the same ones.")
    first_seed: NonNegativeInt = Field(0, description="The seeds are first_seed, first_seed + 1 …")
    preset: Literal["paper", "modern"] = Field("paper", description="Defaults of every arm; never mixed in one table.")
    base: dict[str, Any] = Field(default_factory=dict, description="Config keys of all arms, laid over the preset.")
    arms: dict[str, Arm] = Field(description="The models: control, and one or more treatments.")
    metrics: Metrics = Field(default_factory=Metrics, description="What is tested.")
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(0.05, description="Level of the tests; intervals 1 - alpha.")
    floors: tuple[Literal["popularity", "item_knn"], ...] = Field(
        ("popularity", "item_knn"), description="Models without training that every table shows."
    )

    @property
    def seed_numbers(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def treatments(self) -> list[str]:
        return [name for name in self.arms if name != CONTROL]

    def config(self, arm: str, seed: int) -> Config:
        """The full config of one cell."""
        return build_config(self.preset, merge(self.base, self.arms[arm].config, {"train": {"seed": seed}}))


KINDS: dict[str, type[OfflineScenario]] = {"offline_ab": OfflineScenario}


def load_scenario(path: Path, overrides: Sequence[str] = ()) -> tuple[OfflineScenario, dict[str, Any]]:
    """Read a scenario, with what it extends and the ``--set`` overrides, and check all of it.

    Returns:
        The scenario, and the same as plain data in which every key is explicit (``base`` holds the whole config):
        written as YAML, it loads to the same run whatever later defaults are.

    Raises:
        MicrecError: If a file cannot be read, the kind is unknown, or any key of the scenario or of an arm's config
            is at fault; all faults at once.
    """
    data = apply_overrides(_read(path, ()), overrides)
    kind = data.get("kind")
    if kind not in KINDS:
        raise MicrecError(f"{path}: kind: must be one of {', '.join(KINDS)}, got {json.dumps(kind, default=str)}.")
    data.setdefault("name", _name_of(path))
    scenario, faults = check(KINDS[kind], data)
    faults = [*faults, *_config_faults(data)]
    if scenario is not None:
        faults += _arm_faults(scenario)
        faults += [] if faults else _metric_faults(scenario)
    if scenario is None or faults:
        raise MicrecError.of(str(path), faults)
    return scenario, _resolved(scenario)


def explain_scenario(start: str | None = None) -> list[Setting]:
    """Every key of a scenario; the config's keys stand under ``base`` and hold for ``arms.<name>.config`` as well.

    Args:
        start: Only this key, or the keys below it; a config key may leave out ``base.``.

    Raises:
        MicrecError: If no key starts so; the nearest ones are named.
    """
    config = [setting._replace(key=f"base.{setting.key}") for setting in explain(Config) if setting.key != "preset"]
    settings = [*explain(OfflineScenario), *config]
    if start is None:
        return settings
    starts = (start, f"base.{start}")
    if found := [s for s in settings if s.key in starts or s.key.startswith(tuple(f"{key}." for key in starts))]:
        return found
    names = {name: s.key for s in settings for name in (s.key, s.key.removeprefix("base."), s.key.split(".")[-1])}
    near = [names[name] for name in difflib.get_close_matches(start, names, n=3)]
    cure = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "leave it out to see all keys."
    raise MicrecError(f"scenario explain: no key {start}: {cure}")


def scenario_yaml(resolved: Mapping[str, Any]) -> str:
    """The text of ``scenario.resolved.yaml``."""
    return yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True, width=120)


def _read(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    """The file's data over those of the file it extends, whose path is relative to it."""
    here = path.resolve()
    if here in below:
        raise MicrecError(f"{path}: extends: the files extend each other in a circle: break it.")
    data = load_yaml(path)
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise MicrecError(f"{path}: extends: must be the path of another scenario, got {parent!r}.")
    return merge(_read(path.parent / parent, (*below, here)), data)


def _name_of(path: Path) -> str:
    return re.sub(r"[^\w.-]", "-", path.stem)


def _config_faults(data: Mapping[str, Any]) -> list[str]:
    """Faults of ``base`` and of each arm's config, under the keys the user wrote."""
    preset = data.get("preset", "paper")
    if preset not in PRESETS:
        return []  # the scenario's own check has said so
    base = _mapping(data.get("base"))
    start, chosen = PRESETS[preset].model_dump(), {"preset": preset}  # a wrong preset is a fault of _fixed_key_faults
    faults = [*_fixed_key_faults(base, "base", preset), *check(Config, merge(start, base, chosen), at="base")[1]]
    base_is_good = not faults
    for name, arm in _mapping(data.get("arms")).items():
        own = _mapping(_mapping(arm).get("config"))
        at = f"arms.{name}.config"
        faults += _fixed_key_faults(own, at, preset)
        faults += [
            f"{at}.{part}: all arms share one {part}, or they would not be comparable: put it under base"
            for part in _SAME_IN_ALL_ARMS
            if part in own
        ]
        layers = (start, base, own, chosen) if base_is_good else (start, own, chosen)
        faults += check(Config, merge(*layers), at=at)[1]
    return faults


def _fixed_key_faults(config: Mapping[str, Any], at: str, preset: str) -> list[str]:
    faults = []
    if config.get("preset", preset) != preset:
        faults.append(
            f"{at}.preset: presets are never mixed in one table, and this one is {preset}: "
            "set the scenario's preset, or run two scenarios"
        )
    if "seed" in _mapping(config.get("train")):
        faults.append(f"{at}.train.seed: every arm uses the same seeds: set seeds and first_seed of the scenario")
    return faults


def _arm_faults(scenario: OfflineScenario) -> list[str]:
    faults = [
        f"arms.{name}: must be letters, digits, - and _, as it names a folder"
        for name in scenario.arms
        if not _ARM_NAME.fullmatch(name)
    ]
    if CONTROL not in scenario.arms or len(scenario.arms) < 2:
        given = ", ".join(scenario.arms) or "none"
        faults.append(f"arms: must hold {CONTROL} and at least one other arm, got {given}")
    return faults


def _metric_faults(scenario: OfflineScenario) -> list[str]:
    cutoffs = build_config(scenario.preset, scenario.base).evaluation.cutoffs
    faults = []
    for family in ("primary", "secondary"):
        for metric in getattr(scenario.metrics, family):
            name, at, cutoff = metric.partition("@")
            if not name or (at and not cutoff.isdigit()):
                faults.append(f"metrics.{family}: {metric} is no metric: write it as hit@50")
            elif at and int(cutoff) not in cutoffs:
                known = ", ".join(map(str, cutoffs))
                faults.append(f"metrics.{family}: {metric} needs {cutoff} among base.evaluation.cutoffs ({known})")
    if not scenario.metrics.primary:
        faults.append("metrics.primary: must name at least one metric")
    return faults


def _resolved(scenario: OfflineScenario) -> dict[str, Any]:
    config = build_config(scenario.preset, scenario.base).model_dump(exclude={"preset": True, "train": {"seed"}})
    plain = json.loads(json.dumps({**scenario.model_dump(), "base": config}, default=str))
    assert isinstance(plain, dict)
    return plain


def _mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping; the scenario's own check reports it otherwise."""
    return value if isinstance(value, Mapping) else {}
