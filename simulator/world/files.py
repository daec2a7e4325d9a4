"""World files: a preset or one's own, with overrides and a scale."""

import re
from collections.abc import Sequence
from pathlib import Path

from micrec.errors import MicrecError
from micrec.extending import read_extended
from micrec.settings import apply_overrides, validate
from micrec.shipped import WORLDS, find_file
from simulator.world.world_config import WorldConfig


def load_world(path: Path, overrides: Sequence[str] = (), *, scale: float = 1.0) -> WorldConfig:
    """Read a world file, lay the overrides over it, check it, and scale it.

    Args:
        path: YAML with the keys of :class:`WorldConfig`, which may extend another, or the name of a shipped world;
            the file's name is the default of ``name``.
        overrides: ``key=value``, as ``users.count=500``.
        scale: Times the users, items, tags and providers, after the overrides.

    Raises:
        MicrecError: If the file cannot be read or keys are invalid; all errors at once, each with its path.
    """
    path = find_file(path, below=WORLDS)
    data = apply_overrides(read_extended(path), overrides)
    data.setdefault("name", re.sub(r"[^\w.-]", "-", path.stem))
    return scaled_world(validate(WorldConfig, data, where=str(path)), scale, where=str(path))


def scaled_world(config: WorldConfig, scale: float, *, where: str) -> WorldConfig:
    """The world with ``scale`` times the users, items, tags and providers.

    Args:
        config: The world.
        scale: The factor, > 0.
        where: What the user wrote, for messages.

    Raises:
        MicrecError: If the scale is no such number, or leads beyond what a key allows.
    """
    if not 0.0 < scale < float("inf"):
        raise MicrecError(f"--scale: must be > 0, got {scale:g}.")
    if scale == 1.0:
        return config
    return validate(WorldConfig, config.scaled_keys(scale), where=f"{where} at scale {scale:g}")
