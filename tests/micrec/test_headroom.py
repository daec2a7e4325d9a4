"""``micrec headroom`` against loops, exact small cases, and logs in which a signal is planted or is not there."""

import json

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

import micrec
from abtest.cli.main import app
from micrec.config import SessionsConfig, SplitConfig
from micrec.data.dataset import Clicks, Dataset, EntityTable
from micrec.data.encoding import encode_table
from micrec.data.schema import DatasetSchema, FieldType
from micrec.signals.carriers import Carrier, co_clicks, taxonomy
from micrec.signals.headroom_result import Headroom, measure
from micrec.signals.matched_pairs import MatchedPairs, match, nearer, share
from micrec.signals.session_pairs import session_pairs

USERS, TOPICS, PER_TOPIC = 300, 24, 12
ITEMS = TOPICS * PER_TOPIC
MINUTE_MS = 60_000


def log(seed: int, *, titles: bool = True, brand: bool = True, sessions: bool = False, strays: float = 0.4) -> Dataset:
    """Users like two hidden topics of one kind each; titles and brands tell topics, or any of the same kind's.

    Some brands are strays, so that brands do not lie within kinds.
    With ``sessions`` each visit stays in one of the user's topics; else every click is drawn anew.
    """
    rng = np.random.default_rng(seed)
    topic = np.arange(ITEMS) // PER_TOPIC
    kind = topic // 6
    told = topic if titles else kind * 6 + rng.integers(0, 6, ITEMS)
    branded = topic if brand else kind * 6 + rng.integers(0, 6, ITEMS)
    branded = np.where(rng.random(ITEMS) < strays, rng.integers(0, TOPICS, ITEMS), branded)
    frame = pl.DataFrame(
        {
            "item_id": range(ITEMS),
            "kind": [f"k{k}" for k in kind],
            "brand": [f"b{b}" for b in branded],
            "title": [f"w{t} k{k} f{rng.integers(5)}" for t, k in zip(told, kind, strict=True)],
        }
    )
    own = rng.integers(0, 6, (USERS, 2)) + 6 * rng.integers(0, 4, (USERS, 1))
    users, items, times = [], [], []
    for user in range(USERS):
        for visit in range(8):
            stays = own[user, rng.integers(2)]
            for click in range(4):
                liked = stays if sessions else own[user, rng.integers(2)]
                users.append(user)
                items.append(liked * PER_TOPIC + rng.integers(PER_TOPIC))
                times.append(visit * 24 * 60 * MINUTE_MS + user * 1_000 + click * MINUTE_MS)
    order = np.argsort(times, kind="stable")
    fields = {"kind": FieldType.CATEGORICAL, "brand": FieldType.CATEGORICAL, "title": FieldType.TEXT}
    schema = DatasetSchema(name="topics", items=fields, roles={"title": "title", "category": "kind"})
    clicks = Clicks(
        np.array(users, np.int32)[order], np.array(items, np.int32)[order], np.array(times, np.int64)[order] + 10**12
    )
    people = EntityTable(pl.Series(range(USERS)), {}, pl.DataFrame())
    return Dataset(schema, people, encode_table(frame, "item_id", fields), clicks)


def found(dataset: Dataset, seed: int = 0) -> Headroom:
    return measure(dataset, SplitConfig(), SessionsConfig(), seed=seed)


def of(headroom: Headroom, name: str):
    return next(signal for signal in headroom.signals if signal.name == name)


