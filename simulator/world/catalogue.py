"""The catalogue as the click generator sees it: one array per trait, one row per item."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Catalogue:
    """Items 0 … N - 1 in order of publication day; those of later days follow, so that more days only append.

    Attributes:
        subcategory: Index of the subcategory, shape (N,), 0 … categories * subcategories - 1; its category is
            ``subcategory // config.items.subcategories``.
        group: Hidden group, shape (N,), ``subcategory * config.items.groups`` + 0 … groups - 1.
        topic: Hidden topic, shape (N,), ``subcategory * config.items.topics`` + 0 … topics - 1; independent of the
            group. Groups decide links and "similar" clicks, topics decide taste (``taste.depth``).
        published_s: Seconds since the start of the log at which the item appears, shape (N,), negative = before it.
        appeal: Pull of the item when new, in season if it has seasons, shape (N,), > 0, no unit.
        evergreen: Whether the appeal never fades, shape (N,).
        quality: Hidden quality, shape (N,), standard normal over the items.
        provider: Provider, shape (N,).
        clickbait: Whether the title lies and the appeal is borrowed, shape (N,).
        link_targets: Group -> the groups it links to, shape (groups, targets), -1 = none.
    """

    subcategory: NDArray[np.int32]
    group: NDArray[np.int32]
    topic: NDArray[np.int32]
    published_s: NDArray[np.float64]
    appeal: NDArray[np.float64]
    evergreen: NDArray[np.bool_]
    quality: NDArray[np.float32]
    provider: NDArray[np.int32]
    clickbait: NDArray[np.bool_]
    link_targets: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.subcategory)
