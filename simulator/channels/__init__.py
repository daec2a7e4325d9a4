"""Matching channels that need no neural model, each a trainer of plain arrays and a model that serves from them."""

from collections.abc import Mapping
from typing import Any

from micrec.errors import MicrecError
from micrec.settings import validate
from simulator.channels.channel import ChannelConfig, ChannelTrainer
from simulator.channels.follow import FollowConfig, FollowTrainer
from simulator.channels.fresh import FreshConfig, FreshTrainer
from simulator.channels.item_cf import ItemCfConfig, ItemCfTrainer
from simulator.channels.popular import PopularConfig, PopularTrainer
from simulator.channels.tag import TagChannelConfig, TagTrainer

CHANNELS: dict[str, tuple[type[ChannelConfig], type[ChannelTrainer[Any]]]] = {
    "popular": (PopularConfig, PopularTrainer),
    "fresh": (FreshConfig, FreshTrainer),
    "tag": (TagChannelConfig, TagTrainer),
    "follow": (FollowConfig, FollowTrainer),
    "item_cf": (ItemCfConfig, ItemCfTrainer),
}


def make_channel(kind: str, keys: Mapping[str, Any], *, where: str = "channels") -> ChannelTrainer[Any]:
    """The trainer of a kind of channel.

    Args:
        kind: One of ``CHANNELS``.
        keys: Keys of that channel; what is not given has its default.
        where: Where the keys were written, for messages.

    Raises:
        MicrecError: If there is no such channel, or a key is unknown or wrong.
    """
    if kind not in CHANNELS:
        raise MicrecError(f"{where}: no channel {kind!r}: choose from {', '.join(CHANNELS)}.")
    model, trainer = CHANNELS[kind]
    return trainer(validate(model, keys, where=where))


__all__ = ["CHANNELS", "ChannelConfig", "ChannelTrainer", "make_channel"]
