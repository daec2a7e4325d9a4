"""Scenario files: one YAML names one question, and every key has a documented default."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from abtest.arms import CONTROL, Arm, mapping
from abtest.offline.offline_scenario import Metrics, OfflineScenario
from abtest.online.online_scenario import OnlineScenario
from abtest.scenario_kinds import SCENARIO_KINDS
from micrec.config import Config
from micrec.errors import MicrecError
from micrec.extending import EXTENDS, extended, read_extended
from micrec.settings import KeyDescription, apply_overrides, explain, merge, nested
from micrec.shipped import WORLDS, find_file
from simulator.world.world_config import WorldConfig

__all__ = [
    "CONTROL",
    "Arm",
    "Metrics",
    "OfflineScenario",
    "OnlineScenario",
    "check_inputs",
    "explain_scenario",
    "load_scenario",
]


def load_scenario(path: Path, overrides: Sequence[str] = ()) -> tuple[Any, dict[str, Any]]:
    """Read a scenario, with what it extends and the ``--set`` overrides, and check all of it.

    Returns:
        The scenario, and the same as plain data in which every key is explicit (``base`` holds the whole config):
        written as YAML, it loads to the same run whatever later defaults are.

    Raises:
        MicrecError: If a file cannot be read, the kind is unknown, or any key of the scenario or of an arm's config
            is invalid; all errors at once.
    """
    path = find_file(path)
    return checked_scenario(apply_overrides(read_extended(path, _worlds), overrides), str(path), _name_of(path))


def scenario_of(
    scenario: Path | Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """A scenario from a file, the name of a shipped one, or a mapping of its keys, which may have ``extends``.

    Args:
        scenario: Where it comes from.
        settings: Keys laid over it; dots part levels, as in ``{"base.train.epochs": 1}``.

    Returns:
        As ``load_scenario``.

    Raises:
        MicrecError: As ``load_scenario``.
    """
    over = nested(settings or {})
    if isinstance(scenario, Mapping):
        data = extended(nested(scenario, where="scenario"), "scenario", _worlds)
        return checked_scenario(merge(data, over), "scenario", "scenario")
    path = find_file(scenario)
    return checked_scenario(merge(read_extended(path, _worlds), over), str(path), _name_of(path))


def checked_scenario(data: dict[str, Any], where: str, name: str) -> tuple[Any, dict[str, Any]]:
    """A scenario from its keys; see ``load_scenario``.

    Args:
        data: All keys, with those of what is extended.
        where: What the user wrote, for messages.
        name: Name of the run where the keys have none.
    """
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in SCENARIO_KINDS:
        got = json.dumps(kind, default=str)
        raise MicrecError(f"{where}: kind: must be one of {', '.join(SCENARIO_KINDS)}, got {got}.")
    data = {**data, "name": data.get("name", name)}
    if isinstance(data["name"], str) and (set(data["name"]) == {"."} or len(data["name"]) > 100):
        raise MicrecError(
            f"{where}: name: must not be dots alone, and have at most 100 characters, got {data['name'][:120]!r}: the "
            "run's folder is named after it."
        )
    chosen = SCENARIO_KINDS[kind]
    scenario, faults = chosen.check(chosen.schema, data)
    if scenario is None or faults:
        raise MicrecError.of(where, faults)
    return scenario, scenario.resolved()


def check_inputs(scenario: Any) -> None:
    """Look at what a run of a scenario would read before its first training or simulated second.

    Generated worlds need no look: what models and pipelines name of them is checked with the scenario's keys.

    Raises:
        MicrecError: If a dataset folder is missing or invalid, or a model cannot be trained on it.
    """
    SCENARIO_KINDS[scenario.kind].preflight(scenario)


def is_world(path: Path) -> bool:
    """Whether a file, or the shipped one of that name, is a world's and no scenario."""
    data = read_extended(find_file(path, below=WORLDS))
    return "kind" not in data and bool(data) and set(data) <= set(WorldConfig.model_fields)


def explain_scenario(start: str | None = None) -> list[KeyDescription]:
    """Every key of a scenario; the config's keys stand under ``base`` and hold for ``arms.<name>.config`` as well.

    Args:
        start: A kind, for the keys of its scenarios; or a key, for it and the keys below it, where a config key may
            leave out ``base.``.

    Raises:
        MicrecError: If no key starts so; the nearest ones are named.
    """
    config = [setting._replace(key=f"base.{setting.key}") for setting in explain(Config) if setting.key != "preset"]
    if start is not None and start in SCENARIO_KINDS:
        schema = SCENARIO_KINDS[start].schema
        own = [one._replace(type=start) if one.key == "kind" else one for one in explain(schema)]
        return own + config if any(one.key == "base" for one in own) else own
    settings: list[KeyDescription] = []
    for schema in dict.fromkeys(kind.schema for kind in SCENARIO_KINDS.values()):
        known = {setting.key for setting in settings}
        settings += [setting for setting in explain(schema) if setting.key not in known]
    settings += config
    settings = [one._replace(type=", ".join(SCENARIO_KINDS)) if one.key == "kind" else one for one in settings]
    if start is None:
        return settings
    starts = (start, f"base.{start}")
    if found := [s for s in settings if s.key in starts or s.key.startswith(tuple(f"{key}." for key in starts))]:
        return found
    keys = [setting.key for setting in settings]
    names = {key.split(".")[-1]: key for key in keys}  # a whole key goes before the last part of another
    names |= {key.removeprefix("base."): key for key in keys} | {key: key for key in keys}
    near = [names[name] for name in difflib.get_close_matches(start, names, n=3)]
    cure = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "leave it out to see all keys."
    raise MicrecError(f"scenario explain: no key {start}: {cure}")


def _worlds(data: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The worlds written inside a scenario, which may stand on world files."""
    for at, keys in {"": data, **{f"datasets.{n}.": one for n, one in mapping(data.get("datasets")).items()}}.items():
        world = mapping(keys).get("world")
        if isinstance(world, dict) and EXTENDS in world:
            yield f"{at}world", world


def _name_of(path: Path) -> str:
    return re.sub(r"[^\w.-]", "-", path.stem)
