"""Checkpoints: what goes in comes out, a kill leaves the last good one, damage is told."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import micrec
from micrec.checkpoint import (
    flatten_state,
    load_checkpoint,
    pack_rng,
    remove_checkpoint,
    restore_rng,
    save_checkpoint,
    unflatten_state,
)
from micrec.errors import MicrecError


def example(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3, 2), value), "step": torch.tensor(7), "empty": torch.empty(0, 4)}


SPARSE = torch.sparse_coo_tensor(torch.tensor([[0], [1]]), torch.ones(1), (2, 2), check_invariants=False)


def tensor_file(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def assert_same(loaded: dict[str, torch.Tensor], saved: dict[str, torch.Tensor]) -> None:
    assert loaded.keys() == saved.keys()
    for name, tensor in saved.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor), name


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    tensors = {
        **example(),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "mask": torch.tensor([True, False]),
        "bytes": torch.arange(256, dtype=torch.uint8),
    }
    manifest = {"config": {"lr": 1e-3, "names": ["a", "ü"]}, "best": -math.inf, "epoch": 3, "note": None}
    save_checkpoint(tmp_path / "deep" / "run", tensors, manifest)
    loaded, found = load_checkpoint(tmp_path / "deep" / "run")
    assert_same(loaded, tensors)
    header = found.pop("checkpoint")
    assert found == manifest
    assert header["format"] == 1
    assert header["micrec"] == micrec.__version__
    assert header["torch"] == torch.__version__


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_checkpoint(tmp_path / name, example(), {"epoch": 1})
    for file in ("manifest.json", tensor_file(tmp_path / "a").name):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_views_parameters_and_shared_memory_are_stored_apart(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    layer = nn.Linear(2, 2)
    tensors = {"base": base, "again": base, "row": base[1], "transposed": base.T, "strided": base[:, ::2]}
    save_checkpoint(tmp_path, {**tensors, "parameter": layer.weight}, {})
    loaded, _ = load_checkpoint(tmp_path)
    assert_same(loaded, {**tensors, "parameter": layer.weight.detach()})
    loaded["row"].zero_()
    assert torch.equal(loaded["base"], base)


def test_saving_again_replaces_and_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    save_checkpoint(tmp_path, example(1.0), {"epoch": 1})
    (tmp_path / ".tensors.tmp").write_bytes(b"left by a kill")
    _, first = load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, example(2.0), first | {"epoch": 2})
    loaded, manifest = load_checkpoint(tmp_path)
    assert loaded["weight"][0, 0] == 2.0
    assert manifest["epoch"] == 2
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"notes.txt", "manifest.json", tensor_file(tmp_path).name}


def test_removing_deletes_only_the_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    remove_checkpoint(run)
    save_checkpoint(run, example(), {})
    (run / "notes.txt").write_text("mine", encoding="utf-8")
    remove_checkpoint(run)
    assert [path.name for path in run.iterdir()] == ["notes.txt"]
    (run / "notes.txt").unlink()
    save_checkpoint(run, example(), {})
    remove_checkpoint(run)
    assert not run.exists()


# -- kills ---------------------------------------------------------------------------------------------------------

KILL_AT_EVERY_CALL = """
    import os, signal, sys
    from pathlib import Path
    import torch
    from micrec.checkpoint import load_checkpoint, save_checkpoint

    folder = Path(sys.argv[1])
    save_checkpoint(folder, {"weight": torch.zeros(1000)}, {"epoch": 0})
    epoch, call = 0, 0
    while True:  # save epoch + 1 in a child that dies just before its call-th change of the disk
        pid = os.fork()
        if pid == 0:
            left = call

            def fatal(real):
                def wrapped(*args, **kwargs):
                    global left
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left -= 1
                    return real(*args, **kwargs)
                return wrapped

            os.fsync, os.replace, os.unlink = fatal(os.fsync), fatal(os.replace), fatal(os.unlink)
            save_checkpoint(folder, {"weight": torch.full((1000,), epoch + 1.0)}, {"epoch": epoch + 1})
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        tensors, manifest = load_checkpoint(folder)
        assert manifest["epoch"] in (epoch, epoch + 1), manifest
        assert bool((tensors["weight"] == manifest["epoch"]).all())
        print(call, manifest["epoch"] - epoch, os.WIFSIGNALED(status), flush=True)
        if not os.WIFSIGNALED(status):
            break
        epoch, call = manifest["epoch"], call + 1
