"""Threads that add, ask and save at the same time; bundles and models whose parts do not fit; files for all who may."""

import json
import os
import stat
import sys
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from micrec import checkpoint
from micrec.checkpoint import load_checkpoint, save_checkpoint
from micrec.errors import MicrecError
from micrec.model_folder import load_model, save_model
from micrec.retrieval import Retriever
from micrec.retrieval import query as query_module
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


def fields_of(part: int, number: int) -> dict[str, object]:
    """Fields that no two additions share."""
    return {"item_id": f"new-{part}-{number}", "price": 3.0 * part + 0.25 * number, "category": f"c{number % 5}"}


def vector_by_name(bundle) -> dict[str, np.ndarray]:
    """The vector of each listed item by a walk through the rows of the index."""
    names = bundle.item_ids.to_list()
    return {names[item]: bundle.index.reconstruct(row) for row, item in enumerate(bundle.candidates.tolist())}


@pytest.mark.parametrize("attempt", range(3))
def test_items_added_by_several_threads_each_have_their_own_vector(fitted, dataset, hasty, attempt, tmp_path):
    """Four threads add while others ask, retrieve, take out and save."""
    retriever = Retriever.build(fitted, dataset, catalogue="all", k=5)
    parts, each = 4, 5
    known, start, faults, stop = retriever.bundle.index.ntotal, threading.Barrier(parts + 4), [], threading.Event()

    def guarded(work, *arguments) -> None:
        start.wait()
        try:
            work(*arguments)
        except Exception as fault:  # a thread's exception is nobody's otherwise
            faults.append(fault)

    def add(part: int) -> None:
        for number in range(each):
            retriever.add_items(pl.DataFrame([fields_of(part, number)]))
            retriever.recommend_unseen({}, [f"new-{part}-{number}"], 3)  # known from now on

    def ask() -> None:
        while not stop.is_set():
            found = retriever.recommend(dataset.users.ids[0], 10_000).item_ids
            assert len(set(found)) == len(found) >= known - 2

    def retrieve() -> None:
        recent = np.array([[3, 2, 1]])
        while not stop.is_set():
            found = retriever.retrieve(np.array([0]), recent, 200)[0]
            assert len(set(found[found >= 0].tolist())) == (found >= 0).sum() >= known - 2

    def save() -> None:
        while not stop.is_set():
            retriever.save(tmp_path / "bundle", overwrite=True)
            loaded = Retriever.load(tmp_path / "bundle").bundle
            assert loaded.index.ntotal == len(loaded.candidates)

    def remove() -> None:
        retriever.remove_items(["i0003"])
        retriever.remove_items(["i0007"])

    adding = [threading.Thread(target=guarded, args=(add, part)) for part in range(parts)]
    beside = [threading.Thread(target=guarded, args=(work,)) for work in (ask, retrieve, save, remove)]
    for thread in [*adding, *beside]:
        thread.start()
    for thread in adding:
        thread.join()
    stop.set()
    for thread in beside:
        thread.join()
    assert faults == []

    bundle = retriever.bundle
    added = [fields_of(part, number) for part in range(parts) for number in range(each)]
    assert bundle.index.ntotal == len(bundle.candidates) == known + len(added) - 2
    alone = Retriever.build(fitted, dataset, catalogue="all", k=5)
    alone.add_items(pl.DataFrame(added))  # all at once, by one thread
    alone.remove_items(["i0003", "i0007"])
    ours, expected = vector_by_name(bundle), vector_by_name(alone.bundle)
    assert ours.keys() == expected.keys()
    assert len({vector.tobytes() for name, vector in expected.items() if name.startswith("new-")}) == len(added)
    for name, vector in expected.items():
        np.testing.assert_allclose(ours[name], vector, rtol=1e-5, atol=1e-6, err_msg=name)

    retriever.save(tmp_path / "bundle", overwrite=True)
    loaded = Retriever.load(tmp_path / "bundle")
    saved = vector_by_name(loaded.bundle)
    assert saved.keys() == ours.keys()
    assert all(np.array_equal(saved[name], ours[name]) for name in ours)
    assert loaded.recommend(dataset.users.ids[3], 100) == retriever.recommend(dataset.users.ids[3], 100)


