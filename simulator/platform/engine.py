"""The daily loop: train on the log, deploy, serve the day's visits, write the day to disk; resumed after a kill."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from micrec.errors import MicrecError
from micrec.progress import NoProgress, Progress
from simulator.arrays import load_arrays, save_arrays
from simulator.platform.archive import Archive, observed
from simulator.platform.arms import arm_pipelines, assign_units, item_arms
from simulator.platform.daily_user_state import daily_user_state
from simulator.platform.logs import DayLog, tables
from simulator.platform.model_registry import Deployed, ModelRegistry, TrainerFactories
from simulator.platform.platform_config import PipelineConfig, PlatformConfig
from simulator.platform.platform_inputs import PlatformInputs
from simulator.platform.recent import RecentItems
from simulator.platform.service import PlatformUsers, Service
from simulator.platform.serving_plan import Models, ServingPlan, make_plan, shadows
from simulator.platform.shared_models import SharedModels
from simulator.platform.shown_items import VisitImpressions
from simulator.platform.slates import SlateBuilder
from simulator.platform.stage import Stage
from simulator.platform.visit_events import Arrival, run_day
from simulator.population.responses import DayVisits
from simulator.ports import LiveMatcher, ObservedLog
from simulator.world.visits import DAY_S

RUN_FILE = "platform.json"
CHECKPOINT = "platform checkpoint"
WARM_UP = "warmup"  # arm of everybody before the experiment
_POPULAR_ITEMS = 1_000
_WINDOW_VISITS = 4_000


class Engine:
    """A platform, its users, and a folder with all days that are over.

    Args:
        keys: The platform.
        setting: The tables it may see, and its history.
        users: The population on its first morning.
        makers: Trainers by kind.
        folder: Where days are written; a run found there is resumed.
        base: Folder of a run of the same platform whose warm-up this one shares, whatever its arms.
        shared: Folder in which runs with the same log share the models of their first morning, which they would train
            alike; None: each trains its own.
        progress: Receives the days and rates.

    Raises:
        MicrecError: If the keys are invalid, ``folder`` holds another run, or ``base`` does not fit.
    """

    def __init__(
        self,
        keys: PlatformConfig,
        setting: PlatformInputs,
        users: PlatformUsers,
        makers: TrainerFactories,
        folder: Path,
        *,
        base: Path | None = None,
        shared: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._keys, self._setting, self._users = keys, setting, users
        self._progress = progress or NoProgress()
        self._experiment_day = setting.first_day + keys.warmup_days
        pipelines = arm_pipelines(keys)
        diverted = keys.training == "diverted"
        self._warmup_plan = make_plan({WARM_UP: keys.pipeline}, diverted=False)
        self._plan = make_plan(pipelines, diverted=diverted)
        self._shadows: Models = shadows(pipelines, self._warmup_plan) if keys.shadow_warm_up else {}
        self._archive = Archive(folder, base, self._experiment_day if base is not None else setting.first_day)
        self._snapshots = ModelRegistry(
            makers,
            seed=keys.seed,
            folder_of=self._folder_of,
            experiment_day=self._experiment_day,
            progress=self._progress,
            shared=SharedModels(shared) if shared is not None else None,
            first_morning=self._archive.own_day,
        )
        self._snapshots.check(self._warmup_plan)
        self._snapshots.check(self._plan)
        self._values = item_values(setting, [keys.pipeline, *pipelines.values()])
        self._recent, self._follows = RecentItems(len(setting.users)), RecentItems(len(setting.users))
        self._day = setting.first_day
        self._open(base)

    def run(self, days: int) -> None:
        """Go on until ``days`` days are over, the warm-up's included; days found in the folder are not run again.

        Raises:
            MicrecError: If a model cannot be trained for the first time, or the disk is full.
        """
        self._resume()
        while self._day < self._setting.first_day + days:
            self._run_day(self._day, days)
            self._day += 1

    def _run_day(self, day: int, days: int) -> None:
        plan = self._plan if day >= self._experiment_day else self._warmup_plan
        folder = self._archive.begin(day)
        deployed, popular = self._morning(day, plan)
        gone = self._users.gone.copy()
        visits = self._users.begin_day(day)
        stages = {
            stage: Stage(name, keys, seed=self._keys.seed, day_0_s=self._experiment_day * DAY_S)
            for stage, (name, keys) in plan.stages.items()
        }
        log = DayLog(tables([arm.name for arm in plan.arms], plan.channels, plan.policies), folder)
        service = Service(
            day=day,
            visits=visits,
            arm=self._arms_of(plan, visits.user, visits.start_s),
            users=self._users,
            plan=plan,
            stages=stages,
            missing=deployed.missing,
            slate_builder=SlateBuilder(
                plan,
                deployed.matchers,
                deployed.rankers,
                popular,
                self._values,
                VisitImpressions(),
                item_arms(len(self._setting.items), self._keys) if plan is self._plan else None,
            ),
            recent=self._recent,
            follows=self._follows,
            log=log,
            start_s=self._setting.start_s,
            seed=self._keys.seed,
        )
        self._serve(service, day, days)
        self._users.end_day(day)
        log.flush()
        _write_table(deployed.table, folder / "snapshots.parquet")
        _write_table(
            self._moods(day, plan, visits, self._users.gone & ~gone), folder / "ground_truth" / "users-000.parquet"
        )
        self._save(day, folder, service)
        self._archive.finish(day)
        self._prune(day)

    def _morning(self, day: int, plan: ServingPlan) -> tuple[Deployed, NDArray[np.int64]]:
        """Train and deploy; also the fallback list: items by clicks."""
        logs: dict[str | None, ObservedLog] = {}

        def log_of(arm: str | None) -> ObservedLog:
            arm = arm if day > self._experiment_day else None  # until then everybody's log is each arm's
            if arm not in logs:
                logs[arm] = observed(
                    self._archive,
                    self._setting,
                    day,
                    arm=arm,
                    log_days=self._keys.log_days,
                    shared_until=self._experiment_day,
                    known_as=dict(zip(self._plan.channels, self._plan.ranked_as, strict=True)),
                )
            return logs[arm]

        aside: Models = self._shadows if plan is self._warmup_plan else {}
        self._progress.start(f"day {day}, models", len(plan.models) + len(aside), "models")
        deployed = self._snapshots.morning(day, plan, log_of, aside)
        announced = self._setting.published_by(day + 1)
        for matcher in deployed.matchers.values():
            if isinstance(matcher, LiveMatcher):
                matcher.announce(announced)
        self._progress.finish()
        return deployed, popular_items(log_of(None))

    def _serve(self, service: Service, day: int, days: int) -> None:
        visits, started_s = service.visits, time.monotonic()
        last = self._setting.first_day + days - 1
        self._progress.start(f"day {day} of {last}", len(visits.user), "visits")

        told = 0

        def tell() -> None:
            nonlocal told
            rate = service.n_requests / max(time.monotonic() - started_s, 1e-9)
            self._progress.advance(service.n_over - told, f"{rate:,.0f} requests/s")
            told = service.n_over

        window_s = self._keys.batch_window_s or DAY_S / max(1, round(len(visits.user) / _WINDOW_VISITS))
        run_day(day * DAY_S, _arrivals(visits), window_s, service, tell)
        service.settle(np.inf)
        self._progress.finish(f"{service.n_requests:,} requests")

    def _arms_of(self, plan: ServingPlan, users: NDArray[np.int64], at_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Arm of each user (B,) at a moment (B,)."""
        if plan is not self._plan:
            return np.zeros(len(users), np.int64)
        return assign_units(users, at_s, self._setting.users, self._keys)

    def _moods(self, day: int, plan: ServingPlan, visits: DayVisits, left: NDArray[np.bool_]) -> pl.DataFrame:
        users = np.union1d(visits.user, np.flatnonzero(left))
        names = [arm.name for arm in plan.arms]
        at_s = np.full(len(users), (day + 0.5) * DAY_S)  # who has several arms in a day is counted in that of noon
        return daily_user_state(day, users, self._arms_of(plan, users, at_s), names, self._users.satisfaction, left)

    def _folder_of(self, day: int) -> Path:
        under_way = self._archive.partial(day)
        return under_way if under_way.is_dir() else self._archive.day(day)

    def _save(self, day: int, folder: Path, service: Service) -> None:
        """The state to go on from, and what is worth knowing of the day."""
        arrays = {f"users.{name}": values for name, values in self._users.state().items()}
        queues = {stage: {"jobs": made.queue.state.settled} for stage, made in service.stages.items()}
        facts = {
            "day": day,
            "visits": len(service.visits.user),
            "requests": service.n_requests,
            "queues": queues,
            "snapshots": self._snapshots.state(),
        }
        arrays |= {"recent": self._recent.state, "follows": self._follows.state}
        save_arrays(folder / "checkpoint", CHECKPOINT, arrays, facts)

    def _resume(self) -> None:
        """Take up from the last good checkpoint; days whose checkpoint is damaged are run again."""
        last = self._archive.last(self._setting.first_day)
        while last >= self._setting.first_day and last + 1 != self._day:
            try:
                arrays, facts = load_arrays(self._archive.day(last) / "checkpoint", CHECKPOINT)
            except MicrecError as fault:
                if last < self._archive.own_day or last == self._setting.first_day:
                    raise
                self._progress.say(f"day {last} is run again: {fault}")
                shutil.rmtree(self._archive.day(last))
                last -= 1
                continue
            self._users.restore({name[6:]: values for name, values in arrays.items() if name.startswith("users.")})
            self._recent.restore(arrays["recent"])
            self._follows.restore(arrays["follows"])
            self._snapshots.restore(facts["snapshots"])
            self._day = last + 1
            return
        if self._day == self._setting.first_day:
            history = self._setting.history
            self._recent.fill(history["user_id"].to_numpy(), history["item_id"].to_numpy())
            followed = history.filter("follow")
            self._follows.fill(followed["user_id"].to_numpy(), followed["item_id"].to_numpy())

    def _prune(self, day: int) -> None:
        """Drop checkpoints that nobody will need: all but the last two, and the one that runs may start from."""
        old = day - 2
        if old >= self._archive.own_day and old != self._experiment_day - 1:
            shutil.rmtree(self._archive.day(old) / "checkpoint", ignore_errors=True)

    def _open(self, base: Path | None) -> None:
        """Make or check the folder of the run."""
        ours = {
            "keys": self._keys.model_dump(mode="json"),
            "first_day": self._setting.first_day,
            "base": os.path.relpath(base, self._archive.folder) if base is not None else None,
        }
        folder = self._archive.folder
        if (folder / RUN_FILE).is_file():
            if _read_run(folder) != ours:
                raise MicrecError(f"{folder}: holds a run of another platform: name another folder.")
        else:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                partial = folder / f".{RUN_FILE}.partial"
                partial.write_text(json.dumps(ours, indent=1), encoding="utf-8")
                partial.rename(folder / RUN_FILE)
            except OSError as fault:
                raise MicrecError(f"{folder}: cannot be used ({fault.strerror}): choose another folder.") from None
        if base is not None:
            self._check_base(base)

    def _check_base(self, base: Path) -> None:
        theirs = _read_run(base)
        same = ("seed", "pipeline", "warmup_days", "log_days", "shadow_warm_up")
        differing = [key for key in same if theirs["keys"].get(key) != self._keys.model_dump(mode="json")[key]]
        if differing or theirs["first_day"] != self._setting.first_day:
            raise MicrecError(f"{base}: another {', '.join(differing) or 'first day'}: its warm-up is not this run's.")
        if self._archive.last(self._setting.first_day) < self._experiment_day - 1:
            raise MicrecError(f"{base}: its warm-up of {self._keys.warmup_days} days is not over: run it first.")
        if self._keys.shadow_warm_up:
            known = PlatformConfig.model_validate_json(json.dumps(theirs["keys"]))
            if lacking := self._shadows.keys() - shadows(arm_pipelines(known), self._warmup_plan).keys():
                raise MicrecError(
                    f"{base}: its warm-up has not trained {', '.join(sorted(lacking))}: run it with the same arms, or "
                    "set shadow_warm_up: false."
                )


