"""Configs as earlier versions wrote them into models and bundles, read as those of today."""

from collections.abc import Mapping
from typing import Any

from micrec.towers import TOWERS

_MOVED = (  # keys that stood in ``model`` itself, for every base model, null where it had its own default or none
    *("behaviour_tokens", "block", "layers", "heads", "positions", "interests", "adaptive_interests"),
    *("label_attention_power", "routing_iterations", "interest_hidden", "item_terms", "autoint_dnn"),
)
_RENAMED = {"autoint_dnn": "dnn"}


def as_written_today(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config that a manifest holds, with the options of its base model where they stand today.

    Args:
        config: Plain data; what is no config of an earlier version comes back as it is, for the check to judge.
    """
    model = config.get("model")
    if not isinstance(model, Mapping) or not any(key in model for key in _MOVED):
        return dict(config)
    name = model.get("name")
    kind = TOWERS[name].options if isinstance(name, str) and name in TOWERS else None
    known = {} if kind is None else kind.model_fields
    moved = {_RENAMED.get(key, key): model[key] for key in _MOVED if model.get(key) is not None}
    own = {key: value for key, value in moved.items() if key in known}
    rest = {key: value for key, value in model.items() if key not in (*_MOVED, "options")}
    options = {**own, **(model.get("options") or {})}
    return {**config, "model": {**rest, "options": options} if options else rest}
