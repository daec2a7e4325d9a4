"""Base models by name: where each is, and which keys of ``model`` it reads. Nothing here needs torch.

To add one, write its class in a file of ``micrec/models`` and name it here. Another package calls ``TOWERS.register``,
or declares an entry point of the group ``micrec.towers``; keys that only its tower reads go into a class of its own,
see ``Tower.options``, and stand under ``model.options``.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from micrec.registry import Registry, loaded

ROUTED = ("interests", "adaptive_interests", "label_attention_power", "routing_iterations")


@dataclass(frozen=True)
class Tower:
    """A base model, by what a config may say of it.

    Attributes:
        model: The subclass of ``micrec.models.two_tower.TwoTower``, or where it is: ``module:Class``.
        reads: Keys of ``model`` that few towers read, and this one does; with another tower they must keep their
            defaults.
        heads: Attention heads where the config names no number; None: it has none.
        by_click: Whether it reads each click, and not behaviour fields that are pooled over the clicks.
        takes_positions: Whether the clicks it reads may have learned positions.
        options: Keys of its own, a frozen pydantic model, read from ``model.options``; None: it has none.
    """

    model: str | type
    reads: tuple[str, ...] = ()
    heads: int | None = None
    by_click: bool = False
    takes_positions: bool = True
    options: type[BaseModel] | None = None

    def load(self) -> Any:
        """The class of the model; imports torch."""
        return loaded(self.model)


TOWERS: Registry[Tower] = Registry(
    "tower",
    "towers",
    {
        "ican": Tower("micrec.models.ican:Ican", reads=("layers", "block"), heads=8),
        "fm": Tower("micrec.models.fm:FactorizationMachine", reads=("item_terms",)),
        "youtube_dnn": Tower("micrec.models.youtube_dnn:YoutubeDNN"),
        "deepfm": Tower("micrec.models.deepfm:DeepFM"),
        "autoint": Tower("micrec.models.autoint:AutoInt", reads=("layers", "autoint_dnn"), heads=8),
        "mind": Tower("micrec.models.multi_interest:Mind", reads=ROUTED, by_click=True, takes_positions=False),
        "comirec_dr": Tower(
            "micrec.models.multi_interest:ComiRecDR", reads=ROUTED, by_click=True, takes_positions=False
        ),
        "comirec_sa": Tower(
            "micrec.models.multi_interest:ComiRecSA",
            reads=("interests", "adaptive_interests", "label_attention_power", "interest_hidden"),
            by_click=True,
        ),
        "sasrec": Tower("micrec.models.sequence:SasRec", reads=("layers",), heads=1, by_click=True),
        "bert4rec": Tower("micrec.models.sequence:Bert4Rec", reads=("layers",), heads=2, by_click=True),
    },
)


def read_by_few() -> dict[str, tuple[str, ...]]:
    """Keys of ``model`` that only some towers read, and the names of these towers."""
    keys = dict.fromkeys(key for tower in TOWERS.values() for key in tower.reads)
    return {key: tuple(name for name, tower in TOWERS.items() if key in tower.reads) for key in keys}
