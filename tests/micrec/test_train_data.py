"""Histories of training samples, by loops over the click log."""

import numpy as np
import polars as pl
import pytest
import torch

from micrec.config import Config
from micrec.data.dataset import Clicks, Dataset, EntityTable
from micrec.data.schema import DatasetSchema
from micrec.train_data import TrainData, drop_clicks, load_train_data

HOUR_MS = 3_600_000


def dataset_of_clicks(clicks: Clicks, *, n_users: int, n_items: int) -> Dataset:
    """A dataset without fields, only ids and clicks."""

    def table(n: int) -> EntityTable:
        return EntityTable(ids=pl.Series("id", range(n)), columns={}, frame=pl.DataFrame())

    return Dataset(DatasetSchema(name="bare"), table(n_users), table(n_items), clicks)


def make(seed: int = 0, n: int = 400, users: int = 12, items: int = 30):
    rng = np.random.default_rng(seed)
    clicks = Clicks(
        user_ids=rng.integers(0, users, n).astype(np.int32),
        item_ids=rng.integers(0, items, n).astype(np.int32),
        time_ms=np.sort(rng.integers(0, 40, n) * HOUR_MS // 2),
    )
    return dataset_of_clicks(clicks, n_users=users, n_items=items)


def contexts(data: TrainData, positions, *, context: str, length: int) -> list[list[int]]:
    config = Config.model_validate({"model": {"history_length": length}, "train": {"context": context}})
    ragged = data.context(torch.tensor(positions), config, torch.Generator().manual_seed(0))
    return [ragged.values[a:b].tolist() for a, b in zip(ragged.offsets[:-1], ragged.offsets[1:], strict=True)]


@pytest.fixture(scope="module")
def case():
    dataset = make()
    return dataset, load_train_data(dataset, dataset.clicks, Config(), torch.device("cpu"))


def by_user(clicks: Clicks) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for row, user in enumerate(clicks.user_ids.tolist()):
        rows.setdefault(user, []).append(row)
    return rows


def test_samples_are_the_clicks_grouped_by_user_in_log_order(case):
    dataset, data = case
    expected = [
        dataset.clicks.item_ids[row]
        for user in sorted(by_user(dataset.clicks))
        for row in by_user(dataset.clicks)[user]
    ]
    assert data.items.tolist() == expected


def test_rolling_context_is_the_latest_clicks_before_the_sample(case):
    dataset, data = case
    position = 0
    for user, rows in sorted(by_user(dataset.clicks).items()):
        for k in range(len(rows)):
            before = [int(dataset.clicks.item_ids[r]) for r in rows[max(0, k - 5) : k]]
            assert contexts(data, [position], context="rolling", length=5) == [before], user
            position += 1


def test_before_session_context_ends_where_the_session_starts(case):
    """One-hour windows from the first click of the session (N16)."""
    dataset, data = case
    position = 0
    for _, rows in sorted(by_user(dataset.clicks).items()):
        start, start_time = 0, None
        for k, row in enumerate(rows):
            time = int(dataset.clicks.time_ms[row])
            if start_time is None or time - start_time > HOUR_MS:
                start, start_time = k, time
            before = [int(dataset.clicks.item_ids[r]) for r in rows[max(0, start - 5) : start]]
            assert contexts(data, [position], context="before_session", length=5) == [before]
            position += 1


def test_profile_context_is_all_other_clicks_when_they_fit(case):
    dataset, data = case
    position = 0
    for _, rows in sorted(by_user(dataset.clicks).items()):
        for k in range(len(rows)):
            others = [int(dataset.clicks.item_ids[r]) for i, r in enumerate(rows) if i != k]
            assert contexts(data, [position], context="profile", length=1000) == [others]
            position += 1


def test_other_sessions_context_leaves_out_the_sample_s_own_session(case):
    dataset, data = case
    position = 0
    for _, rows in sorted(by_user(dataset.clicks).items()):
        sessions, start_time = [], None
        for row in rows:
            time = int(dataset.clicks.time_ms[row])
            if start_time is None or time - start_time > HOUR_MS:
                sessions.append((sessions[-1] + 1) if sessions else 0)
                start_time = time
            else:
                sessions.append(sessions[-1])
        for k in range(len(rows)):
            others = [int(dataset.clicks.item_ids[r]) for i, r in enumerate(rows) if sessions[i] != sessions[k]]
            assert contexts(data, [position], context="other_sessions", length=1000) == [others]
            position += 1


def test_long_profiles_are_thinned_evenly_without_repeats():
    """Positions as items: what is drawn is distinct, never the sample itself, and spread over the whole profile."""
    n = 100
    clicks = Clicks(np.zeros(n, np.int32), np.arange(n, dtype=np.int32), np.arange(n, dtype=np.int64))
    dataset = dataset_of_clicks(clicks, n_users=1, n_items=n)
    data = load_train_data(dataset, clicks, Config(), torch.device("cpu"))
    for position in (0, 37, 99):
        (drawn,) = contexts(data, [position], context="profile", length=10)
        assert len(set(drawn)) == 10
        assert position not in drawn
        assert [d // 10 for d in drawn] == pytest.approx(list(range(10)), abs=1)


def test_hidden_clicks_are_hidden_at_the_given_rate_and_order_stays():
    ragged = data_ragged([list(range(1000)), [], list(range(1000))])
    kept = drop_clicks(ragged, 0.3, torch.Generator().manual_seed(0))
    lengths = (kept.offsets[1:] - kept.offsets[:-1]).tolist()
    assert lengths[1] == 0
    assert 2 * 700 - 90 < sum(lengths) < 2 * 700 + 90  # 4 standard deviations of a binomial are 82
    first = kept.values[: lengths[0]].tolist()
    assert first == sorted(first)


def data_ragged(rows):
    from micrec.models.columns import Ragged

    return Ragged(torch.tensor([x for row in rows for x in row]), torch.tensor(np.cumsum([0, *map(len, rows)])))


def test_unclicked_items_read_the_unknown_row():
    """An item of the test period has no id row of its own: it is known by its other fields."""
    clicks = Clicks(np.zeros(3, np.int32), np.array([0, 2, 2], np.int32), np.arange(3, dtype=np.int64))
    dataset = dataset_of_clicks(clicks, n_users=2, n_items=4)
    data = load_train_data(dataset, clicks, Config.model_validate({"model": {"user_id": True}}), torch.device("cpu"))
    assert data.fields.items.single["item_id"].tolist() == [1, 0, 3, 0]
    assert data.fields.users.single["user_id"].tolist() == [1, 0]
    assert data.catalogue.tolist() == [0, 2]
    assert data.click_counts.tolist() == [1, 0, 2, 0]
