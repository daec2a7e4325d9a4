"""The memory of one training, counted from the shapes of the data and the model before anything is allocated.

Counted: the log and its tables, what a training keeps of each click, embedding tables with Adam's two moments and
their gradients, the activations of a step, validation. The constants are bytes that tests compare with what the
kernel reports of whole trainings (``tests/micrec/test_estimates.py``: within a factor of 2).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from micrec.config import Config
from micrec.data.dataset import Clicks, Dataset, EntityTable
from micrec.data.split import temporal_split
from micrec.estimates.memory import LIBRARIES, PROCESSES, MemoryEstimate
from micrec.models import make_model
from micrec.models.columns import FieldSpec, choose_fields, field_specs
from micrec.models.table import EmbeddingTable
from micrec.optim.adam import DENSE_NUMBERS
from micrec.pair_set import BITMAP_BYTES
from micrec.train_data import AUTO, ITEM_ID, USER_ID, counted_fields

FLOAT = 4  # bytes
LOG_CLICK = 16  # user, item, moment
TRAIN_CLICK = 44  # user, item, session, row, place in the order of an epoch, and the log anew in the order of users
ORDER_CLICK = 8  # of a mapped log: the order of an epoch
VALIDATION_CLICK = 24  # histories of all users
PAIR = 8  # of a set of pairs that is no bitmap
PARTNER = 24  # of the co-occurrences of sessions, while they are counted
PARTNERS_PER_CLICK = 8
COPIES = 2  # of each number that a layer takes or gives: itself and its gradient
_STAND_IN = 1_009  # rows of the first table of a model that is made to be looked at


class ModelSize(NamedTuple):
    """Numbers of a model, counted without making its tables.

    Attributes:
        dense: In layers and in tables that get dense gradients.
        sparse: In tables that get row-sparse gradients.
        divided: Those of either that several processes divide among themselves.
        item_width: That the layers of the item tower take and give for one item.
        user_width: That all other layers take and give for one row.
    """

    dense: int
    sparse: int
    divided: int
    item_width: int
    user_width: int

    @property
    def numbers(self) -> int:
        """Parameters in all."""
        return self.dense + self.sparse


def training_memory(
    dataset: Dataset, config: Config, *, keeps_checkpoint: bool = True, processes: int = 1
) -> MemoryEstimate:
    """The peak of one training on ``dataset``, bytes by part; of several processes, that of the first.

    Args:
        dataset: The data, already read.
        config: Everything else.
        keeps_checkpoint: Whether the training writes checkpoints.
        processes: Processes that train together under torchrun. Each holds its rows of the large tables and computes
            its share of a batch; the first also holds the tables whole while it reads and writes them.

    Raises:
        MicrecError: If the split is impossible or a field is not in the dataset.
    """
    train = dataset.clicks[temporal_split(dataset.clicks, config.split, dataset.schema.days).fit]
    size, step = model_size(dataset, train, config), _Step.of(dataset, train, config).share(processes)
    parts = {
        "libraries": LIBRARIES,
        "the dataset": dataset_bytes(dataset),
        "training clicks": _click_bytes(dataset, train),
        "tables and optimiser": _kept_tables(size, config, keeps_checkpoint, processes),
        "one step": step.bytes(size, config),
        "item losses": _source_bytes(dataset, train, config),
    }
    on_gpu = _is_cuda(config.train.device)
    if on_gpu:
        parts = {name: parts[name] for name in ("training clicks", "tables and optimiser", "one step", "item losses")}
    elif processes > 1:
        parts["whole tables, to be read or written"] = FLOAT * size.divided * (3 if keeps_checkpoint else 1)
    model, softmax = config.model, config.softmax
    draws = f"softmax.num_negatives ({softmax.num_negatives})"
    cures = {
        "tables and optimiser": f"lower model.embedding_dim ({model.embedding_dim})"
        + (", or leave out the user's own table (model.user_id=false)" if model.user_id else ""),
        "one step": f"lower train.batch_size ({config.train.batch_size:,})"
        + (f" or {draws}" if softmax.negatives not in ("full", "in_batch") else "")
        + (", or draw negatives (softmax.negatives=shared)" if softmax.negatives == "full" else ""),
        "training clicks": "map the clicks from the disk (micrec encode)",
        "item losses": f"lower sessions.top_partners ({config.sessions.top_partners:,})",
    } | ({PROCESSES: "start fewer processes on this machine"} if processes > 1 else {})
    return MemoryEstimate({name: size for name, size in parts.items() if size}, cures, "cuda" if on_gpu else "cpu")


def _kept_tables(size: ModelSize, config: Config, keeps_checkpoint: bool, processes: int) -> int:
    """Parameters, Adam's moments, and copies of them: of a checkpoint of one process, of the best epoch."""
    held = size.numbers - size.divided + size.divided // processes
    copies = 3 + (keeps_checkpoint and processes == 1) + (not config.train.refit)
    return FLOAT * held * copies + FLOAT * size.dense


