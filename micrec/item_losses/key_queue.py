"""A momentum encoder of items, and a queue of what it gave: many negatives at little cost (MoCo, He et al. 2020)."""

import copy
from itertools import chain

import torch
from torch import Tensor, nn

from micrec.models.columns import FieldColumns
from micrec.models.two_tower import TwoTower

NOBODY = -1  # item of a place of the queue that is still empty


class KeyEncoder(nn.Module):
    """A copy of the item side of a model and of a projector, which follows them slowly and takes no gradient.

    Args:
        model: The model that is trained.
        projector: The loss's own.
        momentum: m: with each step a copy becomes m times itself plus 1 - m times the original.
    """

    def __init__(self, model: TwoTower, projector: nn.Module, momentum: float) -> None:
        super().__init__()
        users = [child for name, child in model.named_children() if name.startswith("user_")]
        left_out = {} if model.items_read_users else {id(child): None for child in users}
        self.model: TwoTower = copy.deepcopy(model, memo=left_out).requires_grad_(False)
        self.projector = copy.deepcopy(projector).requires_grad_(False)
        self.momentum = momentum

    @torch.no_grad()
    def follow(self, model: TwoTower, projector: nn.Module) -> None:
        """One step towards the parameters as they are now; moments and other constants of the model likewise."""
        for copied, original in ((self.model, model), (self.projector, projector)):
            now = dict(chain(original.named_parameters(), original.named_buffers()))
            pairs = [
                (tensor, now[name])
                for name, tensor in chain(copied.named_parameters(), copied.named_buffers())
                if tensor.is_floating_point() and tensor.numel()
            ]
            if pairs:
                ours, theirs = zip(*pairs, strict=True)
                torch._foreach_lerp_(list(ours), [tensor.detach() for tensor in theirs], 1.0 - self.momentum)
        self.model.train()
        self.model.eval()  # a model that keeps what it makes of its parameters makes it anew

    @torch.no_grad()
    def embeddings(self, items: FieldColumns) -> Tensor:
        """Outputs of the item tower, shape (n, D)."""
        return self.model.item_tower(self.model.embed_items(items)).float()


class KeyQueue(nn.Module):
    """The latest keys and their items, first in, first out; part of the training's state.

    Attributes:
        keys: As they are compared, shape (Q, W).
        items: Their item ids, shape (Q,), -1 where the place is still empty.
    """

    keys: Tensor
    items: Tensor
    place: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(size, width))
        self.register_buffer("items", torch.full((size,), NOBODY))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))  # of the next key

    def unusable(self, items: Tensor) -> Tensor:
        """Which keys are no negatives of items (A,): empty places and their own keys, shape (A, Q)."""
        return (self.items < 0) | (self.items == items[:, None])

    @torch.no_grad()
    def push_masked(self, keys: Tensor, items: Tensor, mask: Tensor) -> None:
        """``push`` of those where ``mask`` (n,) is True."""
        size = len(self.items)
        rank = mask.cumsum(0) - 1
        count = rank[-1] + 1
        used = mask & (rank >= count - size)
        first = (count - size).clamp_min(0)
        places = torch.where(used, (self.place + rank - first) % size, size)  # one place more, for what is not used
        for stored, new in ((self.keys, keys.to(self.keys)), (self.items, items)):
            room = torch.cat([stored, stored[:1]])
            room[places] = new
            stored.copy_(room[:size])
        self.place.copy_((self.place + count - first) % size)

    @torch.no_grad()
    def push(self, keys: Tensor, items: Tensor) -> None:
        """Put keys (n, W) of items (n,) into the places of the oldest; of more than Q keys, the last Q."""
        size = len(self.items)
        keys, items = keys[-size:], items[-size:]
        places = (self.place + torch.arange(len(items), device=items.device)) % size
        self.keys[places] = keys.to(self.keys)
        self.items[places] = items
        self.place.copy_((self.place + len(items)) % size)
