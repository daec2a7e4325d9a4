"""The base of the options that kinds of channels and ranking models have of their own."""

from simulator.world.world_config import FrozenConfig


class ModelOptions(FrozenConfig):
    """Options of one kind of model, written under ``options`` of its stage in a pipeline."""

    def item_fields(self) -> dict[str, tuple[str, ...]]:
        """Fields of the item table that the model reads, by the key that names them; all must be in the world."""
        return {}
