"""What the worlds of an experiment take: memory counted from the scenario, time by the pace of the first days."""

import time
from collections.abc import Sequence

from abtest.arms import CONTROL
from abtest.online.online_scenario import OnlineScenario
from abtest.online.simulate import WARM_UP, Simulation, users_of
from micrec.estimates.machine import time_in_words
from micrec.estimates.memory import LIBRARIES, MemoryEstimate, say_memory
from micrec.estimates.pace import LEAST_TOLD_S
from micrec.progress import Progress
from simulator.world.needs import ITEM
from simulator.world.parts import expected_clicks_per_user

CLICK = 155  # bytes of an organic click while the history is drawn; measured with 0.7 and 2 million clicks
VISIT = 11_000  # bytes of a visit of one day, its requests and what they show, until the day is written
TABLE_COPIES = 5  # of a model's table: parameters, moments, gradients, the vectors that serve
VISITS = "visits"  # the unit in which a platform reports its days


def world_process_memory(scenario: OnlineScenario) -> MemoryEstimate:
    """The peak of the process that simulates the largest world of a scenario, bytes by part."""
    found = [_of_variant(scenario.variant(name)) for name in scenario.named_variants()]
    return max(found, key=lambda one: one.bytes)


def _of_variant(variant: OnlineScenario) -> MemoryEstimate:
    world = variant.world_config(0)
    visits = world.users.count * world.sessions.per_user / world.window_days
    width = 4 * variant.config(CONTROL).model.embedding_dim * TABLE_COPIES
    parts = {
        "libraries": LIBRARIES,
        "the history": int(CLICK * world.users.count * expected_clicks_per_user(world)),
        "a day's visits": int(VISIT * visits),
        "items": int(world.items.count * (ITEM + width)),
    }
    cures = {
        "the history": f"lower world.users.count ({world.users.count:,})",
        "a day's visits": f"lower world.users.count ({world.users.count:,})",
        "items": f"lower world.items.count ({world.items.count:,})",
    }
    return MemoryEstimate(parts, cures)


def say_needs_of_worlds(scenario: OnlineScenario, left: int, workers: int, progress: Progress) -> None:
    """One line of the memory of each process, and a warning where there is less."""
    if left:
        each = "each world" if left > 1 else "the world"
        say_memory(progress, world_process_memory(scenario), processes=min(workers, left), each=each)


class PacedWorlds:
    """Passes reports on, and says once how long all worlds take, at the pace of the days that are over.

    A day counts by the users who may come in it; a world that is over counts with all its days.

    Args:
        scenario: The whole scenario.
        left: Worlds that are to be simulated.
        workers: Worlds at a time.
        progress: Where reports go.
    """

    def __init__(self, scenario: OnlineScenario, left: Sequence[Simulation], workers: int, progress: Progress) -> None:
        self._progress, self._workers = progress, max(1, min(workers, len(left)))
        self._days = {one: _weighted_days(scenario, one) for one in left}
        self._under_way: Simulation | None = None
        self._done_of_world = self._done = 0.0
        self._started_s, self._is_told, self._unit = time.monotonic(), False, ""

    def begin(self, one: Simulation) -> None:
        """A world begins in this process; its days are counted as they end."""
        self._under_way, self._done_of_world = one, 0.0

    def over(self, one: Simulation) -> None:
        """A world is over, here or elsewhere."""
        whole = sum(self._days[one])
        self._done += whole - (self._done_of_world if one == self._under_way else 0.0)
        self._under_way, self._done_of_world = None, 0.0
        self._tell()

    def start(self, task: str, total: int, unit: str) -> None:
        self._unit = unit
        self._progress.start(task, total, unit)

    def advance(self, amount: int, note: str = "") -> None:
        self._progress.advance(amount, note)

    def finish(self, note: str = "") -> None:
        self._progress.finish(note)
        if self._unit == VISITS and self._under_way is not None:
            days = self._days[self._under_way]
            self._done_of_world += days[0] if days else 0.0
            self._done += days[0] if days else 0.0
            self._tell()
        self._unit = ""

    def say(self, line: str) -> None:
        self._progress.say(line)

    def _tell(self) -> None:
        whole = sum(map(sum, self._days.values()))
        if self._is_told or not self._done or self._done >= whole:
            return
        self._is_told = True
        took_s = time.monotonic() - self._started_s
        seconds = took_s + took_s / self._done * (whole - self._done) / self._workers
        if seconds >= LEAST_TOLD_S:
            first = time_in_words(took_s)
            self._progress.say(
                f"needs about {time_in_words(seconds)} at this pace ({first} for the first days; worlds that are there "
                "already not counted)"
            )


def _weighted_days(scenario: OnlineScenario, one: Simulation) -> list[float]:
    """The days of a world, each by the share of the users who may come."""
    variant = scenario.variant(one.variant)
    users = variant.world_config(one.replication).users.count
    share = min(users_of(variant, one.part) or users, users) / users
    days = variant.platform.warmup_days if one.part == WARM_UP else variant.days
    return [share] * days
