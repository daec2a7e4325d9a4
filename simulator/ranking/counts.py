"""What the ranking model knows of items and users at a moment: arrays counted from the log up to then."""

import dataclasses
from typing import NamedTuple

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from micrec.config import SessionsConfig
from micrec.data.sessions import assign_sessions
from simulator.channels.channel import HOUR_S, ItemStats
from simulator.channels.item_cf import ItemCfConfig, similarities
from simulator.channels.lists import Lookup
from simulator.ports import ObservedLog
from simulator.ranking.ranker_config import RankerConfig
from simulator.ranking.rates import LoggedImpressions, log_rates

ITEM_FEATURES = ("item rate", "item likes", "item dwell", "item age", "new")
USER_FEATURES = ("user rate", "user clicks")
Arrays = dict[str, NDArray]
_NO_IMPRESSIONS = np.array([0.5, 0.0, 0.0])  # weights of organic clicks, of those of its kind, and of age


class Field(NamedTuple):
    """Values of an item field and who clicked them."""

    codes: NDArray[np.int64]  # (n + 1,) 0 = unknown, as is the last row, which is every unknown item
    clicks: sp.csr_array  # (U + 1, C) clicks of each user on each value, the last row empty
    share: NDArray[np.float64]  # (C,) of all clicks, smoothed


def up_to(log: ObservedLog, now_s: float) -> ObservedLog:
    """The log as it stood at a moment."""
    end = log.start_s + now_s
    return dataclasses.replace(
        log,
        items=log.items.filter(pl.col("published") <= end) if "published" in log.items.columns else log.items,
        clicks=log.clicks.filter(pl.col("timestamp") < end),
        impressions=log.impressions.filter(pl.col("timestamp") < end),
        now_s=now_s,
    )


def count(log: ObservedLog, keys: RankerConfig) -> Arrays:
    """Everything that the features need, as plain arrays; n items and U users in order of their ids."""
    stats = ItemStats(log)
    users = log.users.sort("user_id")
    user_ids = users["user_id"].cast(pl.Int64).to_numpy()
    item = stats.lookup.rows(log.clicks["item_id"].cast(pl.Int64).to_numpy())
    user = Lookup(user_ids).rows(log.clicks["user_id"].cast(pl.Int64).to_numpy())
    arrays: Arrays = {"items": stats.ids, "users": user_ids}
    known = (item >= 0) & (user >= 0)
    for name in keys.fields:
        arrays |= _field(name, stats.field(name), item[known], user[known], len(user_ids))
    arrays["item_features"] = _item_features(log, stats, item, arrays, keys)
    arrays["user_features"] = _user_features(log, user_ids, user, keys)
    arrays |= _crosses(users, arrays, item[known], user[known], keys)
    arrays |= _tags(stats.field(keys.tags))
    return arrays | _neighbours(log, item, len(stats), keys)


def _item_features(
    log: ObservedLog, stats: ItemStats, item: NDArray[np.int64], arrays: Arrays, keys: RankerConfig
) -> NDArray[np.float32]:
    """One column per item feature, one row per item and a last one for items that are not known yet."""
    known = item >= 0
    clicks = np.bincount(item[known], minlength=len(stats))
    dwell = np.log1p(log.clicks["dwell_s"].cast(pl.Float64).to_numpy())
    mean_dwell = dwell.mean() if len(dwell) else 0.0
    slack = np.bincount(item[known], dwell[known] - mean_dwell, minlength=len(stats))
    likes = np.bincount(item[known], log.clicks["like"].cast(pl.Float64).to_numpy()[known], minlength=len(stats))
    columns = [
        _item_rates(log, stats, arrays, keys),
        _log_lift(likes, clicks, keys.prior_impressions),
        slack / (clicks + keys.prior_clicks),
        np.log1p(stats.age_s / HOUR_S),
        np.zeros(len(stats)),
    ]
    unknown = np.zeros((1, len(columns)))
    unknown[0, -1] = 1.0
    return np.concatenate([np.stack(columns, axis=1), unknown]).astype(np.float32)


