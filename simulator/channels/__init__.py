"""Matching channels that need no neural model, each a trainer of plain arrays and a model that serves from them."""

from collections.abc import Mapping
from typing import Any

from micrec.registry import Registry
from micrec.settings import validate
from simulator.channels.channel import Channel, ChannelConfig, ChannelTrainer
from simulator.channels.follow import FollowConfig, FollowTrainer
from simulator.channels.fresh import FreshConfig, FreshTrainer
from simulator.channels.item_cf import ItemCfConfig, ItemCfTrainer
from simulator.channels.popular import PopularConfig, PopularTrainer
from simulator.channels.tag import TagChannelConfig, TagTrainer

CHANNELS: Registry[Channel] = Registry(
    "channel",
    "channels",
    {
        "popular": Channel(PopularConfig, PopularTrainer),
        "fresh": Channel(FreshConfig, FreshTrainer),
        "tag": Channel(TagChannelConfig, TagTrainer),
        "follow": Channel(FollowConfig, FollowTrainer),
        "item_cf": Channel(ItemCfConfig, ItemCfTrainer),
    },
)


def make_channel(kind: str, keys: Mapping[str, Any], *, where: str = "channels") -> ChannelTrainer[Any]:
    """The trainer of a kind of channel.

    Args:
        kind: One of ``CHANNELS``.
        keys: Keys of that channel; what is not given has its default.
        where: Where the keys were written, for messages.

    Raises:
        MicrecError: If there is no such channel, or a key is unknown or wrong.
    """
    channel = CHANNELS.get_named(kind, where=where)
    return channel.trainer(validate(channel.config, keys, where=where))


__all__ = ["CHANNELS", "Channel", "ChannelConfig", "ChannelTrainer", "make_channel"]
