"""Which losses a dataset has the fields for; what it lacks is switched off and told, before a run starts."""

from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.data.schema import FieldType


def applicable_config(dataset: Dataset, config: Config) -> tuple[Config, list[str]]:
    """The config that this dataset can be trained with, and what was switched off for it, as sentences.

    Without a title the semantic loss by titles has no positives: its weight becomes 0. All else is left for
    ``contrast_sources`` to refuse.
    """
    semantic, roles = config.contrast.semantic, dataset.schema.roles
    has_titles = roles.title is not None or semantic.encoder.endswith(".npy")
    if semantic.weight == 0 or semantic.source != "title" or has_titles:
        return config, []
    off = {"contrast": config.contrast.model_copy(update={"semantic": semantic.model_copy(update={"weight": 0.0})})}
    texts = [name for name, kind in dataset.schema.items.items() if kind is FieldType.TEXT]
    cure = f"set roles.title to {texts[0]}" if texts else "convert with a text field for roles.title"
    note = (
        f"The semantic loss is off: dataset.yaml of {dataset.name} names no title. To have it, {cure}, or use other "
        "positives: contrast.semantic.source taxonomy or content."
    )
    return config.model_copy(update=off), [note]
