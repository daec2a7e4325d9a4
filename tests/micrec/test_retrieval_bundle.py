"""The bundle folder: the same answers after a round trip, whole or not there, and nothing of the losses in it."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from micrec.checkpoint import save_checkpoint
from micrec.data.dataset import Dataset
from micrec.errors import MicrecError
from micrec.fitting import Fitted
from micrec.model_folder import save_model
from micrec.retrieval import INDEX_KINDS, Retriever
from tests.micrec.serving import OFF, all_scores, fitted_on, full_sort, small_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("data") / "random")


@pytest.fixture(scope="module")
def fitted(dataset: Dataset) -> Fitted:
    return fitted_on(dataset)


@pytest.fixture(scope="module")
def retriever(fitted: Fitted, dataset: Dataset) -> Retriever:
    return Retriever.build(fitted, dataset, k=5)


def tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """Names and shapes from the header of a safetensors file."""
    (path,) = folder.glob("*.safetensors")
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


class TestFolder:
    @pytest.mark.parametrize("kind", INDEX_KINDS)
    def test_a_round_trip_changes_no_answer(self, fitted, dataset, tmp_path, kind):
        built = Retriever.build(fitted, dataset, kind=kind, k=5)
        built.save(tmp_path / "bundle")
        loaded = Retriever.load(tmp_path / "bundle")
        for name in dataset.users.ids:
            assert loaded.recommend(name, 5, hide_seen=True) == built.recommend(name, 5, hide_seen=True)
        unseen = ({"country": "k1"}, ["i0003", "i0001"], 8)
        assert loaded.recommend_unseen(*unseen) == built.recommend_unseen(*unseen)
        users, recent = np.arange(25), np.random.default_rng(0).integers(-1, 60, (25, 20))
        np.testing.assert_array_equal(loaded.retrieve(users, recent, 10), built.retrieve(users, recent, 10))
        assert loaded.report == built.report

    @pytest.mark.parametrize(
        "model",
        [
            {"name": "fm", "options": {"item_terms": True}},
            {"name": "youtube_dnn", "l2_normalize": True},
            {"name": "deepfm", "user_fields": []},
            {"name": "autoint", "item_fields": ["tags"]},
            {"options": {"behaviour_tokens": "sequence", "positions": True}},
            {"behaviour_pooling": "attention", "item_fields": [], "user_id": True},
        ],
    )
    def test_every_model_is_served(self, dataset, tmp_path, model):
        fitted = fitted_on(dataset, model=model)
        Retriever.build(fitted, dataset).save(tmp_path / "bundle")
        loaded = Retriever.load(tmp_path / "bundle")
        for user in (0, 7):
            answer = loaded.recommend(dataset.users.ids[user], 3)
            scores = all_scores(fitted, dataset, user)
            np.testing.assert_allclose(answer.scores, scores[full_sort(fitted, dataset, user)[:3]], rtol=1e-4)
        assert len(loaded.recommend_unseen({}, [], 3).item_ids) == 3

    def test_integer_ids_stay_integers(self, fitted, dataset, tmp_path):
        Retriever.build(fitted, dataset).save(tmp_path / "bundle")
        loaded = Retriever.load(tmp_path / "bundle")
        assert loaded.bundle.user_ids.to_list() == dataset.users.ids.to_list()
        assert loaded.bundle.user_ids.dtype == pl.Int64
        assert loaded.bundle.item_ids.to_list() == dataset.items.ids.to_list()

    def test_the_losses_leave_nothing_behind(self, dataset, tmp_path):
        """MicRec serves the very tensors that ICAN serves: same names, same shapes."""
        all_on = {name: {"weight": 1.0} for name in OFF} | {"semantic": {"weight": 1.0, "svd_dim": 4, "top_k": 3}}
        shapes = []
        for contrast in (OFF, all_on):
            fitted, folder = fitted_on(dataset, contrast=contrast), tmp_path / str(len(shapes))
            save_model(fitted, dataset, folder / "model")
            Retriever.build(fitted, dataset).save(folder / "bundle")
            shapes.append([tensor_shapes(folder / part) for part in ("model", "bundle")])
        assert shapes[0] == shapes[1]
        assert len(shapes[0][0]) > 5
        assert list(fitted.state.log[0]["losses"]) == ["matching", "feature", "semantic", "session"]

    def test_taken_folders(self, retriever, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        (other / "thesis.txt").write_text("mine")
        with pytest.raises(MicrecError, match="other: exists and is no serving bundle: name another folder"):
            retriever.save(other, overwrite=True)
        assert [path.name for path in other.iterdir()] == ["thesis.txt"]
        empty = tmp_path / "empty"
        empty.mkdir()
        retriever.save(empty)
        with pytest.raises(MicrecError, match="empty: holds a serving bundle: name another folder, or replace it"):
            retriever.save(empty)
        retriever.save(empty, overwrite=True)
        assert len(list(empty.iterdir())) == 2
        with pytest.raises(MicrecError, match=r"thesis\.txt: is a file, where a folder is needed"):
            retriever.save(other / "thesis.txt" / "bundle")

    @pytest.mark.parametrize("moment", ["tensors", "manifest", "rename"])
    def test_a_failed_save_leaves_nothing_new(self, retriever, tmp_path, monkeypatch, moment):
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            if moment == "rename":
                patch.setattr("micrec.artifact.os.replace", full)
            else:
                patch.setattr(f"micrec.checkpoint.{'save_file' if moment == 'tensors' else '_replace'}", full)
            with pytest.raises(MicrecError, match="No space left on device"):
                retriever.save(tmp_path / "bundle")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("moment", ["save_file", "_replace"])
    def test_a_failed_replacement_leaves_the_old_one(self, retriever, fitted, dataset, tmp_path, monkeypatch, moment):
        folder = tmp_path / "bundle"
        Retriever.build(fitted, dataset, kind="hnsw", k=5).save(folder)
        before = Retriever.load(folder).report

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(f"micrec.checkpoint.{moment}", stop)
        with pytest.raises(KeyboardInterrupt):
            retriever.save(folder, overwrite=True)
        assert Retriever.load(folder).report == before
        monkeypatch.undo()
        retriever.save(folder, overwrite=True)
        assert Retriever.load(folder).report.kind == "flat"

    def test_what_a_killed_save_left_is_cleared_away(self, retriever, tmp_path):
        partial = tmp_path / ".bundle.partial"
        partial.mkdir()
        (partial / ".tensors.tmp").write_text("half")
        retriever.save(tmp_path / "bundle")
        assert os.listdir(tmp_path) == ["bundle"]

    def test_other_folders_are_told_apart(self, retriever, fitted, dataset, tmp_path):
        save_model(fitted, dataset, tmp_path / "model")
        save_checkpoint(tmp_path / "checkpoint", {}, {"state": 1})
        (tmp_path / "empty").mkdir()
        for name, message in {
            "model": "holds a trained model, not a serving bundle: give a folder that micrec index wrote",
            "checkpoint": "holds the checkpoint of an unfinished training, not a serving bundle",
            "empty": "holds no serving bundle: give a folder that micrec index wrote",
            "none": "there is no such folder: give a folder that micrec index wrote",
        }.items():
            with pytest.raises(MicrecError, match=f"{name}: {message}"):
                Retriever.load(tmp_path / name)

    def test_damage_is_noticed(self, retriever, tmp_path):
        retriever.save(tmp_path / "bundle")
        (tensors,) = (tmp_path / "bundle").glob("*.safetensors")
        content = bytearray(tensors.read_bytes())
        content[-1] ^= 1
        tensors.write_bytes(content)
        with pytest.raises(MicrecError, match="damaged, its SHA-256"):
            Retriever.load(tmp_path / "bundle")
