"""The simulator as calls on plain objects: worlds whose hidden truth is known, and a platform that serves in them.

The names of this module are those of the package: ``import simulator`` and call ``simulator.make_world(...)``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import polars as pl

from micrec.data.dataset import Dataset
from micrec.data.store import read_dataset
from micrec.errors import MicrecError
from micrec.extending import extended, read_extended
from micrec.notebook import Displayed, ResultTable
from micrec.parallel import ExecutorLike
from micrec.progress import Progress
from micrec.settings import check_numbers, merge, nested, validate
from micrec.shipped import WORLDS, find_file
from micrec.temporary import in_folder
from simulator.platform.arms import arm_pipelines
from simulator.platform.engine import Engine
from simulator.platform.model_registry import TrainerFactories
from simulator.platform.platform_config import PlatformConfig
from simulator.platform.platform_inputs import PlatformInputs
from simulator.platform.registered_models import registered_trainers, with_oracle
from simulator.population.population import Population
from simulator.population.population_config import PopulationConfig
from simulator.ports import MatcherTrainer, RankerTrainer
from simulator.world.files import scaled_world
from simulator.world.in_memory import DrawnWorld, draw_world, drawn_dataset
from simulator.world.item_table import ground_truth_items, ground_truth_links, published_items
from simulator.world.world import World
from simulator.world.world_config import WorldConfig

StrPath: TypeAlias = str | PathLike[str]
Settings: TypeAlias = Mapping[str, Any]
"""Keys of a config with their values; dots part levels, as in ``{"users.count": 500}``."""
WorldLike: TypeAlias = str | PathLike[str] | Mapping[str, Any] | WorldConfig
"""The name of a shipped world, the path of a world file, keys, or a whole config."""

HIDDEN = "ground_truth"  # folder of the truth in a dataset, and folder and table of it in a platform's day
TABLES = ("requests", "impressions", "behaviours", "serving", "snapshots")


# -- worlds ----------------------------------------------------------------------------------------------------------


class WorldTruth(NamedTuple):
    """What a world hides from every model.

    Attributes:
        users: ``user_id`` and the traits of each user; of the interests at the start of the log ``interests``
            (subcategories), ``interest_categories``, ``interest_topics``, and ``interest_items`` where single items are
            liked (``taste.depth.item``).
        items: ``item_id``, ``link_group``, ``topic``, ``appeal``, ``quality``, ``evergreen``, ``clickbait``,
            ``duplicate_of``.
        links: ``source_group``, ``target_group``, ``strength``: after an item of one group, one of the other.
        clicks: ``user_id``, ``item_id``, ``timestamp`` (s since 1970-01-01 UTC) and ``cause`` of each click: taste,
            popular, fresh, similar, repeat or link; in time order, row by row with the clicks of the dataset.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    links: pl.DataFrame
    clicks: pl.DataFrame


@dataclass(frozen=True, repr=False)
class GeneratedWorld(Displayed):
    """A generated dataset and the truth behind it.

    Attributes:
        config: Every key of the world.
        folder: The dataset folder; None if the world is in memory only.
        users: Users seen within the log.
        items: Items published within the log.
        clicks: Clicks of the log.
    """

    config: WorldConfig
    folder: Path | None
    users: int
    items: int
    clicks: int

    @cached_property
    def dataset(self) -> Dataset:
        """What models may see, in dense ids."""
        if self.folder is not None:
            return read_dataset(self.folder)
        return drawn_dataset(self._drawn)

    @cached_property
    def truth(self) -> WorldTruth:
        """What models must not see."""
        return _truth_in_memory(self._drawn) if self.folder is None else _truth_of_folder(self.folder)

    def to_frame(self) -> pl.DataFrame:
        """The clicks with outside ids, in time order, as ``Dataset.to_frame`` gives them."""
        return self.dataset.to_frame()

    def to_dict(self) -> dict[str, Any]:
        """Name, folder, and counts of users, items and clicks."""
        folder = None if self.folder is None else str(self.folder)
        counts = {"users": self.users, "items": self.items, "clicks": self.clicks}
        return {"name": self.config.name, "folder": folder, **counts}

    @cached_property
    def _drawn(self) -> "DrawnWorld":
        return draw_world(self.config)

    def _lines(self) -> list[str]:
        where = f" in {self.folder}" if self.folder is not None else " in memory"
        size = f"{self.users:,} users, {self.items:,} items, {self.clicks:,} clicks"
        return [f"World {self.config.name}{where}: {size} over {self.config.days} days, seed {self.config.seed}"]


