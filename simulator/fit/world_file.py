"""The fitted world as a YAML file that says of every key where its value came from."""

import json
from collections.abc import Mapping
from typing import Any

from simulator.fit.findings import Findings
from simulator.world.world_config import WorldConfig

_NOT_IDENTIFIABLE = {
    "taste": "how many interests a user has is not told from a log apart from how they are weighted",
    "signals": "no moment of topics, absent or wrong values is fitted",
    "links": "how many groups are linked is not told apart from how strongly",
    "titles": "no moment of titles is fitted",
    "content": "no moment of embeddings is fitted",
    "choice": "the causes of clicks are not told apart",
}


def world_yaml(config: WorldConfig, findings: Findings, *, header: list[str], base: str) -> str:
    """The text of the world file.

    Args:
        config: The fitted world.
        findings: What was set and what was kept, with reasons.
        header: Lines of the comment at its head.
        base: Name of the base world, for the comments of what was kept.
    """
    lines = [f"# {_plain(line)}".rstrip() for line in header]
    _write(lines, config.model_dump(mode="json"), findings, base, prefix="", indent=0)
    return "\n".join(lines) + "\n"


def _write(
    lines: list[str], data: Mapping[str, Any], findings: Findings, base: str, *, prefix: str, indent: int
) -> None:
    pad = "  " * indent
    for name, value in data.items():
        key = f"{prefix}{name}"
        comment = _comment(key, findings, base)
        inner_found = any(found.startswith(f"{key}.") for found in (*findings.found, *findings.kept))
        if isinstance(value, dict) and value and (inner_found or (indent == 0 and key not in findings.found)):
            lines.append(f"{pad}{name}:")
            _write(lines, value, findings, base, prefix=f"{key}.", indent=indent + 1)
            continue
        lines.append(f"{pad}# {_plain(comment)}")
        lines.append(f"{pad}{name}: {json.dumps(value)}")  # JSON is YAML


def _comment(key: str, findings: Findings, base: str) -> str:
    if key in findings.found:
        return f"fitted: {findings.found[key].source}"
    reason = findings.kept.get(key) or _NOT_IDENTIFIABLE.get(key.split(".", maxsplit=1)[0], "")
    return f"kept from {base}" + (f": {reason}" if reason else "")


def _plain(text: str) -> str:
    """One line without control characters: names of datasets come from files."""
    return "".join(char if char.isprintable() else " " for char in text)
