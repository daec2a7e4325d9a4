"""Maps of the items: layouts against the definition, and the command from models to files."""

import numpy as np
import polars as pl
import pytest
from scipy.linalg import orthogonal_procrustes
from typer.testing import CliRunner

from abtest.cli.main import app
from abtest.offline import item_map
from abtest.offline.item_map import caption, choose_items, draw_map
from abtest.offline.projections import neighbour_map, plane, principal, turned_onto
from micrec.errors import MicrecError
from micrec.evaluation.link_recall import Links
from micrec.model_folder import save_model
from tests.micrec.serving import fitted_on, small_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("map") / "data")


@pytest.fixture(scope="module")
def models(data):
    return [fitted_on(data), fitted_on(data, model={"name": "fm"})]


def test_principal_components_are_those_of_the_covariance():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 5)) * [1.0, 4.0, 2.0, 0.5, 0.1] + 3.0
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    found = principal(rows)
    assert found.share == pytest.approx(values[-2:].sum() / values.sum())
    expected = (rows - rows.mean(axis=0)) @ vectors[:, [-1, -2]]
    assert np.abs(found.points) == pytest.approx(np.abs(expected))
    assert principal(-rows).points == pytest.approx(-found.points)  # the sign does not follow the data's


def test_one_dimension_is_a_line():
    found = principal(np.array([[0.0], [1.0], [5.0]]))
    assert found.points == pytest.approx(np.array([[-2.0, 0.0], [-1.0, 0.0], [3.0, 0.0]]))


def test_turning_changes_no_distance_and_finds_the_turn():
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(30, 2))
    reference -= reference.mean(axis=0)
    angle = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert turned_onto(reference @ angle @ np.diag([1, -1]), reference) == pytest.approx(reference)
    points = rng.normal(size=(30, 2))
    assert turned_onto(points, reference) == pytest.approx(points @ orthogonal_procrustes(points, reference)[0])


def test_neighbour_map_keeps_groups_apart_and_repeats_itself():
    rng = np.random.default_rng(2)
    rows = np.concatenate([rng.normal(size=(20, 6)) * 0.05 + centre for centre in (np.eye(6)[0], np.eye(6)[1])])
    points = neighbour_map(rows, seed=3)
    left, right = points[:20], points[20:]
    spread = max(np.ptp(left, axis=0).max(), np.ptp(right, axis=0).max())
    assert np.linalg.norm(left.mean(axis=0) - right.mean(axis=0)) > spread
    assert np.array_equal(plane(rows, "tsne", seed=3).points, points)


def test_files_hold_every_model_and_item(data, models, tmp_path):
    files = draw_map(models, data, tmp_path / "out", untrained=True, items=20)
    assert [path.name for path in files] == ["map.png", "map.pdf", "map.csv"]
    first = [path.read_bytes() for path in files]
    points = pl.read_csv(files[-1])
    assert points.columns == [
        "item_id", "category", "clicks",
        *(f"pca {axis}, {name}" for name in ("ican, untrained", "ican", "fm") for axis in "xy"),
    ]  # fmt: skip
    trained = data.clicks.item_ids[: models[0].trained_clicks].tolist()
    for row in points.iter_rows(named=True):
        assert row["clicks"] == trained.count(data.items.lookup(row["item_id"])) > 0
    assert len(points) == 20
    with pytest.raises(MicrecError, match="holds a map: use --force"):
        draw_map(models, data, tmp_path / "out", items=20)
    draw_map(models, data, tmp_path / "out", untrained=True, items=20, force=True)
    assert [path.read_bytes() for path in files] == first


def test_untrained_is_the_model_that_training_began_with(data, models):
    """The same seed gives the same start; a training that hardly moves stays there."""
    shown = choose_items(data, models[0].trained_clicks, 20)
    found = item_map._embeddings(models[:1], shown, untrained=True)
    again = item_map._embeddings([fitted_on(data, optim={"learning_rate": 1e-12})], shown, untrained=False)
    assert next(iter(found.values())).numpy() == pytest.approx(next(iter(again.values())).numpy(), abs=1e-5)


def test_links_are_drawn_between_shown_items(data, models, monkeypatch, tmp_path):
    group = np.arange(len(data.items)) % 4
    links = Links(group=group, pairs=np.array([[0, 2]]), category=None)
    monkeypatch.setattr(item_map, "read_links", lambda dataset: links)
    shown = choose_items(data, models[0].trained_clicks, 15)
    assert len(shown.links) > 0
    ends = group[shown.items[shown.links]]
    assert (ends == [0, 2]).all()
    assert f"Lines: {len(shown.links)} planted links." in caption([], shown, data)[0]
    draw_map(models[:1], data, tmp_path / "out", items=15)


def test_command(data, models, tmp_path):
    for place, fitted in enumerate(models):
        save_model(fitted, data, tmp_path / str(place) / "model")
    folders = [str(tmp_path / "0"), str(tmp_path / "1")]
    given = ["map", *folders, str(data.folder), "--out", str(tmp_path / "out"), "--items", "20", "--device", "cpu"]
    done = CliRunner().invoke(app, [*given, "--method", "both"])
    assert done.exit_code == 0, done.output
    assert "map.png" in done.output
    for wrong, message in (
        (["--method", "umap"], "--method: must be one of pca, tsne, both, got umap"),
        (["--items", "2"], "--items: must be from 3 to 5,000, got 2"),
        ([], "holds a map"),
    ):
        refused = CliRunner().invoke(app, [*given, *wrong, *(["--force"] if wrong else [])])
        assert refused.exit_code == 2
        assert message in " ".join(refused.output.split())
