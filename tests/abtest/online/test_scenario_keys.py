"""No key of an experiment on the simulated platform is without its test: each does what it says, and only that."""

import re
import tempfile
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import BaseModel

from abtest.analysis.analysis import analyse
from abtest.analysis.userlog import log_of
from abtest.online import study_reports
from abtest.online.aa_study import false_alarms
from abtest.online.experiment import plan_of
from abtest.online.extra_worlds import OFF_POLICY, interleaved_name
from abtest.online.online_scenario import AaScenario
from abtest.online.parallel import simulate_all
from abtest.online.simulate import simulations_of
from abtest.online.study import StudyReport, study_section
from abtest.scenario_files import load_scenario
from micrec.errors import MicrecError
from micrec.progress import NoProgress
from micrec.retrieval import load_bundle
from tests.abtest.online import test_scenario_keys_platform
from tests.abtest.online.tiny_runs import CHANNELS, run, scenario_file, tiny
from tests.simulator import (
    test_metamorphic_behaviour,
    test_metamorphic_choices,
    test_metamorphic_items,
    test_metamorphic_users,
)
from tests.simulator.population import test_population_keys

WORLD_TESTS = (test_metamorphic_users, test_metamorphic_choices, test_metamorphic_items, test_metamorphic_behaviour)
CHECKS: dict[str, Callable[[], None]] = {}


