"""Types of what the calls of the package take, and the config that a training's arguments make together."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

from micrec.config import Config
from micrec.settings import build_config, load_yaml, merge, nested

StrPath: TypeAlias = str | PathLike[str]
Part: TypeAlias = Literal["test", "valid"]
Settings: TypeAlias = Mapping[str, Any]
"""Keys of a config with their values; dots part levels, as in ``{"train.epochs": 2}``."""


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
