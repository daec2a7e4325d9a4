"""Link recall against loops, its chance level, and where the oracle may be read."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from micrec.comparison import compare_with_baselines
from micrec.config import Config
from micrec.data.store import read_dataset
from micrec.errors import MicrecError
from micrec.evaluation.link_recall import Links, cosine_scores, link_recall, read_links
from micrec.experiment import run_baseline, run_model
from micrec.fitting import fit
from micrec.settings import merge
from tests.micrec.factories import write_random
from tests.micrec.serving import SMALL

N_ITEMS = 60  # of small_dataset
CUTOFFS = (1, 5, 20, 500)


def reference(scores, links, train_clicks, k, *, cross=False, cold=None, orders=None):
    """Mean recall over source items, by sorting lists; ties are broken by each of the given random orders."""
    values = []
    n = len(links.group)
    for item in range(n):
        wanted = {target for source, target in links.pairs.tolist() if source == links.group[item]}
        if not wanted or (cold is not None and train_clicks[item] > cold):
            continue
        candidates = [
            other for other in range(n)
            if other != item and (not cross or links.category[other] != links.category[item])
        ]  # fmt: skip
        targets = [other for other in candidates if links.group[other] in wanted]
        if not targets:
            continue
        for order in orders if orders is not None else [range(n)]:
            best = sorted(candidates, key=lambda other: (-float(scores[item][other]), order[other]))[:k]
            values.append(len(set(best) & set(targets)) / min(k, len(targets)))
    return float(np.mean(values)) if values else None


def random_links(rng, n, n_groups, n_links, categories=4) -> Links:
    pairs = np.unique(rng.integers(0, n_groups, (n_links, 2)), axis=0)
    group = rng.integers(0, n_groups, n)
    return Links(group=group, pairs=pairs, category=(group % categories).astype(np.int32))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 8), st.integers(1, 12), st.integers(64, 4_000))
def test_equals_the_loops(seed, n, n_groups, n_links, block_bytes):
    rng = np.random.default_rng(seed)
    links, clicks = random_links(rng, n, n_groups, n_links), rng.integers(0, 9, n)
    scores = rng.permuted(np.arange(n * n)).reshape(n, n).astype(np.float32)  # no ties
    found = link_recall(
        lambda items: torch.from_numpy(scores[items]),
        links,
        train_clicks=clicks,
        cutoffs=CUTOFFS,
        cold_clicks=3,
        block_bytes=block_bytes,
    )
    for k in CUTOFFS:
        assert found.get(f"link_recall@{k}") == pytest.approx(reference(scores, links, clicks, k))
        assert found.get(f"link_recall_cross@{k}") == pytest.approx(reference(scores, links, clicks, k, cross=True))
        cold = reference(scores, links, clicks, k, cross=True, cold=3)
        assert found.get(f"link_recall_cold@{k}") == pytest.approx(cold)


def test_ties_count_their_expectation():
    rng = np.random.default_rng(3)
    links, clicks = random_links(rng, 30, 5, 6), np.zeros(30)
    scores = rng.integers(0, 4, (30, 30)).astype(np.float32)
    found = link_recall(
        lambda items: torch.from_numpy(scores[items]), links, train_clicks=clicks, cutoffs=(3, 7), cold_clicks=0
    )
    orders = [rng.permutation(30) for _ in range(1_500)]
    for k in (3, 7):
        expected = reference(scores, links, clicks, k, cross=True, orders=orders)
        assert found[f"link_recall_cross@{k}"] == pytest.approx(expected, abs=0.004)


def test_equal_scores_are_at_chance_and_so_are_random_ones():
    rng = np.random.default_rng(5)
    links, clicks = random_links(rng, 400, 20, 12), rng.integers(0, 9, 400)
    alike = link_recall(
        lambda items: torch.zeros(len(items), 400), links, train_clicks=clicks, cutoffs=CUTOFFS, cold_clicks=3
    )
    for name in (name for name in alike if not name.endswith("_chance")):
        assert alike[name] == pytest.approx(alike[f"{name}_chance"])
    noise = link_recall(
        lambda items: torch.from_numpy(rng.random((len(items), 400))), links, train_clicks=clicks, cutoffs=(20,),
        cold_clicks=3,
    )  # fmt: skip
    assert noise["link_recall@20"] == pytest.approx(noise["link_recall@20_chance"], abs=0.02)


def test_embeddings_that_know_the_links_reach_1():
    """Sources look the way of their targets; all else is orthogonal."""
    group = np.repeat(np.arange(6), 5)
    links = Links(group=group, pairs=np.array([[0, 3], [1, 4]]), category=(group % 3 + 1).astype(np.int32))
    links = replace(links, category=np.array([1, 2, 3, 4, 5, 6], np.int32)[group])
    axes = np.array([0, 1, 2, 0, 1, 3])[group]
    emb = torch.nn.functional.one_hot(torch.from_numpy(axes), 4).float() * torch.linspace(0.1, 9, 30)[:, None]
    found = link_recall(cosine_scores(emb), links, train_clicks=np.arange(30), cutoffs=(3, 9), cold_clicks=4)
    assert found["link_recall_cross@3"] == found["link_recall_cross@9"] == 1.0
    assert found["link_recall_cold@3"] == 1.0
    assert found["link_recall@9"] == pytest.approx(1.0)  # four siblings and five targets
    assert found["link_recall@9_chance"] == pytest.approx(9 / 29)


def test_no_category_means_no_cross_and_no_cold():
    links = replace(random_links(np.random.default_rng(0), 20, 4, 3), category=None)
    found = link_recall(
        cosine_scores(torch.randn(20, 3)), links, train_clicks=np.zeros(20), cutoffs=(5,), cold_clicks=9
    )
    assert set(found) == {"link_recall@5", "link_recall@5_chance"}


def test_many_sources_are_sampled_evenly(monkeypatch):
    monkeypatch.setattr("micrec.evaluation.link_recall.MOST_SOURCES", 10)
    asked = []
    links = Links(group=np.arange(100) % 2, pairs=np.array([[0, 1]]), category=None)

    def scores(items):
        asked.extend(items.tolist())
        return torch.zeros(len(items), 100)

    link_recall(scores, links, train_clicks=np.zeros(100), cutoffs=(5,), cold_clicks=0)
    assert len(asked) == 10
    assert all(item % 2 == 0 for item in asked)
    assert asked[0] == 0
    assert asked[-1] == 98


# -- the oracle of a dataset ---------------------------------------------------------------------------------------


def plant(folder: Path, *, strength: float = 0.3) -> Path:
    """An oracle beside a random dataset: item i is in group i % 6."""
    ids = pl.read_parquet(folder / "items.parquet")["item_id"]
    (folder / "ground_truth").mkdir()
    oracle = pl.DataFrame({"item_id": ids, "link_group": [i % 6 for i in range(len(ids))], "quality": 0.0})
    oracle.sample(fraction=1, shuffle=True, seed=1).write_parquet(folder / "ground_truth" / "items.parquet")
    links = pl.DataFrame({"source_group": [0, 0, 3], "target_group": [1, 5, 4], "strength": [strength] * 3})
    links.write_parquet(folder / "ground_truth" / "links.parquet")
    return folder


@pytest.fixture
def world(tmp_path):
    rng = np.random.default_rng(3)
    return plant(write_random(tmp_path / "world", rng, n_users=25, n_items=N_ITEMS, n_clicks=300))


def small_config(**changes) -> Config:
    return Config.model_validate(merge(SMALL, {"evaluation": {"cutoffs": (5, 20)}}, changes))


def test_the_ground_truth_is_matched_by_id(world):
    links = read_links(read_dataset(world))
    np.testing.assert_array_equal(links.group, np.arange(N_ITEMS) % 6)
    assert sorted(map(tuple, links.pairs.tolist())) == [(0, 1), (0, 5), (3, 4)]


def test_no_ground_truth_no_link_recall(world):
    shutil.rmtree(world / "ground_truth")
    dataset = read_dataset(world)
    assert read_links(dataset) is None
    assert not any("link" in name for name in run_baseline("popularity", dataset, small_config()).metrics)


def test_the_folder_of_earlier_versions_is_told_by_its_new_name(world):
    (world / "ground_truth").rename(world / "oracle")
    with pytest.raises(MicrecError, match="oracle: is called ground_truth now: rename the folder"):
        read_links(read_dataset(world))


def test_a_broken_ground_truth_is_told(world):
    (world / "ground_truth" / "links.parquet").write_bytes(b"no")
    with pytest.raises(MicrecError, match=r"ground_truth/links.parquet: cannot be read .*generate the world anew"):
        read_links(read_dataset(world))
    pl.DataFrame({"source_group": [0]}).write_parquet(world / "ground_truth" / "links.parquet")
    with pytest.raises(MicrecError, match="source_group and target_group"):
        read_links(read_dataset(world))


def test_a_ground_truth_of_other_items_is_told(world):
    path = world / "ground_truth" / "items.parquet"
    pl.read_parquet(path).head(50).write_parquet(path)
    with pytest.raises(MicrecError, match="no link_group for 10 of 60 items"):
        read_links(read_dataset(world))


def test_every_model_and_baseline_with_neighbours_gets_it_beside_chance(world):
    dataset = read_dataset(world)
    results = compare_with_baselines(fit(dataset, small_config()), dataset)
    names = {f"link_recall{view}@{k}{end}" for view in ("", "_cross") for k in (5, 20) for end in ("", "_chance")}
    for name, result in results.items():
        assert names <= set(result.metrics), name
        assert all(0 <= result.metrics[name] <= 1 for name in names)
    chance = {result.metrics["link_recall@5_chance"] for result in results.values()}
    assert len(chance) == 1
    assert names <= set(run_model(dataset, small_config()).metrics)


def test_training_never_opens_the_ground_truth(world, tmp_path):
    """The trained bytes are the same with the ground truth, without it, and where it cannot be read."""
    config = small_config(contrast={name: {"weight": 0.1} for name in ("feature", "semantic", "session")})
    plain = shutil.copytree(world, tmp_path / "plain")
    shutil.rmtree(plain / "ground_truth")
    broken = shutil.copytree(world, tmp_path / "broken")
    for path in (broken / "ground_truth").iterdir():
        path.write_bytes(b"no")
    states = [fit(read_dataset(folder), config).model.state_dict() for folder in (world, plain, broken)]
    for state in states[1:]:
        assert all(torch.equal(state[name], states[0][name]) for name in states[0])


def test_only_evaluation_names_the_ground_truth():
    package = Path(__file__).parents[2] / "micrec"
    named = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if "ground_truth" in path.read_text("utf-8")
    }
    assert named <= {"evaluation/link_recall.py", "data/dataset_card.py"}  # the card says that it is there
    training = ("training.py", "fitting.py", "contrast.py", "matching.py", "train_data.py", "sampling.py")
    for module in training:
        assert "link_recall" not in (package / module).read_text("utf-8"), module
