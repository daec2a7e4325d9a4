"""Arms of models in a scenario: a preset, keys of all arms, and each arm's own, checked as the user wrote them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from micrec.config import Config, Frozen
from micrec.presets import PRESETS
from micrec.settings import check, merge

CONTROL = "control"

UNREAD_ONLINE = {  # config keys, and why an experiment on the simulated platform never reads them
    "split": "models learn from all of its log each morning",
    "evaluation": "models are judged by the clicks of its users",
    "train.patience": "nothing is held back to stop by: a first version trains train.epochs",
    "train.metric": "nothing is held back to measure it on",
    "train.refit": "models learn from all of its log at once",
}
SHARED = ("split", "evaluation")  # parts of the config that all models of a comparison have in common
_ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Arm(Frozen):
    """One of the models that are compared."""

    label: str = Field(description="Name of the model in tables.")
    config: dict[str, Any] = Field(default_factory=dict, description="Config keys of this arm, laid over base.")


class ConfigLayer(NamedTuple):
    """Config keys that a user wrote over those of ``base``."""

    at: str  # the key under which they stand, for messages
    keys: Mapping[str, Any]
    whole: bool = False  # whether they are of a group of models, which may set what all of them share


def config_faults(data: Mapping[str, Any], unread: Sequence[str] = ()) -> list[str]:
    """Faults of ``base`` and of each arm's config, under the keys the user wrote; see ``layer_faults``."""
    arms = mapping(data.get("arms")).items()
    layers = [ConfigLayer(f"arms.{name}.config", mapping(mapping(arm).get("config"))) for name, arm in arms]
    return layer_faults(data, layers, one="arm", unread=unread)


def layer_faults(
    data: Mapping[str, Any], layers: Sequence[ConfigLayer], *, one: str, unread: Sequence[str] = ()
) -> list[str]:
    """Faults of ``base`` and of every layer over it, under the keys the user wrote, without repeats.

    Args:
        data: The scenario as the user wrote it, with ``preset`` and ``base``.
        layers: What lies over ``base``.
        one: What a scenario of this kind calls one of its models.
        unread: Config keys that this kind of scenario never reads, which would promise what they do not do.
    """
    preset = data.get("preset", "paper")
    if not isinstance(preset, str) or preset not in PRESETS:
        return []  # the scenario's own check has said so
    base = mapping(data.get("base"))
    start, chosen = PRESETS[preset].model_dump(), {"preset": preset}  # a wrong preset is a fault of fixed_key_faults

    def own_faults(keys: Mapping[str, Any], at: str) -> list[str]:
        return [*_unread_faults(keys, at, unread), *fixed_key_faults(keys, at, preset, one=one)]

    faults = [*own_faults(base, "base"), *check(Config, merge(start, base, chosen), at="base")[1]]
    under = {} if faults else base
    for at, keys, whole in layers:
        faults += own_faults(keys, at)
        faults += [
            f"{at}.{part}: all {one}s share one {part}, or they would not be comparable: put it under base"
            for part in SHARED
            if part in keys and part not in unread and not whole
        ]
        faults += check(Config, merge(start, under, keys, chosen), at=at)[1]
    return list(dict.fromkeys(faults))


def arm_faults(arms: Mapping[str, Arm], reserved: Sequence[str] = ()) -> list[str]:
    """Names that cannot name a folder of their own, or fewer than a control and a treatment.

    Args:
        arms: By name.
        reserved: Names of folders that lie beside the arms'.
    """
    faults = [
        f"arms.{name}: must be letters, digits, - and _, as it names a folder"
        for name in arms
        if not _ARM_NAME.fullmatch(name)
    ]
    folders: dict[str, str] = {}  # some file systems do not tell capitals apart
    for name in arms:
        if name.lower() in reserved:
            faults.append(f"arms.{name}: is the name of a folder of every run: rename the arm")
        elif name.lower() in folders:
            faults.append(f"arms.{name}: differs from {folders[name.lower()]} in capitals only: rename one of the two")
        folders[name.lower()] = name
    if CONTROL not in arms or len(arms) < 2:
        given = ", ".join(arms) or "none"
        faults.append(f"arms: must hold {CONTROL} and at least one other arm, got {given}")
    return faults


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping; the scenario's own check reports it otherwise."""
    return value if isinstance(value, Mapping) else {}


def _unread_faults(config: Mapping[str, Any], at: str, unread: Sequence[str]) -> list[str]:
    faults = []
    for key in unread:
        section, _, last = key.rpartition(".")
        if last in (mapping(config.get(section)) if section else config):
            faults.append(f"{at}.{key}: does nothing on a simulated platform ({UNREAD_ONLINE[key]}): remove it")
    return faults


def fixed_key_faults(config: Mapping[str, Any], at: str, preset: str, *, one: str) -> list[str]:
    """Keys of a config at ``at`` that the scenario sets for all its models, each of which is ``one``."""
    faults = []
    if config.get("preset", preset) != preset:
        faults.append(
            f"{at}.preset: presets are never mixed in one table, and this one is {preset}: "
            "set the scenario's preset, or run two scenarios"
        )
    if "seed" in mapping(config.get("train")):
        faults.append(f"{at}.train.seed: every {one} uses the same seeds: set seeds and first_seed of the scenario")
    return faults
