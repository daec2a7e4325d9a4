"""Popularity within segments of users against loops that share no code with it."""

import dataclasses
import math

import numpy as np
import polars as pl
import pytest

from micrec.baselines import BASELINES
from micrec.baselines.baseline_inputs import BaselineInputs
from micrec.baselines.baseline_scores import left_out
from micrec.baselines.held_out import held_out
from micrec.baselines.recent_popularity import recent_popularity
from micrec.baselines.segment_popularity import SegmentSettings, segment_popularity, segment_scores
from micrec.config import Config, EvalConfig
from micrec.data.dataset import Clicks, Dataset, EntityTable
from micrec.data.encoding import encode_table
from micrec.data.schema import DatasetSchema, FieldType
from micrec.data.split import Split
from micrec.evaluation import evaluation_task

N = 7
DAY_MS = 86_400_000
CATEGORICAL = FieldType.CATEGORICAL


def inputs_for(
    people: pl.DataFrame, fields: dict[str, FieldType], users: np.ndarray, items: np.ndarray, days: np.ndarray
) -> BaselineInputs:
    """The last tenth of the clicks is judged; there is one more item, which nobody has clicked."""
    n, n_items = len(users), int(items.max()) + 2
    clicks = Clicks(users.astype(np.int32), items.astype(np.int32), (np.asarray(days) * DAY_MS).astype(np.int64))
    catalogue = EntityTable(pl.Series(range(n_items)), {}, pl.DataFrame({"item_id": range(n_items)}))
    dataset = Dataset(
        DatasetSchema(name="people", users=fields), encode_table(people, "user_id", fields), catalogue, clicks
    )
    config = Config(evaluation=EvalConfig(cutoffs=(1, 3, 5)))
    task = evaluation_task(dataset, Split(n * 8 // 10, n * 9 // 10, n), config.evaluation, "test")
    return BaselineInputs.of(task, dataset, config)


TOWNS = ["a", "b", "a", None, "c", "b", "a", "c", "b", "a"]
AGES = ["old", "old", "young", "young", None, "old", "young", "old", "young", "old"]


def random_clicks() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and days of 200 clicks of ten users on six items over sixty days."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 10, 200), rng.integers(0, N - 1, 200), np.sort(rng.uniform(0, 60, 200))


def town_and_age() -> BaselineInputs:
    """The random clicks, by users of known and unknown towns and ages."""
    people = pl.DataFrame({"user_id": range(10), "town": TOWNS, "age": AGES})
    return inputs_for(people, {"town": CATEGORICAL, "age": CATEGORICAL}, *random_clicks())


def all_scores(found, inputs: BaselineInputs) -> np.ndarray:
    return found(0, len(inputs.task)).numpy()


def by_hand(inputs: BaselineInputs, user: int, item: int, told: list[list[str | None]], k: float) -> float:
    """log P_i + sum over fields of log((C_vi + k P_i) / ((C_v + k) P_i)), by going through all clicks."""
    train = inputs.train
    clicks = list(zip(train.user_ids.tolist(), train.item_ids.tolist(), train.time_ms.tolist(), strict=True))
    last = clicks[-1][2]
    faded = [(u, i, 2.0 ** (-(last - ms) / DAY_MS / 14)) for u, i, ms in clicks]
    share = sum(w for _, i, w in faded if i == item) / sum(w for *_, w in faded)
    score = math.log(share)
    for values in told:
        if values[user] is not None:
            own = [(i, w) for u, i, w in faded if values[u] == values[user]]
            clicked, whole = sum(w for i, w in own if i == item), sum(w for _, w in own)
            score += math.log((clicked + k * share) / (whole + k)) - math.log(share)
    return score


@pytest.mark.parametrize(
    ("fields", "told"), [(("town",), [TOWNS]), (("age",), [AGES]), (("age", "town"), [AGES, TOWNS])]
)
@pytest.mark.parametrize("k", [0.5, 30.0])
def test_the_formula_in_loops(fields, told, k):
    inputs = town_and_age()
    scores = all_scores(segment_scores(inputs, SegmentSettings(fields, k)), inputs)
    for row, user in enumerate(inputs.task.user_ids.tolist()):
        for item in range(N - 1):
            assert scores[row, item] == pytest.approx(by_hand(inputs, user, item, told, k), abs=2e-5)
    assert np.isfinite(scores).all()
    assert (scores[:, N - 1] < scores[:, : N - 1].min() - 100).all()  # nobody has clicked it


def test_blocks_are_rows_of_the_whole():
    inputs = town_and_age()
    block = segment_scores(inputs, SegmentSettings(("town", "age"), 10.0))
    parts = [block(start, start + 1).numpy() for start in range(len(inputs.task))]
    assert np.concatenate(parts).tolist() == all_scores(block, inputs).tolist()


def test_an_unknown_value_gets_recent_popularity():
    inputs = town_and_age()
    scores = all_scores(segment_scores(inputs, SegmentSettings(("town",), 3.0)), inputs)
    recent = recent_popularity(inputs).users(0, 1)[0].numpy()
    row = inputs.task.user_ids.tolist().index(3)
    assert np.argsort(scores[row]).tolist() == np.argsort(recent).tolist()
    others = [np.argsort(one).tolist() == np.argsort(recent).tolist() for one in scores]
    assert not all(others)


def test_its_neighbours_are_those_of_recent_popularity():
    inputs = town_and_age()
    items = np.array([4, 0])
    assert segment_popularity(inputs).neighbours(items).tolist() == recent_popularity(inputs).neighbours(items).tolist()


def planted(tells: int) -> BaselineInputs:
    """Clicks on forty items by the user's shape, or by shape and size; eye colour tells nothing."""
    rng = np.random.default_rng(1)
    eye, shape, size = (rng.integers(0, 3, 400) for _ in range(3))
    people = pl.DataFrame({"eye": eye, "shape": shape, "size": size}).cast(pl.String).with_row_index("user_id")
    users = rng.integers(0, 400, 3000)
    by_shape, by_size = rng.random((3, 40)) ** 4, rng.random((3, 40)) ** 4
    chance = by_shape[shape] if tells == 1 else by_shape[shape] * by_size[size]
    items = np.array([rng.choice(40, p=chance[user] / chance[user].sum()) for user in users])
    fields = dict.fromkeys(("eye", "shape", "size"), CATEGORICAL)
    return inputs_for(people, fields, users, items, np.arange(3000) / 3000)


def test_the_field_that_tells_is_chosen():
    found = segment_popularity(planted(1)).settings
    assert found["field"] == "shape"
    assert found["prior"] in (30.0, 100.0, 300.0, 1000.0)


def test_two_fields_that_tell_stand_together():
    inputs = planted(2)
    found = segment_popularity(inputs)
    fields = tuple(str(found.settings["field"]).split(" + "))
    assert set(fields) == {"shape", "size"}
    expected = segment_scores(inputs, SegmentSettings(fields, float(found.settings["prior"])))
    assert all_scores(found.users, inputs).tolist() == all_scores(expected, inputs).tolist()


def test_nothing_to_choose_on_leaves_the_first_field():
    inputs = town_and_age()
    few = BaselineInputs(
        inputs.task, dataclasses.replace(inputs.dataset, clicks=inputs.dataset.clicks[:1]), inputs.config
    )
    assert held_out(few) is None
    assert segment_popularity(few).settings == {"field": "town", "prior": 1000.0}
    none = dataclasses.replace(few, dataset=dataclasses.replace(few.dataset, clicks=few.dataset.clicks[:0]))
    assert np.isfinite(all_scores(segment_popularity(none).users, none)).all()


def test_the_order_of_the_user_table_is_of_no_matter():
    inputs = town_and_age()
    order = np.random.default_rng(3).permutation(10)  # row r is user order[r] now
    people = pl.DataFrame({"user_id": order, "town": [TOWNS[u] for u in order], "age": [AGES[u] for u in order]})
    clicks, place = random_clicks(), np.argsort(order)
    fields = {"town": CATEGORICAL, "age": CATEGORICAL}
    moved = inputs_for(people, fields, place[clicks[0]], clicks[1], clicks[2])
    found, other = segment_popularity(inputs), segment_popularity(moved)
    assert found.settings == other.settings
    scores = dict(zip(inputs.task.user_ids.tolist(), all_scores(found.users, inputs), strict=True))
    for user, row in zip(order[moved.task.user_ids].tolist(), all_scores(other.users, moved), strict=True):
        assert row == pytest.approx(scores[user], abs=1e-6)


def test_clicks_of_a_century_ago_stay_finite():
    inputs = town_and_age()
    days = np.concatenate([np.zeros(150), np.full(50, 36_500.0)])
    users, items, _ = random_clicks()
    items[:150], items[150:] = items[:150] % 3, 3 + items[150:] % 3
    people = inputs.dataset.users.frame
    old = inputs_for(people, {"town": CATEGORICAL, "age": CATEGORICAL}, users, items, days)
    scores = all_scores(segment_scores(old, SegmentSettings(("town", "age"), 10.0)), old)
    assert np.isfinite(scores).all()
    assert (scores[:, 3:6].min(axis=1) > scores[:, :3].max(axis=1)).all()
    assert (scores[:, :3].min(axis=1) > scores[:, 6]).all()  # clicked long ago is above never


def test_a_dataset_without_segments_is_left_out_with_the_reason():
    inputs = town_and_age()
    people = pl.DataFrame({"user_id": range(10), "club": ["x"] * 10, "card": [str(u) for u in range(10)]})
    fields = {"club": CATEGORICAL, "card": FieldType.ID}  # one value, and one value a user
    bare = dataclasses.replace(inputs.dataset, users=encode_table(people, "user_id", fields))
    assert BASELINES["segment_popularity"].lacks(inputs.dataset) is None
    assert left_out(["popularity", "segment_popularity"], bare) == {
        "segment_popularity": "it has no categorical user field"
    }
