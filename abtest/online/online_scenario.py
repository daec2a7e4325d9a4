"""The scenario of an experiment on the simulated platform: a world, its users, a pipeline, arms, and what is asked."""

import json
from collections.abc import Iterator, Mapping
from itertools import chain, combinations
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PositiveFloat, field_validator, model_validator

from abtest.analysis.metrics import BUILTIN, Metric, MetricConfig
from abtest.analysis.plan_file import PlanFile, PlannedMetric, planned_metrics
from abtest.arms import CONTROL, UNREAD_ONLINE, Arm, arm_faults, config_faults, mapping
from abtest.online.extra_worlds import InterleavingConfig, OffPolicyConfig, extra_worlds, interleaving_faults
from abtest.online.platform_metrics import NAMED, metric_faults
from abtest.online.worlds_beside import channels_of, serves_arm_model, worlds_beside
from abtest.stats.estimators import EstimatorName
from abtest.world_fields import config_field_faults, pipeline_field_faults, together, user_fields
from micrec.bounds import Days, Repeats, Rows, Seed, Splits
from micrec.config import Config, Frozen
from micrec.errors import MicrecError
from micrec.settings import apply_overrides, build_config, check, merge
from simulator.channels.two_tower.two_tower_config import TwoTowerConfig
from simulator.platform.arms import arm_pipelines, assign, without_nulls
from simulator.platform.platform_config import PipelineConfig, PlatformConfig
from simulator.population.population_config import PopulationConfig
from simulator.world.world_config import WorldConfig

PRIMARY = ("ACC", "ADT")  # metrics that decide, if a scenario names no others
MAIN = "main"  # the variant of a scenario without variants
MOST_USERS = 50_000_000  # of a simulated platform
_USERS_AT_ONCE = 100_000  # whose arms are looked up to see that none is empty
_FIXED = ("arms", "seed")  # keys of the platform that the scenario sets itself
_UNSAID: dict[str, Any] = {
    "preset": True,
    "split": True,
    "evaluation": True,
    "train": {"seed", "patience", "metric", "refit"},
}
_WHOLE = ("kind", "name", "preset", "variants", "doses", "replications", "keep_logs", "alpha")  # alike in all variants


class OnlineArm(Arm):
    """One arm: its model, and what else it changes of the pipeline."""

    pipeline: dict[str, Any] = Field(
        default_factory=dict, description="Keys laid over platform.pipeline; a channel set to null is gone."
    )
    weight: PositiveFloat = Field(1.0, description="Share of the users, relative to the other arms.")


class Doses(Frozen):
    """One key at several values."""

    key: str = Field("world.links.strength", description="The key that is varied.")
    values: tuple[float, ...] = Field((0.0, 0.25, 0.5, 0.75, 1.0), min_length=2, description="Its values.")


class TruthConfig(Frozen):
    """How the true effect is found; ``true`` and ``false`` stand for ``worlds`` alone."""

    worlds: bool = Field(
        True, description="Whether all-control and all-treatment worlds are run for the true effect of the two models."
    )
    trainings: Annotated[int, Field(ge=1, le=100)] = Field(
        1,
        description="Trainings of each arm's models, with other seeds on the same log of the warm-up. From 2 on the "
        "true lift of the two methods is reported beside that of the two models, with an interval over trainings and "
        "users.",
    )
    users: Rows | None = Field(
        None, description="Users of the worlds of the second and further trainings, the first of all; null: everybody."
    )

    @model_validator(mode="after")
    def _check_worlds(self) -> Self:
        if self.trainings > 1 and not self.worlds:
            raise ValueError("trainings need the worlds of the arms: set worlds to true, or trainings to 1")
        return self


class PossibleConfig(Frozen):
    """Worlds that tell what matching is worth on this platform, run before the experiment."""

    users: Rows = Field(4000, description="Users of these worlds, the first of all, or everybody if there are fewer.")