def test_a_call_works_on_what_there_was_when_it_began(fitted, dataset, monkeypatch):
    """A change in the middle of a call does not mix new rows with old ids."""
    retriever = Retriever.build(fitted, dataset, catalogue="all", k=5)
    before = retriever.recommend(dataset.users.ids[0], 100)
    real = query_module.search

    def search_while_the_catalogue_changes(index, queries, k):
        found = real(index, queries, k)
        retriever.remove_items(retriever.bundle.item_ids[:30].to_list())
        retriever.add_items(new_items(["late"]))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(query_module, "search", search_while_the_catalogue_changes)
        assert retriever.recommend(dataset.users.ids[0], 100) == before
    assert len(retriever.recommend(dataset.users.ids[0], 100).item_ids) == 31


def test_a_bundle_is_read_whole_while_it_is_replaced(fitted, dataset, hasty, tmp_path):
    both = [Retriever.build(fitted, dataset, catalogue=name, k=5) for name in ("train", "all")]
    folder, faults = tmp_path / "bundle", []
    both[0].save(folder)
    sizes = {retriever.bundle.index.ntotal for retriever in both}

    def replace_it(turn: int) -> None:
        try:
            for _ in range(20):
                both[turn].save(folder, overwrite=True)
        except Exception as fault:
            faults.append(fault)

    writers = [threading.Thread(target=replace_it, args=(turn,)) for turn in range(2)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(Retriever.load(folder).bundle.index.ntotal)
    assert faults == []
    assert seen <= sizes
    assert len(list(folder.iterdir())) == 2


def test_a_bundle_that_is_replaced_between_two_reads_is_read_anew(fitted, dataset, tmp_path, monkeypatch):
    """The old manifest names a file that is gone by the time it is opened."""
    old, new = (Retriever.build(fitted, dataset, catalogue=name, k=5) for name in ("train", "all"))
    folder, reads = tmp_path / "bundle", []
    old.save(folder)
    real = checkpoint._read_manifest

    def read_and_replace(path):
        manifest = real(path)
        reads.append(path)
        if len(reads) == 1:
            new.save(folder, overwrite=True)
        return manifest

    monkeypatch.setattr(checkpoint, "_read_manifest", read_and_replace)
    assert Retriever.load(folder).bundle.index.ntotal == new.bundle.index.ntotal
    (tensors,) = folder.glob("*.safetensors")
    tensors.unlink()
    with pytest.raises(MicrecError, match=r"safetensors: missing, though manifest\.json names it"):
        Retriever.load(folder)


def test_no_addition_of_several_processes_is_lost(fitted, dataset, hasty, tmp_path):
    """Each loads the folder, adds and saves; without a lock the last one would undo the others."""
    folder = tmp_path / "bundle"
    Retriever.build(fitted, dataset, k=5).save(folder)
    start, faults = threading.Barrier(4), []

    def change(name: str) -> None:
        start.wait()
        try:
            with Retriever.changing(folder) as retriever:
                retriever.add_items(new_items([name]))
        except Exception as fault:
            faults.append(fault)

    names = [f"new-{number}" for number in range(4)]
    threads = [threading.Thread(target=change, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert set(names) <= set(Retriever.load(folder).bundle.item_ids.to_list())


def test_a_change_that_fails_is_not_saved(fitted, dataset, tmp_path):
    folder = tmp_path / "bundle"
    Retriever.build(fitted, dataset, k=5).save(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def add_twice() -> None:
        with Retriever.changing(folder) as retriever:
            retriever.add_items(new_items(["fresh"]))
            retriever.add_items(new_items(["fresh"]))

    with pytest.raises(MicrecError, match="known already"):
        add_twice()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with Retriever.changing(folder) as retriever:
        retriever.recommend(dataset.users.ids[0], 3)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(MicrecError, match="there is no such folder"), Retriever.changing(tmp_path / "none"):
        pass


def test_an_index_and_a_list_of_different_lengths_are_refused(fitted, dataset, tmp_path):
    Retriever.build(fitted, dataset, k=5).save(tmp_path / "bundle")
    tensors, manifest = load_checkpoint(tmp_path / "bundle")
    for rows, words in ((slice(None, -1), "the index holds"), (slice(None), "an item appears twice")):
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
