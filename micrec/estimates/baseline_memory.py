"""The memory of the baselines of a table: that of EASE, which is solved densely, and of the largest block of scores."""

from collections.abc import Collection

from micrec.baselines.ease import MOST_SOLVED, MOST_TUNED
from micrec.data.dataset import Dataset
from micrec.estimates.memory import LIBRARIES, MemoryEstimate
from micrec.estimates.training_memory import VALIDATION_CLICK, dataset_bytes

GRAM_AND_INVERSE = 20  # bytes a pair of solved items: in float64 in one place, the quotient, two results in float32
WHILE_TUNED = 28  # the Gram matrix stays beside those for the next ridge
BLOCK = 256 << 20  # scores that are held at a time, at most


def baseline_memory(dataset: Dataset, names: Collection[str]) -> MemoryEstimate:
    """The peak while the baselines ``names`` are fitted and tested one after the other, bytes by part."""
    n_items = len(dataset.items)
    parts = {
        "libraries": LIBRARIES,
        "the dataset": dataset_bytes(dataset) + VALIDATION_CLICK * len(dataset.clicks),
        "scores": min(BLOCK, 4 * len(dataset.users) * n_items),
    }
    if "ease" in names:
        solved, tuned = min(n_items, MOST_SOLVED), min(n_items, MOST_TUNED)
        parts["EASE"] = max(GRAM_AND_INVERSE * solved**2, WHILE_TUNED * tuned**2)
    return MemoryEstimate(parts, {"EASE": "leave out ease (baselines)"})
