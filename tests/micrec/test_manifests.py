"""Manifests of models, bundles and datasets with a value of another type: refused, and the message names the key."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from abtest.cli.main import app
from micrec import fitting
from micrec.config import Config
from micrec.data.store import write_dataset
from micrec.errors import MicrecError
from micrec.model_folder import load_model, save_model
from micrec.retrieval import Retriever
from micrec.settings import merge
from tests.micrec.factories import random_frames
from tests.micrec.serving import SMALL, fitted_on, small_dataset

TEXT, NUMBER, TRUTH, LIST, MAPPING, NULL = "of another type", 12.5, True, [[1]], {"x": [1]}, None


def leaves(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value that is no mapping and no list, and every empty one, with its path."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    children = list(children)
    if not children:
        yield path, node
    for key, child in children:
        yield from leaves(child, (*path, key))


def changed(node: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy with one value replaced."""
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = changed(copy[path[0]], path[1:], value)
    return copy


def others(value: Any) -> list[Any]:
    """Values of every JSON type but that of ``value``; null is asked for apart, as many keys may be null."""
    if value is None:
        return [MAPPING]  # which type it would be if it were there, only the schema knows
    kinds: dict[type, Any] = {bool: TRUTH, str: TEXT, list: LIST, dict: MAPPING}
    wrong = [example for kind, example in kinds.items() if not isinstance(value, kind)]
    if isinstance(value, str | bool | list | dict):
        wrong.append(NUMBER)
    return wrong


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("data") / "random")


@pytest.fixture(scope="module")
def fitted(dataset):
    return fitted_on(dataset)


@pytest.fixture(params=["model", "bundle"])
def artifact(request, fitted, dataset, tmp_path):
    """A folder, and what reads it."""
    folder = tmp_path / request.param
    if request.param == "model":
        save_model(fitted, dataset, folder)
        return folder, lambda: load_model(folder, dataset, device="cpu")
    Retriever.build(fitted, dataset, k=5).save(folder)
    return folder, lambda: Retriever.load(folder)


def named(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))


def test_every_value_of_another_type_is_refused_by_its_key(artifact):
    folder, read = artifact
    file = folder / "manifest.json"
    sound = json.loads(file.read_text(encoding="utf-8"))
    all_leaves = list(leaves(sound))
    assert len(all_leaves) > 100
    accepted = []
    for path, value in all_leaves:
        for wrong in others(value):
            file.write_text(json.dumps(changed(sound, path, wrong)), encoding="utf-8")
            try:
                read()
            except MicrecError as fault:
                message = str(fault)
                assert str(file) in message, message
                assert named(path) in message or named(path[:-1]) in message, (path, wrong, message)
                assert "must be" in message, (path, wrong, message)
            else:
                accepted.append((named(path), value, wrong))
    assert accepted == []
    file.write_text(json.dumps(sound), encoding="utf-8")
    read()


def test_a_missing_key_or_null_is_refused_by_its_key_or_reads_as_it_may(artifact):
    folder, read = artifact
    file = folder / "manifest.json"
    sound = json.loads(file.read_text(encoding="utf-8"))
    refused = 0
    for path, value in leaves(sound):
        if value is None:
            continue
        file.write_text(json.dumps(changed(sound, path, None)), encoding="utf-8")
        try:
            read()
        except MicrecError as fault:
            assert named(path) in str(fault), (path, str(fault))  # noqa: PT017
            refused += 1
        else:
            assert path[0] == "config" or path == ("title_field",), path
    assert refused > 60
    for key in sound:
        file.write_text(json.dumps({name: value for name, value in sound.items() if name != key}), encoding="utf-8")
        if key in ("title_field", "index"):
            continue
        with pytest.raises(MicrecError, match=f"{key}|holds the checkpoint of an unfinished training"):
            read()


@pytest.mark.parametrize("key", ["trained_clicks", "dataset", "user_specs"])
def test_the_command_says_file_key_value_and_rule(fitted, dataset, tmp_path, key):
    folder = tmp_path / "bundle"
    Retriever.build(fitted, dataset, k=5).save(folder)
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: {"x": 1}}))
    result = CliRunner().invoke(app, ["recommend", str(folder)])
    assert result.exit_code == 2
    assert f"error: {file}: {key}: must be " in result.stderr
    assert '{"x": 1}' in result.stderr


def test_every_value_of_another_type_in_a_dataset_is_refused_by_its_key(tmp_path):
    folder = tmp_path / "data"
    write_dataset(folder, *random_frames(np.random.default_rng(0)))
    file = folder / "dataset.yaml"
    sound = yaml.safe_load(file.read_text(encoding="utf-8"))
    count = 0
    for path, value in leaves(sound):
        if path[0] == "provenance":  # anything may stand there
            continue
        for wrong in others(value):
            file.write_text(yaml.safe_dump(changed(sound, path, wrong)), encoding="utf-8")
            result = CliRunner().invoke(app, ["describe", str(folder)])
            assert result.exit_code == 2, (path, wrong, result.output, result.exception)
            assert f"dataset.yaml: {named(path)}" in result.stderr, (path, wrong, result.stderr)
            count += 1
    assert count > 40


@pytest.mark.parametrize("wrong", [TEXT, NUMBER, TRUTH, LIST, NULL, {"dropped": 3}, {"dropped": {"x": "y"}}])
def test_a_provenance_written_by_hand_ends_in_no_traceback(tmp_path, wrong):
    folder: Path = tmp_path / "data"
    write_dataset(folder, *random_frames(np.random.default_rng(0)))
    file = folder / "dataset.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"provenance": wrong}))
    result = CliRunner().invoke(app, ["describe", str(folder)])
    assert result.exit_code == (0 if isinstance(wrong, dict) else 2), result.output
    assert result.exit_code == 0 or "dataset.yaml: provenance: must be a mapping" in result.stderr


def test_every_value_of_another_type_in_an_unfinished_training_is_refused_by_its_key(dataset, tmp_path, monkeypatch):
    config = Config.model_validate(merge(SMALL, {"train": {"epochs": 2}}))
    real = fitting.save_checkpoint

    def stop_after(folder: Path, tensors: Any, manifest: Any) -> None:
        real(folder, tensors, manifest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "save_checkpoint", stop_after)
        with pytest.raises(KeyboardInterrupt):
            fitting.fit(dataset, config, folder=tmp_path)
    file = tmp_path / "checkpoint" / "manifest.json"
    sound = json.loads(file.read_text(encoding="utf-8"))
    count = 0
    for path, value in leaves({key: part for key, part in sound.items() if key != "skeleton"}):
        for wrong in others(value):
            file.write_text(json.dumps(changed(sound, path, wrong)), encoding="utf-8")
            with pytest.raises(MicrecError) as refused:
                fitting.fit(dataset, config, folder=tmp_path)
            told = str(refused.value)
            assert told.startswith(str(file)), told
            assert named(path) in told or named(path[:-1]) in told, (path, wrong, told)
            assert "must be" in told, told
            count += 1
    assert count > 60
    for wrong in (None, [], 3, "x", {}, {"dict": 3}, {"tensor": "none"}, {"dict": [["parameters", {"dict": []}]]}):
        file.write_text(json.dumps(sound | {"skeleton": wrong}), encoding="utf-8")
        with pytest.raises(MicrecError, match=r"skeleton: must be a mapping|does not describe a training"):
            fitting.fit(dataset, config, folder=tmp_path)
    file.write_text(json.dumps(sound), encoding="utf-8")
    assert fitting.fit(dataset, config, folder=tmp_path).state.epoch == 2
