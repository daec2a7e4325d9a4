"""One simulated world of a scenario: the warm-up, the experiment, or all users in one arm; a folder of days each."""

import functools
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from abtest.arms import CONTROL
from abtest.online.extra_tables import extra_tables
from abtest.online.extra_worlds import INTERLEAVED, OFF_POLICY, interleaved_name
from abtest.online.measures import MEASURES, measure_world
from abtest.online.online_scenario import OnlineScenario, folder_name
from abtest.online.worlds_beside import AS_IS, OFF, PERFECT, POSSIBLE, UNPERSONAL, training_name
from micrec.errors import MicrecError
from micrec.progress import NoProgress, Progress
from simulator.channels.two_tower.two_tower_config import TWO_TOWER
from simulator.platform.arms import arm_pipelines
from simulator.platform.registered_models import registered_trainers, with_oracle
from simulator.platform.serving_plan import make_plan, shadows

WARM_UP, EXPERIMENT = "warmup", "experiment"
AHEAD = "ahead"  # no world: models of a warm-up, trained by a process that has nothing else to do

_TITLES = {
    WARM_UP: WARM_UP,
    EXPERIMENT: EXPERIMENT,
    AHEAD: "models of the warm-up",
    AS_IS: "what is possible: control",
    PERFECT: "what is possible: perfect matching",
    OFF: "what is possible: without the channel under test",
    UNPERSONAL: "what is possible: the same for everybody",
}


class Simulation(NamedTuple):
    """One world to be simulated.

    Attributes:
        variant: Name of the scenario's variant.
        replication: Number of the replication.
        part: ``warmup``, ``experiment`` (all arms side by side), or the arm that everybody is in; or a world beside
            them, see :mod:`abtest.online.worlds_beside`.
    """

    variant: str
    replication: int
    part: str

    @property
    def path(self) -> Path:
        """Folder within the run's."""
        return Path(folder_name(self.variant)) / f"{self.replication:03d}" / self.part

    @property
    def shared_models(self) -> Path:
        """Folder within the run's of the models of their first mornings that a warm-up and its worlds share."""
        return self.path.parent / "first-morning"

    @property
    def title(self) -> str:
        return f"{self.variant} {self.replication}, {_TITLES.get(self.part) or _title(self.part)}"


def _title(part: str) -> str:
    if part.startswith(INTERLEAVED):
        return f"interleaved with {part.removeprefix(INTERLEAVED)}"
    if part.startswith(OFF_POLICY):
        return "control explores"
    arm, _, number = part.partition(".")
    return f"all {arm}, training {int(number) + 1}" if number.isdigit() else f"all {part}"


def simulations_of(scenario: OnlineScenario) -> list[Simulation]:
    """Every world that a scenario asks for; each warm-up before what starts from it, then what matching is worth."""
    found = []
    for replication in range(scenario.replications):
        for place, name in enumerate(scenario.named_variants()):
            variant = scenario.variant(name)
            parts = [WARM_UP] if variant.platform.warmup_days else []
            if variant.possible is not None and not replication and not place:
                parts += possible_parts(variant)
            parts += [EXPERIMENT] if variant.experiment else []
            if variant.truth.worlds:
                parts += [*variant.arms, *training_parts(variant)]
            parts += extra_parts(variant)
            found += [Simulation(name, replication, part) for part in parts]
    return found


def possible_parts(variant: OnlineScenario) -> list[str]:
    """Worlds that tell what matching is worth, control first."""
    arms = variant.platform_config(0, beside=True).arms
    return [part for part in POSSIBLE if part in arms]


def training_parts(variant: OnlineScenario) -> list[str]:
    """Worlds of the second and further trainings of each arm."""
    return [training_name(arm, number) for number in range(1, variant.truth.trainings) for arm in variant.arms]


def extra_parts(variant: OnlineScenario) -> list[str]:
    """Worlds that look at the arms in another way: interleaved, and control that explores."""
    interleaved = variant.treatments if variant.interleaving is not None else []
    exploring = [f"{OFF_POLICY}{CONTROL}"] if variant.off_policy is not None else []
    return [*map(interleaved_name, interleaved), *exploring]


def users_of(chosen: OnlineScenario, part: str) -> int | None:
    """How many users come into a world, the first of all; None: everybody."""
    if part in POSSIBLE and chosen.possible is not None:
        return chosen.possible.users
    if part.startswith(INTERLEAVED) and chosen.interleaving is not None:
        return chosen.interleaving.users
    if part.startswith(OFF_POLICY) and chosen.off_policy is not None:
        return chosen.off_policy.users
    return chosen.truth.users if "." in part else None


def is_done(root: Path, simulation: Simulation) -> bool:
    """Whether a world is finished and measured."""
    return (root / simulation.path / MEASURES / "facts.json").is_file()


