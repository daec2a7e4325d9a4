"""Observed logs for tests of models: random, small, with everything that a platform logs."""

import numpy as np
import polars as pl

from simulator.ports import ObservedLog, Requests

START_S = 1_700_000_000
DAY_S = 86_400


def random_log(
    seed: int = 0,
    *,
    n_users: int = 60,
    n_items: int = 80,
    n_clicks: int = 1_500,
    n_slates: int = 400,
    slate: int = 5,
    days: int = 6,
) -> ObservedLog:
    """Users with a taste for one category, items of skewed appeal, clicks in sessions, slates of random items.

    Whether a shown item is clicked depends on its appeal, on the user's taste and on its position.
    """
    rng = np.random.default_rng(seed)
    category = rng.integers(0, 4, n_items)
    published = np.where(rng.random(n_items) < 0.6, -DAY_S, np.sort(rng.integers(0, days * DAY_S, n_items)))
    items = pl.DataFrame(
        {
            "item_id": np.arange(n_items),
            "category": [f"c{c}" for c in category],
            "subcategory": [f"s{c}{i % 2}" for i, c in enumerate(category)],
            "tags": pl.Series([[f"t{t}" for t in np.unique(rng.integers(0, 12, 3))] for _ in range(n_items)]),
            "provider": [f"p{p}" for p in rng.integers(0, 9, n_items)],
            "title": [f"title c{c} number {i}" for i, c in enumerate(category)],
            "published": START_S + published,
        }
    )
    taste = rng.integers(0, 4, n_users)
    users = pl.DataFrame({"user_id": np.arange(n_users), "gender": [f"g{t % 2}" for t in taste]})
    appeal = 1.0 / (1.0 + np.arange(n_items)[rng.permutation(n_items)])
    clicks = _clicks(rng, n_clicks, taste, category, appeal, days)
    impressions = _impressions(rng, n_slates, slate, taste, category, appeal, days)
    return ObservedLog(users, items, clicks, impressions, float(days * DAY_S), START_S)


def _clicks(rng, n, taste, category, appeal, days):
    session = np.sort(rng.integers(0, max(n // 4, 1), n))
    user = rng.integers(0, len(taste), session.max(initial=0) + 1)[session]
    start = rng.integers(0, days * DAY_S - 3_600, session.max(initial=0) + 1)[session]
    item = np.empty(n, np.int64)
    for row in range(n):
        weights = appeal * np.where(category == taste[user[row]], 8.0, 1.0)
        item[row] = rng.choice(len(appeal), p=weights / weights.sum())
    frame = pl.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "timestamp": START_S + start + rng.integers(0, 3_000, n),
            "dwell_s": rng.lognormal(3.0, 1.0, n),
            "like": rng.random(n) < 0.1,
            "follow": rng.random(n) < 0.08,
        }
    )
    return frame.sort("timestamp", maintain_order=True)


def _impressions(rng, n, slate, taste, category, appeal, days):
    user = np.repeat(rng.integers(0, len(taste), n), slate)
    item = np.concatenate([rng.choice(len(appeal), slate, replace=False) for _ in range(n)])
    position = np.tile(np.arange(slate), n)
    logit = -2.0 + 12.0 * appeal[item] / appeal.max() + 1.5 * (category[item] == taste[user]) - 0.4 * position
    clicked = rng.random(len(item)) < 1.0 / (1.0 + np.exp(-logit))
    at = START_S + np.repeat(np.sort(rng.integers(0, days * DAY_S, n)), slate)
    columns = {"user_id": user, "item_id": item, "timestamp": at, "position": position}
    return pl.DataFrame({**columns, "channel": np.zeros(len(item), np.int8), "clicked": clicked})


def random_requests(log: ObservedLog, batch: int, seed: int = 0, *, width: int = 20) -> Requests:
    """Requests of random users with random latest clicks, some of them new and some without clicks."""
    rng = np.random.default_rng(seed)
    n_users, n_items = len(log.users), len(log.items)
    recent = rng.integers(0, n_items + 3, (batch, width))
    recent[np.arange(width) >= rng.integers(0, width + 1, batch)[:, None]] = -1
    keys = rng.integers(0, 1 << 62, batch).astype(np.uint64)
    return Requests(rng.integers(0, n_users + 2, batch), recent, np.full(batch, log.now_s), keys)


def check_lists(lists, published, k):
    """The promises of ``Candidates``."""
    assert lists.items.shape == lists.scores.shape == (len(lists.items), k)
    assert lists.items.dtype == np.int64
    assert lists.scores.dtype == np.float32
    for items, scores in zip(lists.items, lists.scores, strict=True):
        n = int((items >= 0).sum())
        assert (items[n:] == -1).all()
        assert (scores[n:] == -np.inf).all()
        assert np.isfinite(scores[:n]).all()
        assert (np.diff(scores[:n]) <= 0).all()
        assert len(set(items[:n].tolist())) == n
        assert set(items[:n].tolist()) <= published
