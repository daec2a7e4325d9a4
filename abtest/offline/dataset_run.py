"""Many models on one dataset: each cell trained once, kept, and found again by a run that goes on."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from abtest.offline.trials import Trial, TrialResult, TrialStore, cell_key
from abtest.workers import Finished, Job, cpu_threads, default_workers, run_jobs
from micrec.baselines.baseline_scores import left_out
from micrec.config import Config
from micrec.data.dataset import Dataset
from micrec.progress import Progress
from micrec.settings import differences, flatten, load_yaml
from simulator.world.world_config import WorldConfig


class TrainFn(Protocol):
    """``micrec.experiment.run_model``."""

    def __call__(
        self, dataset: Dataset, config: Config, *, folder: Path | None, progress: Progress | None
    ) -> TrialResult: ...


class BaselineFn(Protocol):
    """``micrec.experiment.run_baseline``."""

    def __call__(self, name: str, dataset: Dataset, config: Config) -> TrialResult: ...


class DatasetRun(NamedTuple):
    """What all cells of one dataset share."""

    dataset: Dataset
    data_hash: str
    versions: dict[str, str]
    store: TrialStore
    progress: Progress

    def facts(self) -> dict[str, Any]:
        """The dataset in a few figures, for results.json."""
        return {
            "name": self.dataset.name,
            "hash": self.data_hash,
            "users": len(self.dataset.users),
            "items": len(self.dataset.items),
            "clicks": len(self.dataset.clicks),
        }


class RunSpec(NamedTuple):
    """One cell to have."""

    name: str
    label: str
    config: Config
    part: Literal["valid", "test"] = "test"


def train_cells(
    bench: DatasetRun,
    plans: Sequence[RunSpec],
    *,
    train: TrainFn | None,
    workers: int | None,
    check: Callable[[Trial, Config], None],
) -> dict[str, Trial]:
    """Every planned cell, by name: those done before as they are, the others trained now, in the order of the plans.

    Args:
        bench: The dataset and where its cells lie.
        plans: The cells.
        train: Trains and tests one model; None = ``micrec.experiment.run_model``.
        workers: Models trained at a time; None = one per core on a CPU. Any number gives the same results.
        check: Raises what is wrong with a cell that was just finished.
    """
    keys, jobs = {}, []
    for place, plan in enumerate(plans, start=1):
        label = f"{plan.label} ({place} of {len(plans)})"
        key = cell_key(plan.config, bench.data_hash, bench.versions)
        keys[plan.name] = key if plan.part == "test" else {**key, "part": plan.part}
        if bench.store.load(plan.name, keys[plan.name]) is not None:
            bench.progress.say(f"{label}: done before, kept")
        else:
            folder = bench.store.start(plan.name, keys[plan.name])
            jobs.append(Job(plan.name, label, plan.config, folder, plan.part))
    bench.progress.start("all models", len(jobs), "models")
    for finished in _finish(bench, jobs, train, workers):
        job = finished.job
        bench.store.save(job.name, finished.result, seconds=finished.seconds)
        check(_stored(bench, job.name, keys[job.name]), job.config)
        bench.progress.say(f"{job.label}: finished in {finished.seconds:.0f} s")
        bench.progress.advance(1)
    bench.progress.finish()
    return {plan.name: _stored(bench, plan.name, keys[plan.name]) for plan in plans}


def run_baselines(
    bench: DatasetRun, baselines: Sequence[str], config: Config, baseline: BaselineFn | None
) -> dict[str, Trial]:
    """The models that need no training, on the same test users."""
    key = cell_key(config, bench.data_hash, bench.versions)
    cells: dict[str, Trial] = {}
    reasons = left_out(baselines, bench.dataset)
    for baseline_name, reason in reasons.items():
        bench.progress.say(f"baseline {baseline_name} is left out: {reason}")
    for baseline_name in (one for one in baselines if one not in reasons):
        name = f"baseline-{baseline_name}"
        if bench.store.load(name, key) is None:
            bench.progress.say(f"baseline {baseline_name}")
            bench.store.start(name, key)
            started_s = time.perf_counter()
            result = (baseline or _default_baseline())(baseline_name, bench.dataset, config)
            bench.store.save(name, result, seconds=time.perf_counter() - started_s)
        cells[baseline_name] = _stored(bench, name, key)
    return cells


def model_row(dataset: Dataset, label: str, arm: str | None, seed: int | None, cell: Trial) -> dict[str, Any]:
    """A cell as an object of ``models`` in results.json."""
    plain = {
        name: value for name, value in cell.info.items() if value is None or isinstance(value, bool | int | float | str)
    }
    place = {"model": label, "arm": arm, "dataset": dataset.name, "seed": seed, "seconds": cell.seconds}
    return {**plain, **cell.metrics, **place, "slices": cell.slices}


def switches_of(configs: Mapping[str, Config]) -> dict[str, Any]:
    """Which config keys were on: those that differ from the paper's defaults, or between the models; the title encoder.

    Returns:
        ``shared``, the keys all models set alike; ``arms``, for each model the keys in which they differ.
    """
    changed = [
        differences(config, reference) for config in configs.values() for reference in (Config(), *configs.values())
    ]
    keys = {key: None for change in changed for key in change if key not in ("preset", "train.seed")}
    if any(config.contrast.semantic.reads_titles for config in configs.values()):
        keys["contrast.semantic.encoder"] = None
    plain = {arm: flatten(config.model_dump()) for arm, config in configs.items()}
    values = {arm: {key: found[key] for key in keys if key in found} for arm, found in plain.items()}
    first = next(iter(values.values()))
    alike = {
        key for key in first if all(key in value and value[key] == first[key] for value in values.values())
    }  # keys of a tower's options or of a registered loss are not in every config
    return {
        "shared": {key: value for key, value in first.items() if key in alike},
        "arms": {arm: {k: v for k, v in value.items() if k not in alike} for arm, value in values.items()},
    }


def generated_world(world: WorldConfig, folder: Path, progress: Progress) -> Path:
    """A world's dataset folder, drawn unless the very same one lies there."""
    from simulator.world.generate import generate_world

    wanted = world.model_dump(mode="json")
    schema = folder / "dataset.yaml"
    if schema.exists() and load_yaml(schema).get("provenance", {}).get("config") == wanted:
        return folder
    progress.say("no data given: drawing a world")
    return generate_world(world, folder, overwrite=True, progress=progress).folder


