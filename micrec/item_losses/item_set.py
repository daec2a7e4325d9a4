"""The items of a step as a set: a list of exact length on a CPU, one with room for all on a GPU."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from micrec.shapes import is_fixed, marked


class ItemSet(NamedTuple):
    """Items of one step, in either layout of ``micrec.shapes``.

    Attributes:
        items: Item ids, shape (A,).
        real: Which of them count, bool, shape (A,); None where the list is exact, so that all do.
    """

    items: Tensor
    real: Tensor | None = None

    @classmethod
    def of_all(cls, items: Tensor) -> Self:
        """Every entry of ``items`` (A,), repeats too."""
        return cls(items, torch.ones_like(items, dtype=torch.bool) if is_fixed(items) else None)

    @classmethod
    def distinct(cls, items: Tensor, n_items: int) -> Self:
        """Distinct ids of ``items`` (A,) in ascending order; with room, repeats of the first stand behind them.

        Marks and scans the catalogue of ``n_items``, which beats a sort at batch sizes.
        """
        seen = torch.zeros(n_items, dtype=torch.bool, device=items.device).index_fill_(0, items, True)
        return cls(*marked(seen, min(len(items), n_items))) if is_fixed(items) else cls(seen.nonzero().squeeze(1))

    def exact(self) -> Tensor:
        """Those that count, alone; with room, a GPU is waited for."""
        return self.items if self.real is None else self.items[self.real]

    def only(self, wanted: Tensor) -> Self:
        """Those that are ``wanted``, bool, shape (A,)."""
        if self.real is None:
            return self._replace(items=self.items[wanted])
        return self._replace(real=self.real & wanted)

    def some(self, most: int, generator: torch.Generator) -> Self:
        """At most ``most``, drawn without replacement, in their order."""
        if len(self.items) <= most:
            return self
        if self.real is None:
            chosen = torch.randperm(len(self.items), generator=generator, device=generator.device)[:most]
            return self._replace(items=self.items[chosen.sort().values.to(self.items.device)])
        keys = torch.rand(len(self.items), generator=generator, device=generator.device).to(self.items.device)
        chosen = keys.masked_fill(~self.real, torch.inf).topk(most, largest=False).indices.sort().values
        return self._replace(items=self.items[chosen], real=self.real[chosen])
