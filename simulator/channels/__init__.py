"""Matching channels by name: the two-tower model of micrec, and others, each a trainer of a few plain arrays."""

from collections.abc import Mapping
from typing import Any

from micrec.registry import Registry, loaded
from micrec.settings import validate
from simulator.channels.channel import Channel, ChannelConfig, ChannelTrainer
from simulator.channels.follow import FollowConfig, FollowTrainer
from simulator.channels.fresh import FreshConfig, FreshTrainer
from simulator.channels.item_cf import ItemCfConfig, ItemCfTrainer
from simulator.channels.popular import PopularConfig, PopularTrainer
from simulator.channels.tag import TagChannelConfig, TagTrainer
from simulator.channels.two_tower.two_tower_config import TWO_TOWER, TwoTowerChannelConfig
from simulator.model_options import ModelOptions
from simulator.ports import MatcherTrainer

CHANNELS: Registry[Channel] = Registry(
    "channel",
    "channels",
    {
        "popular": Channel(PopularConfig, PopularTrainer),
        "fresh": Channel(FreshConfig, FreshTrainer),
        "tag": Channel(TagChannelConfig, TagTrainer),
        "follow": Channel(FollowConfig, FollowTrainer),
        "item_cf": Channel(ItemCfConfig, ItemCfTrainer),
        TWO_TOWER: Channel(
            TwoTowerChannelConfig,
            "simulator.channels.two_tower.two_tower_trainer:two_tower_channel",
            serves_arm_model=True,
        ),
    },
)


def channel_options(kind: str, keys: Mapping[str, Any], *, where: str = "channels") -> ModelOptions:
    """The checked options of a kind of channel; arguments and errors are those of ``channel_trainer``."""
    return validate(CHANNELS.get_named(kind, where=where).config, keys, where=where)


def channel_trainer(kind: str, keys: Mapping[str, Any], *, where: str = "channels") -> MatcherTrainer:
    """The trainer of a kind of channel.

    Args:
        kind: One of ``CHANNELS``.
        keys: Keys of that channel; what is not given has its default.
        where: Where the keys were written, for messages.

    Raises:
        MicrecError: If there is no such channel, or a key is unknown or wrong.
    """
    options = channel_options(kind, keys, where=where)
    trainer: MatcherTrainer = loaded(CHANNELS[kind].trainer)(options)
    return trainer


__all__ = ["CHANNELS", "Channel", "ChannelConfig", "ChannelTrainer", "channel_options", "channel_trainer"]