def make_world(
    world: WorldLike = "tiny",
    *,
    scale: float = 1.0,
    settings: Settings | None = None,
    out: StrPath | None = None,
    workers: int | None = None,
    executor: ExecutorLike = "processes",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> GeneratedWorld:
    """Generate a dataset whose hidden truth is known.

    Args:
        world: The name of a shipped world (``tiny``, ``video``, ``news``, ``grocery``, ``topics``), the path of a world
            file, a mapping of keys (which may have ``extends``), or a whole config.
        scale: Times the users, items, tags and providers.
        settings: Keys laid over the world: ``{"users.count": 500, "seed": 3}``.
        out: Dataset folder to write, with the truth in it; a killed call goes on where it stopped. None keeps the world
            in memory.
        workers: Parts of ``out`` that are drawn at a time; None = one per core. Any number gives the same bytes.
        executor: Where they are drawn: ``local``, ``processes``, ``dask://ADDRESS`` of a scheduler, or a
            ``concurrent.futures.Executor`` of processes. The bytes are the same.
        overwrite: Replace a dataset in ``out``.
        progress: Where to report; ``micrec.LineProgress()`` prints.

    Returns:
        The world: ``dataset``, ``truth``, ``config``. The same keys give the same clicks in memory and in a folder.

    Raises:
        MicrecError: If keys are unknown, out of range or contradict each other, ``out`` is taken, or the disk is full.

    Examples:
        >>> import simulator
        >>> world = simulator.make_world("tiny", scale=0.1, settings={"links.strength": 0.5})
        >>> world.truth.clicks["cause"].value_counts().height
        6
    """
    config = world_config(world, scale=scale, settings=settings)
    if out is None:
        drawn = draw_world(config)
        if drawn.clicks.is_empty():
            raise MicrecError(
                f"{config.name}: no user clicks within {config.days} days: raise days ({config.days}), "
                f"users.count ({config.users.count}) or sessions.per_user ({config.sessions.per_user:g})."
            )
        found = GeneratedWorld(config, None, len(drawn.users), published_items(config), len(drawn.clicks))
        found.__dict__["_drawn"] = drawn  # drawn once
        return found
    from simulator.world.generate import generate_world

    made = generate_world(config, Path(out), workers=workers, executor=executor, overwrite=overwrite, progress=progress)
    return GeneratedWorld(config, Path(out), made.users, made.items, made.clicks)


def world_config(world: WorldLike, *, scale: float = 1.0, settings: Settings | None = None) -> WorldConfig:
    """The whole config of a world; see ``make_world``.

    Raises:
        MicrecError: If there is no such world, or keys are invalid; all errors at once, each with its path.
    """
    if isinstance(world, WorldConfig):
        where, data = world.name, world.model_dump(mode="json")
    elif isinstance(world, Mapping):
        where, data = "world", extended(nested(world, where="world"), "world")
    elif not isinstance(world, str | PathLike):
        kind = type(world).__name__
        raise MicrecError(f"world: is a {kind}: give the name of a shipped world, a path, or a mapping of keys.")
    else:
        path = find_file(world if isinstance(world, str) else Path(world), below=WORLDS)
        where, data = str(path), {"name": path.stem, **read_extended(path)}
    config = validate(WorldConfig, merge(data, nested(settings or {})), where=where)
    check_numbers(scale=scale)
    return scaled_world(config, scale, where=where)


def _truth_in_memory(drawn: DrawnWorld) -> WorldTruth:
    config, catalogue = drawn.world.config, drawn.world.catalogue
    items = ground_truth_items(config, catalogue).head(published_items(config))
    clicks = drawn.clicks.select("user_id", "item_id", "timestamp").with_columns(cause=drawn.causes)
    return WorldTruth(drawn.traits, items, ground_truth_links(config, catalogue), clicks)


def _truth_of_folder(folder: Path) -> WorldTruth:
    hidden = folder / HIDDEN
    try:
        clicks = pl.concat(
            pl.read_parquet(file, columns=["user_id", "item_id", "timestamp"]).with_columns(
                pl.read_parquet(hidden / "clicks" / file.name)["cause"].cast(pl.String)
            )
            for file in sorted((folder / "clicks").glob("part-*.parquet"))
        )
        users, items, links = (pl.read_parquet(hidden / f"{name}.parquet") for name in ("users", "items", "links"))
    except (pl.exceptions.PolarsError, OSError) as fault:
        raise MicrecError(f"{hidden}: cannot be read ({fault}): generate the world anew.") from None
    return WorldTruth(users, items, links, clicks.sort("timestamp", maintain_order=True))


# -- the platform ----------------------------------------------------------------------------------------------------


class Platform:
    """A simulated platform: users come, channels and a ranking model fill their slates, arms differ by the pipeline.

    Args:
        world: As for ``make_world``; its days follow from the three numbers of days.
        scale: Times the users, items, tags and providers of the world.
        config: Keys of the platform: ``{"pipeline.slate_size": 5, "arms": {"control": {}, "treatment": {...}}}``, or a
            whole config. ``arms`` names the arms, each with a ``weight`` and what it changes of the ``pipeline``. A
            channel of kind ``two_tower`` trains a model each morning; its ``options`` are ``preset``, ``config`` (keys
            as for ``micrec.train``) and ``serving``. One of kind ``oracle`` knows the users and offers what each would
            click most readily: the most that any matching model could bring.
        population: Keys of how users respond, or a whole config.
        history_days: Days of organic clicks before the platform opens.
        days: Days of the experiment, after ``warmup_days`` of the config.
        matchers: Further kinds of channels by name: a function from the channel's ``options`` to a trainer.
        rankers: Further kinds of ranking models, likewise.
        folder: Where the days are written; a run found there goes on where it stopped. None takes a temporary folder,
            which lasts as long as the results.
        progress: Where to report; ``micrec.LineProgress()`` prints.

    Raises:
        MicrecError: If keys are unknown, out of range or contradict each other.

    Examples:
        >>> import simulator
        >>> arms = {"control": {}, "treatment": {"pipeline": {"channels": {"popular": None}}}}
        >>> log = simulator.Platform("tiny", scale=0.1, config={"arms": arms, "warmup_days": 1}, days=2).run()
        >>> sorted(log.to_frame()["arm"].unique())
        ['control', 'treatment']
    """

    def __init__(
        self,
        world: WorldLike = "tiny",
        *,
        scale: float = 1.0,
        config: Mapping[str, Any] | PlatformConfig | None = None,
        population: Mapping[str, Any] | PopulationConfig | None = None,
        history_days: int = 7,
        days: int = 3,
        matchers: Mapping[str, Callable[[Mapping[str, Any]], MatcherTrainer]] | None = None,
        rankers: Mapping[str, Callable[[Mapping[str, Any]], RankerTrainer]] | None = None,
        folder: StrPath | None = None,
        progress: Progress | None = None,
    ) -> None:
        for name, number, least in (("history_days", history_days, 0), ("days", days, 1)):
            if not (isinstance(number, int) and number >= least):
                raise MicrecError(f"{name}: must be a whole number >= {least}, got {number!r}.")
        self.config: PlatformConfig = _checked(PlatformConfig, config, "platform")
        self.population: PopulationConfig = _checked(PopulationConfig, population, "population")
        self.history_days, self.days = history_days, days
        spanned = history_days + self.config.warmup_days + days
        self.world: WorldConfig = world_config(world, scale=scale, settings={"days": spanned, "window_days": spanned})
        self._further = TrainerFactories(dict(matchers or {}), dict(rankers or {}))
        self._folder = None if folder is None else Path(folder)
        self._progress = progress
        arm_pipelines(self.config)

    def run(self) -> "PlatformLog":
        """Simulate the warm-up and the days of the experiment.

        Returns:
            The platform's log; ``to_frame()`` is ready for ``abtest.analyze``.

        Raises:
            MicrecError: If a model cannot be trained for the first time, the folder holds another run, or the disk is
                full.
        """
        return in_folder(self._folder, self._run)

    def _run(self, folder: Path) -> "PlatformLog":
        world = World.build(self.world)
        engine = Engine(
            self.config,
            PlatformInputs.of(world, first_day=self.history_days),
            Population.build(world, self.population, first_day=self.history_days),
            self._trainers(world),
            folder,
            progress=self._progress,
        )
        engine.run(self.config.warmup_days + self.days)
        first_day = self.history_days + self.config.warmup_days
        return PlatformLog(folder, self.config, self.world, self.history_days, first_day, self.days)

    def _trainers(self, world: World) -> TrainerFactories:
        """Of every kind that a pipeline may name, those that the caller brought last."""
        known = with_oracle(registered_trainers(), world, self.population)
        more = self._further
        return TrainerFactories({**known.matchers, **more.matchers}, {**known.rankers, **more.rankers})

    def __repr__(self) -> str:
        channels = ", ".join(self.config.pipeline.channels)
        return (
            f"Platform in world {self.world.name}: {self.world.users.count:,} users, {self.history_days} days of "
            f"history, {self.config.warmup_days} of warm-up, {self.days} of experiment\n"
            f"channels {channels}; arms {', '.join(self.config.arms)}"
        )


@dataclass(frozen=True, repr=False)
class PlatformLog(Displayed):
    """What a platform has logged, and what only the simulator knows.

    Attributes:
        folder: A folder per day lies in it.
        config: The platform.
        world: The world it served in.
        history_days: Days of the world before the platform opened.
        first_day: Number of the first day of the experiment.
        days: Days of the experiment.
    """

    folder: Path
    config: PlatformConfig
    world: WorldConfig
    history_days: int
    first_day: int
    days: int

    def table(self, name: str, *, warm_up: bool = False) -> pl.DataFrame:
        """One table of the log.

        Args:
            name: ``requests``, ``impressions``, ``behaviours`` (of clicked items), ``serving`` (each job of a channel
                or of ranking) or ``snapshots`` (versions of models).
            warm_up: The days of the warm-up instead of the experiment's.

        Returns:
            Its rows in order of the days; times end in ``_s`` (s since the start of the log) or ``_ms``, and
            ``timestamp`` is s since 1970-01-01 UTC.

        Raises:
            MicrecError: If there is no such table, or it cannot be read.
        """
        if name not in TABLES:
            raise MicrecError(f"table: there is no {name!r}: choose from {', '.join(TABLES)}.")
        return self._read(name, warm_up)

    def truth(self) -> pl.DataFrame:
        """What each shown item met, which no platform can log.

        Returns:
            ``day, visit, request, user_id, arm, item_id, position``, ``examined`` (whether the user looked at it) and
            ``cause`` (of a click: taste, popular, fresh, similar, repeat or link; else null).
        """
        return self._read(f"{HIDDEN}/{HIDDEN}", False)

    def to_frame(self) -> pl.DataFrame:
        """One row per user and day of the experiment on which they came, ready for ``abtest.analyze``.

        Returns:
            ``user_id``, ``arm``, ``day`` (1 = the first of the experiment), and sums: ``requests``, ``impressions``,
            ``clicks``, ``dwell_s``, ``likes``, ``follows``.
        """
        keys = ["user_id", "arm", "day"]
        asked = self.table("requests").group_by(keys)
        shown = asked.agg(requests=pl.len(), impressions=pl.col("shown").clip(lower_bound=0).cast(pl.Int64).sum())
        acted = self.table("behaviours").group_by(keys)
        done = acted.agg(
            clicks=pl.len(),
            dwell_s=pl.col("dwell_s").cast(pl.Float64).sum(),
            likes=pl.col("like").cast(pl.Int64).sum(),
            follows=pl.col("follow").cast(pl.Int64).sum(),
        )
        counts = ("clicks", "dwell_s", "likes", "follows")
        found = shown.join(done, on=keys, how="left", maintain_order="left").with_columns(
            pl.col(name).fill_null(0) for name in counts
        )
        return found.with_columns(day=pl.col("day") - self.first_day + 1).sort("user_id", "day")

    def to_dict(self) -> dict[str, Any]:
        """Users, requests, impressions and clicks of the experiment, by arm."""
        counts = ("requests", "impressions", "clicks")
        users = pl.col("user_id").n_unique().alias("users")
        rows = self.to_frame().group_by("arm").agg(users, *(pl.col(name).sum() for name in counts)).sort("arm")
        return {row.pop("arm"): row for row in rows.to_dicts()}

    def _read(self, place: str, warm_up: bool) -> pl.DataFrame:
        first = self.history_days if warm_up else self.first_day
        last = self.first_day if warm_up else self.first_day + self.days
        try:
            parts = [
                pl.read_parquet(file)
                for day in range(first, last)
                for file in sorted((self.folder / f"day-{day:04d}").glob(f"{place}*.parquet"))
            ]
        except (pl.exceptions.PolarsError, OSError) as fault:
            raise MicrecError(f"{self.folder}: its {place} cannot be read ({fault}): run the platform again.") from None
        if not parts:
            raise MicrecError(f"{self.folder}: holds no {place}: the run has no such days.")
        return pl.concat(parts)

    def _lines(self) -> list[str]:
        return [
            f"{self.days} days of a platform in world {self.world.name}, after {self.config.warmup_days} of warm-up"
        ]

    def _tables(self) -> list[ResultTable]:
        rows = [(arm, *(f"{count:,}" for count in counts.values())) for arm, counts in self.to_dict().items()]
        return [ResultTable("", ("arm", "users", "requests", "impressions", "clicks"), rows)]


def _checked(kind: type[Any], given: Any, where: str) -> Any:
    if isinstance(given, kind):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise MicrecError(f"{where}: is a {type(given).__name__}: give a mapping of keys.")
    return validate(kind, nested(given or {}, where=where), where=where)
