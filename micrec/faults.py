"""A model's keys in words, and pydantic's complaints as lines a person can act on."""

import difflib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

_BOUNDS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}
_SCHEMA_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
RENAMED = {
    "gather_s": "batch_window_s",
    "floors": "baselines",
    "readiness_sd": "click_propensity_sd",
    "model.behaviour_tokens": "model.options.behaviour_tokens",
    "model.block": "model.options.block",
    "model.layers": "model.options.layers",
    "model.heads": "model.options.heads",
    "model.positions": "model.options.positions",
    "model.interests": "model.options.interests",
    "model.adaptive_interests": "model.options.adaptive_interests",
    "model.label_attention_power": "model.options.label_attention_power",
    "model.routing_iterations": "model.options.routing_iterations",
    "model.interest_hidden": "model.options.interest_hidden",
    "model.item_terms": "model.options.item_terms",
    "model.autoint_dnn": "model.options.dnn",
}  # keys of former versions, by their last parts, and the present ones
_TYPE_WORDS = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}


class KeyFaults(ValueError):
    """Faults of keys below the one that a validator looks at, each as ``key: rule, got value``."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


class KeyDescription(NamedTuple):
    """One key of a config or scenario.

    Attributes:
        key: Dotted path; ``<name>`` stands for any key of a mapping, as in ``arms.<name>.label``.
        type: What the value may be, in words.
        default: The default as YAML would show it, or "required".
        description: One sentence.
    """

    key: str
    type: str
    default: str
    description: str


def explain(model: type[BaseModel]) -> list[KeyDescription]:
    """Every key of ``model`` and of the models inside it, in the order they are declared."""
    schema = model.model_json_schema()
    return list(_settings(schema, schema.get("$defs", {}), ""))


@functools.cache
def _explained(model: type[BaseModel]) -> Sequence[KeyDescription]:
    return explain(model)


def fault_lines(model: type[BaseModel], error: ValidationError, data: Mapping[str, Any], at: str = "") -> list[str]:
    """Each fault of ``error`` as ``key: rule, got value``, in the order of ``model``'s complaints.

    Args:
        model: The model that refused ``data``.
        error: Its complaint; the alternatives of one union become one line.
        data: The plain data that was refused.
        at: Path of ``data`` within what the user wrote, put before every key.
    """
    by_key: dict[tuple[str, ...], list[Any]] = {}
    for fault in error.errors(include_url=False):
        by_key.setdefault(_real_path(data, fault), []).append(fault)
    settings = _explained(model)
    prefix = [at] if at else []
    return [line for path, faults in by_key.items() for line in _lines([*prefix, *path], path, faults, settings)]


def _lines(
    whole: Sequence[str], path: tuple[str, ...], faults: Sequence[Any], settings: Sequence[KeyDescription]
) -> Iterator[str]:
    """The line of one key, or those of the keys below it that a validator found."""
    below = faults[0].get("ctx", {}).get("error")
    if isinstance(below, KeyFaults):
        yield from (".".join([*whole, line]) for line in below.lines)
    else:
        yield f"{'.'.join(whole) or 'top level'}: {_sentence(path, faults, settings)}"


def _settings(node: Mapping[str, Any], defs: Mapping[str, Any], prefix: str) -> Iterator[KeyDescription]:
    for name, prop in node.get("properties", {}).items():
        inner = _resolve(prop, defs)
        values = next(iter(inner.get("patternProperties", {}).values()), inner.get("additionalProperties"))
        if "properties" in inner:
            yield from _settings(inner, defs, f"{prefix}{name}.")
        elif isinstance(values, dict) and "properties" in _resolve(values, defs):
            yield from _settings(_resolve(values, defs), defs, f"{prefix}{name}.<name>.")
        else:
            default = _shown(prop["default"], width=120) if "default" in prop else "required"
            if name not in node.get("required", ()) and "default" not in prop:
                default = "{}"  # an empty mapping made by a factory
            yield KeyDescription(f"{prefix}{name}", _type_text(prop, defs), default, prop.get("description", ""))


def _resolve(prop: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = prop.get("$ref")
    return defs[reference.rsplit("/", 1)[-1]] if reference else prop


def _type_text(prop: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    prop = {**prop, **_resolve(prop, defs)}
    if "anyOf" in prop:
        return " or ".join(_type_text(option, defs) for option in prop["anyOf"])
    if "enum" in prop:
        return "one of " + ", ".join(map(str, prop["enum"]))
    if "const" in prop:
        return str(prop["const"])
    if prop.get("type") == "array":
        return f"list of {_type_text(prop.get('items', {}), defs)}"
    if prop.get("type") == "object":
        return "mapping"
    word = _TYPE_WORDS.get(prop.get("type", ""), "any value")
    if word == "integer" and "minimum" in prop and "maximum" in prop:
        return f"integer from {_bound(prop['minimum'])} to {_bound(prop['maximum'])}"
    bounds = [f"{sign} {_bound(prop[name])}" for name, sign in _SCHEMA_BOUNDS.items() if name in prop]
    return f"{word} {' and '.join(bounds)}" if bounds else word


def _bound(value: float) -> str:
    """A bound as a person writes it: 100,000 rather than 100000 or 1e+05, and 2^62."""
    if value != int(value):
        return f"{value:g}"
    whole = int(value)
    power = whole.bit_length() - 1
    return f"2^{power}" if power > 40 and whole == 1 << power else f"{whole:,}"


def _real_path(data: Any, fault: Mapping[str, Any]) -> tuple[str, ...]:
    """The part of a pydantic location that names keys, without the names of a union's alternatives."""
    path: list[str] = []
    *_, last = fault["loc"] or ("",)
    for part in fault["loc"]:
        if isinstance(data, Mapping):
            if part in data or (fault["type"] == "missing" and part == last):
                path.append(str(part))
                data = data.get(part)  # a missing key ends the walk: nothing below it is real
        elif isinstance(data, list | tuple) and isinstance(part, int):
            path.append(str(part))
            data = data[part] if part < len(data) else None
    return tuple(path)


