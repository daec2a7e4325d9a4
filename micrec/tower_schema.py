"""JSON schema of ``model.options``, whose keys depend on ``model.name``: each key once, for all towers that have it."""

import json
import math
from collections.abc import Mapping
from typing import Any

from micrec.named import inlined_schema
from micrec.towers import TOWERS


def options_schema() -> dict[str, Any]:
    """JSON schema of ``model.options``: each key once, with its defaults and descriptions by tower."""
    uses: dict[str, dict[str, dict[str, Any]]] = {}
    for name, tower in TOWERS.items():
        keys = {} if tower.options is None else inlined_schema(tower.options)["properties"]
        for key, schema in keys.items():
            uses.setdefault(key, {})[name] = schema
    return {"type": "object", "properties": {key: _merged(towers) for key, towers in uses.items()}}


def _merged(uses: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One key's schema from those of all towers that have it, by the tower's name."""
    texts = _by_value({name: schema.get("description", "") for name, schema in uses.items()})
    defaults = _by_value({name: schema.get("default", "required") for name, schema in uses.items()})
    types: list[dict[str, Any]] = []
    for schema in uses.values():
        plain = {key: value for key, value in schema.items() if key not in ("default", "description", "title")}
        types += [plain] if plain not in types else []
    return {
        **(types[0] if len(types) == 1 else {"anyOf": types}),
        "default": defaults[0][0]
        if len(defaults) == 1
        else ", ".join(f"{_text(v)} for {_and(n)}" for v, n in defaults),
        "description": "; ".join(f"{_and(names)}: {text.rstrip('.')}" for text, names in texts) + ".",
    }


def _by_value(values: Mapping[str, Any]) -> list[tuple[Any, list[str]]]:
    """Each distinct value, and the names that have it."""
    found: list[tuple[Any, list[str]]] = []
    for name, value in values.items():
        same = next((names for other, names in found if other == value and type(other) is type(value)), None)
        if same is None:
            found.append((value, [name]))
        else:
            same.append(name)
    return found


def _text(value: Any) -> str:
    """A default as YAML shows it."""
    if isinstance(value, float) and math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    return value if isinstance(value, str) else json.dumps(value)


def _and(names: list[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])