def default_read() -> Callable[[Path], Dataset]:
    """``micrec.data.store.read_dataset``, imported when it is needed."""
    from micrec.data.store import read_dataset

    return read_dataset


def _finish(bench: DatasetRun, jobs: list[Job], train: TrainFn | None, workers: int | None) -> Iterator[Finished]:
    """Train what is left: here, or side by side in processes."""
    if not jobs:
        return
    device = jobs[0].config.train.device
    workers = min(workers, len(jobs)) if workers else default_workers(device, len(jobs))
    if train is None and workers > 1 and bench.dataset.folder is not None:
        bench.progress.say(f"{len(jobs)} models to train, {workers} at a time")
        yield from run_jobs(jobs, bench.dataset.folder, workers=workers, progress=bench.progress)
        return
    for job in jobs:
        bench.progress.say(job.label)
        started_s = time.perf_counter()
        part: dict[str, Any] = {"part": job.part} if job.part != "test" else {}
        with cpu_threads(job.config):
            run = train or _default_train()
            result = run(bench.dataset, job.config, folder=job.folder, progress=bench.progress, **part)
        yield Finished(job, result, time.perf_counter() - started_s)


def _stored(bench: DatasetRun, name: str, key: dict[str, str]) -> Trial:
    """A finished cell as a resumed run would see it, so that both give the same numbers."""
    cell = bench.store.load(name, key)
    assert cell is not None
    return cell


def _default_train() -> TrainFn:
    from micrec.experiment import run_model

    return run_model


def _default_baseline() -> BaselineFn:
    from micrec.experiment import run_baseline

    return run_baseline
