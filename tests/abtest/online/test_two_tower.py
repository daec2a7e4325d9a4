"""Two-tower models as matching channels, against micrec's own retriever and plain loops."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from safetensors import safe_open

from micrec.config import Config
from micrec.errors import MicrecError
from micrec.retrieval import Retriever
from micrec.settings import apply_overrides, merge, validate
from simulator.channels.two_tower.observed_dataset import field_types, to_dataset
from simulator.channels.two_tower.two_tower_trainer import TwoTowerConfig, TwoTowerTrainer, _Trainer
from simulator.ports import Requests
from tests.simulator.channels.logs import DAY_S, START_S, check_lists, random_log, random_requests

BASE = {
    "model": {"embedding_dim": 8, "hidden": [16, 8], "options": {"heads": 2}},
    "softmax": {"num_negatives": 5},
    "contrast": {"pool_size": 32, "semantic": {"svd_dim": 8, "negatives": 5}, "session": {"negatives": 5}},
    "train": {"epochs": 2, "batch_size": 256, "device": "cpu"},
}
WITHOUT = {f"contrast.{loss}.weight": 0 for loss in ("feature", "semantic", "session")}


def config(*overrides, **sections):
    return validate(Config, apply_overrides(merge(BASE, sections), overrides), where="test")


def ican(*overrides):
    return config(*(f"{key}={value}" for key, value in WITHOUT.items()), *overrides)


def trained(folder, log=None, *, trainer=None, previous=None, seed=0, **keys):
    trainer = trainer or TwoTowerTrainer(ican(), TwoTowerConfig(**keys))
    trainer.train(log or random_log(), previous=previous, folder=folder, seed=seed)
    return trainer.load(folder)


def cut(log, days):
    """The log as it stood after so many days."""
    end = START_S + days * DAY_S
    return dataclasses.replace(
        log,
        items=log.items.filter(pl.col("published") < end),
        clicks=log.clicks.filter(pl.col("timestamp") < end).join(
            log.items.filter(pl.col("published") < end), on="item_id", how="semi"
        ),
        now_s=float(days * DAY_S),
    )


@pytest.mark.parametrize(
    "model",
    [
        "ican",
        "fm",
        "youtube_dnn",
        "mind",
        "comirec_dr",
        "comirec_sa",
        "sasrec",
        "bert4rec",
        "esasrec",
        "afn",
        "lightgcn",
    ],
)
def test_lists_are_those_of_micrecs_retriever(model, tmp_path):
    log = random_log()
    trainer = TwoTowerTrainer(ican(f"model.name={model}"), TwoTowerConfig(hide_recent=False))
    matcher = trained(tmp_path / "v1", log, trainer=trainer)
    requests = random_requests(log, 30)
    known = Requests(
        requests.user_ids % 60, np.where(requests.recent_items >= 80, 5, requests.recent_items), *requests[2:]
    )
    lists = matcher.retrieve(known, 15)
    retriever = Retriever.load(tmp_path / "v1" / "serving")
    expected = retriever.retrieve(known.user_ids, known.recent_items, 15)  # ids are dense in this log
    np.testing.assert_array_equal(lists.items, expected)
    check_lists(lists, set(log.clicks["item_id"].to_list()), 15)


@pytest.mark.parametrize("index", ["exact", "ivf", "hnsw", "tree"])
def test_new_users_and_new_items_are_served_and_recent_items_left_out(index, tmp_path):
    log = random_log()
    matcher = trained(tmp_path / "v1", log, index=index)
    requests = random_requests(log, 40)
    assert (requests.user_ids >= 60).any()
    assert (requests.recent_items >= 80).any()
    lists = matcher.retrieve(requests, 70)
    check_lists(lists, set(log.clicks["item_id"].to_list()), 70)
    clicked = set(log.clicks["item_id"].to_list())
    for items, recent in zip(lists.items, requests.recent_items.tolist(), strict=True):
        assert set(items[items >= 0].tolist()) <= clicked - set(recent)
        assert (items >= 0).sum() == min(70, len(clicked - set(recent)))


def test_approximate_indexes_find_what_exact_search_finds(tmp_path):
    log, found = random_log(), {}
    for index in ("exact", "ivf", "hnsw", "tree"):
        found[index] = trained(tmp_path / index, log, index=index).retrieve(random_requests(log, 20), 10)
    for index in ("ivf", "hnsw", "tree"):
        assert (found[index].items == found["exact"].items).mean() > 0.9
        assert (found[index].scores <= found["exact"].scores + 1e-6).all()


@pytest.mark.parametrize(
    ("model", "index"),
    [
        ("ican", "exact"),
        ("ican", "hnsw"),
        ("mind", "exact"),
        ("comirec_dr", "exact"),
        ("comirec_sa", "hnsw"),
        ("sasrec", "exact"),
        ("bert4rec", "exact"),
    ],
)
def test_a_list_does_not_depend_on_its_batch(model, index, tmp_path):
    log, trainer = random_log(), TwoTowerTrainer(ican(f"model.name={model}"), TwoTowerConfig(index=index))
    matcher, requests = trained(tmp_path / "v1", log, trainer=trainer), random_requests(log, 70)
    whole = matcher.retrieve(requests, 20)
    for start, stop in ((0, 1), (1, 3), (3, 20), (20, 53), (53, 70)):
        part = matcher.retrieve(Requests(*(column[start:stop] for column in requests)), 20)
        np.testing.assert_array_equal(part.items, whole.items[start:stop])
        np.testing.assert_array_equal(part.scores, whole.scores[start:stop])


def test_a_schedule_spans_the_epochs_of_each_day(tmp_path, monkeypatch):
    seen, epoch = [], _Trainer.epoch

    def watched(self, *args, **kwargs):
        log = epoch(self, *args, **kwargs)
        seen.append((self.planned_epochs, self.optimizer.param_groups[0]["lr"] / self.config.optim.learning_rate))
        return log

    monkeypatch.setattr(_Trainer, "epoch", watched)
    trainer = TwoTowerTrainer(ican("train.epochs=3", "optim.schedule=linear"), TwoTowerConfig(warm_epochs=1))
    log, steps = random_log(), 1 / -(-len(random_log().clicks) // 256)
    trained(tmp_path / "1", log, trainer=trainer)
    trained(tmp_path / "2", log, trainer=trainer, previous=tmp_path / "1")
    *first, (planned, rate) = seen
    assert first == [(3, pytest.approx((left + steps) / 3)) for left in (2, 1, 0)]
    assert planned == 1
    assert 0 < rate < 1  # it learns from the latest days alone, in fewer steps


def test_same_log_and_seed_same_bytes(tmp_path):
    log, trainer = random_log(), TwoTowerTrainer(config())
    for name in ("a", "b"):
        trained(tmp_path / name, log, trainer=trainer)
        trained(tmp_path / f"{name}2", log, trainer=trainer, previous=tmp_path / name)
    trained(tmp_path / "c", log, trainer=trainer, seed=1)
    files = {
        name: {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("a", "b", "a2", "b2", "c")
    }
    assert len(files["a"]) == 4
    assert files["a"] == files["b"]
    assert files["a2"] == files["b2"]
    assert files["a"].keys().isdisjoint(files["c"].keys()) or files["a"] != files["c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a2", "b", "b2", "c"]


def test_micrec_serves_with_the_parameters_of_its_base_model(tmp_path):
    """Paper 4.2: equal online memory and computation."""
    shapes, sizes = {}, {}
    for name, cfg in (("ican", ican()), ("micrec", config())):
        trained(tmp_path / name, trainer=TwoTowerTrainer(cfg))
        (path,) = (tmp_path / name / "serving").glob("*.safetensors")
        with safe_open(path, "pt") as file:
            shapes[name] = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        sizes[name] = path.stat().st_size
    assert shapes["micrec"] == shapes["ican"]
    assert sizes["micrec"] == sizes["ican"]
    (projectors,) = (tmp_path / "micrec" / "projectors").glob("*.safetensors")
    with safe_open(projectors, "pt") as file:
        assert len(list(file.keys())) > 0


def test_damage_is_told(tmp_path):
    trained(tmp_path / "v1")
    (path,) = (tmp_path / "v1" / "serving").glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(MicrecError, match="damaged, its SHA-256"):
        TwoTowerTrainer(ican()).load(tmp_path / "v1")
    with pytest.raises(MicrecError, match="no such folder"):
        TwoTowerTrainer(ican()).load(tmp_path / "v2")


# -- warm start ----------------------------------------------------------------------------------------------------


def grown(log):
    """The log with what shifts every code: new labels that sort before the others, and a new user and new items."""
    extra = log.items[:3].with_columns(
        pl.Series("item_id", [500, 501, 502]).cast(log.items.schema["item_id"]),
        pl.lit("a new one").alias("category"),
        pl.lit("a new one").alias("provider"),
        pl.Series("tags", [["a"], ["a", "t3"], []], dtype=pl.List(pl.String)),
    )
    users = pl.concat(
        [log.users, log.users[:1].with_columns(pl.lit("a").alias("gender"), pl.lit(99).cast(pl.Int64).alias("user_id"))]
    )
    return dataclasses.replace(log, items=pl.concat([log.items, extra]), users=users)


def without(log, lost):
    """The log without some users and items."""
    return dataclasses.replace(
        log,
        users=log.users.filter(~pl.col("user_id").is_in(lost)),
        items=log.items.filter(~pl.col("item_id").is_in(lost)),
        clicks=log.clicks.filter(~pl.col("item_id").is_in(lost) & ~pl.col("user_id").is_in(lost)),
    )


@pytest.mark.parametrize("name", ["ican", "micrec"])
def test_rows_move_with_the_values_they_stand_for(name, tmp_path):
    """No epoch on a log whose codes have all shifted: what was known answers as before."""
    lost = [3, 4, 30]
    log, keys = random_log(), TwoTowerConfig(warm_epochs=0)
    first = without(log, lost)
    second = dataclasses.replace(grown(log), clicks=first.clicks)
    trainer = TwoTowerTrainer(config("model.user_id=true") if name == "micrec" else ican(), keys)
    before = trained(tmp_path / "v1", first, trainer=trainer)
    after = trained(tmp_path / "v2", second, trainer=trainer, previous=tmp_path / "v1")
    requests = random_requests(log, 60)
    known = requests.user_ids[~np.isin(requests.user_ids, [*lost, 60, 61])]
    recent = np.where(np.isin(requests.recent_items, lost), -1, requests.recent_items)[: len(known)]
    requests = Requests(known, recent, requests.now_s[: len(known)], requests.keys[: len(known)])
    old, new = before.retrieve(requests, 20), after.retrieve(requests, 20)
    np.testing.assert_array_equal(old.items, new.items)
    np.testing.assert_allclose(old.scores, new.scores, rtol=1e-5)
    fresh = trained(tmp_path / "v3", second, trainer=trainer)
    assert (fresh.retrieve(requests, 20).items != old.items).any()


def test_projectors_are_carried_over(tmp_path):
    trainer = TwoTowerTrainer(config(), TwoTowerConfig(warm_epochs=0))
    for version, previous in (("v1", None), ("v2", "v1")):
        trained(tmp_path / version, trainer=trainer, previous=previous and tmp_path / previous, seed=len(version))
    content = [next((tmp_path / v / "projectors").glob("*.safetensors")).read_bytes() for v in ("v1", "v2")]
    assert content[0] == content[1]


def test_a_warm_start_goes_over_the_latest_clicks_only():
    log = random_log()
    dataset = to_dataset(log)
    trainer = _Trainer(dataset, ican())
    rows = np.argsort(dataset.clicks.user_ids, kind="stable")
    assert sorted(trainer.order(1).tolist()) == list(range(len(dataset.clicks)))
    trainer.since_ms = (START_S + 4 * DAY_S) * 1_000
    chosen = rows[trainer.order(1).numpy()]
    assert sorted(chosen.tolist()) == np.flatnonzero(dataset.clicks.time_ms >= trainer.since_ms).tolist()
    trainer.since_ms = (START_S + 99 * DAY_S) * 1_000
    assert len(trainer.order(1)) == len(dataset.clicks)


def test_a_day_more_starts_from_the_day_before(tmp_path):
    """Warm epochs improve on the version before, and new items come in."""
    log, trainer = random_log(), TwoTowerTrainer(ican("train.epochs=3"), TwoTowerConfig(warm_epochs=1))
    early = cut(log, 4)
    trained(tmp_path / "v1", early, trainer=trainer)
    second = trained(tmp_path / "v2", log, trainer=trainer, previous=tmp_path / "v1")
    requests = random_requests(log, 50)
    shown = set(second.retrieve(requests, 80).items.ravel().tolist())
    assert shown & (set(log.clicks["item_id"].to_list()) - set(early.clicks["item_id"].to_list()))


# -- what is retrieved ---------------------------------------------------------------------------------------------


def test_items_without_clicks_stay_out_unless_asked_for(tmp_path):
    log = random_log(n_clicks=150)
    clicks = log.clicks.group_by("item_id").len()
    requests = random_requests(log, 10)
    for least in (0, 1, 3):
        matcher = trained(tmp_path / f"v{least}", log, min_clicks=least, hide_recent=False)
        shown = set(matcher.retrieve(requests, 80).items.ravel().tolist()) - {-1}
        enough = set(clicks.filter(pl.col("len") >= least)["item_id"].to_list())
        assert shown == (enough if least else set(log.items["item_id"].to_list()))


def test_it_learns_what_users_like(tmp_path):
    """Users click one category eight times as readily; after some epochs their lists are mostly of it."""
    log = random_log(n_clicks=4_000)
    trainer = TwoTowerTrainer(ican("train.epochs=15", "optim.learning_rate=0.01"))
    matcher = trained(tmp_path / "v1", log, trainer=trainer)
    category = log.items["category"].to_numpy()
    per_user = log.clicks.join(log.items, on="item_id").group_by("user_id").agg(pl.col("category").mode().first())
    users = per_user["user_id"].to_numpy()
    recent = np.full((len(users), 20), -1)
    for row, user in enumerate(users):
        theirs = log.clicks.filter(pl.col("user_id") == user)["item_id"].to_numpy()[::-1][:20]
        recent[row, : len(theirs)] = theirs
    requests = Requests(users, recent, np.full(len(users), log.now_s), np.zeros(len(users), np.uint64))
    lists = matcher.retrieve(requests, 8)
    mostly = per_user["category"].to_numpy()[:, None]
    share = (category[lists.items] == mostly).mean()
    chance = np.mean([(category == name).mean() for name in mostly.ravel()])
    assert share > 2 * chance


def test_a_log_without_clicks_is_refused(tmp_path):
    log = random_log()
    with pytest.raises(MicrecError, match="add warm-up days"):
        trained(tmp_path / "v1", dataclasses.replace(log, clicks=log.clicks[:0]))


# -- the log as a dataset ------------------------------------------------------------------------------------------


def test_fields_have_the_types_of_their_columns():
    log = random_log()
    items = log.items.with_columns(
        pl.lit(1.5).alias("price"),
        pl.lit(3).alias("size"),
        pl.lit([1.0, 2.0], dtype=pl.List(pl.Float32)).alias("content"),
    )
    types = {name: kind.value for name, kind in field_types(items, "item_id").items()}
    assert types == {
        "category": "categorical",
        "subcategory": "categorical",
        "tags": "multi_categorical",
        "provider": "categorical",
        "title": "text",
        "published": "timestamp",
        "price": "numeric",
        "size": "categorical",
        "content": "vector",
    }


def test_the_dataset_is_the_log():
    log = random_log()
    stranger = log.clicks[:1].with_columns(pl.lit(10**6).cast(pl.Int64).alias("item_id"))
    dataset = to_dataset(dataclasses.replace(log, clicks=pl.concat([stranger, log.clicks]), users=log.users.reverse()))
    assert dataset.users.ids.to_list() == list(range(60))
    np.testing.assert_array_equal(dataset.clicks.user_ids, log.clicks["user_id"].to_numpy())
    np.testing.assert_array_equal(dataset.clicks.item_ids, log.clicks["item_id"].to_numpy())
    np.testing.assert_array_equal(dataset.clicks.time_ms, log.clicks["timestamp"].to_numpy() * 1_000)
    assert dataset.schema.roles.model_dump() == {
        "title": "title",
        "category": "category",
        "taxonomy": "tags",
        "content": None,
    }