def model_size(dataset: Dataset, train: Clicks, config: Config) -> ModelSize:
    """Numbers of the model's parameters: it is made with small tables, whose rows are then counted as they will be."""
    model = config.model
    users = field_specs(
        dataset.users,
        choose_fields(dataset.users, model.user_fields, key="model.user_fields"),
        id_name=USER_ID if model.user_id else None,
    )
    items = field_specs(
        dataset.items,
        choose_fields(dataset.items, model.item_fields, key="model.item_fields"),
        id_name=ITEM_ID if model.item_id else None,
        counted=() if model.field_term == AUTO else counted_fields(dataset.items, train, model),
    )
    true_rows: dict[int, int] = {}
    small_users, small_items = _stand_ins(users, true_rows), _stand_ins(items, true_rows)
    made = make_model(model, small_users, small_items, sparse=True, generator=torch.Generator().manual_seed(0))
    sparse_allowed = config.optim.embedding_update != "dense"
    limit = DENSE_NUMBERS["cpu"] if config.optim.embedding_update == "catchup" else 0
    least_rows = 0 if config.optim.embedding_update == "lazy" else config.train.shard_rows
    dense, sparse, divided, counted = 0, 0, 0, set()
    for module in made.modules():
        if isinstance(module, EmbeddingTable) and module.weight not in counted:
            counted.add(module.weight)
            rows, width = module.weight.shape
            rows = true_rows.get(rows, rows)
            numbers = rows * width
            is_sparse = sparse_allowed and numbers > limit
            dense, sparse = dense + numbers * (not is_sparse), sparse + numbers * is_sparse
            divided += numbers * (rows >= least_rows or numbers > DENSE_NUMBERS["cpu"])
    dense += sum(parameter.numel() for parameter in made.parameters() if parameter not in counted)
    return ModelSize(dense, sparse, divided, *_widths(made))


