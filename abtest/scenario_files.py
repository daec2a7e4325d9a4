"""Scenario files: one YAML names one question, and every key has a documented default."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from abtest.arms import CONTROL, Arm, arm_faults, config_faults, mapping
from abtest.offline.offline_scenario import Metrics, OfflineScenario
from abtest.offline.table_kinds import TABLE_KINDS, AnyTable, check_table
from abtest.online.online_scenario import ONLINE_KINDS, OnlineScenario
from micrec.config import Config, Frozen
from micrec.errors import MicrecError
from micrec.extending import EXTENDS, extended, read_extended
from micrec.settings import KeyDescription, apply_overrides, check, explain, merge, nested
from micrec.shipped import WORLDS, find_file
from simulator.world.world_config import WorldConfig

__all__ = ["CONTROL", "Arm", "Metrics", "OfflineScenario", "OnlineScenario", "load_scenario"]

Scenario = OfflineScenario | OnlineScenario | AnyTable

_ARMED: dict[str, type[OfflineScenario] | type[OnlineScenario]] = {
    "offline_ab": OfflineScenario,
    **dict.fromkeys(ONLINE_KINDS, OnlineScenario),
}
KINDS: dict[str, type[Scenario]] = {**_ARMED, **TABLE_KINDS}


def load_scenario(path: Path, overrides: Sequence[str] = ()) -> tuple[Scenario, dict[str, Any]]:
    """Read a scenario, with what it extends and the ``--set`` overrides, and check all of it.

    Returns:
        The scenario, and the same as plain data in which every key is explicit (``base`` holds the whole config):
        written as YAML, it loads to the same run whatever later defaults are.

    Raises:
        MicrecError: If a file cannot be read, the kind is unknown, or any key of the scenario or of an arm's config
            is at fault; all faults at once.
    """
    path = find_file(path)
    return checked_scenario(apply_overrides(read_extended(path, _worlds), overrides), str(path), _name_of(path))


def scenario_of(
    scenario: Path | Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> tuple[Scenario, dict[str, Any]]:
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


def checked_scenario(data: dict[str, Any], where: str, name: str) -> tuple[Scenario, dict[str, Any]]:
    """A scenario from its keys; see ``load_scenario``.

    Args:
        data: All keys, with those of what is extended.
        where: What the user wrote, for messages.
        name: Name of the run where the keys have none.
    """
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise MicrecError(f"{where}: kind: must be one of {', '.join(KINDS)}, got {json.dumps(kind, default=str)}.")
    data = {**data, "name": data.get("name", name)}
    if isinstance(data["name"], str) and (set(data["name"]) == {"."} or len(data["name"]) > 100):
        raise MicrecError(
            f"{where}: name: must not be dots alone, and have at most 100 characters, got {data['name'][:120]!r}: the "
            "run's folder is named after it."
        )
    if kind in TABLE_KINDS:
        table = check_table(where, TABLE_KINDS[kind], data)
        return table, table.resolved()
    scenario, faults = check(cast("type[OfflineScenario]", _ARMED[kind]), data)
    faults = [*faults, *config_faults(data, _ARMED[kind].unread)]
    if scenario is not None:
        faults += arm_faults(scenario.arms, scenario.reserved_arms)
        faults += [] if faults else scenario.faults()
    if scenario is None or faults:
        raise MicrecError.of(where, faults)
    return scenario, scenario.resolved()


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
    if start in KINDS:
        own = [one._replace(type=start) if one.key == "kind" else one for one in explain(KINDS[start])]
        return own + config if any(one.key == "base" for one in own) else own
    offline = explain(OfflineScenario)
    settings = list(offline)
    others: list[type[Frozen]] = [OnlineScenario, *TABLE_KINDS.values()]
    for model in others:
        known = {setting.key for setting in settings}
        settings += [setting for setting in explain(model) if setting.key not in known]
    settings += config
    settings = [one._replace(type=", ".join(KINDS)) if one.key == "kind" else one for one in settings]
    if start is None:
        return settings
    starts = (start, f"base.{start}")
    if found := [s for s in settings if s.key in starts or s.key.startswith(tuple(f"{key}." for key in starts))]:
        return found
    names = {name: s.key for s in settings for name in (s.key, s.key.removeprefix("base."), s.key.split(".")[-1])}
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
