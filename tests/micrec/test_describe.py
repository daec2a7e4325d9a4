"""The figures of a dataset against hand-worked ones and slow counts."""

import io
import json
import statistics
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from micrec.config import SessionsConfig, SplitConfig
from micrec.data.dataset import Dataset
from micrec.data.describe import FieldStatistics, describe, gini, table
from micrec.data.schema import FieldType
from micrec.data.store import read_dataset
from micrec.errors import MicrecError
from tests.micrec.factories import START_S, random_dataset, tiny_schema, write_tiny

SPLIT, SESSIONS = SplitConfig(), SessionsConfig()


def printed(dataset: Dataset) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table(describe(dataset, SPLIT, SESSIONS)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_hand_written_dataset(tmp_path: Path) -> None:
    """Sessions: user 30 at 0 and 60 s, and at 9,000 s; user 10 at 60 s and at 7,200 s; user 20 at 4,000 s."""
    found = describe(read_dataset(write_tiny(tmp_path / "d")), SPLIT, SESSIONS)
    assert (found.name, found.users, found.items, found.clicks, found.sessions) == ("tiny", 3, 4, 6, 5)
    assert (found.train, found.validation, found.test) == (4, 1, 2)
    assert (found.users_with_clicks, found.items_with_clicks) == (3, 3)
    assert (found.clicks_per_user_mean, found.clicks_per_user_median) == (2.0, 2.0)
    assert (found.clicks_per_item_mean, found.clicks_per_item_median) == (2.0, 2.0)
    assert (found.session_clicks_mean, found.session_clicks_median) == (1.2, 1.0)
    assert found.session_clicks_p95 == pytest.approx(1.8)  # of 1, 1, 1, 1, 2
    assert found.session_items_mean == 1.2
    assert found.item_gini == pytest.approx(4 / 18)  # of 1, 2, 3
    assert found.catalogue_gini == pytest.approx(10 / 24)  # of 0, 1, 2, 3
    assert found.repeat_share == pytest.approx(1 / 6)  # user 30 clicks d again
    assert found.density == pytest.approx(5 / 12)
    assert (found.first, found.last) == ("2020-09-13T12:26:40+00:00", "2020-09-13T14:56:40+00:00")


def test_the_fields_of_the_hand_written_dataset(tmp_path: Path) -> None:
    found = describe(read_dataset(write_tiny(tmp_path / "d")), SPLIT, SESSIONS)
    assert found.fields == (
        FieldStatistics("users", "country", FieldType.CATEGORICAL, 2, 1 / 3),
        FieldStatistics("users", "age", FieldType.NUMERIC, None, 1 / 3),
        FieldStatistics("items", "title", FieldType.TEXT, None, 0.25),
        FieldStatistics("items", "category", FieldType.CATEGORICAL, 2, 0.25),
        FieldStatistics("items", "tags", FieldType.MULTI_CATEGORICAL, 2, 0.5),
        FieldStatistics("items", "price", FieldType.NUMERIC, None, 0.25),
    )


def slow_sessions(dataset: Dataset, config: SessionsConfig) -> list[list[int]]:
    """Items of each session, by a loop over the clicks of each user."""
    by_user = defaultdict(list)
    for user, item, time_ms in zip(
        dataset.clicks.user_ids.tolist(), dataset.clicks.item_ids.tolist(), dataset.clicks.time_ms.tolist(), strict=True
    ):
        by_user[user].append((time_ms, item))
    sessions: list[list[int]] = []
    for events in by_user.values():
        reference = None
        for time_ms, item in events:
            if reference is None or time_ms - reference > config.max_s * 1000:
                sessions.append([])
                reference = time_ms
            if config.mode == "gap":
                reference = time_ms
            sessions[-1].append(item)
    return sessions


@pytest.mark.parametrize("sessions", [SESSIONS, SessionsConfig(mode="gap", max_s=20_000), SessionsConfig(max_s=50_000)])
def test_a_random_dataset_against_slow_counts(tmp_path: Path, sessions: SessionsConfig) -> None:
    dataset = random_dataset(tmp_path / "d", np.random.default_rng(5), n_users=50, n_items=200, n_clicks=400)
    found = describe(dataset, SplitConfig(test_fraction=0.25, valid_fraction=0.2), sessions)
    users, items = dataset.clicks.user_ids.tolist(), dataset.clicks.item_ids.tolist()
    pairs = set(zip(users, items, strict=True))
    per_user, per_item, slow = Counter(users), Counter(items), slow_sessions(dataset, sessions)
    assert (found.train, found.validation, found.test) == (300, 60, 100)
    assert (found.users_with_clicks, found.items_with_clicks) == (len(per_user), len(per_item))
    assert found.items_with_clicks < found.items
    assert found.clicks_per_user_mean == pytest.approx(statistics.mean(per_user.values()))
    assert found.clicks_per_user_median == statistics.median(per_user.values())
    assert found.clicks_per_item_mean == pytest.approx(statistics.mean(per_item.values()))
    assert found.clicks_per_item_median == statistics.median(per_item.values())
    assert found.repeat_share == pytest.approx((400 - len(pairs)) / 400)
    assert found.density == pytest.approx(len(pairs) / (50 * 200))
    assert found.sessions == len(slow)
    assert found.session_clicks_mean == pytest.approx(statistics.mean(map(len, slow)))
    assert found.session_clicks_median == statistics.median(map(len, slow))
    assert found.session_items_mean == pytest.approx(statistics.mean(len(set(session)) for session in slow))
    assert found.item_gini == pytest.approx(slow_gini(list(per_item.values())))
    assert found.catalogue_gini == pytest.approx(slow_gini([per_item[item] for item in range(200)]))


def slow_gini(counts: list[int]) -> float:
    """The definition: mean absolute difference of all pairs / (2 x mean)."""
    n = len(counts)
    return sum(abs(a - b) for a in counts for b in counts) / (2 * n * sum(counts))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any))