class OnlineScenario(Frozen):
    """An experiment on a simulated platform, with the truth that only a simulator knows."""

    unread: ClassVar[tuple[str, ...]] = tuple(UNREAD_ONLINE)  # config keys that do nothing here
    reserved_arms: ClassVar[tuple[str, ...]] = ("warmup", "experiment")  # worlds that lie beside the arms' own

    kind: str = Field(description="Kind of scenario: the question that it asks.")
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")] = Field(description="Name of the run; default: the file's name.")
    world: WorldConfig = Field(
        default_factory=WorldConfig,
        description="The world; days and window_days follow from history_days, warmup_days and days.",
    )
    scale: PositiveFloat = Field(1.0, description="Factor on the numbers of users, items and tags of the world.")
    population: PopulationConfig = Field(default_factory=PopulationConfig, description="How users respond to slates.")
    history_days: Days = Field(14, description="Days of organic clicks before the platform opens.")
    platform: PlatformConfig = Field(
        default_factory=PlatformConfig, description="The platform and its production pipeline."
    )
    days: Days = Field(7, description="Days of the experiment, after platform.warmup_days.")
    seed: Seed = Field(0, description="Seed of the users' responses, the platform, and the assignment.")
    preset: Literal["paper", "modern", "best"] = Field(
        "paper", description="Defaults of every model: one preset for the whole scenario."
    )
    base: dict[str, Any] = Field(default_factory=dict, description="Config keys of all models, laid over the preset.")
    serving: TwoTowerConfig = Field(
        default_factory=TwoTowerConfig, description="How models are trained and deployed on the platform."
    )
    arms: dict[str, OnlineArm] = Field(description="The arms: control, which is production, and treatments.")
    truth: TruthConfig = Field(default_factory=TruthConfig, description="How the true effect is found.")
    possible: PossibleConfig | None = Field(
        default_factory=PossibleConfig,
        description="The largest possible lift: worlds with perfect matching, without the channel under test, and with "
        "popular and fresh items only, against control, run before the experiment; null: none.",
    )
    interleaving: InterleavingConfig | None = Field(
        None,
        description="Whether the channel in which control and treatment differ is also interleaved, in a world of its "
        "own: how many users that needs beside the A/B test; null: no.",
    )
    off_policy: OffPolicyConfig | None = Field(
        None,
        description="Whether a world is run in which control explores and logs how likely each choice was: what its "
        "log alone tells about other policies, beside the truth; null: no.",
    )
    experiment: bool = Field(
        True, description="Whether the experiment is run; if false, only the worlds that give the true effect are."
    )
    variants: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Versions of the scenario by name: keys that replace the scenario's own, at any depth.",
    )
    doses: Doses | None = Field(None, description="Variants that differ in the value of one key.")
    replications: Repeats = Field(1, description="Runs of each variant, each with its own seeds.")
    cold_clicks: Rows = Field(3, description="Users with fewer clicks before the experiment are cold.")
    looks: Literal["final", "daily"] = Field("daily", description="Whether the test is read each day, or at its end.")
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        0.05, description="Level of the tests; intervals are at 1 - alpha."
    )
    primary: tuple[str | PlannedMetric, ...] = Field(
        PRIMARY,
        min_length=1,
        description="Metrics that decide together, as in a plan file: names, or {metric: ACC, null_lift: 0.01}.",
    )
    guardrails: tuple[str | PlannedMetric, ...] = Field(
        (), description="Metrics that must not get worse, as in a plan file: names, or {metric: ADT, worse: 0.02}."
    )
    estimator: EstimatorName = Field(
        "welch",
        description="What the verdict and the looks rest on: welch; cuped, which takes off what clicks before the "
        "experiment predict; or poststratified, over cold and warm users. The other readings stand beside it.",
    )
    secondary: tuple[str, ...] = Field(
        (), description="Metrics that are looked at beside the usual ones: of the platform's, or of metrics."
    )
    metrics: dict[str, MetricConfig] = Field(
        default_factory=dict,
        description="Metrics of one's own by name, as in a file of metrics: expressions on the platform's events by "
        "user (clicks, dwell_s, likes, follows, impressions, requests, new_item_clicks, tail_clicks, latency_ms, "
        "failed, fallbacks).",
    )
    slices: tuple[str, ...] = Field(
        (),
        description="Fields of the user table; every value is a slice, beside cold and warm users.",
    )
    paper: dict[str, float] = Field(
        default_factory=dict, description="The paper's own lifts by metric, as shares; shown for comparison."
    )
    keep_logs: bool = Field(True, description="Whether the platform's logs are kept in the run folder.")

    @field_validator("truth", mode="before")
    @classmethod
    def _truth_of_bool(cls, value: object) -> object:
        return {"worlds": value} if isinstance(value, bool) else value

    @property
    def treatments(self) -> list[str]:
        return [name for name in self.arms if name != CONTROL]

    @property
    def primary_names(self) -> tuple[str, ...]:
        """Names of the metrics that decide, the first of which the test is planned for."""
        return tuple(one if isinstance(one, str) else one.metric for one in self.primary)

    def planned_metrics(self) -> tuple[Metric, ...] | None:
        """All metrics with the roles that the scenario gives them; None where it says nothing of its own.

        Raises:
            MicrecError: If there is no metric of a name, or one has two roles.
        """
        if self.primary == PRIMARY and not (self.guardrails or self.secondary or self.metrics):
            return None
        plan, faults = check(PlanFile, self._planned())
        if plan is None or faults:
            raise MicrecError.of("plan", faults)
        return tuple(planned_metrics(plan, "plan", NAMED))

    def _planned(self) -> dict[str, Any]:
        """The metrics as a plan file has them: those without a role of their own are looked at only."""
        lists = {key: [_plain_metric(one) for one in getattr(self, key)] for key in ("primary", "guardrails")}
        own = {one if isinstance(one, str) else one["metric"] for one in chain(*lists.values(), self.secondary)}
        secondary = [*(name for name in BUILTIN if name not in own), *self.secondary]
        metrics = {name: one.model_dump(mode="json", exclude_unset=True) for name, one in self.metrics.items()}
        return {**lists, "secondary": secondary, "metrics": metrics, "alpha": self.alpha}

    @property
    def all_days(self) -> int:
        """Days of the world: history, warm-up, experiment."""
        return self.history_days + self.platform.warmup_days + self.days

    @property
    def experiment_day(self) -> int:
        """First day of the experiment."""
        return self.history_days + self.platform.warmup_days

    def faults(self) -> list[str]:
        """What the keys cannot say one by one, in every variant."""
        faults = [*self.own_faults(), *self._variant_faults()]
        if faults:
            return faults
        variants = []
        for name in self.named_variants():
            try:
                variants.append(self.variant(name))
                keys = variants[-1].platform_config(0)
                pipelines = arm_pipelines(keys, where=f"variant {name}" if name != MAIN else "arms")
                _check_models(keys, pipelines)
                faults += [fault for fault in variants[-1]._field_faults(keys, pipelines) if fault not in faults]
                late = _late_faults(keys.pipeline, pipelines, variants[-1].days)
                faults += [fault for fault in late if fault not in faults]
                wrong = metric_faults(
                    variants[-1].planned_metrics(), variants[-1].slices, user_fields(variants[-1].world)
                )
                faults += [fault for fault in wrong if fault not in faults]
                faults += variants[-1]._empty_arm_faults() if variants[-1].experiment else []
                faults += [fault for fault in variants[-1]._extra_world_faults() if fault not in faults]
            except MicrecError as fault:
                faults.append(str(fault).removeprefix("arms: "))
        if not faults and not any(variant.experiment for variant in variants):
            faults.append("experiment: is off in every variant, so there is no log to report on: switch it on in one")
        return faults

    def identical_arms(self) -> str:
        """What to say where arms of the main variant serve alike; empty if none do, or if that is the point."""
        pipelines = arm_pipelines(self.platform_config(0))
        pairs = [
            f"{one} and {other}" for one, other in combinations(pipelines, 2) if pipelines[one] == pipelines[other]
        ]
        return f"The arms {', '.join(pairs)} are identical: this compares a platform with itself." if pairs else ""

    def own_faults(self) -> list[str]:
        """Errors in the keys of the scenario itself, whatever its variants."""
        faults = [
            f"platform.{key}: belongs to the scenario: set {key} at the top level"
            for key in _FIXED
            if key in self.platform.model_fields_set
        ]
        labels = [arm.label for arm in self.arms.values()]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            faults.append(f"arms: label {', '.join(twice)} names several arms: tables could not tell them apart")
        channels = {f"platform.pipeline.channels.{name}": one for name, one in self.platform.pipeline.channels.items()}
        faults += [
            f"{at}.options: a {channel.kind} channel serves its arm's model: set base, arms.<name>.config and serving"
            for at, channel in channels.items()
            if serves_arm_model(channel.kind) and channel.options
        ]
        if self.truth.trainings > 1 and not any(serves_arm_model(one.kind) for one in channels.values()):
            faults.append(
                "truth.trainings: no channel serves the arms' models, so there is nothing to train again: set 1"
            )
        faults += [
            f"paper.{name}: no metric {name}: choose from {', '.join(BUILTIN)}"
            for name in self.paper
            if name not in BUILTIN
        ]
        try:
            self.planned_metrics()
        except MicrecError as fault:
            faults += _lines(fault)
        if not (self.truth.worlds or self.experiment):
            faults.append("experiment: with truth and experiment both off there is nothing to run: switch one on")
        return faults

    def _field_faults(self, keys: PlatformConfig, pipelines: Mapping[str, PipelineConfig]) -> list[str]:
        """Fields that the pipelines and the arms' models name and the world does not have."""
        world = self.world_config(0)
        faults = pipeline_field_faults(keys.pipeline, world, "platform.pipeline")
        told = {fault.partition(".pipeline.")[2] for fault in faults}
        for arm, pipeline in pipelines.items():
            own = pipeline_field_faults(pipeline, world, f"arms.{arm}.pipeline")
            faults += [fault for fault in own if fault.partition(".pipeline.")[2] not in told]
        return faults + together("arms", {arm: config_field_faults(self.config(arm), world) for arm in self.arms})

    def arm_changes(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """The production pipeline, and what each arm changes of it, as JSON; models are among the channels' options."""
        production = self._with_models(self.platform.model_dump(mode="json")["pipeline"], CONTROL)
        return production, {name: self._arm_pipeline(production, name) for name in self.arms}

    def _extra_world_faults(self) -> list[str]:
        """Why worlds beside the arms' own cannot be made of these arms."""
        faults = []
        production, arms = self.arm_changes()
        if self.interleaving is not None:
            faults += interleaving_faults(production, arms)
            if not self.truth.worlds:
                faults.append("interleaving: is compared with the worlds of the arms: set truth: true")
        known = ("ranking", *channels_of(production, arms[CONTROL]))
        named = () if self.off_policy is None else self.off_policy.policies or ()
        faults += [
            f"off_policy.policies: control has no channel {name}: choose from {', '.join(known)}"
            for name in named
            if name not in known
        ]
        return faults

    def _empty_arm_faults(self) -> list[str]:
        """Arms that no user of the first replication falls into."""
        users = self.world_config(0).users.count
        if users > MOST_USERS:
            return [
                f"world.users.count: {users:,} with the scale; a platform keeps its users in memory, at most "
                f"{MOST_USERS:,}"
            ]
        counts, keys = np.zeros(len(self.arms), dtype=np.int64), self.platform_config(0)
        for start in range(0, users, _USERS_AT_ONCE):
            chunk = np.arange(start, min(start + _USERS_AT_ONCE, users))
            counts += np.bincount(assign(chunk, keys), minlength=len(self.arms))
            if counts.all():
                return []
        return [
            f"arms.{name}.weight: none of the {users:,} users falls into it: raise it, or world.users.count"
            for name, count in zip(self.arms, counts, strict=True)
            if not count
        ]

    def _variant_faults(self) -> list[str]:
        """Errors in the variants' names, and keys that cannot differ between variants."""
        if self.doses is not None and self.variants:
            return ["doses: makes the variants, so there must be no others: remove one of the two"]
        named = self.named_variants()
        if self.doses is not None and len(named) < len(self.doses.values):
            return ["doses.values: some are the same to six digits: keep one of them"]
        folders: dict[str, str] = {}
        faults = []
        for name, keys in named.items():
            folder = folder_name(name)
            if not folder.strip("._"):
                faults.append(f"variants.{name}: must hold a letter or a digit, as it names a folder")
            elif folder in folders:
                faults.append(
                    f"variants.{name}: would share the folder {folder} with variant {folders[folder]}: rename it"
                )
            folders[folder] = name
            at = "doses.key" if self.doses is not None else f"variants.{name}"
            faults += [f"{at}: {key} is one for the whole scenario: set it there" for key in _WHOLE if key in keys]
        return faults

    def resolved(self) -> dict[str, Any]:
        """Plain data in which every key is explicit; ``base`` holds the whole config, as far as it is read."""
        config = build_config(self.preset, self.base).model_dump(exclude=_UNSAID)
        data = self.model_dump(exclude={"platform": set(_FIXED)})
        plain = json.loads(json.dumps({**data, "base": config}, default=str))
        assert isinstance(plain, dict)
        return plain

    def named_variants(self) -> dict[str, dict[str, Any]]:
        """Keys laid over the scenario, by the name of the variant; one without keys if none is asked for."""
        if self.doses is not None:
            last = self.doses.key.rsplit(".", 1)[-1]
            plain = [int(value) if value.is_integer() else value for value in self.doses.values]
            return {f"{last} {value:g}": apply_overrides({}, [f"{self.doses.key}={value}"]) for value in plain}
        return self.variants or {MAIN: {}}

    def variant(self, name: str) -> Self:
        """The scenario with the keys of a variant.

        Raises:
            MicrecError: If the keys do not fit.
        """
        keys = self.named_variants()[name]
        data = merge(self.resolved(), keys, {"variants": {}, "doses": None})
        platform = data["platform"]
        if isinstance(platform, dict) and isinstance(platform.get("pipeline"), dict):
            platform["pipeline"] = without_nulls(platform["pipeline"])
        found, faults = check(type(self), data)
        faults += config_faults({**data, "preset": self.preset}, self.unread) if keys else []
        if found is not None and not faults:
            faults += [*arm_faults(found.arms, self.reserved_arms), *found.own_faults()]
        if found is None or faults:
            raise MicrecError.of(f"variant {name}", faults)
        return found

    def world_config(self, replication: int) -> WorldConfig:
        """The world of a replication: each has users and items of its own."""
        data = {**self.world.model_dump(), "days": self.all_days, "window_days": self.all_days}
        world = WorldConfig.model_validate({**data, "seed": self.world.seed + replication})
        return (
            world if self.scale == 1.0 else WorldConfig.model_validate_json(json.dumps(world.scaled_keys(self.scale)))
        )

    def population_config(self, replication: int) -> PopulationConfig:
        """The population of a replication."""
        return self.population.model_copy(update={"seed": self.population.seed + self.seed + replication})

    def platform_config(self, replication: int, only: str | None = None, *, beside: bool = False) -> PlatformConfig:
        """The platform of a replication.

        Args:
            replication: Its number.
            only: The arm, or the world beside the arms (``worlds_beside``), that everybody belongs to; None: all arms.
            beside: Whether the worlds beside the arms are arms as well, so that a warm-up trains their models too.
        """
        data = self.platform.model_dump(mode="json")
        production = data["pipeline"] = self._with_models(data["pipeline"], CONTROL)
        data["seed"] = self.seed + replication
        arms = {name: self._arm_pipeline(production, name) for name in self.arms}
        if beside or (only is not None and only not in arms):
            extra = extra_worlds(production, arms, self.interleaving, self.off_policy)
            arms |= worlds_beside(production, arms, self.truth.trainings, possible=self.possible is not None) | extra
        data["arms"] = {
            name: {"weight": self.arms[name].weight if name in self.arms else 1.0, "pipeline": pipeline}
            for name, pipeline in arms.items()
            if only is None or name == only
        }
        return PlatformConfig.model_validate_json(json.dumps(data))

    def config(self, arm: str) -> Config:
        """The model of an arm."""
        return build_config(self.preset, merge(self.base, self.arms[arm].config))

    def _arm_pipeline(self, pipeline: Mapping[str, Any], arm: str) -> dict[str, Any]:
        """What an arm changes: its own keys, and its model in every two-tower channel that is left."""
        own = self.arms[arm].pipeline
        channels = mapping(merge(pipeline, own).get("channels"))
        models = {name: channels[name] for name in channels if isinstance(channels[name], Mapping)}
        options = dict(_model_options(models, self._options(arm)))
        return merge(own, {"channels": options}) if options else own

    def _with_models(self, pipeline: dict[str, Any], arm: str) -> dict[str, Any]:
        return merge(pipeline, {"channels": dict(_model_options(pipeline["channels"], self._options(arm)))})

    def _options(self, arm: str) -> dict[str, Any]:
        config = self.config(arm).model_dump(mode="json", exclude={"train": {"seed"}})
        return {"preset": self.preset, "config": config, "serving": self.serving.model_dump(mode="json")}


class OnlineAbScenario(OnlineScenario):
    """Is the treatment better than control?"""

    kind: Literal["online_ab"] = Field(description="Kind of scenario: the question that it asks.")


class AaScenario(OnlineScenario):
    """How often does the test reject when the arms are identical?"""

    kind: Literal["aa"] = Field(description="Kind of scenario: the question that it asks.")
    splits: Splits = Field(200, description="Random assignments of the users that are judged.")

    def identical_arms(self) -> str:
        """Nothing, as identical arms are the point."""
        return ""

    def own_faults(self) -> list[str]:
        """Errors in the keys of the scenario itself, whatever its variants."""
        off = [] if self.experiment else ["experiment: kind aa splits the users of the experiment: switch it on"]
        return [*super().own_faults(), *off]


class DoseResponseScenario(OnlineScenario):
    """How does the true effect change with one key?"""

    kind: Literal["dose_response"] = Field(description="Kind of scenario: the question that it asks.")


class InterferenceScenario(OnlineScenario):
    """How far do arms that learn from one log distort the experiment?"""

    kind: Literal["interference"] = Field(description="Kind of scenario: the question that it asks.")


class FaultsScenario(OnlineScenario):
    """What do faults of the platform cost, and what does the test make of them?"""

    kind: Literal["faults"] = Field(description="Kind of scenario: the question that it asks.")


class MisspecifiedScenario(OnlineScenario):
    """Does the conclusion depend on the model of the users?"""

    kind: Literal["misspecified"] = Field(description="Kind of scenario: the question that it asks.")


def _plain_metric(one: str | PlannedMetric) -> Any:
    return one if isinstance(one, str) else one.model_dump(exclude_unset=True)


def _lines(fault: MicrecError) -> list[str]:
    """The errors of one that may list several."""
    first, *rest = str(fault).splitlines()
    return [line.removeprefix("  - ") for line in rest] or [first.removeprefix("plan: ")]


def _model_options(
    channels: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, channel in channels.items():
        if serves_arm_model(channel.get("kind")):
            yield name, {"options": dict(options)}


def folder_name(variant: str) -> str:
    """A variant's name as a folder's."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in variant)


def _check_models(keys: PlatformConfig, arms: dict[str, PipelineConfig]) -> None:
    """Check the options of every channel and ranking model, as a run does before its first day.

    Raises:
        MicrecError: Every wrong kind and option.
    """
    from simulator.platform.model_registry import check_trainers
    from simulator.platform.registered_models import registered_checks
    from simulator.platform.serving_plan import make_plan

    makers = registered_checks()
    for pipelines in ({"warmup": keys.pipeline}, arms):
        check_trainers(make_plan(pipelines, diverted=False), makers)


def _late_faults(platform: PipelineConfig, arms: dict[str, PipelineConfig], days: int) -> list[str]:
    """Faults that begin after the last day; those that arms share with the platform are listed once."""
    found: dict[str, str] = {}
    for at, pipeline in [("platform.pipeline", platform), *((f"arms.{arm}.pipeline", arms[arm]) for arm in arms)]:
        stages = {f"channels.{name}": channel for name, channel in pipeline.channels.items()}
        for place, stage in {**stages, "ranking": pipeline.ranking}.items():
            for number, fault in enumerate(stage.faults):
                if fault.from_day >= days:
                    key = f"{place}.faults.{number}.from_day: {fault.from_day:g}"
                    found.setdefault(key, f"{at}.{key} lies after the last of {days} days, so that it does nothing")
    return list(found.values())
