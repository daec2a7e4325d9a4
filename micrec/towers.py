"""Base models by name: where each is, and the keys that it alone reads. Nothing here needs torch.

To add one, write its class in a file of ``micrec/models`` and name it here. Another package calls ``TOWERS.register``,
or declares an entry point of the group ``micrec.towers``; keys that only its tower reads go into a class of its own,
see ``Tower.options``, and stand under ``model.options``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from micrec.named import KeyFaults, checked_options
from micrec.registry import Registry, loaded
from micrec.tower_configs import (
    AfnConfig,
    AutoIntConfig,
    Bert4RecConfig,
    ComiRecDRConfig,
    ComiRecSAConfig,
    EsasRecConfig,
    FactorizationMachineConfig,
    FismConfig,
    IcanConfig,
    LightGcnConfig,
    MindConfig,
    SasRecConfig,
)


@dataclass(frozen=True)
class Tower:
    """A base model, by what a config may say of it.

    Attributes:
        model: The subclass of ``micrec.models.two_tower.TwoTower``, or where it is: ``module:Class``.
        options: Keys of its own, a frozen pydantic model such as a subclass of ``micrec.tower_configs.TowerConfig``,
            read from ``model.options``; None: it has none.
        by_click: Whether it reads each click, and not behaviour fields that are pooled over the clicks.
        two_sided: Whether an item has one vector to be found by and another to be read by, so that no sum of its fields
            can skip the towers.
        needs_item_id: Whether it is nothing without vectors of the items' own ids.
    """

    model: str | type
    options: type[BaseModel] | None = None
    by_click: bool = False
    two_sided: bool = False
    needs_item_id: bool = False

    def load(self) -> Any:
        """The class of the model; imports torch."""
        return loaded(self.model)


TOWERS: Registry[Tower] = Registry(
    "tower",
    "towers",
    {
        "ican": Tower("micrec.models.ican:Ican", IcanConfig),
        "fm": Tower("micrec.models.fm:FactorizationMachine", FactorizationMachineConfig),
        "youtube_dnn": Tower("micrec.models.youtube_dnn:YoutubeDNN"),
        "deepfm": Tower("micrec.models.deepfm:DeepFM"),
        "autoint": Tower("micrec.models.autoint:AutoInt", AutoIntConfig),
        "afn": Tower("micrec.models.afn:Afn", AfnConfig),
        "mind": Tower("micrec.models.multi_interest:Mind", MindConfig, by_click=True),
        "comirec_dr": Tower("micrec.models.multi_interest:ComiRecDR", ComiRecDRConfig, by_click=True),
        "comirec_sa": Tower("micrec.models.multi_interest:ComiRecSA", ComiRecSAConfig, by_click=True),
        "sasrec": Tower("micrec.models.sequence:SasRec", SasRecConfig, by_click=True),
        "bert4rec": Tower("micrec.models.sequence:Bert4Rec", Bert4RecConfig, by_click=True),
        "esasrec": Tower("micrec.models.esasrec:EsasRec", EsasRecConfig, by_click=True),
        "fism": Tower("micrec.models.fism:Fism", FismConfig, two_sided=True),
        "lightgcn": Tower("micrec.models.lightgcn:LightGcn", LightGcnConfig, two_sided=True, needs_item_id=True),
    },
)


def tower_options(name: str, given: Any) -> Any:
    """The options of a tower, with the defaults of those that are not given; None where it has none.

    Args:
        name: The tower, one of ``TOWERS``.
        given: Plain keys, or options that were checked before.

    Raises:
        KeyFaults: Every key that is unknown or wrong.
        ValueError: If what is given is no mapping.
    """
    kind = TOWERS[name].options
    if kind is not None and isinstance(given, kind):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise ValueError("must be a mapping of keys")
    keys = dict(given or {})
    known = {} if kind is None else kind.model_fields
    strange = {key: _towers_with(key) for key in keys if key not in known}
    faults = [
        f"{key}: needs name {' or '.join(towers)}, got {name}: leave it out"
        for key, towers in strange.items()
        if towers
    ]
    own = {key: value for key, value in keys.items() if not strange.get(key)}
    if kind is None:
        faults += [f"{key}: {name} has no options: leave it out" for key in own]
    if faults:
        raise KeyFaults(faults)
    return None if kind is None else checked_options(kind, own)


def _towers_with(key: str) -> list[str]:
    return [name for name, tower in TOWERS.items() if tower.options is not None and key in tower.options.model_fields]