"""

SAVE_FOR_EVER = """
    import sys
    from pathlib import Path
    import torch
    from micrec.checkpoint import save_checkpoint

    epoch = 0
    while True:
        epoch += 1
        save_checkpoint(Path(sys.argv[1]), {"weight": torch.full((300_000,), float(epoch))}, {"epoch": epoch})
"""


def start(script: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def test_a_kill_before_any_change_of_the_disk_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    out, errors = start(KILL_AT_EVERY_CALL, tmp_path).communicate(timeout=120)
    lines = [line.split() for line in out.splitlines()]
    assert lines, errors
    assert lines[-1][1:] == ["1", "False"], errors  # the last child lived through all calls
    outcomes = [line[1] for line in lines]
    assert outcomes == sorted(outcomes)  # the old one up to one moment, the new one from there
    assert outcomes.count("0") >= 5
    assert outcomes.count("1") >= 2


def test_what_a_killed_save_left_behind_is_removed_by_the_next(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, example(), {})
    strays = [".tmpBx7gNv", ".tensors.tmp", ".manifest.tmp", "tensors-0123456789abcdef.safetensors"]
    for name in [*strays, "notes.txt"]:
        (tmp_path / name).write_text("half")
    save_checkpoint(tmp_path, example(), {})
    left = {path.name for path in tmp_path.iterdir()}
    assert not left & set(strays)
    assert "notes.txt" in left  # what is not ours stays


def test_a_kill_at_any_time_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    process = start(SAVE_FOR_EVER, tmp_path)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "manifest.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    tensors, manifest = load_checkpoint(tmp_path)
    assert (tensors["weight"] == manifest["epoch"]).all()
    save_checkpoint(tmp_path, example(), {"epoch": -1})
    assert len(list(tmp_path.iterdir())) == 2  # strays of the kill are gone


# -- damage --------------------------------------------------------------------------------------------------------


def test_no_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(MicrecError, match=r"manifest\.json: no checkpoint here: check the path, or train first"):
        load_checkpoint(tmp_path / "nowhere")


def test_a_missing_tensor_file_is_told(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, example(), {})
    tensor_file(tmp_path).unlink()
    with pytest.raises(MicrecError, match=r"safetensors: missing, though manifest\.json names it: delete the folder"):
        load_checkpoint(tmp_path)


def test_a_truncated_tensor_file_is_told(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, example(), {})
    path = tensor_file(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(MicrecError, match=rf"truncated or changed, {len(whole) - 3} bytes instead of {len(whole)}"):
        load_checkpoint(tmp_path)


def test_a_flipped_bit_is_told(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, example(), {})
    path = tensor_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(MicrecError, match=r"damaged, its SHA-256 is [0-9a-f]{16}… instead of [0-9a-f]{16}…: delete"):
        load_checkpoint(tmp_path)


def edit_manifest(folder: Path, **header: Any) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["checkpoint"] |= header
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_another_format_version_is_told(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, example(), {})
    edit_manifest(tmp_path, format=2, micrec="9.1")
    with pytest.raises(MicrecError, match=r"format 2, written by micrec 9\.1; micrec .* reads format 1: use that"):
        load_checkpoint(tmp_path)


def test_a_manifest_of_something_else_is_told(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"epoch": 1}', '{"checkpoint": 3}'):
        (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
        with pytest.raises(MicrecError, match="not a checkpoint manifest"):
            load_checkpoint(tmp_path)


def test_a_manifest_may_not_point_outside_its_folder(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, example(), {})
    edit_manifest(tmp_path, file="../secret.safetensors", sha256="0")
    with pytest.raises(MicrecError, match=r"2 errors\n.*checkpoint\.file must be the name(.|\n)*sha256 must be 64 hex"):
        load_checkpoint(tmp_path)


def test_a_failing_disk_is_told_and_the_last_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, example(1.0), {"epoch": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MicrecError, match=r"No space left on device\): free some space .* saved here before is still"):
        save_checkpoint(tmp_path, example(2.0), {"epoch": 2})
    monkeypatch.undo()
    tensors, manifest = load_checkpoint(tmp_path)
    assert manifest["epoch"] == 1
    assert tensors["weight"][0, 0] == 1.0
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_stored_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="manifest is not JSON"):
        save_checkpoint(tmp_path / "run", example(), {"model": nn.Linear(1, 1)})
    with pytest.raises(ValueError, match="tensor 'rows' is sparse"):
        save_checkpoint(tmp_path / "run", {"rows": SPARSE}, {})
    assert not (tmp_path / "run").exists()


# -- state ---------------------------------------------------------------------------------------------------------


def test_random_streams_go_on_where_they_were(tmp_path: Path) -> None:
    streams = {name: torch.Generator().manual_seed(i) for i, name in enumerate(("noise", "negatives"))}
    for stream in streams.values():
        torch.rand(5, generator=stream)
    save_checkpoint(tmp_path, pack_rng(streams), {})
    expected = {name: torch.rand(3, generator=stream) for name, stream in streams.items()}
    fresh = {name: torch.Generator() for name in streams}
    restore_rng(fresh, load_checkpoint(tmp_path)[0])
    for name, stream in fresh.items():
        assert torch.equal(torch.rand(3, generator=stream), expected[name])


def test_random_states_of_other_streams_are_refused() -> None:
    with pytest.raises(ValueError, match=r"random states \['noise'\] do not fit generators \['context'\]"):
        restore_rng({"context": torch.Generator()}, pack_rng({"noise": torch.Generator()}))


def test_an_optimiser_state_survives_the_disk(tmp_path: Path) -> None:
    layer = nn.Linear(3, 1)
    adam = torch.optim.Adam(layer.parameters(), betas=(0.8, 0.9))
    layer(torch.ones(2, 3)).sum().backward()
    adam.step()
    tensors, skeleton = flatten_state(adam.state_dict(), prefix="adam")
    assert "adam.state.0.exp_avg" in tensors
    save_checkpoint(tmp_path, tensors, {"adam": skeleton})
    loaded, manifest = load_checkpoint(tmp_path)
    state = unflatten_state(loaded, manifest["adam"])
    assert state["param_groups"] == adam.state_dict()["param_groups"]
    assert state["param_groups"][0]["betas"] == (0.8, 0.9)
    assert state["state"].keys() == {0, 1}
    assert torch.equal(state["state"][1]["exp_avg_sq"], adam.state_dict()["state"][1]["exp_avg_sq"])


SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5)
KEYS = st.integers(0, 9) | st.text("abcdict tensor", max_size=6)
NESTED = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(NESTED)
def test_any_nested_state_survives_json(state: Any) -> None:
    tensors, skeleton = flatten_state({"state": state, "weight": torch.ones(2)})
    assert list(tensors) == ["weight"]
    back = unflatten_state(tensors, json.loads(json.dumps(skeleton)))
    assert back["weight"] is tensors["weight"]
    assert repr(back["state"]) == repr(state)  # repr tells True from 1 and tuples from lists


def test_states_that_need_pickle_or_lack_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match="hook: cannot store a function without pickle"):
        flatten_state({"hook": lambda: None})
    with pytest.raises(ValueError, match=r"keys must be strings or integers, got \[\(1, 2\)\]"):
        flatten_state({(1, 2): 3})
    with pytest.raises(ValueError, match=r"two tensors are named 'a\.b': rename one key"):
        flatten_state({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}})
    with pytest.raises(ValueError, match="tensor 'a' is missing from the checkpoint"):
        unflatten_state({}, flatten_state({"a": torch.ones(1)})[1])