def simulate(scenario: OnlineScenario, root: Path, simulation: Simulation, *, progress: Progress | None = None) -> None:
    """Run one world, going on where it stopped, and measure it; nothing is done twice.

    Args:
        scenario: The whole scenario; the variant is taken from ``simulation``.
        root: Folder of all worlds of the run.
        simulation: Which one.
        progress: Where to report.

    Raises:
        MicrecError: If the keys contradict each other, a model cannot be trained, or the disk is full.
    """
    if is_done(root, simulation):
        return
    try:
        _simulate(scenario.variant(simulation.variant), root, simulation, progress or NoProgress())
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise MicrecError(
            f"{root / simulation.path}: cannot be read or written ({fault}): free some space, and run the same command "
            "again: it goes on where it stopped."
        ) from fault


def models_ahead(scenario: OnlineScenario, warm_up: Simulation) -> Simulation | None:
    """What can be done for a warm-up while it runs: models of arms that production lacks; None: there are none."""
    chosen = scenario.variant(warm_up.variant)
    keys = chosen.platform_config(warm_up.replication, beside=True)
    production = make_plan({WARM_UP: keys.pipeline}, diverted=False)
    if not keys.shadow_warm_up or not shadows(arm_pipelines(keys), production):
        return None
    return warm_up._replace(part=AHEAD)


def train_models_ahead(scenario: OnlineScenario, root: Path, ahead: Simulation, progress: Progress) -> None:
    """Do what ``models_ahead`` named; nothing is lost if this is interrupted, as the warm-up does what is missing."""
    from simulator.platform.ahead import train_ahead

    chosen, folder = scenario.variant(ahead.variant), root / ahead.path
    world, setting = _world(chosen.world_config(ahead.replication).model_dump_json(), chosen.history_days)
    makers = with_oracle(registered_trainers(), world, chosen.population_config(ahead.replication))
    keys = chosen.platform_config(ahead.replication, beside=True)
    try:
        train_ahead(keys, setting, makers, folder, root / ahead.shared_models, progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _simulate(chosen: OnlineScenario, root: Path, simulation: Simulation, progress: Progress) -> None:
    from simulator.channels.two_tower.two_tower_trainer import threads
    from simulator.platform.engine import Engine
    from simulator.population.population import Population

    folder = root / simulation.path
    first_day, warm_up = chosen.history_days, chosen.platform.warmup_days
    only = None if simulation.part in (WARM_UP, EXPERIMENT) else simulation.part
    base = root / simulation._replace(part=WARM_UP).path if simulation.part != WARM_UP and warm_up else None
    world, setting = _world(chosen.world_config(simulation.replication).model_dump_json(), first_day)
    respond = chosen.population_config(simulation.replication)
    population = Population.build(world, respond, first_day=first_day, only=users_of(chosen, simulation.part))
    engine = Engine(
        chosen.platform_config(simulation.replication, only, beside=simulation.part == WARM_UP),
        setting,
        population,
        with_oracle(registered_trainers(), world, respond),
        folder,
        base=base,
        shared=root / simulation.shared_models,
        progress=progress,
    )
    engine.run(warm_up if simulation.part == WARM_UP else warm_up + chosen.days)
    more = {}
    if simulation.part != WARM_UP and "." not in simulation.part:
        with threads(1):  # sums of floats depend on how they are split
            more["link_recall"] = _link_recalls(chosen, world, simulation, folder, base)
    tables = extra_tables(chosen, simulation.part)
    measure_world(chosen, setting, population.arrived_s, folder, base, part=simulation.part, more=more, tables=tables)


@functools.lru_cache(maxsize=1)
def _world(config: str, first_day: int) -> tuple[Any, Any]:
    """A replication's world and what the platform gets of it; its parts, one after another, share them."""
    from simulator.platform.platform_inputs import PlatformInputs
    from simulator.world.world import World
    from simulator.world.world_config import WorldConfig

    world = World.build(WorldConfig.model_validate_json(config))
    return world, PlatformInputs.of(world, first_day=first_day)


def _link_recalls(
    chosen: OnlineScenario, world: Any, simulation: Simulation, folder: Path, base: Path | None
) -> list[dict[str, Any]]:
    """Link recall of the models of the last day, measured with the world's hidden links once the run is over."""
    from abtest.online.links import link_recalls
    from simulator.platform.archive import Archive
    from simulator.platform.arms import arm_pipelines

    only = None if simulation.part == EXPERIMENT else simulation.part
    keys = chosen.platform_config(simulation.replication, only)
    archive = Archive(folder, base, chosen.experiment_day if base is not None else chosen.history_days)
    return link_recalls(
        world,
        arm_pipelines(keys),
        archive,
        chosen.all_days - 1,
        diverted=keys.training == "diverted",
        kind=TWO_TOWER,
    )


def drop_logs(root: Path, simulation: Simulation) -> None:
    """Leave only what was measured of a world."""
    folder = root / simulation.path
    for day in [*folder.glob("day-*"), *folder.glob(".day-*")]:
        shutil.rmtree(day, ignore_errors=True)