def _item_rates(log: ObservedLog, stats: ItemStats, arrays: Arrays, keys: RankerConfig) -> NDArray[np.float64]:
    """How readily items are clicked, shape (n,): see :mod:`simulator.ranking.rates`.

    Items are alike in age and in organic clicks, those that followed no impression, against others of their kind.
    """
    if not len(stats):
        return np.zeros(0)
    kind = arrays[f"{keys.crossed}.codes"][:-1]
    shown = _shown(log, stats, arrays, keys)
    led_to = np.bincount(shown.item, shown.clicked * shown.weight, minlength=len(stats))
    organic = np.maximum(stats.clicks(keys.half_life_h) - led_to, 0.0)
    usual = (np.bincount(kind, organic) / np.maximum(np.bincount(kind), 1))[kind]
    traits = np.stack(
        [np.log((organic + 1.0) / (usual + 1.0)), np.log1p(usual), np.log1p(stats.age_s / HOUR_S)], axis=1
    )
    traits -= traits.mean(axis=0)
    return log_rates(shown, traits, _NO_IMPRESSIONS, positions=keys.positions, most_rows=keys.most_rows)


def _shown(log: ObservedLog, stats: ItemStats, arrays: Arrays, keys: RankerConfig) -> LoggedImpressions:
    """The impressions of known items, with the share of the user's other clicks that went to the item's kind."""
    item = stats.lookup.rows(log.impressions["item_id"].cast(pl.Int64).to_numpy())
    known = item >= 0
    item, impressions = item[known], log.impressions.filter(known)
    user = Lookup(arrays["users"]).rows(impressions["user_id"].cast(pl.Int64).to_numpy())  # -1 is the empty last row
    clicked = impressions["clicked"].to_numpy()
    field = field_of(keys.crossed, arrays)
    user = np.where(user < 0, len(arrays["users"]), user)
    same = np.asarray(field.clicks[user, field.codes[item]]).ravel() if len(item) else np.zeros(0)
    total = np.asarray(field.clicks.sum(axis=1)).ravel()[user]
    others = np.maximum(total - clicked, 0.0)
    age_h = (log.start_s + log.now_s - impressions["timestamp"].cast(pl.Float64).to_numpy()) / HOUR_S
    return LoggedImpressions(
        item=item,
        position=impressions["position"].cast(pl.Int64).to_numpy(),
        taste=np.maximum(same - clicked, 0.0) / (others + keys.prior_clicks),
        clicked=clicked,
        weight=np.exp2(-age_h / keys.half_life_h),
    )


def _user_features(
    log: ObservedLog, user_ids: NDArray[np.int64], user: NDArray[np.int64], keys: RankerConfig
) -> NDArray[np.float32]:
    """One column per user feature, one row per user and a last one for those who are not known yet."""
    row = Lookup(user_ids).rows(log.impressions["user_id"].cast(pl.Int64).to_numpy())
    known, n = row >= 0, len(user_ids)
    clicked = np.bincount(row[known], log.impressions["clicked"].cast(pl.Float64).to_numpy()[known], minlength=n)
    rate = _log_lift(clicked, np.bincount(row[known], minlength=n), keys.prior_impressions)
    clicks = np.log1p(np.bincount(user[user >= 0], minlength=n))
    return np.append(np.stack([rate, clicks], axis=1), [[0.0, 0.0]], axis=0).astype(np.float32)


def _log_lift(hits: NDArray, tries: NDArray, prior: float) -> NDArray[np.float64]:
    """Log of a rate, smoothed towards the average, over the average."""
    average = (hits.sum() + 1.0) / (tries.sum() + 20.0)
    lift: NDArray[np.float64] = np.log((hits + prior * average) / ((tries + prior) * average))
    return lift


def _field(name: str, values: pl.Series, item: NDArray[np.int64], user: NDArray[np.int64], n_users: int) -> Arrays:
    codes = np.append(_codes(values), 0)
    size = int(codes.max(initial=0)) + 1
    clicks = sp.csr_array((np.ones(len(item)), (user, codes[item])), shape=(n_users + 1, size))
    share = (np.bincount(codes[item], minlength=size) + 1.0) / (len(item) + size)
    return {
        f"{name}.codes": codes,
        f"{name}.share": share,
        f"{name}.data": clicks.data.astype(np.float32),
        f"{name}.indices": clicks.indices.astype(np.int32),
        f"{name}.indptr": clicks.indptr.astype(np.int64),
    }


