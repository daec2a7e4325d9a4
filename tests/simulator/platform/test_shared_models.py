"""Worlds that go on from one warm-up train the models of their first morning once between them, to the same bytes."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from micrec.errors import MicrecError
from micrec.progress import NoProgress
from simulator.platform.ahead import train_ahead
from simulator.platform.shared_models import SharedModels
from tests.simulator.platform.fakes import BOTH, contents, fake_setting, many, run, spying, tiny_keys

FIRST = "0002"  # day after two days of warm-up


def worlds(root: Path, logs: list, shared: Path | None) -> None:
    """A warm-up, and from it both arms together and each alone."""
    run(root / "warmup", many(), tiny_keys(warmup_days=2, arms=BOTH), days=2)
    for name, arms in (("both", BOTH), *((arm, {arm: BOTH[arm]}) for arm in BOTH)):
        keys = tiny_keys(warmup_days=2, arms=arms)
        run(root / name, many(), keys, days=4, makers=spying(logs), base=root / "warmup", shared=shared)


def trained(logs: list) -> list[tuple[str, str]]:
    """Day and model of each training of a channel."""
    return [(day.removesuffix(".partial")[-4:], name) for day, name, *_ in logs]


def test_shared_models_are_those_that_each_world_would_train(tmp_path):
    alone, together = [], []
    worlds(tmp_path / "alone", alone, None)
    worlds(tmp_path / "together", together, tmp_path / "together" / "models")
    for name in ("both", "control", "treatment"):
        ours, theirs = contents(tmp_path / "together" / name), contents(tmp_path / "alone" / name)
        assert ours == theirs
    first = [model for day, model in trained(together) if day == FIRST]
    assert len(first) == len(set(first)) == 3
    assert len([model for day, model in trained(alone) if day == FIRST]) == 3 + 2 + 2
    assert [one for one in trained(together) if one[0] != FIRST] == [one for one in trained(alone) if one[0] != FIRST]


class StopsAfter(NoProgress):
    """Interrupts once so many models are there."""

    def __init__(self, models: int) -> None:
        self.left = models

    def advance(self, amount: int, note: str = "") -> None:
        self.left -= amount
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("ahead", [1, 9])
def test_models_trained_ahead_are_those_of_the_warm_up(tmp_path, ahead):
    """The last of them come first; the warm-up trains what is left, and its files stay the same."""
    other = {"pipeline": {"channels": {name: {"options": {"items": [30, 31, 32]}} for name in "ab"}}}
    keys, alone, before, after = tiny_keys(warmup_days=2, arms={**BOTH, "other": other}), [], [], []
    run(tmp_path / "alone", many(), keys, days=2, makers=spying(alone))
    shared = tmp_path / "models"
    with suppress(KeyboardInterrupt):
        train_ahead(keys, fake_setting(), spying(before), tmp_path / "ahead", shared, StopsAfter(ahead))
    run(tmp_path / "helped", many(), keys, days=2, makers=spying(after), shared=shared)
    assert contents(tmp_path / "helped") == contents(tmp_path / "alone")
    aside = [name for _, name, *_ in before]
    first = [name for day, name in trained(alone) if day == "0000"]
    assert len(aside) == min(ahead, 3)
    assert aside == first[::-1][: len(aside)]
    assert [name for day, name in trained(after) if day == "0000"] == first[: len(first) - len(aside)]


def test_another_input_is_another_model(tmp_path):
    shared, made = SharedModels(tmp_path / "shared"), []

    def model(text: str, folder: Path) -> None:
        made.append(text)
        folder.mkdir()
        (folder / "model.txt").write_text(text)

    for number, seed in enumerate((1, 2, 1)):
        folder = tmp_path / str(number)
        shared.obtain({"seed": seed}, folder, lambda seed=seed, folder=folder: model(f"seed {seed}", folder))
    assert made == ["seed 1", "seed 2"]
    assert (tmp_path / "2" / "model.txt").read_text() == "seed 1"


def test_what_failed_is_not_kept(tmp_path):
    shared = SharedModels(tmp_path / "shared")

    def fails() -> None:
        raise MicrecError("no clicks.")

    with pytest.raises(MicrecError, match="no clicks"):
        shared.obtain({"seed": 1}, tmp_path / "first", fails)
    shared.obtain({"seed": 1}, tmp_path / "second", (tmp_path / "second").mkdir)
    assert (tmp_path / "second").is_dir()


def test_worlds_at_the_same_time_train_once(tmp_path):
    shared, made = SharedModels(tmp_path / "shared"), []

    def obtain(name: str) -> None:
        def train() -> None:
            made.append(name)
            time.sleep(0.05)  # so that the other comes meanwhile
            (tmp_path / name).mkdir()

        shared.obtain({"seed": 1}, tmp_path / name, train)

    with ThreadPoolExecutor(2) as both:
        list(both.map(obtain, ("a", "b")))
    assert len(made) == 1
    assert (tmp_path / "a").is_dir()
    assert (tmp_path / "b").is_dir()
