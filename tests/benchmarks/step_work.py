"""What a training step costs, counted from the shapes of its operations: bytes, floating-point operations, launches.

Every operation reads what it needs of its arguments and writes its result once: what torch does without fusing. Of a
look-up the rows that it reads count, not the table. Counted on a CPU, with the shapes that a GPU would see.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from micrec.training import Trainer

LOOKUPS = {"embedding", "index_select", "index", "gather", "take", "_embedding_bag", "_embedding_bag_forward_only"}
WRITES = {"index_put_", "_index_put_impl_", "index_copy_", "scatter_", "scatter_add_", "index_add_", "index_fill_"}
FREE = {"detach", "lift_fresh", "empty", "empty_like", "new_empty", "_local_scalar_dense", "is_coalesced"}


class StepWork(NamedTuple):
    """One step of one device."""

    rows: int  # clicks to find
    bytes: float
    flops: float
    launches: int

    def per_second(self, bandwidth: float, flops: float, launch_s: float) -> dict[str, float]:
        """Rows a second if only one thing counted: bytes a second, operations a second, or seconds per launch."""
        return {
            "bandwidth": self.rows * bandwidth / self.bytes,
            "arithmetic": self.rows * flops / self.flops,
            "launches": self.rows / (self.launches * launch_s),
        }


class Traffic(TorchDispatchMode):
    """Adds up the bytes of the operations within it, and counts them.

    Attributes:
        bytes: Read and written.
        launches: Operations that move anything.
        by_name: Bytes of each operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.launches = 0, 0
        self.by_name: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not (func.is_view or name in FREE):
            moved = traffic_of(name, tensors_in((args, kwargs)), tensors_in(result))
            self.bytes += moved
            self.launches += 1
            self.by_name[name] = self.by_name.get(name, 0) + moved
        return result


def traffic_of(name: str, given: list[Tensor], result: list[Tensor]) -> int:
    """Bytes that an operation reads and writes."""
    if name in LOOKUPS:
        codes = [one for one in given[1:] if not one.is_floating_point()]
        width = given[0][:1].numel() * given[0].element_size() if given[0].dim() else given[0].element_size()
        read = codes[0].numel() * width if name.startswith("_embedding_bag") and codes else size_of(result[:1])
        if name.startswith("_embedding_bag"):  # takes the table before the codes
            read = given[1].numel() * width
        return read + size_of(result[:1]) + size_of(codes)
    if name in WRITES:
        return 2 * size_of(given[-1:]) + size_of([one for one in given[1:-1] if not one.is_floating_point()])
    return size_of(given) + size_of(result)


def tensors_in(tree: Any) -> list[Tensor]:
    """Dense tensors in arguments or results, each once."""
    found = {id(leaf): leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.layout == torch.strided}
    return list(found.values())


def size_of(tensors: list[Tensor]) -> int:
    """Bytes of the numbers that they show: a row that is repeated by a stride of 0 counts once."""
    total = 0
    for one in tensors:
        shown = [n for n, stride in zip(one.shape, one.stride(), strict=True) if stride]
        total += torch.Size(shown).numel() * one.element_size()
    return total


def count_step(trainer: Trainer) -> tuple[StepWork, dict[str, int]]:
    """The work of a step of fixed shapes, after one that warms up, and the bytes of each operation.

    Without bringing whole tables up to date, which only the first hundreds of steps do.
    """
    if trainer.optimizer._skipped is not None:
        trainer.optimizer._skipped.flush_at = math.inf
    order, size = trainer.order(1), trainer.config.train.batch_size
    rows, n_clicks = order[:size], trainer.clicks_of_batches(order)[0]
    trainer.step(rows, n_clicks)
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        trainer.step(rows, n_clicks)
    return StepWork(n_clicks or len(rows), traffic.bytes, flops.get_total_flops(), traffic.launches), traffic.by_name
