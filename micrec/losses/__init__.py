"""The matching loss and the item-contrastive losses, as pure functions."""

from micrec.losses.augment import (
    drop_tags,
    element_dropout,
    field_dropout,
    keep_fields,
    keep_values,
    random_halves,
)
from micrec.losses.barlow_twins import barlow_twins
from micrec.losses.correlated_masking import (
    correlated_masks,
    field_codes,
    field_mutual_information,
    mutual_information,
)
from micrec.losses.info_nce import grouped_scores, info_nce
from micrec.losses.key_log_sum import key_log_sum
from micrec.losses.sampled_softmax import (
    full_softmax,
    in_batch_softmax,
    row_softmax,
    sampled_softmax,
    shared_softmax,
)
from micrec.losses.softmax_parts import catalogue_softmax

__all__ = [
    "barlow_twins",
    "catalogue_softmax",
    "correlated_masks",
    "drop_tags",
    "element_dropout",
    "field_codes",
    "field_dropout",
    "field_mutual_information",
    "full_softmax",
    "grouped_scores",
    "in_batch_softmax",
    "info_nce",
    "keep_fields",
    "keep_values",
    "key_log_sum",
    "mutual_information",
    "random_halves",
    "row_softmax",
    "sampled_softmax",
    "shared_softmax",
]