class _Step(NamedTuple):
    """Rows of one optimiser step: B rows, their clicks in the history, and items that the tower is computed for."""

    rows: int
    clicks: int
    items: int
    n_items: int
    fields: int

    @classmethod
    def of(cls, dataset: Dataset, train: Clicks, config: Config) -> "_Step":
        n_items, softmax = len(dataset.items), config.softmax
        rows = min(config.train.batch_size, len(train))
        mean = len(train) / max(1, len(dataset.users))  # the user of a click has about twice as many as a user
        length = min(
            mean if config.train.context in ("rolling", "before_session") else 2 * mean, config.model.history_length
        )
        clicks = int(rows * max(1.0, length))
        per_row = rows * softmax.num_negatives if softmax.negatives in ("uniform", "popularity") else 0
        shared = softmax.num_negatives if softmax.negatives in ("shared", "mixed") else 0
        drawn = n_items if softmax.negatives == "full" else rows + per_row + shared
        contrast = 2 * (rows + config.contrast.pool_size) if config.contrast.on else 0
        fields = len(dataset.items.columns) if config.model.item_fields is None else len(config.model.item_fields)
        return cls(rows, clicks, min(n_items, drawn + contrast), n_items, fields + config.model.item_id)

    def share(self, processes: int) -> "_Step":
        """What each of several processes computes of it: its rows, and at most all of the items."""
        return self._replace(rows=-(-self.rows // processes), clicks=-(-self.clicks // processes))

    def bytes(self, size: ModelSize, config: Config) -> int:
        """Activations with their gradients."""
        dim, softmax = config.model.embedding_dim, config.softmax
        places = self.clicks if config.model.tower.by_click else self.rows
        fields = self.fields if config.model.tower.by_click else 1
        numbers = self.items * (self.fields * dim + size.item_width) + places * size.user_width
        numbers += (self.items + self.clicks) * fields * dim
        scored = {
            "full": self.n_items,
            "in_batch": self.rows,
            "mixed": self.rows + softmax.num_negatives,
            "shared": softmax.num_negatives,
        }
        numbers += self.rows * scored.get(softmax.negatives, softmax.num_negatives * dim)
        return COPIES * FLOAT * numbers


def _stand_ins(specs: Iterable[FieldSpec], true_rows: dict[int, int]) -> list[FieldSpec]:
    """The same fields with few values each, no two with as many; ``true_rows`` learns what they stand for."""
    found = []
    for spec in specs:
        rows = _STAND_IN + len(true_rows)
        if spec.size:
            true_rows[rows] = spec.size
        found.append(replace(spec, size=rows) if spec.size else spec)
    return found


def _widths(model: nn.Module) -> tuple[int, int]:
    """Numbers that the linear layers take and give for one row: of the item tower, and of all others."""
    widths = {True: 0, False: 0}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            widths["item" in name.partition(".")[0]] += module.in_features + module.out_features
    return widths[True], widths[False]


def dataset_bytes(dataset: Dataset) -> int:
    """The log and both tables as they were read and encoded."""
    clicks = dataset.clicks
    optional = (clicks.dwell_s, clicks.like, clicks.follow)
    log = LOG_CLICK * len(clicks) + sum(column.nbytes for column in optional if column is not None)
    return log * (not _is_mapped(clicks)) + _table_bytes(dataset.users) + _table_bytes(dataset.items)


def _table_bytes(table: EntityTable) -> int:
    arrays = (
        array
        for column in table.columns.values()
        for array in (column.codes, column.values, column.offsets, column.numbers)
        if array is not None
    )
    return int(table.frame.estimated_size()) + int(table.ids.estimated_size()) + sum(array.nbytes for array in arrays)


def _is_mapped(clicks: Clicks) -> bool:
    """Whether the log, and what is as long as it, lies on the disk."""
    return isinstance(clicks.user_ids, np.memmap)


def _click_bytes(dataset: Dataset, train: Clicks) -> int:
    """What a training keeps of each click."""
    held = TRAIN_CLICK * len(train) + VALIDATION_CLICK * len(dataset.clicks) + _pairs(dataset, train)
    return ORDER_CLICK * len(train) if _is_mapped(dataset.clicks) else held


def _pairs(dataset: Dataset, train: Clicks) -> int:
    """The set of the pairs that were clicked: a bitmap, or a key for each."""
    bitmap = len(dataset.users) * (len(dataset.items) // 8 + 1)
    return bitmap if bitmap <= BITMAP_BYTES else 2 * PAIR * len(train)


def _source_bytes(dataset: Dataset, train: Clicks, config: Config) -> int:
    """What the item losses know of the items."""
    contrast, n_items = config.contrast, len(dataset.items)
    partners = min(PARTNERS_PER_CLICK * len(train), n_items * config.sessions.top_partners)
    session = PARTNER * partners if contrast.session.weight > 0 else 0
    semantic = 1_000 * n_items if contrast.semantic.weight > 0 and dataset.schema.roles.title else 0
    return session + semantic


def _is_cuda(device: str) -> bool:
    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