def test_gini_is_the_mean_difference_of_all_pairs(counts: list[int]) -> None:
    assert gini(np.array(counts)) == pytest.approx(slow_gini(counts))


def test_gini_at_its_ends() -> None:
    assert gini(np.array([3, 3, 3])) == 0.0
    assert gini(np.array([0] * 99 + [7])) == pytest.approx(0.99)


def test_figures_are_plain_json(tmp_path: Path) -> None:
    found = describe(random_dataset(tmp_path / "d", np.random.default_rng(0)), SPLIT, SESSIONS).to_dict()
    back = json.loads(json.dumps(found))
    assert back["clicks"] == 600
    assert back["fields"][0] == {
        "table": "users",
        "name": "country",
        "type": "categorical",
        "vocabulary": 3,
        "missing": 0.0,
    }


def test_the_table_shows_every_figure_and_what_was_dropped(tmp_path: Path) -> None:
    schema = tiny_schema(name="[red]tiny[/red]", provenance={"dropped": {"lines without a [user]": 1234, "note": "x"}})
    text = printed(read_dataset(write_tiny(tmp_path / "d", schema=schema)))
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in text.splitlines() if "│" in line}
    assert "[red]tiny[/red]" in text, "names from data are no markup"
    assert rows["users"] == "3"
    assert rows["train"] == "4"
    assert rows["test"] == "2"
    assert rows["clicks per session, mean / median / p95"] == "1.20 / 1 / 1.8"
    assert rows["Gini of clicks over all items"] == "0.417"
    assert rows["share of repeated clicks"] == "16.67%"
    assert rows["last click"] == "2020-09-13T14:56:40+00:00"
    assert rows["items.tags (multi_categorical)"] == "2 values, 50.0% missing"
    assert rows["users.age (numeric)"] == "33.3% missing"
    assert rows["dropped: lines without a [user]"] == "1,234"
    assert "note" not in text


def test_a_handwritten_provenance_does_not_break_the_table(tmp_path: Path) -> None:
    schema = tiny_schema(provenance={"dropped": "nothing"})
    assert describe(read_dataset(write_tiny(tmp_path / "d", schema=schema)), SPLIT, SESSIONS).dropped == {}


def test_an_empty_test_part_is_told(tmp_path: Path) -> None:
    one = pl.DataFrame({"user_id": [10], "item_id": ["a"], "timestamp": [START_S]})
    with pytest.raises(MicrecError, match="split: the train part is empty"):
        describe(read_dataset(write_tiny(tmp_path / "d", clicks=one)), SPLIT, SESSIONS)