def popular_items(log: ObservedLog) -> NDArray[np.int64]:
    """Published items by clicks, ties by id, shape (n,): served where no channel answers."""
    counts = log.clicks.group_by("item_id").len().join(log.items.select("item_id"), on="item_id", how="semi")
    return counts.sort(["len", "item_id"], descending=[True, False])["item_id"].head(_POPULAR_ITEMS).to_numpy()


def item_values(setting: PlatformInputs, pipelines: list[PipelineConfig]) -> dict[str, NDArray[np.int32]]:
    """Codes of the values of the fields that slates are spread by, shape (N,), -1 = none.

    Raises:
        MicrecError: If the item table has no such field.
    """
    found = {}
    for field in {pipeline.diversity.field for pipeline in pipelines} - {None}:
        assert field is not None
        if field not in setting.items.columns:
            names = ", ".join(setting.items.columns[1:])
            raise MicrecError(f"diversity.field: the item table has no {field}: name one of {names}.")
        values = setting.items.sort("item_id")[field]
        codes = values.rank("dense").cast(pl.Int32) - 1
        found[field] = codes.fill_null(-1).to_numpy()
    return found


def _arrivals(visits: DayVisits) -> Iterator[Arrival]:
    left = np.bincount(visits.user, minlength=1).tolist()  # visits of each user that are still to come
    latest: dict[int, int] = {}  # of users who come again
    for number, (start_s, user) in enumerate(zip(visits.start_s.tolist(), visits.user.tolist(), strict=True)):
        left[user] -= 1
        former = latest.pop(user, None)
        if left[user]:
            latest[user] = number
        yield Arrival(number, start_s, former, followed=left[user] > 0)


def _read_run(folder: Path) -> dict[str, Any]:
    try:
        run: dict[str, Any] = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
        return run
    except (OSError, ValueError) as fault:
        raise MicrecError(f"{folder / RUN_FILE}: cannot be read ({fault}): name a folder that holds a run.") from None


def _write_table(frame: pl.DataFrame, path: Path) -> None:
    try:
        frame.write_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as fault:
        raise MicrecError(f"{path}: cannot be written ({fault}): free some space or name another folder.") from fault