def key(*names: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Registers the check of a key, or of several that only mean something together."""

    def register(check: Callable[[], None]) -> Callable[[], None]:
        CHECKS.update(dict.fromkeys(names, check))
        return check

    return register


def leaves(model: type[BaseModel] = AaScenario, prefix: str = "") -> Iterator[str]:
    """Every key that holds a value; what stands below a free name goes by ``*``."""
    for name, field in model.model_fields.items():
        origin, kinds = typing.get_origin(field.annotation), (field.annotation, *typing.get_args(field.annotation))
        below = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        step = "*." if origin in (dict, tuple) else ""
        if below:
            yield from leaves(below[0], f"{prefix}{name}.{step}")
        else:
            yield prefix + name


def test_every_key_has_a_test():
    elsewhere = ("world.", "population.", "metrics.")  # the last as in a plan file: tests/abtest/analysis
    here = [name for name in leaves() if not name.startswith(elsewhere)]
    assert sorted(here) == sorted({*CHECKS, *test_scenario_keys_platform.EFFECTS})
    assert not CHECKS.keys() & test_scenario_keys_platform.EFFECTS.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_key_does_what_it_says(name):
    CHECKS[name]()


@pytest.mark.parametrize("module", WORLD_TESTS, ids=lambda module: module.__name__.rsplit("_", 1)[1])
def test_keys_of_the_world_arrive_in_it(module):
    """What they do there is tested where they are at home; days follow from the scenario."""
    for name, effect in module.EFFECTS.items():
        sets = [f"world.{one}" for one in effect.worlds(name)[1]]
        scenario = tiny(*sets)
        given, used = scenario.world.model_dump(), scenario.world_config(0).model_dump()
        follow = {"days": scenario.all_days, "window_days": scenario.all_days}
        assert used == {**given, **follow, "seed": given["seed"]}, name


def test_keys_of_the_population_arrive_in_it():
    for name, effect in test_population_keys.EFFECTS.items():
        found = [tiny(*(f"population.{one}" for one in (*effect.others, f"{name}={value}"))) for value in effect[:2]]
        assert found[0].population != found[1].population, name
        for scenario in found:
            assert scenario.population_config(0) == scenario.population.model_copy(update={"seed": 0}), name


@key("kind")
def _kind():
    reports = [report for report in vars(study_reports).values() if isinstance(report, StudyReport) and report.lead]
    texts = {report.lead: study_section(report, [], 0.05).text for report in reports}
    assert len(texts) == 4
    assert len(set(map(tuple, texts.values()))) == len(texts)
    with pytest.raises(MicrecError, match="kind: must be one of offline_ab"):
        tiny("kind=online")


@key("name")
def _name():
    assert tiny("name=mine").name == "mine"
    with pytest.raises(MicrecError, match="name: must match"):
        tiny("name=../mine")


@key("paper")
def _paper():
    """Lifts that the report sets beside ours: see tests/abtest/online/test_online_table.py for how."""
    assert tiny("paper.ACC=0.05").resolved()["paper"] == {"ACC": 0.05}
    with pytest.raises(MicrecError, match=r"paper\.ACD: no metric ACD"):
        tiny("paper.ACD=0.05")


@key("scale")
def _scale():
    small, large = tiny().world_config(0), tiny("scale=3").world_config(0)
    assert [large.users.count, large.items.count] == [3 * small.users.count, 3 * small.items.count]
    assert large.sessions == small.sessions


@key("truth.trainings", "truth.users", "platform.pipeline.channels.*.training")
def _trainings():
    """Worlds of further trainings: other models on the same log, for the first users alone."""
    sets = (*TOWER, "truth.worlds=true", "truth.trainings=3")
    parts = {one.part for one in simulations_of(tiny(*sets))}
    assert parts == {
        "experiment",
        "control",
        "treatment",
        *(f"{a}.{n}" for a in ("control", "treatment") for n in (1, 2)),
    }
    once, again = run(*sets, part="control"), run(*sets, "truth.users=50", part="control.1")
    assert once.days["user_id"].max() > 50
    assert 0 < again.days["user_id"].max() < 50
    weights = [load_bundle(next(iter(of.models("matching"))) / "serving").model.state_dict() for of in (once, again)]
    assert any(not value.equal(weights[1][name]) for name, value in weights[0].items())
    with pytest.raises(MicrecError, match="no channel serves the arms' models"):
        tiny("truth.worlds=true", "truth.trainings=2")
    with pytest.raises(MicrecError, match="trainings need the worlds"):
        tiny(*TOWER, "truth.trainings=2")


@key("possible.users")
def _possible():
    """Worlds of perfect matching and the like, for the first users alone; the perfect one is clicked more."""
    sets = (*TOWER, "possible.users=120")
    parts = [one.part for one in simulations_of(tiny(*sets))]
    assert parts == ["possible.control", "possible.perfect", "possible.off", "possible.unpersonal", "experiment"]
    control, perfect = (run(*sets, part=f"possible.{name}").days for name in ("control", "perfect"))
    assert max(control["user_id"].max(), perfect["user_id"].max()) < 120
    assert perfect["clicks"].sum() > 1.03 * control["clicks"].sum()


@key("history_days", "cold_clicks")
def _history():
    """The longer the past, or the lower the bar, the fewer users are cold."""

    def cold(*sets):
        return float(run(*sets).days.unique("user_id")["cold"].mean())

    assert cold("history_days=8") < cold() - 0.03
    assert cold("cold_clicks=1") < cold() - 0.03
    assert run("cold_clicks=1").days.drop("cold").equals(run().days.drop("cold"))


@key("days")
def _days():
    assert run("days=3").days["day"].unique().to_list() == [1, 2, 3]
    assert run().days["day"].unique().to_list() == [1, 2]
    assert tiny("days=3").world_config(0).days == tiny().world_config(0).days + 1


@key("seed", "platform.seed", "platform.arms.*.weight", "platform.arms.*.pipeline")
def _seed():
    other = run("seed=5")
    assert other.scenario.world_config(0) == run().scenario.world_config(0)
    assert other.scenario.population_config(0).seed == other.scenario.platform_config(0).seed == 5
    assert not other.table("requests")["asked_s"].equals(run().table("requests")["asked_s"])
    for sets in ("platform.seed=3", "platform.arms={control: {}}"):
        with pytest.raises(MicrecError, match=r"platform\.(seed|arms): belongs to the scenario"):
            tiny(sets)


@key("platform.salt")
def _salt():
    """Another salt, another split; identical arms show everybody the same as before."""
    before, after = run(), run("platform.salt=other")
    arms = before.days.unique("user_id").join(after.days.unique("user_id"), on="user_id")
    assert 0.35 < float((arms["arm"] != arms["arm_right"]).mean()) < 0.65
    for table in ("impressions", "behaviours", "requests"):
        assert before.table(table).drop("arm").equals(after.table(table).drop("arm"))


@key("platform.batch_window_s")
def _gather():
    """For speed alone: where nobody queues the log is the same, served in 20 s or in one go."""
    assert run("platform.batch_window_s=20").table("impressions").equals(run().table("impressions"))
    with pytest.raises(MicrecError, match="batch_window_s: must be > 0"):
        tiny("platform.batch_window_s=0")


@key("platform.pipeline.ranking.kind")
def _ranking_kind():
    with pytest.raises(MicrecError, match=re.escape("ranking.kind: must be one of ctr, got oracle")):
        run("platform.pipeline.ranking.kind=oracle")


TOWER = (
    "platform.pipeline.channels.matching={kind: two_tower, k: 1000, quota: 30}",
    "platform.pipeline.slate_size=20",
)


def moved(*sets: str) -> float:
    """How far the item embeddings of the second version are from those of the first, on average."""
    first, second = (vectors(folder) for folder in run(*TOWER, *sets).models("matching"))
    return float(np.mean([np.abs(first[item] - second[item]).mean() for item in first.keys() & second.keys()]))


def vectors(folder: Path) -> dict[int, np.ndarray]:
    """Embedding by item of a version of the two-tower model, of those that may be retrieved."""
    bundle = load_bundle(folder / "serving")
    items = bundle.item_ids.to_numpy()[bundle.candidates]
    return dict(zip(items, bundle.index.reconstruct_n(0, bundle.index.ntotal), strict=True))


@key("serving.most_clicks")
def _most_clicks():
    """Fewer clicks are learnt from, and so fewer items are known; more than there are change nothing."""
    whole, some = (vectors(run(*TOWER, *sets).models("matching")[0]) for sets in ((), ("serving.most_clicks=60",)))
    assert len(some) < 0.8 * len(whole)
    assert whole.keys() == vectors(run(*TOWER, "serving.most_clicks=1000000").models("matching")[0]).keys()


@key("serving.warm_epochs", "serving.warm_days", "serving.min_clicks")
def _training():
    """Without an epoch a version is the one before it, with few clicks near it; items need their clicks."""
    assert moved("serving.warm_epochs=0") < 1e-6
    assert 1e-6 < moved("serving.warm_days=0.1") < 0.7 * moved()
    few, many = (
        len(vectors(run(*TOWER, "serving.warm_epochs=0", *sets).models("matching")[0]))
        for sets in (("serving.min_clicks=20",), ())
    )
    assert few < many - 10


@key("serving.index")
def _index():
    kinds = {
        index: type(load_bundle(run(*TOWER, f"serving.index={index}").models("matching")[0] / "serving").index).__name__
        for index in ("exact", "hnsw")
    }
    assert "Flat" in kinds["exact"]
    assert "HNSW" in kinds["hnsw"]


@key("serving.hide_recent")
def _hide_recent():
    """All items are asked for: as many are missing as the history holds."""

    def offered(*sets):
        rows = run(*TOWER, "platform.pipeline.repeats=true", *sets).day("serving", 1)
        return float(rows.filter(pl.col("stage") == "matching")["offered"].mean())

    assert offered("serving.hide_recent=false") > offered() + 2


@key("preset", "base", "arms.*.config")
def _config():
    """Preset, then base, then the arm's own; it is what the channel is trained with."""
    scenario = tiny(*TOWER, "preset=modern", "base.softmax.temperature=0.5", "arms.treatment.config.train.epochs=3")
    control, treatment = scenario.config("control"), scenario.config("treatment")
    assert (control.preset, control.softmax.temperature, control.train.epochs) == ("modern", 0.5, 1)
    assert treatment.train.epochs == 3
    keys = scenario.platform_config(0)
    options = keys.arms["treatment"].pipeline["channels"]["matching"]["options"]
    assert options["config"]["train"]["epochs"] == 3
    assert keys.pipeline.channels["matching"].options["config"]["train"]["epochs"] == 1
    assert options["serving"] == scenario.serving.model_dump(mode="json")


@key("arms.*.label")
def _label():
    assert set(run("arms.treatment.label=New").days["arm"]) == {"A", "New"}


@key("arms.*.weight")
def _weight():
    arms = run("arms.treatment.weight=4").days.unique("user_id")["arm"]
    assert 0.7 < float((arms == "also A").mean()) < 0.9


@key("arms.*.pipeline")
def _arm_pipeline():
    """It changes its own arm; on the first day, when nothing of it is learnt yet, nobody else's."""
    changed, before = (run(*sets).day("impressions", 0) for sets in (("arms.treatment.pipeline.slate_size=4",), ()))
    longest = changed.group_by("arm").agg(pl.col("position").max() + 1)
    assert dict(longest.iter_rows()) == {"control": 10, "treatment": 4}
    assert changed.filter(pl.col("arm") == "control").equals(before.filter(pl.col("arm") == "control"))


@key("truth.worlds", "experiment", "variants", "replications")
def _worlds():
    def parts(*sets):
        return [(one.variant, one.replication, one.part) for one in simulations_of(tiny(*sets))]

    assert parts() == [("main", 0, "experiment")]
    assert parts("truth=true", "experiment=false", "variants={a: {experiment: true}}")[0] == ("a", 0, "experiment")
    assert {part for *_, part in parts("truth=true")} == {"experiment", "control", "treatment"}
    assert {name for name, *_ in parts("variants={a: {}, b: {days: 1}}")} == {"a", "b"}
    assert {number for _, number, _ in parts("replications=3")} == {0, 1, 2}
    scenario = tiny("variants={a: {}, b: {truth: true, experiment: false}}")
    assert [one.part for one in simulations_of(scenario) if one.variant == "b"] == ["control", "treatment"]
    worlds = [tiny("replications=2").world_config(number) for number in (0, 1)]
    assert worlds[0].seed != worlds[1].seed


@key("doses.key", "doses.values")
def _doses():
    scenario = tiny("kind=dose_response", "doses={key: world.links.strength, values: [0, 0.5]}")
    found = {name: scenario.variant(name).world.links.strength for name in scenario.named_variants()}
    assert found == {"strength 0": 0.0, "strength 0.5": 0.5}


@key("splits")
def _splits():
    scenario = tiny("kind=aa", "splits=7")
    plan = plan_of(scenario, ("treatment",), "")
    found = false_alarms(run().days, plan, splits=scenario.splits, seed=0)
    assert {one.splits for one in found} == {7}


@key("looks", "alpha")
def _plan():
    assert [plan_of(tiny(f"looks={looks}"), ("treatment",), "").looks for looks in ("final", "daily")] == [
        "final",
        "daily",
    ]
    assert plan_of(tiny("alpha=0.2"), ("treatment",), "").alpha == 0.2


@key("primary", "guardrails")
def _deciding():
    """Metrics that decide, with their roles, margins and nulls, as in a plan file."""

    def planned(*sets):
        return plan_of(tiny(*sets), ("treatment",), "").metrics

    roles = {metric.name: metric for metric in planned("primary=[CTR]", "guardrails=[{metric: ADT, worse: 0.02}]")}
    assert [name for name, one in roles.items() if one.role == "primary"] == ["CTR"]
    assert (roles["ADT"].role, roles["ADT"].margin, roles["ACC"].role) == ("guardrail", 0.02, "secondary")
    first, *_ = planned("primary=[{metric: ACC, null_lift: 0.01, level: 0.05, direction: down}]")
    assert (first.null, first.level_share, first.direction) == (0.01, 0.05, "down")
    assert planned() is None
    with pytest.raises(MicrecError, match="guardrails: 'CTR' appears twice"):
        tiny("primary=[CTR]", "guardrails=[CTR]")
    with pytest.raises(MicrecError, match="primary: no metric 'ACD'"):
        tiny("primary=[ACD]")
    with pytest.raises(MicrecError, match="they must sum to alpha"):
        tiny("primary=[{metric: ACC, level: 0.01}]")


@key("estimator")
def _estimator():
    """CUPED makes the verdict's error smaller, as clicks before the experiment predict those in it."""
    errors = {}
    for name in ("welch", "cuped"):
        plan = plan_of(tiny("platform.warmup_days=1", f"estimator={name}"), ("treatment",), "")
        found = analyse(log_of(run("platform.warmup_days=1").days, plan), plan)
        errors[name] = next(one.estimate.se for one in found.effects if one.metric.name == "ACC")
    assert errors["cuped"] < 0.95 * errors["welch"]


@key("secondary", "slices")
def _secondary():
    """More metrics without a say in the verdict, and slices by a field of the users."""
    metrics = {one.name: one.role for one in plan_of(tiny("secondary=[tail-clicks]"), ("treatment",), "").metrics}
    assert metrics["tail-clicks"] == "secondary"
    assert "tail_clicks" in run("secondary=[tail-clicks]").days.columns
    assert "tail_clicks" not in run().days.columns
    assert "gender" in run("slices=[gender]").days.columns
    assert "gender" not in run().days.columns


OTHER_CHANNEL = "arms.treatment.pipeline.channels.item_cf={kind: popular, k: 40, quota: 20}"
EXPLORED = "off_policy={explore: 0.5, among: 4, policies: [ranking, item_cf], users: 120}"


@key("interleaving.users")
def _interleaving():
    some = run(OTHER_CHANNEL, "interleaving.users=60", part=interleaved_name("treatment")).days
    assert 0 < some["user_id"].max() < 60
    assert run(OTHER_CHANNEL, "interleaving={}", part=interleaved_name("treatment")).days["user_id"].max() > 60


@key("off_policy.explore", "off_policy.among", "off_policy.policies", "off_policy.users")
def _off_policy():
    """They are the keys of the explored world's pipeline, for its users alone."""
    explored = run(EXPLORED, part=f"{OFF_POLICY}control")
    last = explored.table("impressions").filter(pl.col("position") == 9)
    few = {0.5 / candidates for candidates in (1, 2, 3, 4)}  # behind the slate: four, or all there are
    chances = last["propensity"].unique().to_list()
    assert all(min(abs(chance - one) for one in {1.0, *few}) < 1e-6 for chance in chances)
    assert 0.125 in chances
    assert set(explored.table("policies")["policy"].unique()) == {"ranking", "item_cf"}
    assert 0 < explored.days["user_id"].max() < 120


@key("platform.pipeline.explore_among", "platform.pipeline.policies", "platform.pipeline.merge.draft")
def _last_place():
    """How far exploration reaches, whose choices are logged, and channels that draft: test_last_place has the rest."""
    sets = ("platform.pipeline.explore=1", "platform.pipeline.slate_size=4")
    chances = [run(*sets, *more).table("impressions")["propensity"].min() for more in ((), (f"{AMONG}=2",))]
    assert chances[0] < 0.1 < chances[1] == pytest.approx(0.5)
    assert run("platform.pipeline.policies=[popular]").table("policies")["policy"].unique().to_list() == ["popular"]
    drafting = run("platform.pipeline.merge.draft=[popular,item_cf]")
    assert not drafting.table("impressions")["channel"].equals(run().table("impressions")["channel"])


AMONG = "platform.pipeline.explore_among"


@key(
    "platform.assignment.unit",
    "platform.assignment.cluster_fields",
    "platform.assignment.period_h",
    "platform.catalogue",
)
def _assignment():
    """Regions or periods of one arm, items of one arm: test_designs has the rest."""
    clusters = "platform.assignment={unit: cluster, cluster_fields: [region]}"
    for sets, most in (((clusters,), 1), ((), 2)):
        by_region = run("slices=[region]", *sets).days.group_by("region").agg(pl.col("arm").n_unique())
        assert by_region["arm"].max() == most
    for period_h in (12, 24):
        asked = run(f"platform.assignment={{unit: time, period_h: {period_h}}}").table("requests")
        start_s = 86_400 * run().scenario.experiment_day
        visits = asked.group_by("day", "visit").agg(pl.col("asked_s").min(), pl.col("arm").first())  # it keeps its arm
        period = ((pl.col("asked_s") - start_s) // (3_600 * period_h)).alias("period")
        assert (visits.group_by(period).agg(pl.col("arm").n_unique())["arm"] == 1).all()
    shown = run("platform.catalogue=diverted").table("impressions")
    assert (shown.group_by("item_id").agg(pl.col("arm").n_unique())["arm"] == 1).all()


@key("keep_logs")
def _keep_logs():
    left = {}
    for keep in ("true", "false"):
        with tempfile.TemporaryDirectory() as folder:
            scenario, root = tiny("days=1", f"keep_logs={keep}"), Path(folder)
            simulate_all(scenario, root, simulations_of(scenario), workers=1, progress=NoProgress())
            left[keep] = len(list(root.rglob("day-*"))), len(list(root.rglob("measures/*")))
    assert left == {"true": (1, 2), "false": (0, 2)}


def test_the_tiny_scenario_has_the_channels_it_says():
    assert set(load_scenario(scenario_file())[0].platform.pipeline.channels) == set(CHANNELS)
