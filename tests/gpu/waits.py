"""Operations for which a program must wait until a GPU has come up with a value or a shape, found without a GPU."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "equal",
    "nonzero",
    "argwhere",
    "masked_select",
    "bincount",
    "_unique",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "unique_dim_consecutive",
    "segment_reduce",
    "_coalesce",
    "lift_fresh",  # torch.tensor(...): a copy from the memory of the program
}


class Waits(TorchDispatchMode):
    """Collects, by name, the operations within it that would wait; gradients are computed within it as well.

    Attributes:
        found: Name of each such operation in order, with repeats.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in WAITS or _picks_by_mask(name, args) or _repeats_without_size(func, args, kwargs):
            self.found.append(name)
        return func(*args, **kwargs)


def _picks_by_mask(name: str, args: Any) -> bool:
    if name not in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"):
        return False
    return any(isinstance(one, torch.Tensor) and one.dtype in (torch.bool, torch.uint8) for one in args[1])


def _repeats_without_size(func: Any, args: Any, kwargs: Any) -> bool:
    if func.overloadpacket.__name__ != "repeat_interleave" or func._overloadname == "self_int":
        return False
    return kwargs.get("output_size") is None