def _sentence(path: tuple[str, ...], faults: Sequence[Any], settings: Sequence[KeyDescription]) -> str:
    fault = faults[0]
    kind = fault["type"]
    if kind == "extra_forbidden" and (now := RENAMED.get(path[-1]) or RENAMED.get(".".join(path[-2:]))):
        return f"is now {now}: write that instead"
    if kind == "extra_forbidden":
        return f"unknown key, {_suggestion(path, settings)}"
    if kind == "missing":
        return "is required"
    got = f"got {_shown(fault['input'], quoted=True)}"
    if kind == "value_error":
        reason = str(fault["ctx"]["error"])
        return reason if isinstance(fault["input"], Mapping) else f"{reason}, {got}"
    if len(faults) == 1 and kind in _BOUNDS and fault["input"] == fault["input"]:  # NaN breaks every bound
        name, sign = _BOUNDS[kind]
        return f"must be {sign} {_bound(fault['ctx'][name])}, {got}"
    if kind == "finite_number":
        return f"must be a finite number, {got}"
    if kind == "string_pattern_mismatch":
        return f"must match {fault['ctx']['pattern']}, {got}"
    if expected := _expected(path, settings):
        return f"must be {_article(expected)}, {got}"
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"must be a mapping of keys, {got}"
    return f"{fault['msg'].replace('Input should be', 'must be')}, {got}"


def _expected(path: tuple[str, ...], settings: Sequence[KeyDescription]) -> str | None:
    """The type of a key, or of the elements of the list it stands in."""
    types = {tuple(setting.key.split(".")): setting.type for setting in settings}
    exact = next((type_ for key, type_ in types.items() if _matches(key, path)), None)
    if exact is None and path and path[-1].isdigit():
        whole = next((type_ for key, type_ in types.items() if _matches(key, path[:-1])), "")
        return whole.removeprefix("list of ").removesuffix(" or null") if whole.startswith("list of ") else None
    return exact


def _suggestion(path: tuple[str, ...], settings: Sequence[KeyDescription]) -> str:
    *parent, name = path
    keys = [setting.key.split(".") for setting in settings]
    below = [key for key in keys if len(key) >= len(path) and _matches(key[: len(parent)], parent)]
    siblings = dict.fromkeys(key[len(parent)] for key in below)
    if close := difflib.get_close_matches(name, siblings, n=1):
        return f"did you mean {close[0]}?"
    elsewhere = set(difflib.get_close_matches(name, {key[-1] for key in keys}, n=1, cutoff=0.8))
    if found := [".".join(key) for key in keys if key[-1] in elsewhere]:
        return f"did you mean {' or '.join(found)}?"
    return f"the keys here are {', '.join(siblings)}" if siblings else "no keys are known here"


def _matches(key: Sequence[str], path: Sequence[str]) -> bool:
    return len(key) == len(path) and all(k in (p, "<name>") for k, p in zip(key, path, strict=True))


def _article(words: str) -> str:
    first = words.split(" ", 1)[0]
    return {"integer": "an ", "number": "a ", "list": "a ", "mapping": "a "}.get(first, "") + words


def _shown(value: Any, *, quoted: bool = False, width: int = 60) -> str:
    text = value if isinstance(value, str) and not quoted else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= width else text[: width - 1] + "…"