def field_of(name: str, arrays: Arrays) -> Field:
    """What ``count`` has taken apart."""
    share, indptr = arrays[f"{name}.share"], arrays[f"{name}.indptr"]
    parts = (arrays[f"{name}.data"], arrays[f"{name}.indices"], indptr)
    return Field(arrays[f"{name}.codes"], sp.csr_array(parts, shape=(len(indptr) - 1, len(share))), share)


def _crosses(
    users: pl.DataFrame, arrays: Arrays, item: NDArray[np.int64], user: NDArray[np.int64], keys: RankerConfig
) -> Arrays:
    """Lift of each item value among the users of each user-field value: rows of all user fields one below another.

    ``cross.rows`` (U + 1, fields) leads from a user to them; row 0 is for unknown users and missing values.
    """
    codes, share = arrays[f"{keys.crossed}.codes"], arrays[f"{keys.crossed}.share"]
    names = [name for name, dtype in users.schema.items() if name != "user_id" and not dtype.is_nested()]
    names = [name for name in names if not users.schema[name].is_float()]
    tables, rows, first = [np.zeros((1, len(share)))], [], 1
    for name in names:
        values = _codes(users[name])
        size = int(values.max(initial=0)) + 1
        counts = np.zeros((size, len(share)))
        np.add.at(counts, (values[user], codes[item]), 1.0)
        tables.append(lift_of(counts, share, keys.prior_clicks * 3.0))
        rows.append(np.append(values + first, 0))
        first += size
    table = np.concatenate(tables).astype(np.float32)
    return {
        "cross.table": table,
        "cross.rows": np.stack(rows, axis=1) if rows else np.zeros((len(users) + 1, 0), np.int64),
    }


def lift_of(counts: NDArray, share: NDArray[np.float64], prior: float) -> NDArray[np.float64]:
    """Log of a smoothed share of clicks over everybody's share, shape (n, C); 0 for code 0, the unknown value."""
    total = counts.sum(axis=1, keepdims=True)
    lift: NDArray[np.float64] = np.log((counts / share + prior) / (total + prior))
    lift[:, 0] = 0.0
    return lift


def _tags(lists: pl.Series) -> Arrays:
    """Tags of each item as a rectangle (n + 1, T) of codes, 0 as padding, and one over their number."""
    frame = pl.DataFrame({"row": np.arange(len(lists)), "tag": lists.cast(pl.List(pl.String))}).explode("tag")
    frame = frame.drop_nulls().unique(maintain_order=True)
    codes, row = _codes(frame["tag"]), frame["row"].to_numpy()
    counts = np.bincount(row, minlength=len(lists) + 1)
    place = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
    rectangle = np.zeros((len(lists) + 1, max(1, int(counts.max(initial=0)))), np.int64)
    rectangle[row, place] = codes
    return {"tags": rectangle, "tag_share": (1.0 / np.maximum(counts, 1)).astype(np.float32)}


def _codes(values: pl.Series) -> NDArray[np.int64]:
    """Number of each value in the order of the values as text, from 1; 0 = missing."""
    texts = values.cast(pl.String)
    labels = texts.unique().drop_nulls().sort()
    return (texts.cast(pl.Enum(labels)).to_physical().cast(pl.Int64) + 1).fill_null(0).to_numpy()


def _neighbours(log: ObservedLog, item: NDArray[np.int64], n: int, keys: RankerConfig) -> Arrays:
    """Nearest items by sessions in common; see the item-CF channel."""
    known = item >= 0
    time_ms = (log.clicks["timestamp"].cast(pl.Float64).to_numpy()[known] * 1_000).astype(np.int64)
    sessions = assign_sessions(log.clicks["user_id"].to_numpy()[known], time_ms, SessionsConfig())
    near = similarities(sessions, item[known], n, ItemCfConfig(neighbours=keys.neighbours))
    return {
        "near.offsets": near.indptr.astype(np.int64),
        "near.rows": near.indices.astype(np.int32),
        "near.similarity": near.data.astype(np.float32),
    }
