"""What a fit has found: keys of a world with the moment each came from."""

from typing import Any, NamedTuple


class Finding(NamedTuple):
    """One key of the world."""

    value: Any  # plain data
    source: str  # the moment of the real log it was set from


class Findings:
    """Keys set from the data, and keys about which the data say nothing."""

    def __init__(self) -> None:
        self.found: dict[str, Finding] = {}
        self.kept: dict[str, str] = {}

    def set(self, key: str, value: Any, source: str) -> None:
        """``key`` gets ``value``, because of ``source``."""
        self.found[key] = Finding(value, source)

    def keep(self, reason: str, *keys: str) -> None:
        """``keys`` keep the value of the base world, because of ``reason``."""
        self.kept.update(dict.fromkeys(keys, reason))

    def nested(self) -> dict[str, Any]:
        """The values found, as the nested mapping of a world file."""
        result: dict[str, Any] = {}
        for key, finding in self.found.items():
            *parents, name = key.split(".")
            node = result
            for parent in parents:
                node = node.setdefault(parent, {})
            node[name] = finding.value
        return result
