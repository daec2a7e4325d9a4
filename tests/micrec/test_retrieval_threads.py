"""Threads that add, ask and save at the same time; bundles and models whose parts do not fit; files for all who may."""

import json
import os
import stat
import sys
import threading
from pathlib import Path

import polars as pl
import pytest

from micrec.checkpoint import load_checkpoint, save_checkpoint
from micrec.errors import MicrecError
from micrec.model_folder import load_model, save_model
from micrec.retrieval import Retriever
from tests.micrec.serving import fitted_on, small_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("data") / "random")


@pytest.fixture(scope="module")
def fitted(dataset):
    return fitted_on(dataset)


def new_items(names: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"item_id": names})


@pytest.fixture
def hasty():
    """Threads change as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("attempt", range(5))
def test_items_added_by_several_threads_are_all_there_with_their_own_vectors(fitted, dataset, hasty, attempt, tmp_path):
    retriever = Retriever.build(fitted, dataset, catalogue="all", k=5)
    known, start, faults = retriever.bundle.index.ntotal, threading.Barrier(4), []

    def add(part: int) -> None:
        start.wait()
        for number in range(6):
            retriever.add_items(new_items([f"new-{part}-{number}"]))

    def ask() -> None:
        start.wait()
        for _ in range(20):
            try:
                retriever.recommend(dataset.users.ids[0], 70)
            except Exception as fault:  # a thread's exception is nobody's otherwise
                faults.append(fault)

    threads = [threading.Thread(target=add, args=(part,)) for part in range(2)]
    threads += [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    names = {f"new-{part}-{number}" for part in range(2) for number in range(6)}
    bundle = retriever.bundle
    assert bundle.index.ntotal == len(bundle.candidates) == known + len(names)
    assert set(bundle.item_ids.to_list()[-len(names) :]) == names
    # without fields all new items are alike: each row of theirs must hold the vector of such an item
    alone = Retriever.build(fitted, dataset, catalogue="all", k=5)
    alone.add_items(new_items(["x"]))
    expected = alone.bundle.index.reconstruct(known)
    for row in range(known, bundle.index.ntotal):
        assert bundle.index.reconstruct(row) == pytest.approx(expected)
    retriever.save(tmp_path / "bundle")
    assert Retriever.load(tmp_path / "bundle").bundle.index.ntotal == bundle.index.ntotal


def test_an_index_and_a_list_of_different_lengths_are_refused(fitted, dataset, tmp_path):
    Retriever.build(fitted, dataset, k=5).save(tmp_path / "bundle")
    tensors, manifest = load_checkpoint(tmp_path / "bundle")
    for rows, words in ((slice(None, -1), "the index holds"), (slice(None), "an item stands twice")):
        changed = tensors["candidates"].clone()
        changed[-1] = changed[0]
        save_checkpoint(tmp_path / "bundle", tensors | {"candidates": changed[rows].contiguous()}, manifest)
        with pytest.raises(MicrecError, match=words):
            Retriever.load(tmp_path / "bundle")


WRONG = (None, [], {}, "x", -1, 10**30, True, [None])


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("kind", ["bundle", "model"])
def test_a_manifest_with_values_of_other_types_is_refused_or_reads_as_before(fitted, dataset, tmp_path, kind):
    folder = tmp_path / kind
    if kind == "bundle":
        Retriever.build(fitted, dataset, k=5).save(folder)
    else:
        save_model(fitted, dataset, folder)
    manifest = folder / "manifest.json"
    sound = json.loads(manifest.read_text(encoding="utf-8"))
    refused = 0
    for key in sound:
        for value in WRONG:
            manifest.write_text(json.dumps({**sound, key: value}), encoding="utf-8")
            try:
                Retriever.load(folder) if kind == "bundle" else load_model(folder, dataset, device="cpu")
            except MicrecError as fault:
                assert str(folder) in str(fault)  # noqa: PT017
                refused += 1
    assert refused > 3 * len(sound)  # what is only printed may be anything


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_files_are_for_whom_the_umask_lets(fitted, dataset, tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        save_model(fitted, dataset, tmp_path / "model")
        Retriever.build(fitted, dataset, k=5).save(tmp_path / "bundle")
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {mode}


def test_a_folder_of_the_model_may_be_read_by_its_group(fitted, dataset, tmp_path):
    save_model(fitted, dataset, tmp_path / "model")
    assert stat.S_IMODE(Path(tmp_path / "model").stat().st_mode) & 0o500 == 0o500
