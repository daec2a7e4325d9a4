"""Is there room? Asked before the first byte is written."""

import shutil
from pathlib import Path

from micrec.errors import MicrecError
from simulator.world.parts import expected_clicks_per_user
from simulator.world.world_config import WorldConfig

# Bytes measured on the worlds of scenarios/worlds and rounded up; tests/simulator/test_world_command.py checks them.
CLICK_BYTES = 12  # 7 to 10 with its cause; item ids of a larger catalogue take a little more
USER_BYTES = 130  # 57 in the two tables, and as much in the parts they are joined from
ITEM_BYTES = 160  # 55 in the two tables, the rest in what workers share
OWN_ITEM_BYTES = 8  # of each favourite, in the table and in its parts
TOPIC_BYTES = 5_000  # what workers share of its hours
FIXED_BYTES = 20_000_000  # what workers share of segments and hours


def needed_bytes(config: WorldConfig) -> int:
    """Upper estimate of the space that a world takes while it is written."""
    users, items = config.users.count, config.items.count * max(1.0, config.days / config.window_days)
    clicks = users * expected_clicks_per_user(config)
    vectors = 4 * config.content.dim
    own = OWN_ITEM_BYTES * config.taste.interests * config.taste.favourites if config.taste.depth.item > 0 else 0
    keys = config.items
    topics = keys.categories * keys.subcategories * keys.topics if keys.topics > 1 else 0
    return (
        int(clicks * CLICK_BYTES + users * (USER_BYTES + own) + items * (ITEM_BYTES + vectors))
        + topics * TOPIC_BYTES
        + FIXED_BYTES
    )


def check_space(config: WorldConfig, out: Path, *, there: int = 0) -> None:
    """Refuse a world that the disk of ``out`` has no room for.

    Args:
        config: The world.
        out: Folder to be written.
        there: Bytes of it that an interrupted attempt has written already.

    Raises:
        MicrecError: Naming what is needed and what is free.
    """
    place = out.resolve()
    while not place.exists():
        place = place.parent
    needed, free = needed_bytes(config) - there, shutil.disk_usage(place).free
    if needed > free:
        raise MicrecError(
            f"{out}: the world takes about {_gigabytes(needed)}, its disk has {_gigabytes(free)} left: "
            "choose another disk for --out, or lower --scale, users.count or sessions.clicks."
        )


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below ``folder``, 0 if there is no such folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
