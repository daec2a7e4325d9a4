"""The log of a world in memory, as the statistics see it."""

import numpy as np

from micrec.data.dataset import Clicks
from simulator.realism.log import Log, Tags, sorted_log
from simulator.world.item_table import published_items
from simulator.world.tags import draw_tags
from simulator.world.world import World


def world_log(world: World) -> Log:
    """The log that ``world`` would write: the same clicks, categories, tags and publication times."""
    config, catalogue = world.config, world.catalogue
    n_items = published_items(config)
    frame = world.history(0, config.users.count).clicks
    time_s = frame["timestamp"].to_numpy()
    order = np.argsort(time_s, kind="stable")
    tags = draw_tags(config, catalogue)
    rows = tags.item < n_items
    return sorted_log(
        config.name,
        Clicks(
            user_ids=frame["user_id"].to_numpy()[order].astype(np.int32),
            item_ids=frame["item_id"].to_numpy()[order].astype(np.int32),
            time_ms=time_s[order] * 1000,
            dwell_s=frame["dwell_s"].to_numpy()[order],
            like=frame["like"].to_numpy()[order],
            follow=frame["follow"].to_numpy()[order],
        ),
        n_items,
        category=(catalogue.subcategory[:n_items] // config.items.subcategories + 1).astype(np.int32),
        tags=Tags(
            (tags.tag[rows] + 1).astype(np.int32),
            np.searchsorted(tags.item[rows], np.arange(n_items + 1)).astype(np.int64),
        ),
        published_s=world.start_s + np.floor(catalogue.published_s[:n_items]),
    )
