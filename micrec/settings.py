"""From YAML files and ``--set`` overrides to validated, frozen configs."""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from micrec.config import Config, ModelConfig
from micrec.errors import MicrecError
from micrec.faults import KeyDescription, explain, fault_lines
from micrec.presets import PRESETS

__all__ = [
    "KeyDescription",
    "apply_overrides",
    "as_mapping",
    "build_config",
    "check_numbers",
    "differences",
    "explain",
    "flatten",
    "load_yaml",
    "merge",
    "nested",
    "validate",
]

Model = TypeVar("Model", bound=BaseModel)
_MERGE_TAG = "tag:yaml.org,2002:merge"


MOST_BYTES = 1 << 20  # of a YAML file
MOST_NODES, MOST_DEPTH = 100_000, 60  # of its data once aliases are written out
_OLD_NUMBER = re.compile(r"^[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9]*)?)$")  # octal, base 60


class _Loader(yaml.SafeLoader):
    """Standard tags only; keys are text and stand once; ``1e-3`` is a number, as in YAML 1.2.

    Aliases may not grow the data beyond bounds, and numbers that YAML 1.1 reads in base 8 or 60 are refused.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            self._size(node, {}, 0)
        return node

    def _size(self, node: yaml.Node, known: dict[int, int], depth: int) -> int:
        """Nodes below and with this one, every alias written out."""
        if depth > MOST_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"more than {MOST_DEPTH} levels deep", problem_mark=node.start_mark)
        if id(node) in known:
            if known[id(node)] < 0:
                raise yaml.MarkedYAMLError(problem="an alias within itself", problem_mark=node.start_mark)
            return known[id(node)]
        known[id(node)] = -1
        below = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        if isinstance(node, yaml.ScalarNode):
            below = []
            plain = node.style is None and node.tag.endswith((":int", ":float"))
            if plain and _OLD_NUMBER.match(node.value) and node.value.strip("+-0"):
                problem = f"{node.value} is read in base 8 or 60: write a plain number, or put it in quotes"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        size = 1 + sum(self._size(part, known, depth + 1) for part in below)
        if size > MOST_NODES:
            problem = f"more than {MOST_NODES:,} values once aliases are written out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        known[id(node)] = size
        return size

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == _MERGE_TAG:
                continue
            key = self.construct_object(key_node, deep=True)
            mark = key_node.start_mark
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is not text: put it in quotes", problem_mark=mark)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} appears twice, first on line {seen[key]}: keep one", problem_mark=mark
                )
            seen[key] = mark.line + 1
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        MicrecError: If the file cannot be read, is not valid YAML (the line is named), carries a tag,
            repeats a key, has a key that is not text, or holds anything but a mapping.
    """
    try:
        if path.exists() and not path.is_file():
            raise MicrecError(f"{path}: is not a regular file: give the path of a YAML file.")
        if path.stat().st_size > MOST_BYTES:
            raise MicrecError(f"{path}: is larger than {MOST_BYTES >> 20} MB: no YAML file of ours is.")
        data = _parse(path.read_bytes(), where=str(path))
    except OSError as fault:
        raise MicrecError(f"{path}: cannot be read ({fault.strerror}): check the path.") from None
    except ValueError as fault:  # a NUL in the path
        raise MicrecError(f"{str(path)!r}: is no path ({fault}): check it.") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise MicrecError(f"{path}: must hold a mapping of keys (key: value), got {type(data).__name__}.")
    return data


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of ``data`` with each override ``a.b=value`` set; values are YAML, later ones win.

    Whether the path exists in the model is for ``validate`` to say.

    Raises:
        MicrecError: If an override has no ``=``, an empty path, a value that is not YAML, or a path through
            something that is not a mapping; every bad override is listed.
    """
    result = copy.deepcopy(dict(data))
    faults = []
    for override in overrides:
        _drop_options(result, override)
    for override in overrides:
        try:
            _set(result, override)
        except MicrecError as fault:
            faults.append(str(fault))
    if faults:
        raise MicrecError.of("--set", faults)
    return result


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping from several; later layers win key by key, and mappings merge at every depth.

    Options belong to the base model that they were written for: a layer whose ``model`` names another one takes none
    over from the layers before it.
    """
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            below = _without_options(result[key]) if both and _renames(key, result[key], value) else result.get(key)
            result[key] = merge(below or {}, value) if both else copy.deepcopy(value)
    return result


