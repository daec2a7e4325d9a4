"""Item losses by name: the keys of each, and where it is. Nothing here needs torch.

To add one, write its config and its class in a file of ``micrec/item_losses`` and name them here. Another package calls
``ITEM_LOSSES.register`` or declares an entry point of the group ``micrec.item_losses``; its keys then stand under
``contrast.<name>``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from micrec.item_loss_configs import FeatureConfig, ItemLossConfig, SemanticConfig, SessionConfig
from micrec.registry import Registry, loaded


@dataclass(frozen=True)
class ItemLossKind:
    """An item loss, by its keys.

    Attributes:
        config: Its keys.
        loss: The subclass of ``micrec.item_losses.item_loss.ItemLoss``, or where it is: ``module:Class``.
        prepare: Function of the dataset, the training clicks and the whole ``Config`` that returns what the loss knows
            of the items beside their towers: anything that has ``to(device)``, such as a tensor; None: nothing more
            than all losses know.
    """

    config: type[ItemLossConfig]
    loss: str | type
    prepare: Callable[..., Any] | None = None

    def load(self) -> Any:
        """The class of the loss; imports torch."""
        return loaded(self.loss)


ITEM_LOSSES: Registry[ItemLossKind] = Registry(
    "item loss",
    "item_losses",
    {
        "feature": ItemLossKind(FeatureConfig, "micrec.item_losses.feature_loss:FeatureLoss"),
        "semantic": ItemLossKind(SemanticConfig, "micrec.item_losses.pair_loss:SemanticLoss"),
        "session": ItemLossKind(SessionConfig, "micrec.item_losses.pair_loss:SessionLoss"),
    },
)