class TestDials:
    def test_a_signal_that_is_there_is_found(self):
        told = found(log(0))
        assert of(told, "titles").everything.lower > 0.55
        assert of(told, "brand").everything.lower > 0.55
        assert of(told, "titles").beyond == "kind"

    @pytest.mark.parametrize("seed", [1, 2])
    def test_a_signal_that_tells_nothing_beyond_the_kind_is_at_chance(self, seed):
        told = found(log(seed, titles=False, brand=False))
        for name in ("titles", "brand"):
            lower, upper = of(told, name).everything[1:3]
            assert lower < 0.5 < upper
        assert of(told, "kind").everything.lower > 0.6  # beyond popularity alone
        assert "no gain expected" in told.predictions[0]

    def test_one_dial_moves_one_figure(self):
        told = found(log(3, titles=False))
        assert not of(told, "titles").everything.tells
        assert of(told, "brand").everything.tells

    def test_sessions(self):
        assert of(found(log(4, sessions=True)), "sessions").everything.lower > 0.55
        free = of(found(log(5)), "sessions").everything
        assert free.lower < 0.5 < free.upper

    def test_at_chance_intervals_miss_in_one_of_twenty(self):
        """Over draws of the titles, which all users share: intervals over users alone would miss far more often."""
        missed = 0
        for seed in range(60):
            lower, upper = of(found(log(seed + 10, titles=False)), "titles").everything[1:3]
            missed += not lower < 0.5 < upper
        assert missed <= 8  # 3 expected; P(more than 8) is .004


def test_facts_are_counted_as_in_loops():
    dataset = log(7)
    told, n = found(dataset), len(dataset.clicks)
    train, test = dataset.clicks[: int(n * 0.8)], dataset.clicks[int(n * 0.8) :]
    known = set(train.user_ids.tolist())
    later = [(u, i) for u, i in zip(test.user_ids.tolist(), test.item_ids.tolist(), strict=True) if u in known]
    counts = np.bincount(train.item_ids, minlength=ITEMS)
    before = set(zip(train.user_ids.tolist(), train.item_ids.tolist(), strict=True))
    assert told.test_clicks == len(test)
    assert told.users_known == pytest.approx(len(later) / len(test))
    assert told.items_known == pytest.approx(np.mean([counts[i] > 0 for _, i in later]))
    assert told.repeats == pytest.approx(np.mean([pair in before for pair in later]))
    assert told.few_clicks[20] == pytest.approx(np.mean([counts[i] < 20 for _, i in later]))
    assert sum(told.item_shares.values()) == pytest.approx(1.0)


def test_matches_have_the_group_and_about_the_clicks_and_were_never_clicked():
    rng = np.random.default_rng(0)
    groups, counts = rng.integers(0, 5, 200), rng.integers(0, 300, 200)
    users, items = rng.integers(0, 20, 500), rng.integers(0, 200, 500)
    clicked = np.unique(users * 200 + items)
    pairs = match(users, items, groups, counts, clicked, rng)
    assert len(pairs.items) > 300
    seen = set(clicked.tolist())
    for user, item, others in zip(pairs.users, pairs.items, pairs.others, strict=True):
        assert groups[item] > 0
        for other in others[others >= 0].tolist():
            assert groups[other] == groups[item]
            assert 0.5 <= (1 + counts[other]) / (1 + counts[item]) <= 2.0
            assert user * 200 + other not in seen


def test_nearness_is_a_sum_of_cosines_and_ties_are_halves():
    vectors = sp.csr_array(np.array([[1.0, 0], [0.6, 0.8], [0, 1.0], [0, 0], [0, 1.0]]))
    train = Clicks(np.array([0, 0], np.int32), np.array([0, 1], np.int32), np.array([0, 1], np.int64))
    pairs = MatchedPairs(np.array([0, 0, 0]), np.array([2, 3, 2]), np.array([[0, 3], [0, 1], [4, 0]]))
    # item 2 has 0 + .8, item 0 has 1 + .6, item 4 ties with 2; item 3 has no vector
    values = nearer(pairs, Carrier("x", "semantic", vectors, None), train)
    assert values[0] == 0.0
    assert np.isnan(values[1])
    assert values[2] == pytest.approx((0.5 + 0.0) / 2)


