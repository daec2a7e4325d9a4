"""Synthetic worlds whose hidden truth is known, and a platform that serves them.

``import simulator`` takes no time: each name below is imported when it is first used.

Examples:
    A world, and an A/B experiment on a platform in it:

    >>> import simulator
    >>> world = simulator.make_world("tiny", scale=0.1)
    >>> world.dataset.name, len(world.dataset.clicks)
    ('tiny', 4795)
    >>> arms = {"control": {}, "treatment": {"pipeline": {"channels": {"popular": None}}}}
    >>> config = {"arms": arms, "warmup_days": 1, "pipeline.slate_size": 5}
    >>> log = simulator.Platform("tiny", scale=0.1, config=config, history_days=3, days=2).run()
    >>> log.table("impressions")["position"].max()
    4
    >>> log.to_frame().columns[:3]
    ['user_id', 'arm', 'day']
"""

from typing import TYPE_CHECKING

from micrec.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from simulator.api import GeneratedWorld, Platform, PlatformLog, WorldTruth, make_world
    from simulator.world.world_config import WorldConfig
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "simulator.api": ("GeneratedWorld", "Platform", "PlatformLog", "WorldTruth", "make_world"),
            "simulator.world.world_config": ("WorldConfig",),
        },
    )

__all__ = [
    "GeneratedWorld",
    "Platform",
    "PlatformLog",
    "WorldConfig",
    "WorldTruth",
    "make_world",
]
