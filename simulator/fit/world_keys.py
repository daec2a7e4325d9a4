"""Worlds with single keys changed; keys that sum to 1 make room for each other."""

from typing import Any

from micrec.settings import merge, validate
from simulator.fit.findings import Findings
from simulator.world.world_config import WorldConfig

SHARES = {
    "choice": ("taste", "popular", "fresh", "similar", "repeat"),
    "taste.depth": ("category", "subcategory", "topic", "item"),
}  # keys that sum to 1


def with_keys(config: WorldConfig, keys: dict[str, Any]) -> WorldConfig:
    """The world with dotted keys changed; the other shares of choice and depth make room for those that are given.

    Raises:
        MicrecError: If the keys do not fit together.
    """
    changes = Findings()
    for key, value in keys.items():
        changes.set(key, value, "")
    for group in SHARES:
        for key, share in shares_beside(config, group, keys).items():
            changes.set(key, share, "")
    return validate(WorldConfig, merge(config.model_dump(mode="json"), changes.nested()), where="fit")


def shares_beside(config: WorldConfig, group: str, keys: dict[str, Any]) -> dict[str, float]:
    """All shares of a group: those given, at most 1 together, and the others in the proportions they have.

    Empty if none is given. If the others are all 0 they share alike what is left.
    """
    names = [f"{group}.{name}" for name in SHARES[group]]
    given = {name: float(keys[name]) for name in names if name in keys}
    if not given:
        return {}
    total = sum(given.values())
    shares = {name: share / max(1.0, total) for name, share in given.items()}
    rest = {name: value_of(config, name) for name in names if name not in shares}
    if rest and not sum(rest.values()):
        rest = dict.fromkeys(rest, 1.0)
    scale = (1.0 - sum(shares.values())) / sum(rest.values()) if rest else 0.0
    return shares | {name: share * scale for name, share in rest.items()}


def value_of(config: WorldConfig, key: str) -> float:
    """The number that a dotted key has."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return float(value)