def test_the_interval_is_clustered_by_users_and_items():
    """Variance = of user sums + of item sums - of single ones, with n / (n - 1) for few clusters."""
    rng = np.random.default_rng(1)
    values, users, items = rng.random(50), rng.integers(0, 9, 50), rng.integers(0, 7, 50)
    told = share(values, users, items)
    residual = values - values.mean()
    parts = [
        len(set(keys)) / (len(set(keys)) - 1) * sum(residual[keys == key].sum() ** 2 for key in set(keys))
        for keys in (users, items)
    ]
    variance = max(sum(parts) - (residual**2).sum(), *parts)
    quantile = 2.446911851144969  # t, 97.5 %, 6 degrees of freedom
    assert told.upper - told.auc == pytest.approx(quantile * np.sqrt(variance) / 50)
    assert (told.clicks, told.users) == (50, len(set(users)))
    assert np.isnan(share(np.array([np.nan]), np.array([0]), np.array([0])).auc)


def test_co_clicks_are_cosines_of_users_who_clicked_both():
    train = Clicks(np.array([0, 0, 1, 1, 0], np.int32), np.array([0, 1, 0, 2, 0], np.int32), np.arange(5))
    near = (co_clicks(train, 3) @ co_clicks(train, 3).T).toarray()
    half = 1 / np.sqrt(2)
    assert near == pytest.approx(np.array([[1, half, half], [half, 1, 0], [half, 0, 1]]))


def test_session_pairs_stay_with_a_user_and_a_level():
    dataset = log(8)
    groups = np.asarray(dataset.items.columns["kind"].codes, dtype=np.int64)
    users, triples = session_pairs(dataset.clicks, groups, SessionsConfig(), np.random.default_rng(0))
    assert len(users)
    day = (dataset.clicks.time_ms - 10**12) // (24 * 60 * MINUTE_MS)
    days: dict[tuple[int, int], set[int]] = {}
    for user, item, when in zip(dataset.clicks.user_ids.tolist(), dataset.clicks.item_ids.tolist(), day, strict=True):
        days.setdefault((user, item), set()).add(int(when))
    for user, (anchor, same, other) in zip(users.tolist(), triples.tolist(), strict=True):
        assert groups[same] == groups[other]
        assert days[user, anchor] == days[user, same]
        assert abs(min(days[user, same]) - min(days[user, other])) == 1


def test_levels_are_fields_nested_with_the_category():
    dataset = log(9, strays=0.0)
    assert taxonomy(dataset) == ["kind", "brand"]  # a brand lies within one kind
    told = found(dataset)
    assert [of(told, name).beyond for name in ("kind", "brand", "titles")] == ["popularity", "kind", "brand"]
    assert of(told, "titles").everything.lower < 0.5 < of(told, "titles").everything.upper  # the brand has told it
    assert taxonomy(log(9)) == ["kind"]


def test_a_field_within_the_category_but_across_its_subcategories_is_no_level():
    """Shops stay in one kind and sell all its brands."""
    dataset = log(9, strays=0.0)
    shops = (np.arange(ITEMS) // 72) * 8 + np.arange(ITEMS) % 8
    frame = dataset.items.frame.with_columns(shop=pl.Series([f"s{s}" for s in shops]))
    fields = {**dataset.schema.items, "shop": FieldType.CATEGORICAL}
    schema = dataset.schema.model_copy(update={"items": fields})
    table = encode_table(frame, "item_id", fields)
    assert taxonomy(Dataset(schema, dataset.users, table, dataset.clicks)) == ["kind", "brand"]


def test_the_command_and_the_function_say_the_same(tmp_path):
    import simulator

    world = simulator.make_world("tiny", out=tmp_path / "world", scale=0.2)
    result = CliRunner().invoke(app, ["headroom", str(tmp_path / "world"), "--json"])
    assert result.exit_code == 0, result.output
    told = micrec.headroom(world.dataset)
    assert json.loads(result.stdout) == json.loads(json.dumps(told.to_dict()))
    text = CliRunner().invoke(app, ["headroom", str(tmp_path / "world")]).stdout
    for line in told.predictions:
        assert line.split(":")[0] in text
    frame = told.to_frame()
    assert set(frame.filter(earlier_clicks="all")["signal"]) == {signal.name for signal in told.signals}
    assert "<table>" in told._repr_html_()
    wrong = CliRunner().invoke(app, ["headroom", str(tmp_path / "world"), "--test-fraction", "2"])
    assert wrong.exit_code == 2
    assert "test_fraction" in wrong.output
