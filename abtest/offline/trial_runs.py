"""Many models on one dataset: each trained once, kept, and found again by a run that goes on."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from abtest.offline.dataset_run import DatasetRun
from abtest.offline.run_options import RunOptions, TrainFn
from abtest.offline.trials import Trial, TrialResult, trial_key
from abtest.workers import Finished, Job, cpu_threads, run_jobs
from micrec.config import Config
from micrec.parallel import is_local
from micrec.parallel.executor import PROCESSES


class RunSpec(NamedTuple):
    """One trial to have."""

    name: str
    label: str
    config: Config
    part: Literal["valid", "test"] = "test"


def train_trials(
    run: DatasetRun, specs: Sequence[RunSpec], options: RunOptions, check: Callable[[Trial, Config], None]
) -> dict[str, Trial]:
    """Every trial, by name: those done before as they are, the others trained now, in the order of the specs.

    Args:
        run: The dataset and where its trials lie.
        specs: The trials.
        options: Who trains them, and how many at a time.
        check: Raises what is wrong with a trial that was just finished.
    """
    keys, jobs = {}, []
    for place, spec in enumerate(specs, start=1):
        label = f"{spec.label} ({place} of {len(specs)})"
        key = trial_key(spec.config, run.data_hash, run.versions)
        keys[spec.name] = key if spec.part == "test" else {**key, "part": spec.part}
        if run.store.load(spec.name, keys[spec.name]) is not None:
            run.progress.say(f"{label}: done before, kept")
        else:
            folder = run.store.start(spec.name, keys[spec.name])
            jobs.append(Job(spec.name, label, spec.config, folder, spec.part))
    _say_memory(run, jobs, options)
    run.progress.start("all models", len(jobs), "models")
    for finished in _finish(run, jobs, options):
        job = finished.job
        run.store.save(job.name, finished.result, seconds=finished.seconds)
        check(stored(run, job.name, keys[job.name]), job.config)
        run.progress.say(f"{job.label}: finished in {finished.seconds:.0f} s")
        run.progress.advance(1)
    run.progress.finish()
    return {spec.name: stored(run, spec.name, keys[spec.name]) for spec in specs}


def tested_once(run: DatasetRun, name: str, config: Config, test: Callable[[], TrialResult], label: str) -> Trial:
    """The trial of a model without training seeds: as it was stored, or tested now."""
    key = trial_key(config, run.data_hash, run.versions)
    if run.store.load(name, key) is None:
        run.progress.say(label)
        run.store.start(name, key)
        started_s = time.perf_counter()
        result = test()
        run.store.save(name, result, seconds=time.perf_counter() - started_s)
    return stored(run, name, key)


def stored(run: DatasetRun, name: str, key: dict[str, str]) -> Trial:
    """A finished trial as a resumed run would see it, so that both give the same numbers."""
    trial = run.store.load(name, key)
    assert trial is not None
    return trial


def _say_memory(run: DatasetRun, jobs: Sequence[Job], options: RunOptions) -> None:
    """What the largest of the models takes, and how many there are at a time."""
    if not jobs or options.train is not None:
        return
    from micrec.estimates.memory import say_memory
    from micrec.estimates.training_memory import training_memory

    sizes = {_without_seed(job.config): job.config for job in jobs}
    largest = max((training_memory(run.dataset, config) for config in sizes.values()), key=lambda one: one.bytes)
    here = is_local(options.executor, options.workers) or options.executor != PROCESSES
    workers = 1 if here else options.workers_for(jobs[0].config.train.device, len(jobs)) or 1
    say_memory(run.progress, largest, processes=workers, each="each model" if len(jobs) > 1 else "the model")


def _without_seed(config: Config) -> str:
    return config.model_dump_json(exclude={"train": {"seed"}})


def _finish(run: DatasetRun, jobs: list[Job], options: RunOptions) -> Iterator[Finished]:
    """Train what is left: here, or side by side in processes."""
    if not jobs:
        return
    workers = options.workers_for(jobs[0].config.train.device, len(jobs))
    folder = run.dataset.folder
    if options.train is None and folder is not None and not is_local(options.executor, workers):
        run.progress.say(f"{len(jobs)} models to train" + (f", {workers} at a time" if workers else ""))
        yield from run_jobs(jobs, folder, executor=options.executor, workers=workers, progress=run.progress)
        return
    for job in jobs:
        run.progress.say(job.label)
        started_s = time.perf_counter()
        part: dict[str, Any] = {"part": job.part} if job.part != "test" else {}
        with cpu_threads(job.config):
            train = options.train or default_train()
            result = train(run.dataset, job.config, folder=job.folder, progress=run.progress, **part)
        yield Finished(job, result, time.perf_counter() - started_s)


def default_train() -> TrainFn:
    """``micrec.experiment.run_model``, imported when it is needed."""
    from micrec.experiment import run_model

    return run_model