def _renames(key: str, below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    """Whether these keys of ``key`` name another base model than those they are laid over."""
    before = below.get("name", ModelConfig.model_fields["name"].default)
    return key == "model" and above.get("name", before) != before


def _without_options(model: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in model.items() if key != "options"}


def validate(model: type[Model], data: Mapping[str, Any], *, where: str, at: str = "") -> Model:
    """Build ``model`` from plain data; nothing is converted but integers to numbers.

    Args:
        model: Target class.
        data: Plain mappings, lists and scalars, as YAML gives them.
        where: What the user wrote, a file or "config": heads the error.
        at: Path of ``data`` inside it, put before every key of the error.

    Raises:
        MicrecError: All errors at once, one per key, with the rule, the value, and the nearest known key.
    """
    checked, faults = check(model, data, at=at)
    if checked is None:
        raise MicrecError.of(where, faults)
    return checked


def check(model: type[Model], data: Mapping[str, Any], *, at: str = "") -> tuple[Model | None, list[str]]:
    """As ``validate``, but returns the faults, for callers that gather them from several places."""
    try:
        # JSON is the strict mode that still takes a list for a tuple and text for a path.
        return model.model_validate_json(json.dumps(data, default=str), strict=True), []
    except ValidationError as error:
        return None, fault_lines(model, error, data, at)


def build_config(preset: str, overrides: Mapping[str, Any], *, where: str = "config", at: str = "") -> Config:
    """The config of ``preset`` with the given keys laid over it.

    Raises:
        MicrecError: If the preset is unknown, ``overrides`` names another preset, or a key is invalid.
    """
    if preset not in PRESETS:
        raise MicrecError(f"{where}: preset: must be one of {', '.join(PRESETS)}, got {preset}.")
    if overrides.get("preset", preset) != preset:
        key = f"{at}.preset" if at else "preset"
        raise MicrecError(f"{where}: {key}: is {overrides['preset']}, but the preset chosen is {preset}: name one.")
    return validate(Config, merge(PRESETS[preset].model_dump(), overrides), where=where, at=at)


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys; an empty mapping stays a value."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nested(settings: Mapping[str, Any], *, where: str = "settings") -> dict[str, Any]:
    """Nested mappings from keys with dots: ``{"train.epochs": 2}`` becomes ``{"train": {"epochs": 2}}``.

    Only the outermost keys are parted; values are taken as they are, and later keys win.

    Raises:
        MicrecError: If a key is no text or has an empty part, or a key lies below one that is no mapping.
    """
    result: dict[str, Any] = {}
    for key, value in as_mapping(where, settings).items():
        parts = key.split(".") if isinstance(key, str) else [""]
        if not all(parts):
            raise MicrecError(f"{where}: {key!r}: must be a key such as train.epochs.")
        node: Any = result
        for depth, part in enumerate(parts[:-1], start=1):
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise MicrecError(f"{where}: {key}: {'.'.join(parts[:depth])} is {node!r}, which has no keys.")
        node.update(merge({part: node[part] for part in parts[-1:] if part in node}, {parts[-1]: value}))
    return result


def as_mapping(where: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of a mapping that a caller gave; None is an empty one.

    Raises:
        MicrecError: If it is none.
    """
    if given is not None and not isinstance(given, Mapping):
        raise MicrecError(f"{where}: is a {type(given).__name__}, where a mapping is needed: give {{name: value}}.")
    return dict(given or {})


def check_numbers(**given: Any) -> None:
    """Refuse what is no number where one is needed; None stands for one that was not given.

    Raises:
        MicrecError: All errors at once, each with its name.
    """
    faults = [
        f"{name}: must be a number, got {value!r}."
        for name, value in given.items()
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real))
    ]
    if faults:
        raise MicrecError("\n".join(faults))


def differences(config: BaseModel, reference: BaseModel) -> dict[str, Any]:
    """The dotted keys whose value in ``config`` is not that of ``reference``, with the value in ``config``.

    Options of another base model than the reference's are compared with that model's defaults.
    """
    ours, theirs = flatten(config.model_dump()), flatten(reference.model_dump())
    if isinstance(config, Config) and theirs.get("model.name") != config.model.name:
        theirs |= flatten({"model": ModelConfig(name=config.model.name).model_dump(include={"options"})})
    return {key: value for key, value in ours.items() if key not in theirs or theirs[key] != value}


def _parse(text: bytes | str, *, where: str) -> Any:
    try:
        data = yaml.load(text, Loader=_Loader)  # a SafeLoader: plain data only
        json.dumps(data, default=str)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        line = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise MicrecError(f"{where}:{line} not valid YAML: {fault.problem}.") from None
    except (yaml.YAMLError, RecursionError) as fault:
        raise MicrecError(f"{where}: not valid YAML: {fault}.") from None
    except ValueError as fault:
        raise MicrecError(f"{where}: not plain data: {fault}.") from None
    return data


def _drop_options(data: dict[str, Any], override: str) -> None:
    """Where an override names another base model: without the options that the file has for its own."""
    path, _, name = override.partition("=")
    *keys, last = path.strip().split(".")
    node: Any = data
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    if keys and last == "name" and isinstance(node, dict) and _renames(keys[-1], node, {"name": name.strip()}):
        node.pop("options", None)


def _set(data: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise MicrecError(f"{override[:200]}: must read key=value, such as train.epochs=3.")
    if len(keys) > MOST_DEPTH:
        raise MicrecError(f"{path.strip()[:60]}…: has {len(keys):,} parts, no key of ours has more than a few.")
    value = _parse(text, where=override)
    node = data
    for depth, key in enumerate(keys[:-1], start=1):
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
        if not isinstance(node, dict):
            raise MicrecError(f"{override}: {'.'.join(keys[:depth])} is {node!r}, which has no keys.")
    node[keys[-1]] = value
