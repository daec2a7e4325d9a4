"""Designs of one experiment: what is assigned to the arms, and what the arms share; each is a variant of a scenario."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field

from abtest.arms import CONTROL, arm_faults, config_faults
from abtest.online.online_scenario import OnlineScenario
from abtest.online.unit_sums import WASHOUT
from micrec.errors import MicrecError
from micrec.settings import check, merge

USER, BY_HOUR, BY_DAY = "user split", "switchback by hour", "switchback by day"
HOUR_H, DAY_H = 1.0, 24.0
HOLDOUT_SHARE = 0.1

Unit = Literal["user", "cluster", "period"]


class ExperimentDesign(NamedTuple):
    """One way of running the experiment.

    Attributes:
        name: Its name.
        unit: What is assigned to an arm as a whole, and so what intervals are over.
        keys: Keys laid over the scenario.
        what: What it is, in a few words.
        read_from: Name of the design whose experiments it reads, without the start of each period; None: its own.
    """

    name: str
    unit: Unit
    keys: Mapping[str, Any]
    what: str
    read_from: str | None = None

    @property
    def simulated(self) -> str:
        """Name of the design whose experiments are simulated for it."""
        return self.read_from or self.name


class DesignScenario(OnlineScenario):
    """An experiment whose variants are designs."""

    kind: Literal["design"] = Field(description="Kind of scenario: which design of the experiment is the best.")
    unit: Unit = Field("user", description="What this variant assigns.")


def designs_of(scenario: OnlineScenario, cluster_fields: Sequence[str]) -> dict[str, ExperimentDesign]:
    """The designs that are scored, the user split first.

    Args:
        scenario: The experiment.
        cluster_fields: User fields whose values name the clusters.
    """

    def keys(**platform: Any) -> dict[str, Any]:
        return {"platform": {"training": "shared", "catalogue": "shared", "assignment": {"unit": "user"}} | platform}

    def switchback(period_h: float) -> dict[str, Any]:
        return keys(assignment={"unit": "time", "period_h": period_h})

    clusters = keys(assignment={"unit": "cluster", "cluster_fields": list(cluster_fields)})

    def washed_out(name: str) -> ExperimentDesign:
        what = f"the same, without the first {WASHOUT:.0%} of each period"
        return ExperimentDesign(f"{name}, washed out", "period", {}, what, read_from=name)

    few = {"arms": {name: {"weight": _holdout_weight(name, scenario)} for name in scenario.arms}}
    found = (
        ExperimentDesign(USER, "user", keys(), "each user has an arm; models learn from both arms' log"),
        ExperimentDesign(
            "clustered split", "cluster", clusters, f"users with the same {', '.join(cluster_fields)} share an arm"
        ),
        ExperimentDesign(BY_HOUR, "period", switchback(HOUR_H), "everybody changes the arm every hour or two"),
        washed_out(BY_HOUR),
        ExperimentDesign(BY_DAY, "period", switchback(DAY_H), "everybody changes the arm every day or two"),
        washed_out(BY_DAY),
        ExperimentDesign(
            "diverted data", "user", keys(training="diverted"), "each arm's models learn from its own users' log"
        ),
        ExperimentDesign(
            "co-diverted data",
            "user",
            keys(training="diverted", catalogue="diverted"),
            "the same, and each arm shows items of its own only",
        ),
        ExperimentDesign("holdout", "user", keys() | few, f"{HOLDOUT_SHARE:.0%} of the users stay under control"),
    )
    return {one.name: one for one in found}


def design_scenario(
    scenario: OnlineScenario, designs: Mapping[str, ExperimentDesign], *, replications: int
) -> tuple[DesignScenario, dict[str, Any]]:
    """The scenario whose variants are the designs, and the same as plain data.

    The worlds that give the truth belong to the user split: with everybody in one arm all designs are the same.

    Args:
        scenario: The experiment; variants and doses of its own are left out.
        designs: Those to be scored, the user split among them.
        replications: Worlds.

    Raises:
        MicrecError: If a design does not fit the scenario.
    """
    if len(scenario.treatments) != 1:
        raise MicrecError(
            f"{scenario.name}: arms: design compares one treatment with control, and there are "
            f"{len(scenario.treatments)}: remove the others."
        )
    variants = {
        name: merge({"truth": {"worlds": name == USER}, "unit": one.unit}, dict(one.keys))
        for name, one in designs.items()
        if one.read_from is None
    }
    own = {key: value for key, value in scenario.resolved().items() if key in DesignScenario.model_fields}
    over = {
        "kind": "design",
        "variants": variants,
        "doses": None,
        "replications": replications,
        "looks": "final",
        "possible": None,
        "interleaving": None,
        "off_policy": None,
        "experiment": True,
        "keep_logs": False,
        "truth": {"worlds": True, "trainings": 1, "users": None},
    }
    data = {**own, **over}
    found, faults = check(DesignScenario, data)
    faults += config_faults(data, DesignScenario.unread)
    if found is not None:
        faults += arm_faults(found.arms, found.reserved_arms)
        faults += [] if faults else found.faults()
    if found is None or faults:
        raise MicrecError.of(f"{scenario.name} as a design", faults)
    return found, found.resolved()


def _holdout_weight(arm: str, scenario: OnlineScenario) -> float:
    """Weights that leave a tenth of the users under control."""
    return HOLDOUT_SHARE if arm == CONTROL else (1.0 - HOLDOUT_SHARE) / max(len(scenario.treatments), 1)
